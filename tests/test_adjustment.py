"""Mean scores read as shares: the formula, the interval's promise, and what is said where nothing is known."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from gapnlp.intervals import z_value
from gapnlp.prevalence.adjustment import adjust
from gapnlp.prevalence.gap_score import GapScore

SCORE = GapScore(
    label="policy",
    slope=1.0,
    intercept=0.0,
    prior=0.2,
    q=0.2,
    m0=-0.4,
    m1=1.6,
    var_m0=0.6 / 400,
    var_m1=2.0 / 100,
    n_neg=400,
    n_pos=100,
)


def mean_at(share):
    return SCORE.m0 + share * (SCORE.m1 - SCORE.m0)


@pytest.mark.slow  # importing quapy takes seconds
def test_a_counted_share_is_adjusted_as_in_quapy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        functional = pytest.importorskip("quapy.functional")
    rates = replace(SCORE, m0=0.12, m1=0.71)  # with decisions for scores: false and true positive rates
    for counted in (0.05, 0.2, 0.5, 0.9):
        theirs = functional.solve_adjustment_binary(np.array([1 - counted, counted]), tpr=0.71, fpr=0.12)
        assert adjust([rates], 1000, counted, confidence=0.95).plain[0, 0] == pytest.approx(theirs[1], abs=1e-6)


def test_the_interval_ends_where_the_mean_score_is_just_too_far():
    n, share = 500, 0.5
    result = adjust([SCORE], n, mean_at(share), confidence=0.95)
    for t in (result.low[0, 0], result.high[0, 0]):
        sampling = (t * SCORE.var_m1 * SCORE.n_pos + (1 - t) * SCORE.var_m0 * SCORE.n_neg) / n
        var = sampling + (1 - t) ** 2 * SCORE.var_m0 + t**2 * SCORE.var_m1
        z = 2 * (share - t) / np.sqrt(var)
        assert z_value(0.95) <= abs(z) < 1.03 * z_value(0.95)  # Student's quantile is a little wider


def test_the_source_of_the_texts_is_known_less_well_than_the_texts():
    here, source = (adjust([SCORE], 300, mean_at(0.3), confidence=0.95, stream=s) for s in (False, True))
    assert source.low < here.low
    assert source.high > here.high
    assert source.prevalence == pytest.approx(here.prevalence, abs=1e-9)


def test_both_promises_hold_in_simulation():
    rng, reps, n, share = np.random.default_rng(0), 8000, 400, 0.3
    v0, v1 = SCORE.var_m0 * SCORE.n_neg, SCORE.var_m1 * SCORE.n_pos
    m0 = rng.normal(SCORE.m0, np.sqrt(SCORE.var_m0), reps).tolist()
    m1 = rng.normal(SCORE.m1, np.sqrt(SCORE.var_m1), reps).tolist()
    k = rng.binomial(n, share, reps)
    a = rng.normal(mean_at(k / n), np.sqrt(k * v1 + (n - k) * v0) / n)
    scores = [replace(SCORE, m0=x, m1=y) for x, y in zip(m0, m1, strict=True)]
    here, source = (adjust(scores, n, a, confidence=0.9, stream=s) for s in (False, True))
    assert np.mean((here.low <= k / n) & (k / n <= here.high)) == pytest.approx(0.9, abs=0.012)
    assert np.mean((source.low <= share) & (share <= source.high)) == pytest.approx(0.9, abs=0.012)
    assert np.mean((here.low <= share) & (share <= here.high)) < 0.88  # the one promise is not the other


def test_groups_and_gaps_keep_their_places():
    other = replace(SCORE, label="customer", m1=0.6)
    result = adjust([SCORE, other], [100, 5000], [[0.0, 0.0], [0.4, 0.2]], confidence=0.95)
    assert result.plain == pytest.approx(np.array([[0.2, 0.4], [0.4, 0.6]]))
    alone = adjust([other], 5000, 0.2, confidence=0.95)
    assert [float(a[1, 1]) for a in result] == pytest.approx([float(a[0, 0]) for a in alone])
    assert (result.high - result.low)[1, 0] < (result.high - result.low)[0, 0] or result.plain[1, 0] > 0.3


def test_an_archive_like_validation_is_drawn_to_it_and_another_is_not():
    like, unlike = (adjust([SCORE], 2000, mean_at(s), confidence=0.95) for s in (0.22, 0.6))
    assert 0.2 < like.prevalence < like.plain
    assert unlike.prevalence == pytest.approx(unlike.plain, abs=0.01)
    assert like.low < like.prevalence < like.high


def test_an_archive_beyond_the_scale_has_an_interval_that_is_not_a_point():
    below = adjust([SCORE], 20_000, SCORE.m0 - 0.5, confidence=0.95)
    above = adjust([SCORE], 20_000, SCORE.m1 + 2, confidence=0.95)
    assert (below.plain, below.low, above.plain, above.high) == (0, 0, 1, 1)
    error = np.sqrt([SCORE.var_m0 * (1 + SCORE.n_neg / 20_000), SCORE.var_m1 * (1 + SCORE.n_pos / 20_000)]) / 2
    assert below.high > error[0] / 4
    assert above.low < 1 - error[1] / 4


@pytest.mark.parametrize("useless", [{"n_pos": 4}, {"n_neg": 0}, {"m1": -0.4}, {"m1": -2.0}])
def test_a_score_that_knows_nothing_says_any_share(useless):
    result = adjust([replace(SCORE, **useless)], 50, 0.1, confidence=0.95)
    assert (result.low, result.high, result.prevalence, result.plain) == (0, 1, SCORE.prior, SCORE.prior)


def test_few_positives_widen_by_more_than_their_variance():
    few = replace(SCORE, n_pos=8, var_m1=0.02)
    many_rows_same_variance = replace(few, n_pos=800)
    a = mean_at(0.6)  # above validation's share, and no end reaches 1
    wide, narrow = (adjust([s], 20_000, a, confidence=0.95) for s in (few, many_rows_same_variance))
    assert wide.high - wide.low > 1.1 * (narrow.high - narrow.low)


@pytest.mark.parametrize("n", [1, 2, 10**9])
def test_any_number_of_texts_gives_an_ordered_interval(n):
    for a in np.linspace(-3, 5, 30):
        result = adjust([SCORE], n, a, confidence=0.95)
        assert 0 <= result.low <= result.prevalence <= result.high <= 1
