"""Confidence of a whole decision, and the cutoff that keeps a promised precision."""

import numpy as np
import pytest
from scipy.stats import beta, binom

from gapnlp.errors import ConfigError, CorpusError
from gapnlp.selective import REVIEW_ALL, _binomial_tail, confidence, fit_review_cutoff, needs_review

THRESHOLDS = np.array([0.3, 0.5, 0.5, 0.4, 0.2])


def test_confidence_is_the_probability_of_the_decisions_taken():
    proba = np.array([[0.9, 0.1, 0.2, 0.0, 0.05], [0.3, 0.49, 0.5, 0.39, 0.2]])
    expected = [0.9 * 0.9 * 0.8 * 1.0 * 0.95, 0.3 * 0.51 * 0.5 * 0.61 * 0.2]
    assert confidence(proba, THRESHOLDS) == pytest.approx(expected)


def test_confidence_is_the_share_of_exact_matches_of_calibrated_independent_gaps():
    rng = np.random.default_rng(0)
    proba = rng.beta(0.3, 0.6, size=(20_000, 5))
    targets = rng.random(proba.shape) < proba
    exact = ((proba >= THRESHOLDS) == targets).all(axis=1)
    confidences = confidence(proba, THRESHOLDS)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        rows = (confidences >= low) & (confidences < low + 0.2)
        assert exact[rows].mean() == pytest.approx(confidences[rows].mean(), abs=0.03)


def test_a_second_doubt_lowers_confidence():
    one, two = np.array([[0.6, 0, 0, 0, 0]]), np.array([[0.6, 0.4, 0, 0, 0]])
    assert confidence(two, THRESHOLDS) < confidence(one, THRESHOLDS)


def test_certainty_stays_below_review_all():
    certain = confidence(np.array([[1.0, 0, 0, 0, 0]]), THRESHOLDS)
    assert certain[0] > 0.999999
    assert needs_review(certain, REVIEW_ALL).all()


def test_needs_review_keeps_rows_at_the_cutoff():
    assert needs_review([0.2, 0.5, 0.8], 0.5).tolist() == [True, False, False]


@pytest.mark.parametrize(("n_right", "n", "share"), [(0, 5, 0.8), (5, 5, 0.8), (90, 100, 0.85), (4000, 5000, 0.79)])
def test_binomial_tail_is_exact(n_right, n, share):
    assert _binomial_tail(n_right, n=n, share=share) == pytest.approx(binom.sf(n_right - 1, n, share), rel=1e-8)


def test_a_cutoff_passes_where_the_clopper_pearson_bound_reaches_the_promise():
    alpha = 0.01
    for n_right in range(80, 101):
        lower = beta.ppf(alpha, n_right, 101 - n_right)
        assert (_binomial_tail(n_right, n=100, share=0.85) <= alpha) == (lower >= 0.85)


def sample(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    confidences = rng.random(n) * 0.999
    return confidences, rng.random(n) < confidences


def test_the_promise_holds_on_new_rows():
    rng = np.random.default_rng(7)
    cutoffs = np.array([fit_review_cutoff(*sample(rng, 800), precision=0.8) for _ in range(200)])
    assert (cutoffs < REVIEW_ALL).sum() >= 190
    # The precision above a cutoff is known here: the mean of the confidences left, (cutoff + 0.999) / 2.
    n_broken = ((cutoffs + 0.999) / 2 < 0.8).sum()
    assert n_broken <= binom.ppf(0.999, 200, 0.05)  # a rate of 1 - level or less; without the bound it is 50 %


def test_the_cutoff_is_low_where_rows_are_many():
    # Rows at or above c are right with probability (1 + c) / 2 on average: 0.8 at c = 0.6.
    cutoff = fit_review_cutoff(*sample(np.random.default_rng(1), 100_000), precision=0.8)
    assert 0.6 <= cutoff <= 0.62


def test_a_higher_promise_flags_more():
    rows = sample(np.random.default_rng(2), 2000)
    cutoffs = [fit_review_cutoff(*rows, precision=p) for p in (0.6, 0.7, 0.8, 0.9)]
    assert cutoffs == sorted(cutoffs)
    assert cutoffs[0] < cutoffs[-1]
    assert fit_review_cutoff(*rows, precision=0.8, level=0.5) < fit_review_cutoff(*rows, precision=0.8, level=0.999)


def test_nothing_is_flagged_where_all_is_right():
    confidences = np.linspace(0.1, 0.9, 300)
    assert fit_review_cutoff(confidences, np.ones(300), precision=0.9) == pytest.approx(0.1)


def test_all_is_flagged_where_the_promise_cannot_be_met():
    confidences = np.linspace(0.1, 0.9, 300)
    assert fit_review_cutoff(confidences, np.zeros(300), precision=0.5) == REVIEW_ALL
    assert fit_review_cutoff(confidences[:5], np.ones(5), precision=0.9) == REVIEW_ALL  # too few rows to promise
    assert fit_review_cutoff([], [], precision=0.9) == REVIEW_ALL


def test_equal_confidences_stand_or_fall_together():
    confidences = np.repeat([0.9, 0.5], 200)
    correct = np.repeat([True, False], 200)
    shuffled = np.random.default_rng(0).permutation(400)
    cutoffs = {
        fit_review_cutoff(confidences[order], correct[order], precision=0.9) for order in (np.arange(400), shuffled)
    }
    assert cutoffs == {0.9}


@pytest.mark.parametrize("settings", [{"precision": 0.0}, {"precision": 1.0}, {"precision": 0.9, "level": 1.0}])
def test_shares_out_of_range(settings):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        fit_review_cutoff([0.5], [True], **settings)


@pytest.mark.parametrize(
    ("confidences", "correct"),
    [([0.5, 0.6], [True]), ([[0.5]], [[True]]), ([1.0], [True]), ([np.nan], [True])],
)
def test_rows_that_do_not_fit(confidences, correct):
    with pytest.raises(CorpusError, match="review cutoff"):
        fit_review_cutoff(confidences, correct, precision=0.9)
