"""Prevalence over time: levels, changes, slope, and periods without texts."""

import numpy as np
import pytest
from scipy import stats
from score_world import World, shifted, side_by_side

from gapnlp.errors import ConfigError, CorpusError
from gapnlp.prevalence.estimate import ASSUMPTION, Moments
from gapnlp.prevalence.trend import EARLIER, estimate_trend

WORLD = World()
N = 12
PERIODS = [f"2025-{month + 1:02}" for month in range(N)]
MONTH = np.arange(N)


def series(seed, shares, *, sizes=600):
    rng = np.random.default_rng(seed)
    shares, sizes = np.broadcast_to(shares, N), np.broadcast_to(sizes, N)
    return WORLD.groups(rng, shares=shares, sizes=sizes), [WORLD.score(rng)]


def trend_of(seed, shares, **settings):
    moments, scores = series(seed, shares, sizes=settings.pop("sizes", 600))
    (trend,) = estimate_trend(moments, scores, periods=PERIODS, **settings)
    return trend


def test_intervals_hold_the_truth_as_often_as_stated():
    shares = 0.1 + 0.004 * MONTH + 0.03 * (MONTH == 7)
    steps = np.diff(shares)
    earlier = [shares[t] - shares[:t].mean() for t in range(2, N)]
    level, bands, change, against = [], [], [], []
    for seed in range(250):
        trend = trend_of(seed, shares)
        level += [s.estimate.low <= t <= s.estimate.high for s, t in zip(trend.levels, shares, strict=True)]
        bands.append(all(s.band_low <= t <= s.band_high for s, t in zip(trend.levels, shares, strict=True)))
        change += [c.low <= t <= c.high for c, t in zip(trend.changes, steps, strict=True)]
        against += [c.low <= t <= c.high for c, t in zip(trend.against_earlier, earlier, strict=True)]
    assert 0.93 <= np.mean(level) <= 0.97
    assert np.mean(bands) >= 0.93
    assert 0.93 <= np.mean(change) <= 0.97
    assert 0.93 <= np.mean(against) <= 0.97


@pytest.mark.parametrize("wobble", [0.0, 0.03])
def test_the_slope_holds_the_truth_however_much_months_wobble(wobble):
    rng, held, claims = np.random.default_rng(1), [], []
    for seed in range(250):
        noise = wobble * rng.standard_normal(N)
        slope = trend_of(seed, 0.1 + 0.008 * MONTH + noise, sizes=300).slope
        held.append(slope.low <= 0.008 <= slope.high)
        flat = trend_of(seed, 0.15 + noise, sizes=300).slope
        claims.append(flat.p_value < 0.05)
        assert (flat.p_value < 0.05) == (flat.low > 0 or flat.high < 0) or abs(flat.p_value - 0.05) < 0.005
    assert 0.92 <= np.mean(held) <= 0.99
    assert np.mean(claims) <= 0.08


def test_where_months_wobble_far_beyond_sampling_the_slope_is_that_of_ordinary_least_squares():
    shares = 0.2 + 0.04 * MONTH + 0.08 * np.random.default_rng(3).standard_normal(N)
    moments, scores = series(3, shares, sizes=20_000)
    [trend] = estimate_trend(moments, scores, periods=PERIODS)
    fitted = stats.linregress(MONTH, moments.mean[:, 0])
    assert trend.slope.p_value == pytest.approx(fitted.pvalue, rel=0.06)
    assert trend.slope.per_period == pytest.approx(fitted.slope / (scores[0].m1 - scores[0].m0), rel=0.01)


def test_a_change_is_known_better_than_the_levels_suggest():
    trend = trend_of(2, 0.1, sizes=20_000)
    first, second = (s.estimate for s in trend.levels[:2])
    apart = np.hypot(first.high - first.low, second.high - second.low)
    assert trend.changes[0].high - trend.changes[0].low < 0.5 * apart


def test_names_and_order():
    trend = trend_of(3, 0.1)
    assert [s.group for s in trend.levels] == PERIODS
    assert [(c.period, c.since) for c in trend.changes] == list(zip(PERIODS[1:], PERIODS[:-1], strict=True))
    assert [(c.period, c.since) for c in trend.against_earlier] == [(p, EARLIER) for p in PERIODS[2:]]
    assert {s.estimate.notes for s in trend.levels} == {(ASSUMPTION,)}


def test_changes_are_differences_of_the_levels():
    trend = trend_of(4, 0.3, sizes=5000)
    levels = [s.estimate.prevalence for s in trend.levels]
    assert [c.change for c in trend.changes] == pytest.approx(np.diff(levels))
    assert trend.against_earlier[5].change == pytest.approx(levels[7] - np.mean(levels[:7]))


def test_an_error_of_the_scale_changes_no_change():
    moments, [score] = series(5, 0.2)
    [here], [there] = (estimate_trend(moments, [s], periods=PERIODS) for s in (score, shifted(score, by=-0.1)))
    assert here.levels[0].estimate.prevalence < there.levels[0].estimate.prevalence - 0.01
    assert [c.low for c in here.changes] == pytest.approx([c.low for c in there.changes])
    assert here.slope.high == pytest.approx(there.slope.high)


def test_periods_without_enough_texts_are_left_out_and_keep_their_place_in_time():
    sizes = np.where(np.isin(MONTH, [4, 5]), [0, 10] * 6, 3000)
    trend = trend_of(6, 0.1 + 0.02 * MONTH, sizes=sizes, counted=MONTH[:, None] / 100)
    assert [s.group for s in trend.levels] == [p for i, p in enumerate(PERIODS) if i not in (4, 5)]
    assert [s.estimate.counted for s in trend.levels] == pytest.approx([i / 100 for i in range(N) if i not in (4, 5)])
    assert (trend.changes[3].period, trend.changes[3].since) == ("2025-07", "2025-04")
    assert trend.changes[3].low < 0.06 < trend.changes[3].high
    assert trend.slope.per_period == pytest.approx(0.02, abs=0.004)


@pytest.mark.parametrize("n_shown", [0, 1, 2, 3, 4])
def test_few_periods(n_shown):
    trend = trend_of(7, 0.1, sizes=np.where(n_shown > MONTH, 500, 0))
    assert len(trend.levels) == n_shown
    assert len(trend.changes) == max(n_shown - 1, 0)
    assert len(trend.against_earlier) == max(n_shown - 2, 0)
    assert (trend.slope is None) == (n_shown < 4)


def test_scores_without_variance_change_nothing():
    flat = Moments(np.full(N, 100), np.full((N, 1), -0.4), np.zeros((N, 1)))
    [trend] = estimate_trend(flat, series(0, 0.1)[1], periods=PERIODS)
    for change in (*trend.changes, *trend.against_earlier):
        assert (change.change, change.p_value) == pytest.approx((0.0, 1.0))
    assert (trend.slope.per_period, trend.slope.p_value) == pytest.approx((0.0, 1.0))
    assert all(np.isfinite([s.estimate.low, s.estimate.high, s.band_low, s.band_high]).all() for s in trend.levels)


def test_gaps_are_estimated_each_by_itself():
    rising, [score] = series(8, 0.05 + 0.02 * MONTH)
    quiet, [other] = series(9, 0.1)
    both = estimate_trend(side_by_side(quiet, rising), [other, score], periods=PERIODS)
    for here, moments, own in ((both[0], quiet, other), (both[1], rising, score)):
        [alone] = estimate_trend(moments, [own], periods=PERIODS)
        for one, same in zip((*here.changes, here.slope), (*alone.changes, alone.slope), strict=True):
            assert (one.low, one.high, one.p_value) == pytest.approx((same.low, same.high, same.p_value))
        assert [s.estimate.low for s in here.levels] == pytest.approx([s.estimate.low for s in alone.levels])


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [({"confidence": 1.5}, ConfigError, "confidence"), ({"counted": [[0.1]]}, CorpusError, "counted")],
)
def test_what_does_not_fit_is_refused(settings, error, words):
    with pytest.raises(error, match=words):
        trend_of(10, 0.1, **settings)
