"""Slope, intercept and threshold per gap, and honest figures from cross-fitting."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from gapnlp.calibration import (
    DEFAULT_THRESHOLD,
    MIN_SLOPE,
    Calibration,
    cross_fit,
    empirical_f1_thresholds,
    expected_f1_thresholds,
    fit_calibration,
    fit_platt,
    logit,
    sigmoid,
)
from gapnlp.errors import ConfigError, CorpusError, ModelError
from gapnlp.taxonomy import LABELS

N_LABELS = len(LABELS)
SLOPE = np.array([0.5, 1.0, 1.5, 2.0, 0.8])
INTERCEPT = np.array([-1.0, 0.0, 0.5, -0.5, -2.0])


def simulated(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true probability is sigmoid(SLOPE * logit + INTERCEPT)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 1.5, size=(n, N_LABELS))
    return logits, rng.random((n, N_LABELS)) < sigmoid(SLOPE * logits + INTERCEPT)


def a_calibration() -> Calibration:
    return Calibration(tuple(SLOPE.tolist()), tuple(INTERCEPT.tolist()), (0.3, 0.4, 0.5, 0.35, 0.2))


def test_sigmoid_does_not_overflow_and_logit_inverts_it():
    values = np.array([-1e6, -20.0, 0.0, 20.0, 1e6])
    assert sigmoid(values).tolist() == pytest.approx([0.0, 2.0611536e-9, 0.5, 1.0, 1.0], rel=1e-6)
    assert logit(sigmoid(values[1:4])) == pytest.approx(values[1:4], abs=1e-5)
    assert np.isfinite(logit([0.0, 1.0])).all()


def test_proba_and_decide():
    calibration = a_calibration()
    logits = np.array([[0.0, 1.0, -2.0, 3.0, 2.5]], dtype=np.float32)
    proba = calibration.proba(logits)
    assert proba[0] == pytest.approx(1 / (1 + np.exp(-(SLOPE * logits[0] + INTERCEPT))))
    assert calibration.decide(proba).tolist() == [[False, True, False, True, True]]


def test_a_probability_on_its_threshold_is_given():
    calibration = a_calibration()
    assert calibration.decide(np.array([calibration.thresholds])).all()


def test_dict_round_trip_through_json_in_any_order():
    calibration = a_calibration()
    data = json.loads(json.dumps(calibration.to_dict()))
    assert list(data) == list(LABELS)
    assert Calibration.from_dict(dict(reversed(data.items()))) == calibration


@pytest.mark.parametrize(
    "changes",
    [
        {"slope": 0.0},
        {"slope": -1.0},
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"intercept": float("nan")},
        {"intercept": float("inf")},
        {"intercept": "0.5"},
        {"intercept": None},
        {"intercept": True},
        {"intercept": 10**400},
        {"surplus": 1.0},
    ],
)
def test_nonsense_in_a_field_is_refused(changes):
    data = a_calibration().to_dict()
    data["policy"] = {**data["policy"], **changes}
    with pytest.raises(ModelError, match="calibration"):
        Calibration.from_dict(data)


@pytest.mark.parametrize("data", [None, [], {}, {"policy": {}}, dict.fromkeys(LABELS, 1.0)])
def test_data_of_another_shape_is_refused(data):
    with pytest.raises(ModelError, match="expected exactly"):
        Calibration.from_dict(data)


def test_a_missing_or_renamed_gap_is_refused():
    data = a_calibration().to_dict()
    data["gap 1"] = data.pop("knowledge")
    with pytest.raises(ModelError, match="knowledge"):
        Calibration.from_dict(data)


def test_wrong_number_of_values_is_refused():
    with pytest.raises(ModelError, match="slope"):
        Calibration((1.0,), (0.0,) * 5, (0.5,) * 5)


def test_platt_recovers_the_truth():
    slope, intercept = fit_platt(*simulated(40_000))
    assert slope == pytest.approx(SLOPE, abs=0.08)
    assert intercept == pytest.approx(INTERCEPT, abs=0.08)


def test_platt_without_weight_on_the_prior_equals_scikit_learn():
    logits, targets = simulated(600)
    slope, intercept = fit_platt(logits, targets, prior_strength=1e-9)
    for j in range(N_LABELS):
        reference = LogisticRegression(C=1e9, tol=1e-10).fit(logits[:, [j]], targets[:, j])
        assert slope[j] == pytest.approx(reference.coef_[0, 0], rel=1e-3)
        assert intercept[j] == pytest.approx(reference.intercept_[0], rel=1e-3, abs=1e-3)


def test_platt_makes_the_mean_probability_the_share_of_positives():
    logits, targets = simulated(825)
    slope, intercept = fit_platt(logits, targets)
    assert sigmoid(logits * slope + intercept).mean(axis=0) == pytest.approx(targets.mean(axis=0), abs=0.001)


def test_a_separable_rare_gap_stays_finite():
    logits = np.full((825, N_LABELS), -3.0)
    targets = np.zeros((825, N_LABELS), dtype=bool)
    logits[:35], targets[:35] = 3.0, True
    slope, intercept = fit_platt(logits, targets)
    assert (slope < 5).all()
    assert (np.abs(intercept) < 5).all()


def test_a_gap_without_positives_gets_a_small_probability():
    logits, targets = simulated(300)
    targets[:, 2] = False
    calibration = fit_calibration(logits, targets)
    assert calibration.proba(logits)[:, 2].max() < 0.05


def test_a_gap_ranked_backwards_keeps_its_order_and_its_share():
    logits, targets = simulated(800)
    targets[:, 1] = logits[:, 1] < -0.5
    slope, intercept = fit_platt(logits, targets)
    assert slope[1] == MIN_SLOPE
    assert sigmoid(slope[1] * logits[:, 1] + intercept[1]).mean() == pytest.approx(targets[:, 1].mean(), abs=0.001)


def test_extreme_logits_are_fitted():
    logits, targets = simulated(400)
    slope, intercept = fit_platt(logits * 1000, targets)
    proba = sigmoid(logits * 1000 * slope + intercept)
    assert proba.mean(axis=0) == pytest.approx(targets.mean(axis=0), abs=0.01)


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan"), float("inf")])
def test_prior_strength_out_of_range(strength):
    with pytest.raises(ConfigError, match="prior_strength"):
        fit_platt(*simulated(10), prior_strength=strength)


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (np.zeros((0, 5)), np.zeros((0, 5)), "shapes"),
        (np.zeros((4, 5)), np.zeros((3, 5)), "shapes"),
        (np.zeros((4, 4)), np.zeros((4, 4)), "shapes"),
        (np.array([[0, 0, 0, 0, 0], [0, np.nan, 0, 0, 0]]), np.zeros((2, 5)), "row 1"),
        (np.zeros((2, 5)), np.full((2, 5), 0.5), "targets"),
    ],
)
def test_rows_that_do_not_fit_are_refused(logits, targets, message):
    with pytest.raises(CorpusError, match=message):
        fit_platt(logits, targets)


def brute_force_expected_f1(proba: np.ndarray, threshold: float) -> float:
    given = proba >= threshold
    return 2 * proba[given].sum() / (proba.sum() + given.sum()) if given.any() else 0.0


def test_expected_f1_thresholds_are_the_best_of_all():
    rng = np.random.default_rng(3)
    for _ in range(20):
        proba = rng.beta(0.4, 2.0, size=(60, N_LABELS))
        chosen = expected_f1_thresholds(proba)
        for j in range(N_LABELS):
            best = max(brute_force_expected_f1(proba[:, j], t) for t in proba[:, j])
            assert brute_force_expected_f1(proba[:, j], chosen[j]) == pytest.approx(best, abs=1e-12)
            assert chosen[j] == pytest.approx(best / 2, abs=1e-12)


def test_expected_f1_thresholds_find_the_best_f1_of_a_large_calibrated_sample():
    rng = np.random.default_rng(4)
    proba = rng.beta(0.4, 2.0, size=(20_000, N_LABELS))
    targets = rng.random(proba.shape) < proba
    for rule in (expected_f1_thresholds(proba), empirical_f1_thresholds(proba, targets)):
        for j in range(N_LABELS):
            best = max(f1_score(targets[:, j], proba[:, j] >= t) for t in np.linspace(0.05, 0.6, 23))
            assert f1_score(targets[:, j], proba[:, j] >= rule[j]) == pytest.approx(best, abs=0.01)


def test_empirical_thresholds_are_the_best_of_all_even_with_ties():
    rng = np.random.default_rng(5)
    proba = rng.integers(0, 6, size=(40, N_LABELS)) / 6
    targets = rng.random(proba.shape) < proba
    chosen = empirical_f1_thresholds(proba, targets)
    for j in range(N_LABELS):
        candidates = np.unique(proba[:, j][proba[:, j] > 0])
        best = max(f1_score(targets[:, j], proba[:, j] >= t) for t in candidates)
        assert f1_score(targets[:, j], proba[:, j] >= chosen[j]) == pytest.approx(best)
        assert chosen[j] not in candidates


def test_thresholds_where_f1_cannot_choose():
    nothing = np.zeros((8, N_LABELS))
    assert (expected_f1_thresholds(nothing) == DEFAULT_THRESHOLD).all()
    assert (empirical_f1_thresholds(nothing, np.ones((8, N_LABELS))) == DEFAULT_THRESHOLD).all()
    assert (empirical_f1_thresholds(nothing + 0.7, nothing) == DEFAULT_THRESHOLD).all()


@pytest.mark.parametrize("proba", [np.full((3, 5), 1.2), np.full((3, 5), np.nan), np.zeros((0, 5)), np.zeros(5)])
def test_thresholds_need_probabilities(proba):
    with pytest.raises(CorpusError, match="proba"):
        expected_f1_thresholds(proba)


def test_threshold_rules_differ_and_an_unknown_one_is_refused():
    logits, targets = simulated(300)
    expected = fit_calibration(logits, targets)
    empirical = fit_calibration(logits, targets, threshold_rule="empirical")
    proba = expected.proba(logits)
    assert expected.thresholds == pytest.approx(expected_f1_thresholds(proba))
    assert empirical.thresholds == pytest.approx(empirical_f1_thresholds(proba, targets))
    assert expected.thresholds != empirical.thresholds
    with pytest.raises(ConfigError, match="threshold_rule"):
        fit_calibration(logits, targets, threshold_rule="youden")


def test_cross_fit_is_calibrated_and_repeatable():
    logits, targets = simulated(4000)
    first, again = cross_fit(logits, targets, seed=1), cross_fit(logits, targets, seed=1)
    assert np.array_equal(first.proba, again.proba)
    assert not np.array_equal(first.proba, cross_fit(logits, targets, seed=2).proba)
    assert first.proba == pytest.approx(sigmoid(SLOPE * logits + INTERCEPT), abs=0.1)
    assert first.decisions.dtype == np.bool_


def test_cross_fit_never_lets_a_row_judge_itself():
    logits, targets = simulated(200)
    before = cross_fit(logits, targets, n_folds=200, seed=0)
    swapped = targets.copy()
    row = 17
    swapped[row] = ~swapped[row]
    # Leaving one out makes the folds single rows, so only the other rows' results may move.
    after = cross_fit(logits, swapped, n_folds=200, seed=0)
    assert np.array_equal(after.proba[row], before.proba[row])
    assert np.array_equal(after.decisions[row], before.decisions[row])
    assert not np.array_equal(after.proba, before.proba)


def test_cross_fit_gives_each_fold_its_share_of_a_rare_gap():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(100, N_LABELS))
    targets = np.zeros((100, N_LABELS), dtype=bool)
    targets[:5, 0] = True
    logits[:5, 0] = 4.0
    # Were all five positives in one fold, that fold's calibration would have seen none of them.
    for seed in range(20):
        assert cross_fit(logits, targets, n_folds=5, seed=seed).proba[:5, 0].min() > 0.3


@pytest.mark.parametrize("n_folds", [1, 11])
def test_cross_fit_needs_folds_that_exist(n_folds):
    with pytest.raises(ConfigError, match="n_folds"):
        cross_fit(*simulated(10), n_folds=n_folds, seed=0)
