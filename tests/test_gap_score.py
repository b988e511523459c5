"""The score of one gap, and the share under which an archive's scores are likeliest."""

import warnings

import numpy as np
import pytest

from gapnlp.calibration import sigmoid
from gapnlp.errors import CorpusError
from gapnlp.prevalence.gap_score import (
    MIN_ROWS,
    ValidationScores,
    fit_gap_rows,
    fit_gap_score,
    gains,
    likeliest_share,
    score_gains,
    sld,
)
from gapnlp.taxonomy import LABELS


def rows_of(n, *, share, seed=0, spread=1.5):
    """Calibrated probabilities of normal scores, and labels, of one gap."""
    rng = np.random.default_rng(seed)
    has = np.arange(n) < round(share * n)
    x = rng.normal(np.where(has, spread, -spread) / 2 * spread, spread)  # the log likelihood ratio
    return sigmoid(x + np.log(share / (1 - share))), has


def validation_of(proba_column, has):
    return ValidationScores(np.tile(proba_column[:, None], (1, len(LABELS))), np.tile(has[:, None], (1, len(LABELS))))


@pytest.fixture(scope="module")
def quapy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quapy")


@pytest.mark.slow  # importing quapy takes seconds
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_sld_is_where_the_em_iterations_of_quapy_end(quapy, monkeypatch, share):
    from quapy.method.aggregative import EMQ

    monkeypatch.setattr(EMQ, "MAX_ITER", 100_000)
    proba, _ = rows_of(500, share=share)
    at_prior = sigmoid(np.log(proba / (1 - proba)) - np.log(share / (1 - share)) + np.log(0.2 / 0.8))
    prior = np.array([0.8, 0.2])
    theirs, _ = EMQ.EM(prior, np.column_stack([1 - at_prior, at_prior]), epsilon=1e-12)
    assert sld(at_prior, 0.2) == pytest.approx(theirs[1], abs=1e-6)


def test_sld_finds_the_share_of_a_shifted_archive():
    proba, has = rows_of(100_000, share=0.3)
    archive = np.concatenate([proba[has][:2000], proba[~has][:38_000]])
    assert probabilities_mean_is_off(archive, 0.05)
    assert sld(archive, 0.3) == pytest.approx(0.05, abs=0.006)


def probabilities_mean_is_off(proba, truth):
    return abs(proba.mean() - truth) > 0.02


def test_sld_counts_each_entry_as_often_as_told():
    proba, _ = rows_of(60, share=0.3)
    counts = np.random.default_rng(1).integers(0, 4, len(proba))
    assert sld(proba, 0.3, counts=counts) == pytest.approx(sld(np.repeat(proba, counts), 0.3), abs=1e-9)


@pytest.mark.parametrize(
    ("proba", "expected"),
    [([0.0] * 5, 0.0), ([1.0] * 5, 1.0), ([0.2] * 5, 0.2), ([0.19] * 5, 0.0), ([0.21] * 5, 1.0), ([0.9], 1.0)],
)
def test_sld_of_extreme_archives_stays_in_0_1(proba, expected):
    assert sld(np.array(proba), 0.2) == pytest.approx(expected, abs=1e-9)


def test_the_score_is_the_slope_of_the_log_likelihood():
    g = gains(np.array([0.05, 0.3, 0.8]), prior=0.2)
    q, step = 0.1, 1e-6
    slope = (np.log1p((q + step) * g) - np.log1p((q - step) * g)) / (2 * step)
    assert score_gains(g, q=q) == pytest.approx(slope, rel=1e-6)


def test_gains_are_likelihood_ratios_less_one_and_finite_at_the_ends():
    assert gains(np.array([0.2, 0.5]), prior=0.2) == pytest.approx([0.0, 3.0])
    assert np.isfinite(gains(np.array([0.0, 1.0]), prior=0.2, slope=40.0)).all()


def test_a_fitted_score_holds_the_means_of_validation_and_scores_texts_likewise():
    proba, has = rows_of(800, share=0.1)
    rows = fit_gap_rows(validation_of(proba, has))[3]
    score = fit_gap_score(rows, gains(proba, prior=rows.prior, slope=rows.slope, intercept=rows.intercept))
    h = score.score(proba)
    assert (score.label, score.n_pos, score.n_neg) == (LABELS[3], 80, 720)
    assert (score.m1, score.m0) == pytest.approx((h[has].mean(), h[~has].mean()))
    assert score.var_m1 == pytest.approx(h[has].var(ddof=1) / 80)
    assert score.var_m0 == pytest.approx(h[~has].var(ddof=1) / 720)
    assert score.informed


def test_recalibration_undoes_a_model_that_is_too_sure():
    proba, has = rows_of(4000, share=0.2)
    x = np.log(proba / (1 - proba))
    rows = fit_gap_rows(validation_of(sigmoid(2 * x + 1), has))[0]
    assert (rows.slope, rows.intercept) == pytest.approx((0.5, -0.5), abs=0.08)


def test_few_positives_keep_q_away_from_1_and_few_negatives_from_0():
    high, low = np.full(50, 40.0), np.full(50, -0.9)
    few = fit_gap_rows(validation_of(*rows_of(200, share=0.05)))[0]  # ten positives
    many = fit_gap_rows(validation_of(*rows_of(200, share=0.95)))[0]
    assert fit_gap_score(few, high).q == pytest.approx(10 / 70)
    assert fit_gap_score(many, high).q == pytest.approx(190 / 205)
    assert fit_gap_score(many, low).q == pytest.approx(60 / 70)
    assert fit_gap_score(few, low).q == pytest.approx(15 / 205)


def test_few_rows_on_both_sides_leave_one_q():
    neither = fit_gap_rows(validation_of(*rows_of(20, share=0.5)))[0]
    assert {fit_gap_score(neither, np.full(9, g)).q for g in (-0.9, 40.0)} == {0.5}


def test_rows_without_an_error_do_not_make_a_classifier_without_errors():
    has = np.arange(40) < 10
    rows = fit_gap_rows(validation_of(np.where(has, 0.99, 0.01), has))[0]
    score = fit_gap_score(rows, np.array([-0.5, 1.0]))
    assert score.var_m1 > 0
    assert score.var_m0 > 0


@pytest.mark.parametrize("n_pos", [0, MIN_ROWS - 1, 40, 40 - MIN_ROWS + 1])
def test_a_side_with_too_few_rows_is_not_informed(n_pos):
    has = np.arange(40) < n_pos
    rows = fit_gap_rows(validation_of(np.where(has, 0.9, 0.1), has))[0]
    score = fit_gap_score(rows, np.array([0.1, 0.5]))
    assert not score.informed
    assert np.isfinite([score.q, score.m0, score.m1, score.var_m0, score.var_m1, score.prior]).all()


def test_constant_scores_are_not_informed():
    rows = fit_gap_rows(validation_of(np.full(100, 0.3), np.arange(100) < 20))[0]
    g = gains(np.full(7, 0.3), prior=rows.prior, slope=rows.slope, intercept=rows.intercept)
    assert not fit_gap_score(rows, g).informed


def test_likeliest_share_of_nothing_but_equal_odds_is_the_prior():
    assert likeliest_share(np.zeros(4), prior=0.3) == 0.3


@pytest.mark.parametrize(
    ("proba", "labels", "said"),
    [
        (np.zeros((0, 5)), np.zeros((0, 5)), "n at least 1"),
        (np.zeros((3, 4)), np.zeros((3, 4)), "got shapes"),
        (np.zeros((3, 5)), np.zeros((2, 5)), "got shapes"),
        (np.full((3, 5), np.nan), np.zeros((3, 5)), "in 0-1"),
        (np.full((3, 5), 1.5), np.zeros((3, 5)), "in 0-1"),
        (np.zeros((3, 5)), np.full((3, 5), 2), "True/False"),
    ],
)
def test_validation_rows_that_cannot_be_used_are_refused(proba, labels, said):
    with pytest.raises(CorpusError, match=said):
        ValidationScores(proba, labels)


def test_validation_labels_of_0_and_1_become_booleans():
    assert ValidationScores(np.zeros((2, 5)), np.eye(2, 5, dtype=int)).labels.dtype == np.bool_
