"""Prevalence per group of texts: per branch, per product, per month.

A group with enough texts answers for itself. One with fewer borrows from all groups and is marked `model-based`.
Groups too small to speak of are put together, or left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapnlp.errors import ConfigError, CorpusError
from gapnlp.intervals import Interval, z_value
from gapnlp.prevalence.estimate import ASSUMPTION, BLIND, FEW, FEW_ROWS, Moments
from gapnlp.prevalence.gap_score import GapScore
from gapnlp.prevalence.pooling import MIN_GROUPS, pool
from gapnlp.prevalence.scale import ScoreScale
from gapnlp.records import PrevalenceEstimate

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MIN_TEXTS = 30  # a group with fewer is not shown by itself (Parker et al. 2017)
DRAWN = (
    "Model-based: its {n} texts are too few to answer alone, so the estimate leans on the mean of all "
    "{k} groups ({common:.1%})."
)
ALONE = "Its {n} texts are few, and there are too few groups to lean on: the interval is wide."


@dataclass(frozen=True, slots=True)
class SegmentEstimate:
    """One gap's share in one group of texts.

    Attributes:
        group: The group's name.
        direct: True where the group's own texts answer; False where the estimate leans on the other groups.
        band_low: Lower end of a wider interval: those of all groups of this gap hold together with the
            confidence stated, so that it may be said of any of them picked afterwards. 0-1.
        band_high: Its upper end, 0-1.
        estimate: The estimate; its `method` is `adjusted` or `model-based`.
    """

    group: str
    direct: bool
    band_low: float
    band_high: float
    estimate: PrevalenceEstimate


@dataclass(frozen=True, slots=True)
class Segments:
    """All groups of one way to split an archive.

    Attributes:
        estimates: Gap by gap in the order of the scores, within a gap in the order of the groups; last the
            small groups put together, where they are enough.
        merged: Groups too small to be shown, put together in the last one.
        left_out: Groups too small to be shown even together; groups without texts are not among them.
        n_left_out: Texts in them.
    """

    estimates: tuple[SegmentEstimate, ...]
    merged: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    n_left_out: int = 0

    def of(self, label: str) -> tuple[SegmentEstimate, ...]:
        """Pick the groups' estimates of one gap."""
        return tuple(segment for segment in self.estimates if segment.estimate.label == label)


def estimate_segments(
    moments: Moments,
    scores: Sequence[GapScore],
    *,
    names: Sequence[str],
    counted: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    min_texts: int = MIN_TEXTS,
) -> Segments:
    """Estimate each gap's share in each group, with intervals and simultaneous bands.

    Whether a group answers for itself depends on its size and on the archive's level, never on what it says:
    choosing by the answer would bend the intervals. It does where the interval from its sampling alone is no
    wider than 5 points, or than 130 % of the archive's level and 30 points (the standard of the US National
    Center for Health Statistics for proportions: Parker et al. 2017). Bands share the error out over the k
    groups by confidence^(1/k) (Šidák 1967), which holds for any correlation between them.

    Args:
        moments: Scores summed up per group.
        scores: One per gap, from `fit_gap_scores`; the groups share their error.
        names: Of the groups.
        counted: Share the classifier gave each gap, per group; NaN-free. *Shape:* (n_groups, n_gaps).
            Without it the estimates' `counted` is 0.
        confidence: Of each interval, and of each gap's bands together.
        min_texts: A group with fewer is not shown by itself.

    Returns:
        The groups; those without texts are left out without a word. Shares are those of the streams the groups'
        texts came from, so that next month's may be expected to be alike; `estimate_prevalence` answers for the
        texts at hand and is a little narrower.

    Raises:
        CorpusError: Names or counts do not fit the groups.
        ConfigError: `confidence` is not between 0 and 1, or `min_texts` is below 1.
    """
    check_groups(moments, scores, names=names)
    if min_texts < 1:
        raise ConfigError(f"min_texts: got {min_texts}, expected 1 or more")
    shares = np.zeros_like(moments.mean) if counted is None else np.asarray(counted, dtype=np.float64)
    if shares.shape != moments.mean.shape:
        raise CorpusError(f"counted: got shape {shares.shape}, expected that of the groups, {moments.mean.shape}")
    split = _Split.of(moments, names=names, counted=shares, min_texts=min_texts)
    scale = ScoreScale(tuple(scores))
    levels = _Levels.of(split.moments, scale, confidence=confidence)
    estimates = tuple(
        _estimate(split, levels, scale, row=row, gap=gap, confidence=confidence)
        for gap in range(len(scores))
        for row in range(len(split.names))
    )
    return Segments(estimates, split.merged, split.left_out, split.n_left_out)


def check_groups(moments: Moments, scores: Sequence[GapScore], *, names: Sequence[str]) -> None:
    """Raise unless sums, scores and names fit together.

    Raises:
        CorpusError: They do not.
    """
    expected = (len(names), len(scores))
    if moments.mean.shape != expected or moments.var.shape != expected or len(moments.n) != len(names):
        raise CorpusError(
            f"groups: got sums of shape {moments.mean.shape} over {len(moments.n)} groups, expected {expected}: "
            f"{len(names)} names and {len(scores)} gaps"
        )


def merge(moments: Moments, rows: BoolArray) -> Moments:
    """Put groups together into one.

    Args:
        moments: Of groups.
        rows: Which of them. *Shape:* (n_groups,).

    Returns:
        Moments of one group, as from its texts.
    """
    n, mean = moments.n[rows][:, None], moments.mean[rows]
    total = max(int(n.sum()), 1)
    centre = (n * mean).sum(axis=0) / total
    squares = (np.maximum(n - 1, 0) * moments.var[rows] + n * (mean - centre) ** 2).sum(axis=0)
    return Moments(np.array([n.sum()]), centre[None], squares[None] / max(total - 1, 1))


def within_variance(moments: Moments) -> FloatArray:
    """Pool the variance of scores within groups. *Shape:* (n_gaps,)."""
    free = np.maximum(moments.n - 1, 0)[:, None]
    return np.asarray((free * moments.var).sum(axis=0) / max(float(free.sum()), 1.0))


@dataclass(frozen=True, slots=True)
class _Split:
    """The groups that are shown, and what became of the others."""

    names: tuple[str, ...]
    moments: Moments
    counted: FloatArray
    merged: tuple[str, ...]
    left_out: tuple[str, ...]
    n_left_out: int

    @classmethod
    def of(cls, moments: Moments, *, names: Sequence[str], counted: FloatArray, min_texts: int) -> _Split:
        shown = moments.n >= min_texts
        small = (moments.n > 0) & ~shown
        kept = Moments(moments.n[shown], moments.mean[shown], moments.var[shown])
        shown_names = tuple(name for name, yes in zip(names, shown, strict=True) if yes)
        small_names = tuple(name for name, yes in zip(names, small, strict=True) if yes)
        n_small = int(moments.n[small].sum())
        if n_small < min_texts:
            return cls(shown_names, kept, counted[shown], (), small_names, n_small)
        other = merge(moments, small)
        weight = moments.n[small][:, None]
        together = Moments(*(np.concatenate(pair) for pair in zip(_arrays(kept), _arrays(other), strict=True)))
        counts = np.vstack([counted[shown], (weight * counted[small]).sum(axis=0) / n_small])
        return cls((*shown_names, f"other ({len(small_names)} small groups)"), together, counts, small_names, (), 0)


def _arrays(moments: Moments) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
    return moments.n, moments.mean, moments.var


@dataclass(frozen=True, slots=True)
class _Levels:
    """Shares of all groups and gaps, direct or pooled. *Shape of the arrays:* (n_groups, n_gaps)."""

    share: FloatArray
    interval: Interval
    band: Interval
    direct: BoolArray
    bears: BoolArray
    common: FloatArray

    @classmethod
    def of(cls, moments: Moments, scale: ScoreScale, *, confidence: float) -> _Levels:
        k = len(moments.n)
        together = confidence ** (1 / max(k, 1))
        bears = _bears(moments, scale, confidence=confidence)
        share = scale.share(moments.mean)
        interval, band = (scale.level(moments.mean, moments.n, confidence=c) for c in (confidence, together))
        if k < MIN_GROUPS:
            return cls(share, interval, band, np.ones_like(bears), bears, share.mean(axis=0) if k else share)
        pooled = pool(moments.mean, within_variance(moments) / moments.n[:, None])
        drawn, drawn_band = (scale.pooled_level(pooled.mean, pooled.var, confidence=c) for c in (confidence, together))
        return cls(
            np.where(bears, share, scale.share(pooled.mean)),
            Interval(*(np.where(bears, own, lent) for own, lent in zip(interval, drawn, strict=True))),
            Interval(*(np.where(bears, own, lent) for own, lent in zip(band, drawn_band, strict=True))),
            bears,
            bears,
            scale.share(pooled.common),
        )


def _bears(moments: Moments, scale: ScoreScale, *, confidence: float) -> BoolArray:
    """Tell which groups are large enough to answer alone. *Shape:* (n_groups, n_gaps)."""
    level = scale.share(merge(moments, np.ones(len(moments.n), dtype=np.bool_)).mean[0])
    error = np.sqrt(scale.score_variance(level) / np.maximum(moments.n, 1)[:, None])
    width = np.where(scale.informed, 2 * z_value(confidence) * error / scale.length, 1.0)
    return np.asarray((width <= 0.05) | ((width <= 0.3) & (width <= 1.3 * level)))


def _estimate(
    split: _Split, levels: _Levels, scale: ScoreScale, *, row: int, gap: int, confidence: float
) -> SegmentEstimate:
    n, at = int(split.moments.n[row]), (row, gap)
    score, notes = scale.scores[gap], [ASSUMPTION]
    if not levels.direct[at]:
        notes.append(DRAWN.format(n=n, k=len(split.names), common=float(levels.common[gap])))
    elif not levels.bears[at]:
        notes.append(ALONE.format(n=n))
    if not score.informed:
        notes.append(BLIND)
    elif score.n_pos < FEW_ROWS:
        notes.append(FEW.format(n=score.n_pos, side="carry"))
    estimate = PrevalenceEstimate(
        label=scale.labels[gap],
        n_texts=n,
        counted=float(split.counted[at]),
        prevalence=float(levels.share[at]),
        low=float(levels.interval.low[at]),
        high=float(levels.interval.high[at]),
        confidence=confidence,
        method="adjusted" if levels.direct[at] else "model-based",
        notes=tuple(notes),
    )
    band = float(levels.band.low[at]), float(levels.band.high[at])
    return SegmentEstimate(split.names[row], bool(levels.direct[at]), *band, estimate)
