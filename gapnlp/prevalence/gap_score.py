"""One gap's score of texts: any score's mean tells the gap's share; this one's tells it best.

A *gain* is a text's likelihood ratio, gap against no gap, less 1: g = r - 1 with r = f / (1 - f) · (1 - π) / π, where f
is the probability recalibrated on the validation rows and π the share of them with the gap. The *score* is
h = g / (1 + q g), the slope of the log likelihood of the gap's share at a share q.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapnlp.calibration import fit_platt, logit
from gapnlp.errors import CorpusError
from gapnlp.taxonomy import LABELS

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MIN_ROWS = 5  # of either side; below, a variance says nothing, and neither does an estimate
_TAIL_ROWS, _FEW_TAIL = 15, 600  # see `_bounded_share`
_LOWEST_CONTRAST = 1e-9  # a difference of mean scores below is rounding
_MAX_LOG_RATIO = 50.0  # likelihood ratios beyond say no more


@dataclass(frozen=True, slots=True)
class ValidationScores:
    """Held-out rows: what the model said of them, and the truth.

    Attributes:
        proba: The model's calibrated probabilities, 0-1. *Shape:* (n, 5).
        labels: True where the row carries the gap. *Shape:* (n, 5).

    Raises:
        CorpusError: No rows, arrays that do not fit together, or other values.
    """

    proba: FloatArray
    labels: BoolArray

    def __post_init__(self) -> None:
        proba, labels = np.asarray(self.proba, dtype=np.float64), np.asarray(self.labels)
        if proba.ndim != 2 or proba.shape[1] != len(LABELS) or proba.shape != labels.shape or len(proba) == 0:
            raise CorpusError(
                f"validation rows: got shapes {proba.shape} and {labels.shape}, expected (n, {len(LABELS)}) twice "
                "with n at least 1"
            )
        if not ((proba >= 0) & (proba <= 1)).all():
            raise CorpusError("validation rows: expected every probability in 0-1, got others: score the rows again")
        if not np.isin(labels, (0, 1)).all():
            raise CorpusError("validation rows: expected True/False or 0/1 in every label, got other values")
        object.__setattr__(self, "proba", proba)
        object.__setattr__(self, "labels", labels.astype(np.bool_))

    @property
    def priors(self) -> FloatArray:
        """Share of the rows with each gap, kept half a row inside 0-1. *Shape:* (5,)."""
        half = 0.5 / len(self.labels)
        return np.asarray(np.clip(self.labels.mean(axis=0), half, 1 - half))


@dataclass(frozen=True, slots=True)
class GapRows:
    """One gap's validation rows, recalibrated.

    Attributes:
        label: The gap's id.
        slope: Factor on the logit of the probability.
        intercept: Added after the factor.
        prior: Share of validation rows with the gap, kept half a row inside 0-1.
        negatives: Gains of the rows without the gap. *Shape:* (n_neg,).
        positives: Gains of the rows with it. *Shape:* (n_pos,).
    """

    label: str
    slope: float
    intercept: float
    prior: float
    negatives: FloatArray
    positives: FloatArray


@dataclass(frozen=True, slots=True)
class GapScore:
    """The score of texts whose mean tells one gap's share best, and what it is on validation rows.

    Attributes:
        label: The gap's id.
        slope: Factor on the logit of the probability, of the recalibration on validation.
        intercept: Added after the factor.
        prior: Share of validation rows with the gap, 0-1.
        q: Share for which the score is best: the likeliest one in the archive, kept off 0 and 1.
        m0: Mean score of validation rows without the gap.
        m1: Mean score of validation rows with the gap.
        var_m0: Variance of `m0` as an estimate.
        var_m1: Variance of `m1` as an estimate.
        n_neg: Validation rows without the gap.
        n_pos: Validation rows with the gap.
    """

    label: str
    slope: float
    intercept: float
    prior: float
    q: float
    m0: float
    m1: float
    var_m0: float
    var_m1: float
    n_neg: int
    n_pos: int

    def score(self, proba_column: npt.ArrayLike) -> FloatArray:
        """Score texts by their probability of the gap, 0-1. *Shape:* (n_texts,) in and out."""
        return score_gains(gains(proba_column, prior=self.prior, slope=self.slope, intercept=self.intercept), q=self.q)

    @property
    def informed(self) -> bool:
        """Whether enough rows were checked, and the score is higher on those with the gap."""
        return min(self.n_neg, self.n_pos) >= MIN_ROWS and self.m1 - self.m0 > _LOWEST_CONTRAST


def sld(proba_column: npt.ArrayLike, prior: float, *, counts: npt.ArrayLike | None = None) -> float:
    """Find the share under which an archive's scores are likeliest.

    The maximum that the EM iterations of Saerens, Latinne & Decaestecker (2002, "Adjusting the outputs of a
    classifier to new a priori probabilities") climb to; for two classes it is where a falling function is 0.

    Args:
        proba_column: Calibrated probabilities of one gap, 0-1. *Shape:* (n_texts,).
        prior: Share that they were calibrated at, between 0 and 1, both excluded.
        counts: Texts that each entry stands for; None for one. *Shape:* (n_texts,).

    Returns:
        The share, 0-1; `prior` where every probability equals it.
    """
    return likeliest_share(gains(proba_column, prior=prior), prior=prior, counts=counts)


def at_likeliest_share(proba_column: npt.ArrayLike, prior: float) -> FloatArray:
    """Turn probabilities calibrated at one share into those at the share under which the scores are likeliest.

    Saerens, Latinne & Decaestecker (2002), equation 4, at what `sld` finds.

    Args:
        proba_column: As for `sld`. *Shape:* (n_texts,).
        prior: As for `sld`.

    Returns:
        Probabilities in the same order as before. *Shape:* (n_texts,).
    """
    g = gains(proba_column, prior=prior)
    half = 0.5 / len(g)
    q = min(max(likeliest_share(g, prior=prior), half), 1 - half)
    return proba_of_gains(g, q=q)


def likeliest_share(g: FloatArray, *, prior: float, counts: npt.ArrayLike | None = None) -> float:
    """Do what `sld` does, from gains. *Shape:* (n_texts,)."""
    weight = np.ones(1) if counts is None else np.asarray(counts, dtype=np.float64)
    if not np.any(weight * g):
        return prior
    if (weight * g).sum() <= 0:
        return 0.0
    if (weight * g / (1 + g)).sum() >= 0:
        return 1.0
    low, high, q = 0.0, 1.0, prior
    for _ in range(100):  # about 8 are used; halving alone would need 40
        h = score_gains(g, q=q)
        slope = float((weight * h).sum())
        low, high = (q, high) if slope > 0 else (low, q)
        newton = q + slope / float((weight * h * h).sum())
        step = newton if low < newton < high else (low + high) / 2
        if abs(step - q) < 1e-12:
            break
        q = step
    return q


def gains(proba_column: npt.ArrayLike, *, prior: float, slope: float = 1.0, intercept: float = 0.0) -> FloatArray:
    """Turn probabilities of one gap into gains. *Shape:* (n_texts,) in and out."""
    log_ratio = slope * logit(proba_column) + (intercept - float(logit(prior)))
    return np.expm1(np.clip(log_ratio, -_MAX_LOG_RATIO, _MAX_LOG_RATIO))


def score_gains(g: FloatArray, *, q: float) -> FloatArray:
    """Turn gains into the scores. *Shape:* kept."""
    return np.asarray(g / (1 + q * g))


def proba_of_gains(g: FloatArray, *, q: float) -> FloatArray:
    """Turn gains into probabilities, 0-1, where the share is `q`. *Shape:* kept."""
    return np.asarray(q * (1 + g) / (1 + q * g))


def fit_gap_rows(validation: ValidationScores) -> tuple[GapRows, ...]:
    """Recalibrate the probabilities on the validation rows, per gap: see `gapnlp.calibration.fit_platt`.

    The recalibration shapes the score and no more: the estimate is right for any score, so that fitting it
    and measuring m0 and m1 on the same rows leaves no error of first order.
    """
    slopes, intercepts = fit_platt(logit(validation.proba), validation.labels)
    priors = validation.priors
    fitted = []
    for j, label in enumerate(LABELS):
        has = validation.labels[:, j]
        prior, slope, intercept = float(priors[j]), float(slopes[j]), float(intercepts[j])
        g = gains(validation.proba[:, j], prior=prior, slope=slope, intercept=intercept)
        fitted.append(GapRows(label, slope, intercept, prior, g[~has], g[has]))
    return tuple(fitted)


def fit_gap_score(rows: GapRows, g: FloatArray, *, counts: npt.ArrayLike | None = None) -> GapScore:
    """Fit the best score for one gap.

    Args:
        rows: The gap's validation rows.
        g: Gains of the archive's texts. *Shape:* (n_texts,).
        counts: Texts that each entry stands for; None for one. *Shape:* (n_texts,).
    """
    n_neg, n_pos = len(rows.negatives), len(rows.positives)
    q = _bounded_share(likeliest_share(g, prior=rows.prior, counts=counts), n_neg=n_neg, n_pos=n_pos)
    h0, h1 = score_gains(rows.negatives, q=q), score_gains(rows.positives, q=q)
    m0, m1 = (float(h.mean()) if len(h) else 0.0 for h in (h0, h1))
    v0, v1 = (_variance(h, contrast=m1 - m0) for h in (h0, h1))
    return GapScore(
        label=rows.label,
        slope=rows.slope,
        intercept=rows.intercept,
        prior=rows.prior,
        q=q,
        m0=m0,
        m1=m1,
        var_m0=v0 / max(n_neg, 1),
        var_m1=v1 / max(n_pos, 1),
        n_neg=n_neg,
        n_pos=n_pos,
    )


def _bounded_share(q: float, *, n_neg: int, n_pos: int) -> float:
    """Keep q off 0 and 1, the further the fewer rows there are.

    At q near 1 the score of a text with a small likelihood ratio r is about -1 / r, at q near 0 that of a large r
    about r: a few rows then decide m1 or m0, and their variance is understated. With ten positives and shares of
    20 % and more, nominal 95 % intervals held in 91-93 % for one of the shipped model's gaps when the bound was that
    of many rows, and hold in 92-94 % with this one.
    """
    lowest, highest = 1 - _tail_bound(n_neg), _tail_bound(n_pos)
    return min(max(q, lowest), highest) if lowest < highest else (lowest + highest) / 2


def _tail_bound(n: int) -> float:
    """Return how near to 1 q may come with n rows: 0.14 with 10, 0.4 with 20, 0.73 with 40, 0.97 with 500."""
    return n / (n + max(_TAIL_ROWS, _FEW_TAIL / max(n, 1)))


def _variance(h: FloatArray, *, contrast: float) -> float:
    """Return the scores' variance, no less than if one row in n + 2 had been taken for the other side (Laplace).

    A classifier without an error on a few rows is not one without errors.
    """
    rate = 1 / (len(h) + 2)
    return max(float(h.var(ddof=1)) if len(h) > 1 else 0.0, rate * (1 - rate) * contrast**2)
