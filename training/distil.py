"""The opinion of one or more teachers as targets for a student."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gapnlp.calibration import sigmoid
from gapnlp.classifier import GapClassifier
from gapnlp.taxonomy import LABELS
from training.encode import Encoded
from training.precision import Precision, autocast

SLICE_SIZE = 1024  # texts that are asked about together

FloatArray = npt.NDArray[np.float64]
Tell = Callable[[int, int], object]


def teacher_logits(teacher: Path, texts: Sequence[str], *, cache: Path, precision: Precision, tell: Tell) -> FloatArray:
    """Return a teacher's uncalibrated logits. *Shape:* (n_texts, 5).

    Uncalibrated on purpose: calibration follows the shares of the rows it was fitted on, and the student is
    calibrated by itself.

    Args:
        teacher: A model directory.
        texts: Texts to ask it about.
        precision: What it computes in; see `training.precision.autocast`.
        cache: File that keeps the answers, so that a resumed run need not ask again.
        tell: Called with the number of texts done, and of all.
    """
    if cache.is_file():
        kept: FloatArray = np.load(cache, allow_pickle=False)
        if kept.shape == (len(texts), len(LABELS)):
            return kept
    classifier = GapClassifier.load(teacher, engine="torch")
    logits = np.zeros((len(texts), len(LABELS)))
    for start in range(0, len(texts), SLICE_SIZE):
        with autocast(precision):
            readings = classifier.read(texts[start : start + SLICE_SIZE])
        logits[start : start + SLICE_SIZE] = [reading.logits for reading in readings]
        tell(start + len(readings), len(texts))
    partial = cache.with_suffix(".partial")
    with partial.open("wb") as handle:
        np.save(handle, logits)
    partial.replace(cache)
    return logits


def pool_opinions(logits: Sequence[FloatArray]) -> FloatArray:
    """Return the probabilities, 0-1, that several teachers' logits have on average. *Shape:* (n_texts, 5).

    The mean of logits is the logarithmic opinion pool (Genest & Zidek, 1986, "Combining probability distributions").

    Args:
        logits: One array of *shape* (n_texts, 5) per teacher.
    """
    return sigmoid(np.mean(logits, axis=0))


def soften(encoded: Sequence[Encoded], proba: FloatArray, *, soft_weight: float) -> list[Encoded]:
    """Blend teachers' probabilities into the targets (Hinton et al., 2015, "Distilling the knowledge").

    Args:
        encoded: Rows with their own targets.
        proba: The teachers' probabilities, 0-1. *Shape:* (n_rows, 5).
        soft_weight: Share of the teachers in the target, 0-1.
    """
    return [
        replace(row, target=(soft_weight * soft + (1 - soft_weight) * row.target).astype(np.float32))
        for row, soft in zip(encoded, proba, strict=True)
    ]
