"""Alerts: planted changes are found, unchanged series stay quiet, and degenerate ones break nothing."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from score_world import World, shifted, side_by_side

from gapnlp.errors import ConfigError, CorpusError
from gapnlp.prevalence.alert import MAX_ALERTS, MIN_PERIODS, find_changes
from gapnlp.prevalence.estimate import Moments

WORLD = World()
N = 24
PERIODS = [f"{2024 + m // 12}-{m % 12 + 1:02}" for m in range(N)]
MONTH = np.arange(N)


def series(seed, shares, *, sizes=2000):
    """Draw mean scores of months, as normal as thousands of texts make them, from the world's own moments."""
    rng = np.random.default_rng(seed)
    score, n = WORLD.score(rng), np.broadcast_to(sizes, N).astype(np.int64)
    var, mean = TRUE_VARIANCE, TRUE_M0 + np.clip(shares, 0, 1) * (TRUE_M1 - TRUE_M0)
    drawn = mean + np.sqrt(var / np.maximum(n, 1)) * rng.standard_normal(N)
    return Moments(n, np.where(n > 0, drawn, 0.0)[:, None], np.where(n > 1, var, 0.0)[:, None]), [score]


def _truth():
    rng = np.random.default_rng(99)
    mixed, without, with_gap = (WORLD.texts(rng, share=s, n=400_000) for s in (0.1, 0, 1))
    return mixed.var(), without.mean(), with_gap.mean()


TRUE_VARIANCE, TRUE_M0, TRUE_M1 = _truth()


def alerts(seed, shares, **settings):
    sizes = settings.pop("sizes", 2000)
    moments, scores = series(seed, shares, sizes=sizes)
    return find_changes(moments, scores, periods=PERIODS, **settings)


def test_a_lasting_shift_of_three_points_is_found_in_its_place():
    found = [alerts(seed, 0.1 + 0.03 * (MONTH >= 12)) for seed in range(100)]
    hits = [a for one in found for a in one if a.lasting and abs(PERIODS.index(a.period) - 12) <= 2 and a.change > 0]
    assert len(hits) >= 90
    assert np.mean([a.low <= 0.03 <= a.high for a in hits]) >= 0.9


def test_a_month_that_stands_out_is_found_and_told_from_a_shift():
    found = [alerts(seed, 0.1 + 0.07 * (MONTH == 14)) for seed in range(60)]
    singles = [a for one in found for a in one if a.period == PERIODS[14] and not a.lasting]
    assert len(singles) >= 54
    assert all(a.low > 0 for a in singles)


@pytest.mark.parametrize("way", [-1, 1])
def test_a_change_that_no_share_explains_is_no_alert(way):
    """Texts of another kind come in: their scores leave the scale on which shares lie."""
    edge = 0.01 if way < 0 else 0.99
    moments, [score] = series(0, np.full(N, edge))
    moved = replace(moments, mean=moments.mean + way * 0.5 * (score.m1 - score.m0) * (MONTH >= 12)[:, None])
    assert find_changes(moved, [score], periods=PERIODS) == ()
    back = replace(moments, mean=moments.mean - way * 0.5 * (score.m1 - score.m0) * (MONTH >= 12)[:, None])
    assert [alert.period for alert in find_changes(back, [score], periods=PERIODS)] == [PERIODS[12]]


def test_a_fall_is_a_change_too():
    (alert,) = alerts(0, 0.15 - 0.08 * (MONTH >= 10))
    assert alert.high < 0
    assert alert.change == pytest.approx(-0.08, abs=0.025)


def test_two_changes_are_told_apart_in_the_order_of_time():
    found = alerts(1, 0.1 + 0.1 * (MONTH >= 8) + 0.4 * (MONTH == 20))
    assert [(a.period, a.lasting) for a in found] == [(PERIODS[8], True), (PERIODS[20], False)]
    assert [a.change for a in found] == pytest.approx([0.1, 0.4], abs=0.05)


@pytest.mark.parametrize(("wobble", "rate"), [(0.0, 0.05), (0.01, 0.05), (0.03, 0.05), (0.02, 0.01)])
def test_unchanged_series_raise_no_more_alarms_than_stated(wobble, rate):
    rng, n_alarms, n = np.random.default_rng(7), 0, 150
    for seed in range(n):
        n_alarms += bool(alerts(seed, 0.1 + wobble * rng.standard_normal(N), false_alarm_rate=rate))
    assert n_alarms <= stats.binom.ppf(0.99, n, rate)


def test_months_of_very_different_size_raise_no_more_alarms_either():
    rng, n_alarms, n = np.random.default_rng(8), 0, 200
    for seed in range(n):
        sizes = np.exp(rng.uniform(np.log(100), np.log(5000), N))
        n_alarms += bool(alerts(seed, 0.1 + 0.015 * rng.standard_normal(N), sizes=sizes))
    assert n_alarms <= stats.binom.ppf(0.99, n, 0.05)


@pytest.mark.parametrize(("size", "share"), [(30, 0.01), (40, 0.003), (30, 0.05)])
def test_small_months_of_a_rare_gap_raise_no_more_alarms_either(size, share):
    world, n_alarms, n = World(level=share), 0, 300
    for seed in range(n):
        rng = np.random.default_rng(seed)
        texts = world.texts(rng, share=share, n=N * size).reshape(N, size)
        moments = Moments(np.full(N, size), texts.mean(axis=1)[:, None], texts.var(axis=1, ddof=1)[:, None])
        n_alarms += bool(find_changes(moments, [world.score(rng)], periods=PERIODS, min_texts=30))
    assert n_alarms <= stats.binom.ppf(0.99, n, 0.05)


def test_the_rate_is_used_and_not_only_kept():
    """Where months wobble a lot, the limit is the wobble's: some of the stated alarms do come."""
    rng = np.random.default_rng(9)
    n_alarms = sum(bool(alerts(seed, 0.3 + 0.05 * rng.standard_normal(N))) for seed in range(200))
    assert n_alarms >= 2


def test_the_same_change_in_a_wobbling_series_is_no_alert():
    rng = np.random.default_rng(10)
    quiet = [bool(alerts(seed, 0.1 + 0.06 * (MONTH == 14))) for seed in range(40)]
    wobbling = [bool(alerts(s, 0.15 + 0.06 * (MONTH == 14) + 0.03 * rng.standard_normal(N))) for s in range(40)]
    assert sum(quiet) > 30
    assert sum(wobbling) < 15


def test_an_error_of_the_scale_raises_no_alert():
    moments, [score] = series(2, np.full(N, 0.1))
    assert find_changes(moments, [shifted(score, by=0.5)], periods=PERIODS) == ()


def test_a_stricter_rate_gives_fewer_alerts_and_p_values_keep_to_it():
    for seed in range(20):
        loose = alerts(seed, 0.1 + 0.03 * (MONTH >= 18), false_alarm_rate=0.3)
        strict = alerts(seed, 0.1 + 0.03 * (MONTH >= 18), false_alarm_rate=0.01)
        assert len(strict) <= len(loose)
        assert all(a.p_value <= 0.3 == a.false_alarm_rate for a in loose)
        assert all(a.p_value <= 0.01 == a.false_alarm_rate for a in strict)


def test_the_answer_is_the_same_every_time():
    assert alerts(3, 0.1 + 0.05 * (MONTH >= 12)) == alerts(3, 0.1 + 0.05 * (MONTH >= 12)) != ()


def test_months_without_texts_are_stepped_over():
    sizes = np.where(np.isin(MONTH, [3, 4, 15]), [0, 5, 29] * 8, 2000)
    (alert,) = alerts(4, 0.1 + 0.08 * (MONTH >= 16), sizes=sizes)
    assert (alert.period, alert.lasting) == (PERIODS[16], True)


def test_too_few_months_give_no_alert():
    shares = np.where(MONTH % 2 == 0, 0.0, 0.9)
    assert alerts(5, shares, sizes=np.where(MONTH < MIN_PERIODS - 1, 2000, 0)) == ()
    assert alerts(5, shares, sizes=0) == ()
    assert find_changes(Moments(np.zeros(0, dtype=int), *[np.zeros((0, 1))] * 2), series(0, 0.1)[1], periods=[]) == ()


def test_no_more_alerts_than_can_be_read():
    moments, scores = series(6, 0.1 + 0.2 * np.isin(MONTH, [3, 8, 13, 18, 22]))
    assert len(find_changes(moments, scores, periods=PERIODS, false_alarm_rate=0.5)) <= MAX_ALERTS


def test_constant_scores_raise_no_alert_and_no_warning():
    _, scores = series(0, np.full(N, 0.1))
    flat = Moments(np.full(N, 500), np.full((N, 1), -0.7), np.zeros((N, 1)))
    assert find_changes(flat, scores, periods=PERIODS) == ()
    spike = Moments(flat.n, flat.mean + 0.5 * (MONTH == 9)[:, None], flat.var)
    (alert,) = find_changes(spike, scores, periods=PERIODS)
    assert (alert.period, alert.lasting) == (PERIODS[9], False)


def test_a_gap_that_cannot_be_told_from_the_rest_raises_no_alert():
    moments, [score] = series(7, 0.1 + 0.1 * (MONTH >= 12))
    assert find_changes(moments, [score], periods=PERIODS) != ()
    assert find_changes(moments, [replace(score, n_pos=4)], periods=PERIODS) == ()


def test_gaps_are_searched_each_by_itself():
    changed, [score] = series(7, 0.1 + 0.06 * (MONTH >= 12))
    quiet, [other] = series(8, np.full(N, 0.1))
    both = find_changes(side_by_side(quiet, changed), [other, score], periods=PERIODS)
    assert both == find_changes(changed, [score], periods=PERIODS)


@pytest.mark.parametrize("rate", [0.0, 0.6, -0.1])
def test_rates_out_of_range(rate):
    with pytest.raises(ConfigError, match="false_alarm_rate"):
        alerts(0, np.full(N, 0.1), false_alarm_rate=rate)


def test_periods_that_do_not_fit():
    moments, scores = series(0, np.full(N, 0.1))
    with pytest.raises(CorpusError, match="23 names"):
        find_changes(moments, scores, periods=PERIODS[1:])
