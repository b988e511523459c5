"""The interval of a share that is known from several strata, each read in part."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from gapnlp.intervals import Interval, wilson_interval, z_value

FloatArray = npt.NDArray[np.float64]

_N_HALVINGS = 50
_LOG_RANGE = 30.0
FEW = 3  # positives up to which Wilson's lower end lies too high


def stratified_interval(
    share: npt.ArrayLike, n_effective: npt.ArrayLike, *, weight: npt.ArrayLike, confidence: float
) -> Interval:
    """Put an interval around Σ weight · share, the way Wilson (1927) does around one share.

    A value t is in the interval unless the estimate is more than z standard errors from it, where the standard
    error is what it would be if t were true: taken at the strata's shares that explain the counts best among
    those with Σ weight · share = t (constrained maximum likelihood, Miettinen & Nurminen 1985, "Comparative
    analysis of two rates"). One stratum gives Wilson's interval. A stratum without a positive row therefore
    still says how many there may be, which the estimated variance, 0 there, does not.

    Args:
        share: Estimated share per stratum, 0-1. *Shape:* (..., n_strata).
        n_effective: Rows of a simple random sample with replacement that would know as much; infinite where
            all rows were read, 0 where none was. *Shape:* like `share`.
        weight: The strata's parts of the whole, which sum to 1. *Shape:* (n_strata,).
        confidence: Between 0 and 1, both excluded.

    Returns:
        Ends, 0-1. *Shape:* (...).

    Raises:
        ConfigError: `confidence` is out of its range.
    """
    p, w = np.asarray(share, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    n = np.broadcast_to(np.asarray(n_effective, dtype=np.float64), p.shape)
    known, unread = np.isinf(n), n == 0
    fixed = (w * p * known).sum(axis=-1)  # strata that were read to the end
    open_weight = (w * unread).sum(axis=-1)  # strata of which nothing is known: any share from 0 to 1
    w = w * ~(known | unread)
    n = np.where(known | unread, 1.0, n)
    if p.shape[-1] == 1:
        low, high = (w[..., 0] * end for end in wilson_interval(p[..., 0], n[..., 0], confidence=confidence))
    else:
        low, high = (_end(p, n, w, z2=z_value(confidence) ** 2, sign=sign) for sign in (1, -1))
    return Interval(np.clip(fixed + low, 0.0, 1.0), np.clip(fixed + open_weight + high, 0.0, 1.0))


def widen_for_few(
    interval: Interval, n_seen: npt.ArrayLike, *, n_effective: npt.ArrayLike, confidence: float
) -> Interval:
    """Lower the lower end where one to three positives were seen, by the Poisson distribution.

    There Wilson's interval misses too often on this side (Brown, Cai & DasGupta 2001, "Interval estimation for a
    binomial proportion", section 4.1.1).

    Args:
        interval: Of one share.
        n_seen: Positives seen. *Shape:* that of the ends.
        n_effective: See `wilson_interval`.
        confidence: Between 0 and 1, both excluded.
    """
    low, seen = interval.low, np.asarray(n_seen)
    for few in range(1, FEW + 1):
        limit = _poisson_limit(few, tail=1 - confidence) / np.asarray(n_effective, dtype=np.float64)
        low = np.where(seen == few, np.minimum(low, limit), low)
    return Interval(low, interval.high)


def _end(p: FloatArray, n: FloatArray, w: FloatArray, *, z2: float, sign: int) -> FloatArray:
    """Find one end by halving: the lower for `sign` 1, the upper for -1.

    With μ the multiplier of the constraint, p̂ - p = μ w p (1 - p) / n in each stratum, so that the standard
    error at t is √((p̂ - t) / μ) in sum, and the end is where μ · (estimate - t) = z².
    """
    estimate = (w * p).sum(axis=-1)
    scale = (n / np.where(w > 0, w, np.inf)).max(axis=-1)
    inside, outside = np.full(estimate.shape, -_LOG_RANGE), np.full(estimate.shape, _LOG_RANGE)
    at = estimate
    for _ in range(_N_HALVINGS):
        middle = (inside + outside) / 2
        multiplier = sign * scale * np.exp(middle)
        at = (w * _best_shares(p, n, multiplier[..., None] * w)).sum(axis=-1)
        holds = multiplier * (estimate - at) <= z2
        inside, outside = np.where(holds, middle, inside), np.where(holds, outside, middle)
    return np.asarray(at)


def _best_shares(p: FloatArray, n: FloatArray, a: FloatArray) -> FloatArray:
    """Solve n (p̂ - x) = a x (1 - x) for x in 0-1; where p̂ is 0, x leaves 0 only once a < -n."""
    b = n + a
    root = np.sqrt(np.maximum(b * b - 4 * a * n * p, 0.0))
    positive = b > 0  # choose the form that subtracts nothing from nearly itself
    x = np.where(positive, 2 * n * p / np.where(positive, b + root, 1.0), (b - root) / np.where(positive, -1.0, 2 * a))
    return np.asarray(np.clip(x, 0.0, 1.0))


@cache
def _poisson_limit(n_seen: int, *, tail: float) -> float:
    """Return the mean at which a Poisson count reaches `n_seen` with probability `tail`."""
    low, high = 0.0, float(n_seen + 1)
    for _ in range(_N_HALVINGS):
        middle = (low + high) / 2
        below = math.exp(-middle) * sum(middle**i / math.factorial(i) for i in range(n_seen))
        low, high = (middle, high) if 1 - below < tail else (low, middle)
    return high
