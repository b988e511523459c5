"""Find the months in which a gap's share truly changed, with a stated rate of false alarms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gapnlp.errors import ConfigError
from gapnlp.intervals import Interval
from gapnlp.prevalence.estimate import Moments
from gapnlp.prevalence.gap_score import GapScore
from gapnlp.prevalence.pooling import SMALLEST_VARIANCE, between_variance
from gapnlp.prevalence.scale import ScoreScale, cut, meets, normal_deviate, p_value, possible_difference
from gapnlp.prevalence.segment import MIN_TEXTS, check_groups
from gapnlp.prevalence.trend import Series

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MIN_PERIODS = 8  # with fewer, how far months wobble by themselves cannot be told
MAX_ALERTS = 3  # per series
_N_SIMULATED = 4000
# Limits are set for less than the rate stated: where months differ much in size, weights that rest on an estimated
# wobble raise the rate by up to a quarter.
_SET_FOR = 0.8


@dataclass(frozen=True, slots=True)
class Alert:
    """A change of a gap's share that neither chance nor the months' usual wobble explains.

    Attributes:
        label: The gap's id.
        period: The period that stands out, or the first one at the new level.
        lasting: True where the level moved for good; False where one period alone stands out.
        change: Share in the period, or from it on, less share in the other periods, -1 to 1. Rather too large
            than too small: changes are reported because they came out large.
        low: Lower end of its interval, of this change alone.
        high: Upper end.
        p_value: Share of unchanged series that show as much anywhere in the whole time, 0-1.
        false_alarm_rate: Share of unchanged series with one alert or more, at the most.
    """

    label: str
    period: str
    lasting: bool
    change: float
    low: float
    high: float
    p_value: float
    false_alarm_rate: float


def find_changes(
    moments: Moments,
    scores: Sequence[GapScore],
    *,
    periods: Sequence[str],
    false_alarm_rate: float = 0.05,
    confidence: float = 0.95,
    min_texts: int = MIN_TEXTS,
) -> tuple[Alert, ...]:
    """Find single periods that stand out, and periods from which on the level is another.

    Each gap's series of mean scores is fitted with every such change in turn, by weighted least squares; the one
    that explains most is put to two tests, and must pass both. First, it must exceed what the sampling of texts
    explains. Second, it must exceed what the wobble of the other periods explains: real series wobble, and the
    wobble is estimated with the change taken out, so that no change hides behind itself. Both limits are those
    that the largest of all changes tried exceeds in `false_alarm_rate` of simulated unchanged series (the scan of
    Worsley 1986 for a changed level, with single periods added; studentised as outliers are by Beckman & Cook
    1983). So the rate holds for the series as a whole, however much its periods wobble, as long as they do so
    independently and alike; with no wobble at all it is a good deal lower. After an alert the search goes on with
    that change taken out.

    The error of the scale is the same in all periods and cancels: no alert can come from it. What can: a change
    of the texts that the classifier reads differently, such as a new form or a new language. One that no change of
    a share explains, since the share would leave 0-1, is no alert.

    Args:
        moments: Scores summed up per period, in the order of time; periods without texts included.
        scores: One per gap, from `fit_gap_scores`.
        periods: Names of the periods.
        false_alarm_rate: Per series (one gap over the whole time), between 0 and 0.5.
        confidence: Of each alert's interval, between 0 and 1.
        min_texts: A period with fewer is left out.

    Returns:
        Alerts gap by gap, in the order of time, at most `MAX_ALERTS` a gap; none with fewer than `MIN_PERIODS`
        periods.

    Raises:
        CorpusError: Names do not fit the periods.
        ConfigError: A rate is out of its range.
    """
    check_groups(moments, scores, names=periods)
    if not 0 < false_alarm_rate <= 0.5:
        raise ConfigError(f"false_alarm_rate: got {false_alarm_rate}, expected a share above 0, at most 0.5")
    series = Series.of(moments, ScoreScale(tuple(scores)), periods=periods, min_texts=min_texts)
    if len(series.names) < MIN_PERIODS:
        return ()
    return tuple(
        alert
        for gap in np.flatnonzero(series.scale.informed)
        for alert in _alerts(series, int(gap), rate=false_alarm_rate, confidence=confidence)
    )


class _Found(NamedTuple):
    candidate: int
    p_value: float


def _alerts(series: Series, gap: int, *, rate: float, confidence: float) -> Iterator[Alert]:
    """Take out one change after the other; describe those found in the order of time."""
    y, var = series.mean[:, gap], np.maximum(series.var[:, gap], SMALLEST_VARIANCE)
    tested = _without_skew(series, gap)
    candidates = _candidates(len(y))
    found: list[_Found] = []
    while len(found) < MAX_ALERTS:
        fit = _Fit.of(tested, var, _design(candidates, found))
        one = _largest(fit, candidates, rate=rate)
        if one is None:
            break
        found.append(one)
    if not found:
        return
    change, error, df = _Fit.of(y, var, _design(candidates, found)).coefficients()
    scale = series.scale
    low, high = (
        end[:, gap] for end in scale.difference(change[1:, None], error[1:, None], confidence=confidence, df=df)
    )
    share = scale.stretch(np.broadcast_to(change[1:, None], (len(found), len(scale.labels))))[:, gap]
    for i in sorted(range(len(found)), key=lambda i: _first(candidates, found[i])):
        at = _first(candidates, found[i])
        bounds = _bounds(series, candidates[found[i].candidate] > 0, gap=gap, confidence=confidence)
        own = Interval(low[i], high[i])
        if not meets(own, bounds):
            continue
        ends = cut(own, bounds)
        lasting = found[i].candidate >= len(y)
        figures = float(np.clip(share[i], *ends)), float(ends.low), float(ends.high), found[i].p_value
        yield Alert(scale.labels[gap], series.names[at], lasting, *figures, rate)


def _without_skew(series: Series, gap: int) -> FloatArray:
    """Return mean scores that chance moves up and down alike. *Shape:* (n,).

    A few dozen texts hold none of a rare gap mostly, and now and then two or three: taken for normal, their mean score
    would be a sensation in far more months than it is stated.
    """
    n, var = series.n, np.maximum(series.var[:, gap], SMALLEST_VARIANCE)
    error, centre = np.sqrt(var), np.average(series.mean[:, gap], weights=n)
    skew = series.scale.third_moment[gap] / (var * n) ** 1.5 / np.sqrt(n)
    return np.asarray(centre + error * normal_deviate((series.mean[:, gap] - centre) / error, skew))


def _bounds(series: Series, changed: BoolArray, *, gap: int, confidence: float) -> Interval:
    """Return the changes that shares allow, from the levels of the periods that changed and of the others."""
    levels = series.scale.bound(series.mean, series.n, confidence=confidence)
    low, high = (end[:, gap] for end in levels)
    return possible_difference(*(Interval(low[periods].min(), high[periods].max()) for periods in (changed, ~changed)))


def _candidates(n: int) -> FloatArray:
    """Lay out the changes tried: each period alone, then each lasting shift. *Shape:* (2 n - 3, n).

    A shift has two periods at least on either side: of one alone it would be the period that stands out.
    """
    shifts = [np.arange(n) >= start for start in range(2, n - 1)]
    return np.vstack([np.eye(n), np.array(shifts, dtype=np.float64)])


def _first(candidates: FloatArray, found: _Found) -> int:
    return int(np.flatnonzero(candidates[found.candidate])[0])


def _design(candidates: FloatArray, found: Sequence[_Found]) -> FloatArray:
    """Return the level and the changes found so far as columns. *Shape:* (n, 1 + n_found)."""
    return np.column_stack([np.ones(candidates.shape[1]), *(candidates[one.candidate] for one in found)])


@dataclass(frozen=True, slots=True)
class _Fit:
    """A series fitted by weighted least squares, with every row divided by its standard deviation.

    Attributes:
        design: Its columns. *Shape:* (n, n_columns).
        basis: The columns' space, orthonormal. *Shape:* (n, n_columns).
        y: The series. *Shape:* (n,).
        root_weight: 1 / standard deviation of each mean score, sampling and wobble. *Shape:* (n,).
        sampled: Part of that variance that is sampling, 0-1. *Shape:* (n,).
    """

    design: FloatArray
    basis: FloatArray
    y: FloatArray
    root_weight: FloatArray
    sampled: FloatArray

    @classmethod
    def of(cls, y: FloatArray, var: FloatArray, design: FloatArray) -> _Fit:
        # The wobble sets the weights of large and small periods against each other; their size is estimated anew.
        around = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        total = var + between_variance(around[:, None], var[:, None])
        root = 1 / np.sqrt(total)
        white = design * root[:, None]
        return cls(white, np.linalg.qr(white)[0], y * root, root, var / total)

    @property
    def residual(self) -> FloatArray:
        return np.asarray(self.y - self.basis @ (self.basis.T @ self.y))

    def directions(self, candidates: FloatArray) -> FloatArray:
        """What each candidate adds to the columns, as unit vectors, 0 where nothing. *Shape:* (n_candidates, n)."""
        rows = candidates * self.root_weight
        beyond = rows - (rows @ self.basis) @ self.basis.T
        size = np.linalg.norm(beyond, axis=1, keepdims=True)
        new = size > 1e-6 * np.linalg.norm(rows, axis=1, keepdims=True)
        return np.where(new, beyond / np.where(new, size, 1.0), 0.0)

    def coefficients(self) -> tuple[FloatArray, FloatArray, int]:
        """Give the columns' coefficients, their variances, and the degrees of freedom of these."""
        df = len(self.y) - self.design.shape[1]
        inverse = np.linalg.inv(self.design.T @ self.design)
        wobble = max(float(self.residual @ self.residual) / df, 1.0)
        return inverse @ self.design.T @ self.y, np.diag(inverse) * wobble, df


def _largest(fit: _Fit, candidates: FloatArray, *, rate: float) -> _Found | None:
    """Find the candidate that explains most, if an unchanged series shows as much at `rate` or less."""
    n, n_columns = fit.design.shape
    directions = fit.directions(candidates)
    explained = directions @ fit.residual
    best = int(np.argmax(np.abs(explained)))
    size, df = abs(float(explained[best])), n - n_columns - 1
    against_sampling = size / np.sqrt(float(directions[best] ** 2 @ fit.sampled))
    # A cheap look first: n candidates at the least are nearly independent, so the true value is no lower.
    if n * float(p_value(against_sampling)) / 2 > rate * _SET_FOR:
        return None
    left = float(fit.residual @ fit.residual) - size**2
    against_wobble = size / np.sqrt(max(left, SMALLEST_VARIANCE) / df)
    chance = 1 / _SET_FOR * max(_shares_beyond(fit, directions, against_sampling, against_wobble, rate=rate))
    return _Found(best, min(chance, 1.0)) if chance <= rate else None


def _shares_beyond(
    fit: _Fit, directions: FloatArray, against_sampling: float, against_wobble: float, *, rate: float
) -> tuple[float, float]:
    """Simulate unchanged series; return the shares whose largest change is as large, by either measure."""
    n, n_columns = fit.design.shape
    noise = _noise(n, max(_N_SIMULATED, int(100 / rate)))
    largest = np.abs(noise @ directions.T).max(axis=1)
    left = (noise**2).sum(axis=1) - ((noise @ fit.basis) ** 2).sum(axis=1) - largest**2
    studentised = largest / np.sqrt(np.maximum(left, SMALLEST_VARIANCE) / (n - n_columns - 1))
    n_simulated = len(noise)
    beyond = (np.count_nonzero(largest >= against_sampling), np.count_nonzero(studentised >= against_wobble))
    return (1 + int(beyond[0])) / (1 + n_simulated), (1 + int(beyond[1])) / (1 + n_simulated)


@lru_cache(maxsize=8)
def _noise(n: int, n_simulated: int) -> FloatArray:
    """Draw the same normal series every time: one archive, one answer. *Shape:* (n_simulated, n)."""
    return np.random.default_rng(0).standard_normal((n_simulated, n))
