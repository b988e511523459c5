"""Intervals in closed form: for a share, and for a ratio of two estimates.

Quantiles are computed here, by published expansions, so that the library needs no statistics package.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gapnlp.errors import ConfigError

FloatArray = npt.NDArray[np.float64]

_EXPANDED_FROM = 3.0  # the expansion of Student's t is good to 1 % from here on at 95 %


class Interval(NamedTuple):
    """Lower and upper ends, arrays of one shape."""

    low: FloatArray
    high: FloatArray


def z_value(confidence: float) -> float:
    """Return the two-sided quantile of the normal distribution: 1.96 for 0.95.

    Args:
        confidence: Between 0 and 1, both excluded.

    Raises:
        ConfigError: `confidence` is out of its range.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence: got {confidence}, expected a number between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def t_value(confidence: float, df: npt.ArrayLike) -> FloatArray:
    """Return the two-sided quantile of Student's t distribution, `z_value` where `df` is infinite.

    From 3 degrees of freedom on, the expansion in powers of 1 / df of Abramowitz & Stegun (1964, "Handbook of
    Mathematical Functions", 26.7.5).

    Args:
        confidence: Between 0 and 1, both excluded.
        df: Degrees of freedom; below 2 counts as 2. *Shape:* any, kept.

    Raises:
        ConfigError: `confidence` is out of its range.
    """
    z, given = z_value(confidence), 1 / np.maximum(np.asarray(df, dtype=np.float64), 2.0)
    u = np.minimum(given, 1 / _EXPANDED_FROM)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    expanded = sum(term * u**power for power, term in enumerate(terms))
    # With 2 degrees of freedom there is a closed form; from there to where the expansion holds, a straight line.
    of_two = confidence * np.sqrt(2 / (1 - confidence**2))
    return np.asarray(expanded + (of_two - expanded) * (given - u) / (1 / 2 - 1 / _EXPANDED_FROM))


def wilson_interval(share: npt.ArrayLike, n_effective: npt.ArrayLike, *, confidence: float) -> Interval:
    """Give the interval of Wilson (1927, "Probable inference, the law of succession") for a share.

    Args:
        share: Observed share, 0-1. *Shape:* any that broadcasts with `n_effective`.
        n_effective: Rows of a simple random sample that would know as much; 0 gives (0, 1).
        confidence: Between 0 and 1, both excluded.

    Returns:
        Ends within 0-1. *Shape:* the broadcast one.

    Raises:
        ConfigError: `confidence` is out of its range.
    """
    z2 = z_value(confidence) ** 2
    p, n = np.asarray(share, dtype=np.float64), np.asarray(n_effective, dtype=np.float64)
    centre = (n * p + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * (n * p * (1 - p) + z2 / 4)) / (n + z2)
    return Interval(np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0))


def fieller_interval(
    numerator: npt.ArrayLike,
    denominator: npt.ArrayLike,
    *,
    var_numerator: npt.ArrayLike,
    var_denominator: npt.ArrayLike,
    covariance: npt.ArrayLike = 0.0,
    confidence: float,
    df: npt.ArrayLike = np.inf,
) -> Interval:
    """Give the interval of Fieller (1954, "Some problems in interval estimation") for a ratio of two estimates.

    It holds every ratio t for which numerator - t · denominator is no further from 0 than chance allows: the
    solutions of (numerator - t · denominator)² ≤ z² (var_numerator - 2 t covariance + t² var_denominator).
    Unlike an interval from the ratio's approximate variance it keeps its promise where the denominator is not
    far from 0. Where the denominator may be 0, any ratio may be: the interval is then (0, 1), the widest that
    a share has.

    Args:
        numerator: Estimate. *Shape:* any that broadcasts with the others.
        denominator: Estimate.
        var_numerator: Variance of the numerator's estimate.
        var_denominator: Variance of the denominator's estimate.
        covariance: Of the two estimates.
        confidence: Between 0 and 1, both excluded.
        df: Degrees of freedom of the variances; infinite takes them for known.

    Returns:
        Ends, not clipped to 0-1. *Shape:* the broadcast one.

    Raises:
        ConfigError: `confidence` is out of its range.
    """
    top, bottom, var_top, var_bottom, cov, z = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (numerator, denominator, var_numerator, var_denominator)),
        np.asarray(covariance, dtype=np.float64),
        t_value(confidence, df),
    )
    square = bottom**2 - z**2 * var_bottom
    middle = top * bottom - z**2 * cov
    constant = top**2 - z**2 * var_top
    bounded = square > 0
    square = np.where(bounded, square, 1.0)
    # Below 0 only by rounding, where the ratio is known exactly.
    half = np.sqrt(np.maximum(middle**2 - square * constant, 0.0)) / square
    centre = middle / square
    return Interval(np.where(bounded, centre - half, 0.0), np.where(bounded, centre + half, 1.0))
