"""Read mean scores as shares, with intervals.

An archive's mean score a lies on a scale whose ends were measured on validation rows: m0, the mean of those without
the gap, and m1, of those with it. Its share is (a - m0) / (m1 - m0). The interval is for the share among the texts
at hand, a finite number of them, not for the share in a stream that they were drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gapnlp.intervals import Interval, fieller_interval, t_value
from gapnlp.prevalence.gap_score import GapScore

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_BEYOND = 5 / 6  # of the interval's reach: how far outside 0-1 an estimate counts, see `_Columns.interval`
_GARROTE = 2.0  # Akaike's price of one parameter, in squared standard errors


class Adjusted(NamedTuple):
    """Shares per group and gap, each of shape (n_groups, n_gaps), 0-1.

    Attributes:
        plain: (a - m0) / (m1 - m0), kept in 0-1. Linear: the mean over groups is that of their union.
        prevalence: The estimate: `plain`, drawn to what the archive says if its mix is that of validation.
        low: Lower end of the interval.
        high: Upper end.
    """

    plain: FloatArray
    prevalence: FloatArray
    low: FloatArray
    high: FloatArray


def adjust(
    scores: Sequence[GapScore], n: npt.ArrayLike, mean: npt.ArrayLike, *, confidence: float, stream: bool = False
) -> Adjusted:
    """Read mean scores as shares.

    The interval holds every share t whose expected mean score is no further from the observed one than chance
    allows: (a - m0 - t (m1 - m0))² ≤ z² ((t v1 + (1 - t) v0) / n + (1 - t)² var(m0) + t² var(m1)), with v0 and v1 the
    scores' variances among validation rows. This is Fieller's (1954) set with the sampling variance taken at t,
    not at the estimate; z is Student's, with Satterthwaite's (1946) degrees of freedom. With `stream`, the share is
    that of the source the texts came from, and t (1 - t) (m1 - m0)² / n joins the variance.

    Args:
        scores: One per gap, n_gaps of them.
        n: Texts per group, at least 1. *Shape:* (n_groups,) or (n_groups, n_gaps), or a number for one group.
        mean: Mean scores of the groups. *Shape:* (n_groups, n_gaps), or (n_gaps,) for one group.
        confidence: Of the intervals, between 0 and 1.
        stream: Cover the share in the source, not the share among the texts at hand.

    Raises:
        ConfigError: `confidence` is out of its range.
    """
    fitted = _Columns.of(scores)
    given, a = np.atleast_1d(np.asarray(n, dtype=np.float64)), np.atleast_2d(mean)
    texts = given if given.ndim == 2 else given[:, None]
    share = (a - fitted.m0) / fitted.contrast
    low, high = fitted.interval(share, texts, confidence=confidence, stream=stream)
    plain, estimate = np.clip(share, 0.0, 1.0), np.clip(fitted.garrote(a, texts), low, high)
    plain, prevalence = (np.where(fitted.informed, value, fitted.prior) for value in (plain, estimate))
    return Adjusted(plain, prevalence, low, high)


@dataclass(frozen=True)
class _Columns:
    """Scores side by side, every array of shape (n_gaps,)."""

    prior: FloatArray
    m0: FloatArray
    m1: FloatArray
    var_m0: FloatArray
    var_m1: FloatArray
    n_neg: FloatArray
    n_pos: FloatArray
    informed: BoolArray

    @classmethod
    def of(cls, scores: Sequence[GapScore]) -> _Columns:
        names = ("prior", "m0", "m1", "var_m0", "var_m1", "n_neg", "n_pos")
        columns = {name: np.array([getattr(score, name) for score in scores], dtype=np.float64) for name in names}
        return cls(**columns, informed=np.array([score.informed for score in scores]))

    @property
    def contrast(self) -> FloatArray:
        return np.where(self.informed, self.m1 - self.m0, 1.0)

    def interval(self, share: FloatArray, n: FloatArray, *, confidence: float, stream: bool) -> Interval:
        """Solve for the interval of `adjust`, from unclipped shares.

        An estimate far outside 0-1 is read as one that is less far: the set of shares would else be empty, or a
        point, where an archive is extreme. The end that it leaves is at least a third of a standard error
        inside. To read it as 0 or 1 would do more than is promised: 97-98 % for shares near 0, as measured.
        """
        v0, v1 = self.var_m0 * self.n_neg, self.var_m1 * self.n_pos
        between = self.contrast**2 / n if stream else 0.0
        df = self._df(np.clip(share, 0.0, 1.0), n)
        reach = _BEYOND * t_value(confidence, df) / self.contrast
        furthest = -reach * np.sqrt(self.var_m0 + v0 / n), 1 + reach * np.sqrt(self.var_m1 + v1 / n)
        ends = fieller_interval(
            np.clip(share, *furthest) * self.contrast,
            self.contrast,
            var_numerator=self.var_m0 + v0 / n,
            var_denominator=self.var_m0 + self.var_m1 - between,
            covariance=self.var_m0 - (v1 - v0) / (2 * n) - between / 2,
            confidence=confidence,
            df=df,
        )
        low, high = (np.clip(end, 0.0, 1.0) for end in ends)
        return Interval(np.where(self.informed, low, 0.0), np.where(self.informed, high, 1.0))

    def _df(self, share: FloatArray, n: FloatArray) -> FloatArray:
        of_neg = ((1 - share) ** 2 + (1 - share) * self.n_neg / n) * self.var_m0
        of_pos = (share**2 + share * self.n_pos / n) * self.var_m1
        unsure = of_neg**2 / np.maximum(self.n_neg - 1, 1) + of_pos**2 / np.maximum(self.n_pos - 1, 1)
        return np.where(unsure > 0, (of_neg + of_pos) ** 2 / np.where(unsure > 0, unsure, 1.0), np.inf)

    def garrote(self, a: FloatArray, n: FloatArray) -> FloatArray:
        """Draw the estimate to the one that supposes validation's mix, unless the archive speaks against that.

        If the mix is the same, the share on validation rows, corrected by regression on the scores, is far more
        precise than (a - m0) / (m1 - m0). The latter gets the weight (1 - 2 / z²)+, where z is the distance of
        the archive's mean score from validation's in standard errors: the nonnegative garrote (Breiman 1995,
        "Better subset regression using the nonnegative garrote") at Akaike's price of one parameter.
        """
        rows = self.n_neg + self.n_pos
        between = self.prior * (1 - self.prior) * self.contrast
        spread = self.prior * self.var_m1 * self.n_pos + (1 - self.prior) * self.var_m0 * self.n_neg
        spread = np.where(self.informed, spread + between * self.contrast, 1.0)
        off = a - self.prior * self.m1 - (1 - self.prior) * self.m0
        same = self.prior + between / spread * off
        weight = np.maximum(0.0, 1 - _GARROTE * spread * (1 / n + 1 / rows) / np.maximum(off**2, 1e-300))
        return np.asarray(same + weight * ((a - self.m0) / self.contrast - same))
