"""Read mean scores as shares: levels and differences with intervals that carry the validation rows' chance too.

A group's mean score a lies on a scale whose ends were measured on validation rows: m0, the mean of those without
the gap, and m1, of those with it. Its share is (a - m0) / (m1 - m0). All groups are read on one scale, so an error
in its ends moves all levels together and leaves differences nearly alone: (a - b) / (m1 - m0) holds no m0 at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gapnlp.intervals import Interval, fieller_interval, t_value
from gapnlp.prevalence.adjustment import adjust
from gapnlp.prevalence.gap_score import GapScore

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Side(NamedTuple):
    """Texts on one side of a comparison, each of shape (n_groups, n_gaps).

    Attributes:
        mean: Mean scores.
        n: Texts, at least 1.
    """

    mean: FloatArray
    n: FloatArray


class Contrast(NamedTuple):
    """Differences of two shares, each of shape (n_groups, n_gaps).

    Attributes:
        difference: Share on one side less share on the other, -1 to 1.
        low: Lower end of the interval, of this difference alone.
        high: Upper end.
        possible: False where no two shares in 0-1 differ as the mean scores do: the texts are of another kind than
            those that the scale was made from, and nothing can be said.
    """

    difference: FloatArray
    low: FloatArray
    high: FloatArray
    possible: BoolArray


@dataclass(frozen=True)
class ScoreScale:
    """The scale that mean scores are read on, one entry per gap.

    Attributes:
        scores: The gaps' scores, n_gaps of them; the ends of the scale with their variances.
    """

    scores: tuple[GapScore, ...]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The gaps' ids."""
        return tuple(score.label for score in self.scores)

    @cached_property
    def informed(self) -> BoolArray:
        """Which gaps can be told from the rest; of the others any share is possible. *Shape:* (n_gaps,)."""
        return np.array([score.informed for score in self.scores], dtype=np.bool_)

    @cached_property
    def length(self) -> FloatArray:
        """What a share of 1 adds to a mean score, m1 - m0; 1 where that is not known. *Shape:* (n_gaps,)."""
        return np.where(self.informed, self._column("m1") - self._column("m0"), 1.0)

    @cached_property
    def var_length(self) -> FloatArray:
        """Variance of `length` as an estimate. *Shape:* (n_gaps,)."""
        return np.asarray(self._column("var_m0") + self._column("var_m1"))

    @cached_property
    def third_moment(self) -> FloatArray:
        """Third central moment of one text's score in the whole archive. *Shape:* (n_gaps,).

        The score h is (f1 - f0) / f, with f1 and f0 the densities of texts with and without the gap and f the
        archive's. So E(h³) = E1(h²) - E0(h²), and E(h) = 0.
        """
        with_gap = self._column("var_m1") * self._column("n_pos") + self._column("m1") ** 2
        without = self._column("var_m0") * self._column("n_neg") + self._column("m0") ** 2
        return np.asarray(with_gap - without)

    def share(self, mean: npt.ArrayLike) -> FloatArray:
        """Read mean scores as shares, clipped to 0-1. *Shapes:* (…, n_gaps) in and out."""
        shares = (np.asarray(mean, dtype=np.float64) - self._column("m0")) / self.length
        return np.where(self.informed, np.clip(shares, 0.0, 1.0), self._column("prior"))

    def stretch(self, between: npt.ArrayLike) -> FloatArray:
        """Read differences of mean scores as differences of shares, clipped to -1 to 1. *Shapes:* (…, n_gaps)."""
        return np.where(self.informed, np.clip(np.asarray(between) / self.length, -1.0, 1.0), 0.0)

    def score_variance(self, share: npt.ArrayLike) -> FloatArray:
        """Give the variance of one text's score in a group with this share. *Shapes:* (…, n_gaps) in and out.

        That of a mixture: t v1 + (1 - t) v0 + t (1 - t) (m1 - m0)², with v0 and v1 the variances on validation.
        """
        t = np.asarray(share, dtype=np.float64)
        v0, v1 = (self._column(f"var_m{end}") * self._column(n) for end, n in ((0, "n_neg"), (1, "n_pos")))
        return np.asarray(t * v1 + (1 - t) * v0 + t * (1 - t) * self.length**2)

    def level(self, mean: FloatArray, n: npt.ArrayLike, *, confidence: float) -> Interval:
        """Give an interval for each group's share, on nothing but its own texts: see `adjust`.

        It is for the share in the stream that the group's texts came from: a branch is judged, not its last post.

        Args:
            mean: Mean scores. *Shape:* (n_groups, n_gaps).
            n: Texts in each group, at least 1. *Shape:* (n_groups,) or (n_groups, n_gaps).
            confidence: Between 0 and 1, both excluded.

        Returns:
            Ends within 0-1. *Shape:* (n_groups, n_gaps).
        """
        adjusted = adjust(self.scores, n, mean, confidence=confidence, stream=True)
        return Interval(adjusted.low, adjusted.high)

    def bound(self, mean: FloatArray, n: npt.ArrayLike, *, confidence: float) -> Interval:
        """Give `level` with a tenth of its chance of error: what differences are cut to hardly costs them theirs."""
        return self.level(mean, n, confidence=1 - (1 - confidence) / 10)

    def pooled_level(self, mean: npt.ArrayLike, var: npt.ArrayLike, *, confidence: float) -> Interval:
        """Give an interval for shares whose mean scores come from a model, with the variance it states.

        Fieller's (1954); the error of m0 enters both sides of the ratio.

        Args:
            mean: Mean scores. *Shape:* (n_groups, n_gaps).
            var: Their variances, the scale's own error excluded. *Shape:* (n_groups, n_gaps).
            confidence: Between 0 and 1, both excluded.

        Returns:
            Ends within 0-1. *Shape:* (n_groups, n_gaps).
        """
        share, var_m0 = self.share(mean), self._column("var_m0")
        ends = fieller_interval(
            share * self.length,
            self.length,
            var_numerator=np.asarray(var) + var_m0,
            var_denominator=self.var_length,
            covariance=var_m0,
            confidence=confidence,
            df=self._df(share),
        )
        return self._within(ends, 0.0)

    def difference(
        self, between: npt.ArrayLike, var: npt.ArrayLike, *, confidence: float, df: npt.ArrayLike = np.inf
    ) -> Interval:
        """Give an interval for the difference of two shares, from that of the mean scores.

        Fieller's (1954), without a covariance: m0 cancels. The interval leaves out 0 exactly where the mean
        scores differ by more than chance allows; an error of the scale only stretches it.

        Args:
            between: Differences of mean scores. *Shape:* (…, n_gaps).
            var: Their variances. *Shape:* (…, n_gaps).
            confidence: Between 0 and 1, both excluded.
            df: Degrees of freedom of `var`.

        Returns:
            Ends within -1 to 1. *Shape:* (…, n_gaps).
        """
        ends = fieller_interval(
            between,
            self.length,
            var_numerator=var,
            var_denominator=self.var_length,
            confidence=confidence,
            df=df,
        )
        # Where the scale may have no length, any difference may be.
        bounded = self.length**2 > t_value(confidence, df) ** 2 * self.var_length
        return self._within(Interval(np.where(bounded, ends.low, -1.0), np.where(bounded, ends.high, 1.0)), -1.0)

    def contrast(self, one: Side, other: Side, *, var: npt.ArrayLike, confidence: float) -> Contrast:
        """Tell by how much the share on one side exceeds that on another, neither of them beyond 0-1.

        The scale is linear, so that mean scores off its ends, as texts of another kind have them, would make
        differences that no two shares have. The interval of `difference` is cut to what the two levels allow.

        Args:
            one: The side that is judged.
            other: The side it is held against.
            var: Variances of the differences of mean scores. *Shape:* (n_groups, n_gaps).
            confidence: Between 0 and 1, both excluded.
        """
        ends = self.difference(one.mean - other.mean, var, confidence=confidence)
        bounds = possible_difference(*(self.bound(side.mean, side.n, confidence=confidence) for side in (one, other)))
        within = cut(ends, bounds)
        # Not the difference of two shares that were each kept within 0-1: an error of m0 would not cancel in it.
        difference = np.where(self.informed, np.clip(self.stretch(one.mean - other.mean), *within), 0.0)
        return Contrast(difference, *within, meets(ends, bounds))

    def _within(self, ends: Interval, lowest: float) -> Interval:
        return Interval(
            np.where(self.informed, np.clip(ends.low, lowest, 1.0), lowest),
            np.where(self.informed, np.clip(ends.high, lowest, 1.0), 1.0),
        )

    def _df(self, share: FloatArray) -> FloatArray:
        """Count degrees of freedom (Satterthwaite 1946): few validation positives leave their variance unsure."""
        of_neg, of_pos = (1 - share) ** 2 * self._column("var_m0"), share**2 * self._column("var_m1")
        free_neg, free_pos = (np.maximum(self._column(n) - 1, 1) for n in ("n_neg", "n_pos"))
        unsure = of_neg**2 / free_neg + of_pos**2 / free_pos
        return np.where(unsure > 0, (of_neg + of_pos) ** 2 / np.where(unsure > 0, unsure, 1.0), np.inf)

    def _column(self, name: str) -> FloatArray:
        return np.array([getattr(score, name) for score in self.scores], dtype=np.float64)


def possible_difference(one: Interval, other: Interval) -> Interval:
    """Return the differences that two shares can have, if one is 0-1 and the other within its interval."""
    return Interval(np.maximum(-other.high, one.low - 1), np.minimum(one.high, 1 - other.low))


def meets(ends: Interval, bounds: Interval) -> BoolArray:
    """Tell which intervals have a value in common with their bounds."""
    return np.asarray((ends.low <= bounds.high) & (bounds.low <= ends.high))


def cut(ends: Interval, bounds: Interval) -> Interval:
    """Cut intervals to bounds; one that lies beyond them becomes the bounds."""
    within = meets(ends, bounds)
    return Interval(
        np.where(within, np.maximum(ends.low, bounds.low), bounds.low),
        np.where(within, np.minimum(ends.high, bounds.high), bounds.high),
    )


def normal_deviate(z: npt.ArrayLike, skew: npt.ArrayLike) -> FloatArray:
    """Turn standardised means of skewed scores into normal deviates.

    The cube root of Wilson & Hilferty (1931, "The distribution of chi-square"), shifted to mean 0 and scaled to the
    skewness at hand. Where it would make a mean more surprising, in the thin tail, it is left out: the skewness is an
    estimate.

    Args:
        z: Means less what is expected, in standard errors. *Shape:* any.
        skew: Skewness of these means. *Shape:* one that broadcasts with that of `z`.
    """
    given, skewness = np.broadcast_arrays(np.asarray(z, dtype=np.float64), np.asarray(skew, dtype=np.float64))
    is_skewed = np.abs(skewness) > 1e-6
    g = np.where(is_skewed, skewness, 1.0)
    deviate = np.where(is_skewed, 6 / g * (np.cbrt(1 + g * given / 2) - 1) + g / 6, given)
    thick = np.sign(deviate) == np.sign(given)
    return np.where(thick, np.sign(given) * np.minimum(np.abs(deviate), np.abs(given)), 0.0)


def p_value(z: npt.ArrayLike, df: float = np.inf) -> FloatArray:
    """Give the two-sided p-value of a standardised difference, 0-1. *Shape:* kept.

    Student's t is turned into a normal deviate by the formula of Wallace (1959, "Bounds on normal approximations
    to Student's and the chi-square distributions"), good to about 4 % of the p-value from 5 degrees of freedom on.
    """
    t = np.abs(np.asarray(z, dtype=np.float64))
    if np.isfinite(df):
        t = (8 * df + 1) / (8 * df + 3) * np.sqrt(df * np.log1p(t**2 / df))
    below = NormalDist().cdf
    return np.array([2 * below(-value) for value in t.ravel()]).reshape(t.shape)
