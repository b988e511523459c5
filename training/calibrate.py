"""After training: from logits on held-out rows to probabilities, thresholds and the review rule."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from gapnlp.calibration import Calibration, cross_fit, fit_calibration
from gapnlp.metrics import evidence_token_f1, primary_index, word_offsets
from gapnlp.model_dir import Decision
from gapnlp.reading import Reading
from gapnlp.selective import confidence, fit_review_cutoff
from gapnlp.taxonomy import LABELS
from gapnlp.text import hash_text
from training.corpus import Example
from training.encode import to_targets

N_FOLDS = 5
EVIDENCE_THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)


def neutral_decision() -> Decision:
    """Return the decision that takes logits as they are: what a network has before its calibration."""
    ones, zeros, halves = (1.0,) * len(LABELS), (0.0,) * len(LABELS), (0.5,) * len(LABELS)
    return Decision(
        Calibration(slope=ones, intercept=zeros, thresholds=halves),
        review_below=1.0,
        promised_precision=1.0,
        evidence_threshold=0.3,
        fitted_on="nothing: logits as they are",
    )


def fit_decision(
    readings: Sequence[Reading], examples: Sequence[Example], *, promised_precision: float, fitted_on: str
) -> Decision:
    """Fit calibration, thresholds and review rule on rows that training never saw.

    The review rule is fitted on cross-fitted decisions: a row's own calibration never saw it.

    Args:
        readings: What the trained model says of each row.
        examples: Held-out rows.
        promised_precision: Share of unflagged texts whose primary label is right, 0-1.
        fitted_on: The rows in words, for the model's files.
    """
    logits, targets = np.stack([reading.logits for reading in readings]), to_targets(examples)
    fair = cross_fit(logits, targets, n_folds=min(N_FOLDS, len(examples)), seed=0)
    calibration = fit_calibration(logits, targets)
    right = primary_index(fair.proba, fair.decisions) == primary_targets(examples)
    sure = confidence(fair.proba, np.asarray(calibration.thresholds))
    return Decision(
        calibration,
        review_below=fit_review_cutoff(sure, right, precision=promised_precision),
        promised_precision=promised_precision,
        evidence_threshold=_fit_evidence_threshold(readings, examples),
        fitted_on=fitted_on,
        fitted_digest=rows_digest(examples),
    )


def rows_digest(examples: Sequence[Example]) -> str:
    """Return the SHA-256 of a set of texts, whatever their order."""
    hashes = sorted(hash_text(example.text) for example in examples)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def primary_targets(examples: Sequence[Example]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the index of each text's primary label, `len(LABELS)` for none. *Shape:* (n_texts,)."""
    indices = [LABELS.index(example.labels[0]) if example.labels else len(LABELS) for example in examples]
    return np.array(indices, dtype=np.int64)


def evidence_spans(reading: Reading, labels: Iterable[str], *, threshold: float) -> dict[str, tuple[int, int]]:
    """Return label → first character and the one after the last, for each of the labels."""
    found = reading.evidence(list(labels), threshold=threshold)
    return {item.label: (item.start, item.end) for item in found}


def _fit_evidence_threshold(readings: Sequence[Reading], examples: Sequence[Example]) -> float:
    marked = [pair for pair in zip(readings, examples, strict=True) if pair[1].evidence]
    if not marked:
        return neutral_decision().evidence_threshold
    annotated = [example.evidence for _, example in marked]
    words = [word_offsets(example.text) for _, example in marked]

    def token_f1(threshold: float) -> float:
        found = [evidence_spans(reading, example.evidence, threshold=threshold) for reading, example in marked]
        return evidence_token_f1(found, annotated, words)

    return max(EVIDENCE_THRESHOLDS, key=token_f1)
