"""How much of an archive each gap makes up: estimates from the scores of all its texts.

Counting the classifier's labels is biased wherever it errs, and the more so the further the archive's mix is from
the one it was tuned on. What is done here takes one thing for granted, "label shift": the archive's texts of a
gap look, to the classifier, like the validation rows of that gap, and those without it like the rows without it.
Then only the share differs, and it follows from the archive's mean score a and the validation means m0 and m1 of
rows without and with the gap: (a - m0) / (m1 - m0). That holds for any score; the one used makes it precise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gapnlp.errors import InputError, MissingExtraError
from gapnlp.intervals import z_value
from gapnlp.prevalence.adjustment import adjust
from gapnlp.prevalence.gap_score import (
    MIN_ROWS,
    GapRows,
    GapScore,
    ValidationScores,
    fit_gap_rows,
    fit_gap_score,
    gains,
    score_gains,
)
from gapnlp.prevalence.shift import ALARM_LEVEL, label_shift_p_value
from gapnlp.records import PrevalenceEstimate
from gapnlp.taxonomy import LABELS

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

FEW_ROWS = 30  # below, the notes say so; the t quantile widens the interval by itself

ASSUMPTION = (
    "The interval rests on this: the classifier makes the same kinds of errors here as on the rows it was checked on."
)
FEW = "Only {n} of the rows it was checked on {side} this gap, fewer than 30: the interval is wider for it."
TOO_FEW = "Only {n} of the rows it was checked on {side} this gap: too few to estimate from, so any share is possible."
BLIND = "On the rows it was checked on, the classifier does not tell this gap from the rest: any share is possible."
SHIFTED = (
    "It may not hold: the scores here are not those of any mixture of the rows with and without this gap that it was "
    "checked on (p = {p:.2g}). Label a sample by hand before relying on the interval."
)


@dataclass(frozen=True, slots=True)
class Moments:
    """Scores summed up per group of texts: a whole archive, a branch, a month of a branch.

    Attributes:
        n: Texts. *Shape:* (n_groups,).
        mean: Mean score, 0 where there are no texts. *Shape:* (n_groups, 5).
        var: Variance of the scores (divisor n - 1), 0 where there are fewer than two. *Shape:* (n_groups, 5).
    """

    n: npt.NDArray[np.int64]
    mean: FloatArray
    var: FloatArray


def estimate_prevalence(
    proba: npt.ArrayLike, decided: npt.ArrayLike, validation: ValidationScores, *, confidence: float = 0.95
) -> list[PrevalenceEstimate]:
    """Estimate which share of an archive's texts points to each gap, with an interval.

    Args:
        proba: The model's calibrated probabilities, texts that it failed on left out. *Shape:* (n_texts, 5).
        decided: True where the model gave the gap; for the counted share alone. *Shape:* (n_texts, 5).
        validation: Held-out rows with the same model's scores.
        confidence: Of the intervals, between 0 and 1.

    Returns:
        One estimate per gap, in the order of `LABELS`.

    Raises:
        InputError: No texts, arrays that do not fit together, or values that are no probabilities.
        ConfigError: `confidence` is out of its range.
    """
    z_value(confidence)  # refuses before the work
    values, given = _checked_archive(proba, decided)
    counted = counted_share(given)
    return [
        _estimate(rows, values[:, j], counted=float(counted[j]), confidence=confidence)
        for j, rows in enumerate(fit_gap_rows(validation))
    ]


def _estimate(rows: GapRows, proba_column: FloatArray, *, counted: float, confidence: float) -> PrevalenceEstimate:
    g = gains(proba_column, prior=rows.prior, slope=rows.slope, intercept=rows.intercept)
    score = fit_gap_score(rows, g)
    p = label_shift_p_value(g, negatives=rows.negatives, positives=rows.positives) if score.informed else 1.0
    result = adjust([score], len(g), score_gains(g, q=score.q).mean(), confidence=confidence)
    prevalence, low, high = (float(array[0, 0]) for array in result[1:])
    return PrevalenceEstimate(
        label=rows.label,
        n_texts=len(g),
        counted=counted,
        prevalence=prevalence,
        low=low,
        high=high,
        confidence=confidence,
        method="adjusted",
        notes=_notes(score, p=p),
    )


def _notes(score: GapScore, *, p: float) -> tuple[str, ...]:
    notes = [ASSUMPTION]
    for n, side in ((score.n_pos, "carry"), (score.n_neg, "do not carry")):
        if n < FEW_ROWS:
            notes.append((TOO_FEW if n < MIN_ROWS else FEW).format(n=n, side=side))
    if not score.informed and min(score.n_pos, score.n_neg) >= MIN_ROWS:
        notes.append(BLIND)
    if p < ALARM_LEVEL:
        notes.append(SHIFTED.format(p=p))
    return tuple(notes)


def counted_share(decided: npt.ArrayLike) -> FloatArray:
    """Count the classifier's decisions: biased, shown beside the estimate.

    Args:
        decided: True where the gap was given. *Shape:* (n_texts, 5).

    Returns:
        Shares, 0-1. *Shape:* (5,).
    """
    return np.asarray(np.asarray(decided).mean(axis=0), dtype=np.float64)


def probabilistic_count(proba: npt.ArrayLike) -> FloatArray:
    """Average the probabilities: right only where the archive's mix is the one they were calibrated on.

    Bella, Ferri, Hernández-Orallo & Ramírez-Quintana (2010, "Quantification via probability estimators").

    Args:
        proba: Calibrated probabilities, 0-1. *Shape:* (n_texts, 5).

    Returns:
        Shares, 0-1. *Shape:* (5,).
    """
    return np.asarray(np.asarray(proba, dtype=np.float64).mean(axis=0))


def fit_gap_scores(proba: npt.ArrayLike, validation: Sequence[GapRows]) -> tuple[GapScore, ...]:
    """Fit the best score for every gap.

    Args:
        proba: Probabilities of the whole archive's texts, 0-1. *Shape:* (n_texts, 5), n_texts at least 1.
        validation: Rows with the same model's scores and the truth, for every gap, from `fit_gap_rows`.

    Returns:
        One score per gap, in the order of `LABELS`.

    Raises:
        InputError: No texts, not five columns, or values that are no probabilities.
    """
    values = _checked_proba(proba)
    return tuple(
        fit_gap_score(rows, gains(values[:, j], prior=rows.prior, slope=rows.slope, intercept=rows.intercept))
        for j, rows in enumerate(validation)
    )


def moments(scores: npt.ArrayLike, groups: npt.ArrayLike, *, n_groups: int) -> Moments:
    """Sum up scores per group.

    Args:
        scores: Of texts. *Shape:* (n_texts, 5).
        groups: Each text's group, 0 to n_groups - 1. *Shape:* (n_texts,).
        n_groups: Number of groups; some may be empty.
    """
    h, group = np.asarray(scores, dtype=np.float64), np.asarray(groups, dtype=np.int64)
    n = np.bincount(group, minlength=n_groups)
    mean, var = np.zeros((n_groups, h.shape[1])), np.zeros((n_groups, h.shape[1]))
    for j in range(h.shape[1]):
        mean[:, j] = np.bincount(group, weights=h[:, j], minlength=n_groups) / np.maximum(n, 1)
        off = h[:, j] - mean[group, j]
        var[:, j] = np.bincount(group, weights=off * off, minlength=n_groups) / np.maximum(n - 1, 1)
    return Moments(n=n, mean=mean, var=var)


def score_texts(proba: npt.ArrayLike, scores: Sequence[GapScore]) -> FloatArray:
    """Score texts for every gap. *Shape:* (n_texts, 5) in and out."""
    values = np.asarray(proba, dtype=np.float64)
    return np.column_stack([score.score(values[:, j]) for j, score in enumerate(scores)])


def to_frame(estimates: Sequence[PrevalenceEstimate]) -> pd.DataFrame:
    """Put estimates into a pandas DataFrame, one row each, one column per field."""
    try:
        import pandas as pd
    except ImportError as exc:
        raise MissingExtraError("pandas", "pandas") from exc
    return pd.DataFrame([asdict(estimate) for estimate in estimates])


def _checked_archive(proba: npt.ArrayLike, decided: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    values, given = _checked_proba(proba), np.asarray(decided)
    if given.shape != values.shape or not np.isin(given, (0, 1)).all():
        raise InputError(
            f"decided: got shape {given.shape} or values other than True/False, expected {values.shape} of them: "
            "give the decisions of the same texts"
        )
    return values, given


def _checked_proba(proba: npt.ArrayLike) -> FloatArray:
    values = np.asarray(proba, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(LABELS) or len(values) == 0:
        raise InputError(f"proba: got shape {values.shape}, expected (n_texts, {len(LABELS)}) with n_texts at least 1")
    bad = ~((values >= 0) & (values <= 1)).all(axis=1)
    if bad.any():
        raise InputError(
            f"proba: got {values[int(np.argmax(bad))].tolist()} for text {int(np.argmax(bad))}, expected numbers in "
            "0-1: leave out texts that have no scores"
        )
    return values
