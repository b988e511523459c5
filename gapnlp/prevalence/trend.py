"""Prevalence over time: levels with bands that hold together, changes from month to month, and the slope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapnlp.errors import CorpusError
from gapnlp.prevalence.estimate import ASSUMPTION, Moments
from gapnlp.prevalence.gap_score import GapScore
from gapnlp.prevalence.pooling import SMALLEST_VARIANCE, between_variance
from gapnlp.prevalence.scale import ScoreScale, Side, p_value
from gapnlp.prevalence.segment import MIN_TEXTS, SegmentEstimate, check_groups, within_variance
from gapnlp.records import PrevalenceEstimate

FloatArray = npt.NDArray[np.float64]

EARLIER = "all earlier periods"


@dataclass(frozen=True, slots=True)
class Change:
    """By how much a gap's share in one period exceeds that before.

    Attributes:
        label: The gap's id.
        period: The period.
        since: What it is held against: the last period before it that has enough texts, or `EARLIER`.
        change: Share in the period less share before, -1 to 1.
        low: Lower end of the interval, of this change alone.
        high: Upper end.
        p_value: Two-sided, of this change alone, 0-1: `find_changes` tells which changes deserve an alert.
    """

    label: str
    period: str
    since: str
    change: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Slope:
    """How a gap's share moved over the whole time, on a straight line.

    Attributes:
        label: The gap's id.
        per_period: Change of the share per period, -1 to 1.
        low: Lower end of its interval; periods that wobble beyond chance widen it.
        high: Upper end.
        p_value: Two-sided, 0-1.
    """

    label: str
    per_period: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Trend:
    """One gap over time.

    Attributes:
        label: The gap's id.
        levels: Per period in its order; those without enough texts are left out. Their bands hold together.
        changes: From each period to the next one.
        against_earlier: Of each period against all earlier ones put together, from the third on.
        slope: Over the whole time; none with fewer than four periods.
    """

    label: str
    levels: tuple[SegmentEstimate, ...]
    changes: tuple[Change, ...]
    against_earlier: tuple[Change, ...]
    slope: Slope | None


def estimate_trend(
    moments: Moments,
    scores: Sequence[GapScore],
    *,
    periods: Sequence[str],
    counted: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    min_texts: int = MIN_TEXTS,
) -> tuple[Trend, ...]:
    """Estimate levels, changes and slope of each gap's share over time.

    The scale that scores are read on is the same in all periods: its error moves the whole line up or down and
    hardly touches its shape, so changes are known better than levels. Bands share the error out over the
    periods shown by confidence^(1 / n_periods) (Šidák 1967), whatever the correlation between them.

    Args:
        moments: Scores summed up per period, in the order of time; periods without texts included.
        scores: One per gap, from `fit_gap_scores`.
        periods: Names of the periods, evenly spaced in time.
        counted: Share the classifier gave each gap, per period; NaN-free. *Shape:* (n_periods, n_gaps).
            Without it the levels' `counted` is 0.
        confidence: Of each interval, and of each gap's bands together.
        min_texts: A period with fewer is left out.

    Returns:
        One trend per gap.

    Raises:
        CorpusError: Names or counts do not fit the periods.
        ConfigError: `confidence` is not between 0 and 1.
    """
    check_groups(moments, scores, names=periods)
    shares = np.zeros_like(moments.mean) if counted is None else np.asarray(counted, dtype=np.float64)
    if shares.shape != moments.mean.shape:
        raise CorpusError(f"counted: got shape {shares.shape}, expected that of the periods, {moments.mean.shape}")
    series = Series.of(moments, ScoreScale(tuple(scores)), periods=periods, min_texts=min_texts)
    levels = _levels(series, counted=shares[series.at], confidence=confidence)
    changes = _changes(series, _step_from_last(series), since=series.names[:-1], confidence=confidence)
    earlier = _changes(series, _step_from_earlier(series), since=[EARLIER] * len(series.names), confidence=confidence)
    slopes = _slopes(series, confidence=confidence)
    return tuple(
        Trend(label, levels[gap], changes[gap], earlier[gap], slopes[gap])
        for gap, label in enumerate(series.scale.labels)
    )


@dataclass(frozen=True, slots=True)
class Series:
    """Mean scores of the periods that have enough texts.

    Attributes:
        names: Of the periods, n_shown of them.
        at: Their places among all periods: the time axis. *Shape:* (n_shown,).
        n: Texts. *Shape:* (n_shown,).
        mean: Mean scores. *Shape:* (n_shown, n_gaps).
        var: Sampling variances of the means, from the variance within periods, pooled: a period with few texts
            of a gap would mistake its own. *Shape:* (n_shown, n_gaps).
        scale: What the scores are read on.
    """

    names: tuple[str, ...]
    at: npt.NDArray[np.int64]
    n: npt.NDArray[np.int64]
    mean: FloatArray
    var: FloatArray
    scale: ScoreScale

    @classmethod
    def of(cls, moments: Moments, scale: ScoreScale, *, periods: Sequence[str], min_texts: int) -> Series:
        """Leave out the periods with too few texts."""
        at = np.flatnonzero(moments.n >= max(min_texts, 1))
        n, names = moments.n[at], tuple(periods[int(i)] for i in at)
        return cls(names, at, n, moments.mean[at], within_variance(moments) / n[:, None], scale)


def _levels(series: Series, *, counted: FloatArray, confidence: float) -> list[tuple[SegmentEstimate, ...]]:
    scale, together = series.scale, confidence ** (1 / max(len(series.names), 1))
    share = scale.share(series.mean)
    own, band = (scale.level(series.mean, series.n, confidence=c) for c in (confidence, together))

    def level(t: int, gap: int) -> SegmentEstimate:
        at = (t, gap)
        estimate = PrevalenceEstimate(
            label=scale.labels[gap],
            n_texts=int(series.n[t]),
            counted=float(counted[at]),
            prevalence=float(share[at]),
            low=float(own.low[at]),
            high=float(own.high[at]),
            confidence=confidence,
            method="adjusted",
            notes=(ASSUMPTION,),
        )
        return SegmentEstimate(series.names[t], True, float(band.low[at]), float(band.high[at]), estimate)

    return [tuple(level(t, gap) for t in range(len(series.names))) for gap in range(len(scale.labels))]


def _step_from_last(series: Series) -> FloatArray:
    """Weights of each period's change from the one before. *Shape:* (n_shown - 1, n_shown)."""
    return np.asarray(np.diff(np.eye(len(series.names)), axis=0))


def _step_from_earlier(series: Series) -> FloatArray:
    """Weights of each period's change from all before, from the third on. *Shape:* (n_shown - 2, n_shown)."""
    before = np.tril(np.broadcast_to(series.n, (len(series.n),) * 2), -1)
    return np.asarray((np.eye(len(series.n)) - before / np.maximum(before.sum(axis=1, keepdims=True), 1))[2:])


def _changes(
    series: Series, weights: FloatArray, *, since: Sequence[str], confidence: float
) -> list[tuple[Change, ...]]:
    """Read weighted sums of mean scores as changes; the last periods of the series are those that changed."""
    one, other = (
        Side(
            side @ series.mean,
            np.broadcast_to(1 / (side**2 @ (1 / series.n))[:, None], (len(side), series.mean.shape[1])),
        )
        for side in (np.maximum(weights, 0.0), np.maximum(-weights, 0.0))
    )
    var = weights**2 @ series.var
    found = series.scale.contrast(one, other, var=var, confidence=confidence)
    deviate = (one.mean - other.mean) / np.sqrt(np.where(var > 0, var, np.inf))
    chance = np.where(series.scale.informed & found.possible, p_value(deviate), 1.0)
    names = series.names[len(series.names) - len(weights) :]
    return [
        tuple(
            Change(label, name, before, *(float(x[i, gap]) for x in (*found[:3], chance)))
            for i, (name, before) in enumerate(zip(names, since[len(since) - len(names) :], strict=True))
        )
        for gap, label in enumerate(series.scale.labels)
    ]


def _slopes(series: Series, *, confidence: float) -> list[Slope | None]:
    """Fit a straight line per gap, weighing periods by their texts and their wobble.

    Random-effects regression with the variance of Knapp & Hartung (2003), never below the one expected: the
    wobble of the periods around the line is estimated, and Student's t pays for that.
    """
    df = len(series.names) - 2
    if df < 2:
        return [None] * len(series.scale.labels)
    time = (series.at - series.at.mean())[:, None]
    # The wobble around the line; that of the raw means would count the slope itself as wobble.
    line = np.hstack([np.ones_like(time), time])
    residual = series.mean - line @ np.linalg.lstsq(line, series.mean, rcond=None)[0]
    var = np.maximum(series.var, SMALLEST_VARIANCE)
    weight = 1 / (var + between_variance(residual, series.var))
    share = weight / weight.sum(axis=0)
    centred = time - (share * time).sum(axis=0)
    off = series.mean - (share * series.mean).sum(axis=0)
    information = (weight * centred**2).sum(axis=0)
    slope = (weight * centred * off).sum(axis=0) / information
    squares = (weight * (off - slope * centred) ** 2).sum(axis=0)
    error = np.maximum(squares / df, 1.0) / information
    ends = series.scale.difference(slope, error, confidence=confidence, df=df)
    chance = np.where(series.scale.informed, p_value(slope / np.sqrt(error), df=df), 1.0)
    read = (series.scale.stretch(slope), ends.low, ends.high, chance)
    return [Slope(label, *(float(x[gap]) for x in read)) for gap, label in enumerate(series.scale.labels)]
