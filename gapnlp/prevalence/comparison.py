"""Tell which groups truly differ: differences with intervals, and claims that hold although many were tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapnlp.errors import ConfigError, CorpusError
from gapnlp.prevalence.estimate import Moments
from gapnlp.prevalence.gap_score import GapScore
from gapnlp.prevalence.scale import ScoreScale, Side, normal_deviate, p_value
from gapnlp.prevalence.segment import MIN_TEXTS, check_groups, within_variance

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

REST = "all others"


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much a gap's share in one group exceeds that in another.

    Attributes:
        label: The gap's id.
        group: The group.
        other: What it is held against: a group, or `REST`.
        difference: Share in the group less share in the other, -1 to 1.
        low: Lower end of the interval, of this difference alone.
        high: Upper end.
        p_value: Adjusted for all differences tried together, 0-1.
        significant: True where the claim is among those of which the stated share at the most is false.
    """

    label: str
    group: str
    other: str
    difference: float
    low: float
    high: float
    p_value: float
    significant: bool


def compare_segments(
    moments: Moments,
    scores: Sequence[GapScore],
    *,
    names: Sequence[str],
    against: str | None = None,
    trusted: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    false_discovery_rate: float = 0.05,
) -> tuple[Difference, ...]:
    """Hold each group against all others together, or against one of them, for every gap.

    The scale that scores are read on is the same for both sides, so most of its error cancels: a difference is
    known better than either level. Claims are controlled by Benjamini & Hochberg (1995) over the family of all
    differences returned, every group and every gap: of those marked significant, `false_discovery_rate` at the
    most are expected to be false, their direction included (Benjamini & Yekutieli 2005).

    p-values ask how often texts of the archive's own mixture would differ as much, with the skewness of their
    scores: of a rare gap, a few dozen texts hold none mostly and now and then two, which a normal distribution
    would take for a sensation. For intervals the variance of a group's mean score mixes that of its own texts with
    that of all, as if `MIN_TEXTS` texts came from all groups alike: few texts say little about their own variance.

    Args:
        moments: Scores summed up per group.
        scores: One per gap, from `fit_gap_scores`.
        names: Of the groups.
        against: The group that the others are held against; none: each against all others together.
        trusted: False where the scores of a group's texts speak against label shift: of that gap, the group is
            neither compared nor counted among the others. All are trusted without it. *Shape:* (n_groups, n_gaps).
        confidence: Of each interval by itself, between 0 and 1.
        false_discovery_rate: Between 0 and 1.

    Returns:
        Gap by gap, groups in their order; groups of fewer than `MIN_TEXTS` texts are not compared. No difference is
        significant that two shares cannot have.

    Raises:
        CorpusError: Names or `trusted` do not fit the groups, or `against` is none of them.
        ConfigError: A rate is out of its range.
    """
    check_groups(moments, scores, names=names)
    if not 0 < false_discovery_rate < 1:
        raise ConfigError(f"false_discovery_rate: got {false_discovery_rate}, expected a share between 0 and 1")
    if against is not None and against not in names:
        raise CorpusError(f"against: got {against!r}, expected one of the groups, such as {', '.join(names[:3])}")
    sound = np.ones(moments.mean.shape, dtype=np.bool_) if trusted is None else np.asarray(trusted, dtype=np.bool_)
    if sound.shape != moments.mean.shape:
        raise CorpusError(f"trusted: got shape {sound.shape}, expected that of the groups, {moments.mean.shape}")
    scale = ScoreScale(tuple(scores))
    own = Side(moments.mean, np.broadcast_to(np.maximum(moments.n, 1)[:, None], sound.shape))
    other, n_other, var = _others(moments, sound, row=None if against is None else list(names).index(against))
    rows = (moments.n >= MIN_TEXTS) & np.array([name != against for name in names], dtype=np.bool_)
    compared = rows[:, None] & sound & (n_other >= MIN_TEXTS)
    found = scale.contrast(own, other, var=_steady_variance(moments) / own.n + var, confidence=confidence)
    deviate = _standardised(own.mean - other.mean, moments, scale, n=own.n, n_other=other.n)
    chance = np.where(scale.informed & found.possible, p_value(deviate), 1.0)
    chance[compared] = adjusted_p(chance[compared])
    return tuple(
        Difference(
            label=scale.labels[gap],
            group=names[int(row)],
            other=REST if against is None else against,
            difference=float(found.difference[row, gap]),
            low=float(found.low[row, gap]),
            high=float(found.high[row, gap]),
            p_value=float(chance[row, gap]),
            significant=bool(chance[row, gap] <= false_discovery_rate),
        )
        for gap in range(len(scores))
        for row in np.flatnonzero(compared[:, gap])
    )


def adjusted_p(p_values: npt.ArrayLike) -> FloatArray:
    """Adjust p-values so that those at or below a rate are claims with that false discovery rate.

    The step-up procedure of Benjamini & Hochberg (1995, "Controlling the false discovery rate") over all entries.

    Args:
        p_values: 0-1. *Shape:* any, kept.
    """
    p = np.asarray(p_values, dtype=np.float64)
    falling = np.argsort(-p, axis=None, kind="stable")
    scaled = p.ravel()[falling] * p.size / np.arange(p.size, 0, -1)
    adjusted = np.empty(p.size)
    adjusted[falling] = np.minimum(np.minimum.accumulate(scaled), 1.0) if p.size else scaled
    return adjusted.reshape(p.shape)


def _standardised(
    between: FloatArray,
    moments: Moments,
    scale: ScoreScale,
    *,
    n: FloatArray,
    n_other: FloatArray,
) -> FloatArray:
    """Turn differences of mean scores into normal deviates, had all texts come from one mixture."""
    one, other = 1 / n, 1 / n_other
    var = within_variance(moments)
    z = between / np.sqrt(np.where(var > 0, var, np.inf) * (one + other))
    skew = scale.third_moment / np.where(var > 0, var, np.inf) ** 1.5 * (one**2 - other**2) / (one + other) ** 1.5
    return normal_deviate(z, skew)


def _steady_variance(moments: Moments) -> FloatArray:
    """Variance of one text's score per group, steadied by that of all. *Shape:* (n_groups, n_gaps)."""
    n = moments.n[:, None]
    return np.asarray((n * moments.var + MIN_TEXTS * within_variance(moments)) / (n + MIN_TEXTS))


def _others(moments: Moments, sound: BoolArray, *, row: int | None) -> tuple[Side, FloatArray, FloatArray]:
    """Give what each group is held against, its texts, and the variance of its mean score, for every gap."""
    n, steady = moments.n[:, None] * sound, _steady_variance(moments)
    if row is not None:
        n_other, held = np.broadcast_to(n[row], n.shape), np.broadcast_to(np.maximum(n[row], 1), n.shape)
        return Side(np.broadcast_to(moments.mean[row], n.shape), held), n_other, np.asarray(steady[row] / held)
    n_other = n.sum(axis=0) - n
    held = np.maximum(n_other, 1)
    total, squares = n * moments.mean, n * steady
    mean = (total.sum(axis=0) - total) / held
    return Side(mean, held), n_other, np.asarray((squares.sum(axis=0) - squares) / held**2)
