"""Lend small groups the strength of all: empirical Bayes on means with known sampling variances."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MIN_GROUPS = 4  # with fewer, how far groups differ cannot be told from the groups
_STEPS = 60
SMALLEST_VARIANCE = 1e-12  # of scores that are all the same


class Pooled(NamedTuple):
    """What the model says of each group.

    Attributes:
        mean: Drawn towards the common mean. *Shape:* (n_groups, n_gaps).
        var: Its mean squared error. *Shape:* (n_groups, n_gaps).
        common: The mean of all groups. *Shape:* (n_gaps,).
        between: Variance of the groups' true means. *Shape:* (n_gaps,).
    """

    mean: FloatArray
    var: FloatArray
    common: FloatArray
    between: FloatArray


def between_variance(mean: npt.ArrayLike, var: npt.ArrayLike) -> FloatArray:
    """Estimate how far the true means of groups differ, beyond their sampling variances.

    The value under which the weighted squares around the weighted mean are as large as expected (Paule & Mandel
    1982, "Consensus values and weighting factors"), by the Newton steps of DerSimonian & Kacker (2007); 0 where
    sampling alone explains the squares.

    Args:
        mean: Of groups. *Shape:* (n_groups, n_gaps).
        var: Sampling variances of the means. *Shape:* (n_groups, n_gaps).

    Returns:
        Variance between groups. *Shape:* (n_gaps,).
    """
    y, s = np.asarray(mean, dtype=np.float64), np.maximum(np.asarray(var, dtype=np.float64), SMALLEST_VARIANCE)
    between = np.zeros(y.shape[1])
    for _ in range(_STEPS):
        weight = 1 / (s + between)
        off = (y - (weight * y).sum(axis=0) / weight.sum(axis=0)) ** 2
        excess = (weight * off).sum(axis=0) - (len(y) - 1)
        slope = (weight**2 * off).sum(axis=0)
        # The squares fall with `between` and are convex: steps from below never overshoot.
        step = np.where(slope > 0, excess / np.where(slope > 0, slope, 1.0), 0.0)
        if not (np.maximum(between + step, 0.0) > between * (1 + 1e-9)).any():
            break
        between = np.maximum(between + step, 0.0)
    return between


def pool(mean: npt.ArrayLike, var: npt.ArrayLike) -> Pooled:
    """Draw the means of groups towards their common mean, the more the less each is known by itself.

    Normal model of Fay & Herriot (1979) with a common mean. Weights and variances after Morris (1983,
    "Parametric empirical Bayes inference", section 5): the factor (k - 3) / (k - 1) keeps a variance between
    groups that came out as 0 from being taken for true, and the last term adds what is unsure about it.

    Args:
        mean: Of k groups, at least `MIN_GROUPS`. *Shape:* (n_groups, n_gaps).
        var: Sampling variances of the means. *Shape:* (n_groups, n_gaps).
    """
    y, s = np.asarray(mean, dtype=np.float64), np.maximum(np.asarray(var, dtype=np.float64), SMALLEST_VARIANCE)
    k, between = len(y), between_variance(mean, var)
    weight = 1 / (s + between)
    common = (weight * y).sum(axis=0) / weight.sum(axis=0)
    drawn = (k - 3) / (k - 1) * s * weight
    unsure = 2 / (k - 3) * drawn**2 * (s.mean(axis=0) + between) * weight
    return Pooled(
        mean=(1 - drawn) * y + drawn * common,
        var=s * (1 - drawn) + drawn**2 / weight.sum(axis=0) + unsure * (y - common) ** 2,
        common=common,
        between=between,
    )
