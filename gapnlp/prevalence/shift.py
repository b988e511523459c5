"""Check that an archive differs from the validation rows in its mix alone: "label shift".

If it does, the spread of its scores is a mixture, in some share, of those of validation rows with and without the
gap. Where no share fits, the classifier meets other texts here than those it was checked on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

ALARM_LEVEL = 0.01  # per gap, so that at most one archive in twenty raises a false alarm for any of five
_BINS = 5  # few enough for a few dozen rows on one side
_SHARES = np.linspace(0.0, 1.0, 401)
_PSEUDO = 0.5  # rows added to each bin, so that an empty one has a variance


def label_shift_p_value(
    scores: FloatArray,
    *,
    negatives: FloatArray,
    positives: FloatArray,
    counts: npt.ArrayLike | None = None,
) -> float:
    """Test whether scores are a mixture of those of two samples, in any share.

    The scores are counted in bins that the two samples fill alike. Over all shares, the least distance between
    the archive's bins and the mixture's, weighed by the variance of both, follows a chi-square distribution
    with two degrees of freedom less than there are bins: the test of overidentifying restrictions of Hansen
    (1982, "Large sample properties of generalized method of moments estimators", section 4).

    Args:
        scores: Of the archive's texts, on any scale. *Shape:* (n_texts,).
        negatives: Of validation rows without the gap. *Shape:* (n_neg,), n_neg at least 1.
        positives: Of validation rows with it. *Shape:* (n_pos,), n_pos at least 1.
        counts: Texts that each entry of `scores` stands for; None for one. *Shape:* (n_texts,).

    Returns:
        The chance of a distance as large where only the mix differs, 0-1; 1 where there are too few different
        scores to tell.
    """
    bins = _Bins.of(negatives, positives)
    return bins.p_value(bins.count(scores, weights=counts)[0])


def label_shift_p_values(
    scores: FloatArray,
    groups: npt.NDArray[np.int64],
    *,
    n_groups: int,
    negatives: FloatArray,
    positives: FloatArray,
) -> FloatArray:
    """Do what `label_shift_p_value` does, for every group of texts.

    Args:
        scores: Of the texts, on any scale. *Shape:* (n_texts,).
        groups: Each text's group, 0 to n_groups - 1; -1 for none. *Shape:* (n_texts,).
        n_groups: Number of groups.
        negatives: Of validation rows without the gap. *Shape:* (n_neg,), n_neg at least 1.
        positives: Of validation rows with it. *Shape:* (n_pos,), n_pos at least 1.

    Returns:
        1 for groups without texts. *Shape:* (n_groups,).
    """
    bins = _Bins.of(negatives, positives)
    counts = bins.count(scores, groups=groups, n_groups=n_groups)
    return np.array([bins.p_value(row) if row.any() else 1.0 for row in counts])


def chi_square_tail(value: float, *, df: int) -> float:
    """Return the chance that a chi-square variable exceeds a value.

    Closed form for whole degrees of freedom (Abramowitz & Stegun 1964, 26.4.4 and 26.4.5).

    Args:
        value: At least 0.
        df: Degrees of freedom, at least 1.
    """
    half = value / 2
    if half <= 0:
        return 1.0
    start, tail = (0.5, math.erfc(math.sqrt(half))) if df % 2 else (0.0, 0.0)
    powers = (start + k for k in range(df // 2))
    return min(1.0, tail + sum(math.exp(p * math.log(half) - half - math.lgamma(p + 1)) for p in powers))


@dataclass(frozen=True, slots=True)
class _Bins:
    """Validation scores counted in bins that hold half the negatives' and half the positives' shares alike.

    Attributes:
        edges: Between the bins, rising. *Shape:* (n_bins - 1,).
        negatives: Validation rows without the gap, per bin. *Shape:* (n_bins,).
        positives: Validation rows with it, per bin. *Shape:* (n_bins,).
    """

    edges: FloatArray
    negatives: FloatArray
    positives: FloatArray

    @classmethod
    def of(cls, negatives: FloatArray, positives: FloatArray) -> _Bins:
        values = np.concatenate([negatives, positives])
        weight = np.concatenate([np.full(len(side), 0.5 / len(side)) for side in (negatives, positives)])
        order = np.argsort(values, kind="stable")
        at = np.searchsorted(np.cumsum(weight[order]), np.arange(1, _BINS) / _BINS)
        edges = np.unique(values[order][np.minimum(at, len(values) - 1)])
        return cls(edges, *(_count(side, edges)[0] for side in (negatives, positives)))

    def count(
        self,
        scores: FloatArray,
        *,
        weights: npt.ArrayLike | None = None,
        groups: npt.NDArray[np.int64] | None = None,
        n_groups: int = 1,
    ) -> FloatArray:
        """Count scores per group and bin. *Shape:* (n_groups, n_bins)."""
        return _count(scores, self.edges, weights=weights, groups=groups, n_groups=n_groups)

    def p_value(self, counts: FloatArray) -> float:
        """Test one group's counts. *Shape:* (n_bins,)."""
        n_bins = len(self.edges) + 1
        if n_bins < 3:
            return 1.0
        n, n0, n1 = (float(of.sum()) for of in (counts, self.negatives, self.positives))
        share0, share1 = self.negatives / n0, self.positives / n1
        cov0, cov1 = (_covariance(_smoothed(s, m), m) for s, m in ((share0, n0), (share1, n1)))
        t = _SHARES[:, None]
        mixture = (1 - t) * _smoothed(share0, n0) + t * _smoothed(share1, n1)
        off = (counts / n - (1 - t) * share0 - t * share1)[:, :-1]
        var = _covariance(mixture, n) + (1 - t[..., None]) ** 2 * cov0 + t[..., None] ** 2 * cov1
        distance = np.einsum("ti,ti->t", off, np.linalg.solve(var, off[..., None])[..., 0])
        return chi_square_tail(float(distance.min()), df=n_bins - 2)


def _count(
    scores: FloatArray,
    edges: FloatArray,
    *,
    weights: npt.ArrayLike | None = None,
    groups: npt.NDArray[np.int64] | None = None,
    n_groups: int = 1,
) -> FloatArray:
    n_bins = len(edges) + 1
    cell = np.searchsorted(edges, scores)
    if groups is not None:
        there = groups >= 0
        cell = groups[there] * n_bins + cell[there]
    weight = None if weights is None else np.asarray(weights, dtype=np.float64)
    filled = np.bincount(cell, weights=weight, minlength=n_groups * n_bins)
    return np.asarray(filled.reshape(n_groups, n_bins), dtype=np.float64)


def _smoothed(share: FloatArray, n: float) -> FloatArray:
    return np.asarray((share * n + _PSEUDO) / (n + _PSEUDO * len(share)))


def _covariance(share: FloatArray, n: float) -> FloatArray:
    """Return the covariance of multinomial shares, without the last bin. *Shapes:* (…, k) to (…, k - 1, k - 1)."""
    p = share[..., :-1]
    return np.asarray((p[..., None] * np.eye(p.shape[-1]) - p[..., None] * p[..., None, :]) / n)
