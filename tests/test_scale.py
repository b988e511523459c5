"""Mean scores read as shares: differences, pooled levels, and what the shared scale does to them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from score_world import World, shifted

from gapnlp.prevalence.adjustment import adjust
from gapnlp.prevalence.scale import ScoreScale, Side, p_value

WORLD = World()


@pytest.fixture
def score():
    return WORLD.score(np.random.default_rng(0))


def test_a_mean_is_read_between_the_ends_of_the_scale(score):
    scale = ScoreScale((score, shifted(score, by=0.3)))
    means = [[score.m0 - 1, score.m0], [score.m1, score.m1 + 0.3], [(score.m0 + score.m1) / 2] * 2]
    half = 0.5 - 0.3 / (score.m1 - score.m0)
    assert scale.share(means) == pytest.approx(np.array([[0, 0], [1, 1], [0.5, half]]))
    assert scale.labels == ("delivery", "delivery")


def test_variance_and_skewness_are_those_of_the_mixture(score):
    rng = np.random.default_rng(1)
    h = WORLD.texts(rng, share=WORLD.level, n=400_000)
    scale = ScoreScale((World(n_pos=100_000, n_neg=300_000).score(rng),))
    assert scale.score_variance([WORLD.level])[0] == pytest.approx(h.var(), rel=0.02)
    assert scale.third_moment[0] == pytest.approx(((h - h.mean()) ** 3).mean(), rel=0.05)


def test_levels_are_for_the_stream_and_so_wider_than_for_the_texts_at_hand(score):
    mean, n = np.array([[0.2], [0.4]]), [100, 300]
    at_hand = adjust([score], n, mean, confidence=0.9)
    low, high = ScoreScale((score,)).level(mean, n, confidence=0.9)
    assert (low < at_hand.low).all()
    assert (high > at_hand.high).all()


def test_a_pooled_level_that_is_known_exactly_has_the_error_of_the_scale_alone(score):
    scale, mean = ScoreScale((score,)), np.array([[0.2]])
    many = scale.level(mean, [10**9], confidence=0.95)
    pooled = scale.pooled_level(mean, [[0.0]], confidence=0.95)
    assert np.ravel(pooled) == pytest.approx(np.ravel(many), abs=1e-4)
    assert np.ptp(scale.pooled_level(mean, [[0.05]], confidence=0.95)) > 1.2 * np.ptp(pooled)


def test_few_validation_positives_widen_pooled_levels(score):
    widths = [
        np.ptp(ScoreScale((replace(score, n_pos=n),)).pooled_level([[score.m1 / 2]], [[0.0]], confidence=0.95))
        for n in (5, 80)
    ]
    assert widths[0] > 1.2 * widths[1]


def test_an_error_of_the_scale_moves_levels_and_leaves_differences(score):
    here, there = ScoreScale((score,)), ScoreScale((shifted(score, by=0.2),))
    assert there.share([[0.5]]) == here.share([[0.3]]) < here.share([[0.5]])
    assert there.stretch([[0.3]]) == pytest.approx(here.stretch([[0.3]]))
    ends = [scale.difference([[0.3]], [[0.01]], confidence=0.95) for scale in (here, there)]
    assert np.ravel(ends[0]) == pytest.approx(np.ravel(ends[1]))


def test_a_difference_lies_in_its_interval_though_the_end_of_the_scale_is_off(score):
    """Two rare shares, 0.5 and 2.5 %, on a scale whose m0 was measured as that of 3 %: both read as 0."""
    length = score.m1 - score.m0
    scale = ScoreScale((shifted(score, by=0.03 * length),))
    low, high = (Side(np.array([[score.m0 + t * length]]), np.array([[20_000.0]])) for t in (0.005, 0.025))
    found = scale.contrast(high, low, var=np.array([[(0.003 * length) ** 2]]), confidence=0.95)
    assert 0 < found.low < found.difference <= found.high
    assert found.difference == pytest.approx(0.02, abs=0.002)


def test_a_difference_leaves_out_zero_exactly_where_the_means_differ(score):
    scale, limit = ScoreScale((score,)), stats.norm.ppf(0.975) * 0.1
    above = scale.difference([limit * 1.001], [0.01], confidence=0.95)
    below = scale.difference([limit * 0.999], [0.01], confidence=0.95)
    assert below.low[0] < 0 < above.low[0]


def test_a_gap_that_cannot_be_told_from_the_rest_may_have_any_share(score):
    for useless in (replace(score, m1=score.m0), replace(score, m1=score.m0 - 1), replace(score, n_pos=4)):
        scale = ScoreScale((useless, score))
        between, var = [0.1, 0.1], [0.01, 0.01]
        assert np.array(scale.level(np.array([[0.1, 0.1]]), [1000], confidence=0.95))[:, 0, 0].tolist() == [0, 1]
        assert np.array(scale.pooled_level([[0.1, 0.1]], [var], confidence=0.95))[:, 0, 0].tolist() == [0, 1]
        assert np.array(scale.difference(between, var, confidence=0.95))[:, 0].tolist() == [-1, 1]
        assert scale.share([[0.1, 0.1]])[0, 0] == score.prior
        assert scale.stretch(between)[0] == 0
        assert scale.difference(between, var, confidence=0.95).low[1] > -1


def test_a_scale_whose_length_is_unsure_bounds_no_difference(score):
    unsure = ScoreScale((replace(score, var_m1=100.0),))
    assert np.ravel(unsure.difference([0.1], [0.01], confidence=0.95)).tolist() == [-1, 1]


@pytest.mark.parametrize("df", [5, 12, 22, 200])
def test_p_values_are_those_of_students_t(df):
    t = np.array([0.0, -0.5, 1.0, 2.0, -3.0, 4.5])
    assert p_value(t, df=df) == pytest.approx(2 * stats.t.sf(np.abs(t), df), rel=0.045)
    assert p_value(t) == pytest.approx(2 * stats.norm.sf(np.abs(t)))
