"""How good a model is on rows that training never saw, next to baselines and to the annotators' agreement."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gapnlp.calibration import cross_fit, logit
from gapnlp.classifier import GapClassifier
from gapnlp.engines import EngineName
from gapnlp.metrics import evidence_scores, krippendorff_alpha_nominal, macro_f1, score, with_none, word_offsets
from gapnlp.model_dir import ModelDir, load_model_dir
from gapnlp.taxonomy import LABELS
from training.baselines import BASELINES, Baseline, fit_baseline
from training.calibrate import N_FOLDS, evidence_spans, primary_targets, rows_digest
from training.corpus import Example, read_examples
from training.encode import to_targets
from training.encoder import resolve_encoder
from training.precision import Precision
from training.table import read_rows

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.floating[Any]]
Contender = Callable[[Sequence[str]], FloatArray]

READERS = ("reader_1", "reader_2")


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Labelled rows to measure on.

    Attributes:
        name: What the figures are filed under.
        examples: The rows.
        agreement: How far two readers of the rows agree; empty where they were read once.
    """

    name: str
    examples: Sequence[Example]
    agreement: Mapping[str, float]


def read_evaluation_set(path: Path, *, text_column: str, labels_column: str) -> EvaluationSet:
    """Read a file of labelled rows; its name is that of the set.

    Raises:
        InputError: The file cannot be read.
        CorpusError: A row's labels or evidence cannot be used.
    """
    examples = read_examples(path, text_column=text_column, labels_column=labels_column)
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return EvaluationSet(name, examples, _agreement([row for _, row in read_rows(path)]))


def evaluate_model(model: ModelDir, rows: EvaluationSet, *, engine: EngineName = "openvino") -> dict[str, Any]:
    """Measure a model as it is shipped, on one set.

    On the very rows that its calibration was fitted on, decisions are cross-fitted instead: each row is decided by
    a calibration that never saw it. What the shipped thresholds give there stands beside it as `as_shipped`.

    Args:
        model: The model directory.
        rows: Rows that training never saw.
        engine: See `GapClassifier.load`.

    Returns:
        JSON-ready; see `gapnlp.metrics.score` for the figures, each with its bootstrap interval.
    """
    classifier = GapClassifier.load(model.path, engine=engine)
    readings = classifier.read([example.text for example in rows.examples])
    logits = np.stack([reading.logits for reading in readings])
    calibration = model.decision.calibration
    proba = calibration.proba(logits)
    decisions = calibration.decide(proba)
    threshold = model.decision.evidence_threshold

    def measure(proba: Any, decisions: Any) -> dict[str, Any]:
        given = [[label for label, yes in zip(LABELS, row, strict=True) if yes] for row in decisions]
        found = [evidence_spans(r, labels, threshold=threshold) for r, labels in zip(readings, given, strict=True)]
        return _score(rows.examples, proba, decisions, found=found)

    digest = rows_digest(rows.examples)
    figures: dict[str, Any] = {"n_rows": len(rows.examples), "rows": digest, "engine": engine}
    if digest == model.decision.fitted_digest:
        fair = cross_fit(logits, to_targets(rows.examples), n_folds=N_FOLDS, seed=0)
        figures |= {"cross_fitted": True, "scores": measure(fair.proba, fair.decisions)}
        figures["as_shipped"] = measure(proba, decisions)
    else:
        figures |= {"cross_fitted": False, "scores": measure(proba, decisions)}
    if any(example.evidence for example in rows.examples):
        known = [evidence_spans(r, e.labels, threshold=threshold) for r, e in zip(readings, rows.examples, strict=True)]
        figures["evidence_given_label"] = _evidence_f1(rows.examples, known)
    if rows.agreement:
        figures["agreement"] = dict(rows.agreement)
    return figures


def gather_contenders(
    models: Mapping[str, ModelDir],
    *,
    train: Sequence[Example],
    encoder: str,
    seed: int = 0,
    precision: Precision = "auto",
) -> dict[str, Contender]:
    """Load models and fit baselines, once for all the sets they are measured on.

    Args:
        models: Name in the table → model directory.
        train: Rows that the baselines learn from; none: no baselines.
        encoder: The encoder of the embedding baselines.
        seed: Of the baselines.
        precision: What their encoder computes in; see `training.precision.autocast`.

    Returns:
        Name → what gives logits of shape (n_texts, 5).
    """
    contenders: dict[str, Contender] = {
        name: partial(_read_logits, GapClassifier.load(model.path)) for name, model in models.items()
    }
    texts, targets = [example.text for example in train], to_targets(train)
    for name in BASELINES if train else ():
        logger.info("fitting the baseline %s", name)
        baseline = fit_baseline(name, texts, targets, encoder=resolve_encoder(encoder), seed=seed, precision=precision)
        contenders[name] = partial(_baseline_logits, baseline)
    return contenders


def compare(contenders: Mapping[str, Contender], rows: EvaluationSet) -> dict[str, Any]:
    """Measure all contenders on one set, every one with cross-fitted probabilities and thresholds."""
    texts, targets = [example.text for example in rows.examples], to_targets(rows.examples)
    table = {}
    for name, logits_of in contenders.items():
        fair = cross_fit(logits_of(texts), targets, n_folds=N_FOLDS, seed=0)
        table[name] = _score(rows.examples, fair.proba, fair.decisions)
    return table


def _read_logits(classifier: GapClassifier, texts: Sequence[str]) -> FloatArray:
    return np.stack([reading.logits for reading in classifier.read(texts)])


def _baseline_logits(baseline: Baseline, texts: Sequence[str]) -> FloatArray:
    return logit(baseline(texts))


def load_models(paths: Sequence[Path]) -> dict[str, ModelDir]:
    """Load model directories by the name of their folder."""
    return {path.name: load_model_dir(path) for path in paths}


def _score(
    examples: Sequence[Example], proba: Any, decisions: Any, *, found: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    evidence = None
    if found is not None and any(example.evidence for example in examples):
        words = [word_offsets(example.text) for example in examples]
        evidence = evidence_scores(found, [example.evidence for example in examples], words)
    return score(proba, decisions, to_targets(examples), primary=primary_targets(examples), evidence=evidence, seed=0)


def _evidence_f1(examples: Sequence[Example], found: Sequence[Mapping[str, Any]]) -> float:
    words = [word_offsets(example.text) for example in examples]
    sums, n_pairs = evidence_scores(found, [example.evidence for example in examples], words).sum(axis=0)
    return float(sums / n_pairs) if n_pairs else 0.0


def _agreement(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    if not rows or not all(isinstance(row.get(reader), list) for row in rows for reader in READERS):
        return {}
    first, second = (
        np.array([[label in row[reader] for label in LABELS] for row in rows], dtype=bool) for reader in READERS
    )
    return {
        "same_labels": float((first == second).all(axis=1).mean()),
        "krippendorff_alpha": float(np.nanmean(krippendorff_alpha_nominal(first, second))),
        "macro_f1_five": macro_f1(first, second),
        "macro_f1_six": macro_f1(with_none(first), with_none(second)),
    }
