"""Figures against scikit-learn, hand-worked examples and known distributions."""

import json
import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from gapnlp.errors import ConfigError, CorpusError
from gapnlp.metrics import (
    average_precision,
    bootstrap,
    calibration_error,
    evidence_scores,
    evidence_token_f1,
    exact_match,
    krippendorff_alpha_nominal,
    macro_f1,
    precision_recall_f1,
    primary_index,
    score,
    with_none,
    word_offsets,
)
from gapnlp.taxonomy import LABELS, NONE

SHARES = np.array([0.04, 0.17, 0.54, 0.10, 0.05])


def labelled(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities with ties, decisions and labels with natural shares."""
    rng = np.random.default_rng(seed)
    targets = rng.random((n, 5)) < SHARES
    proba = np.round(np.clip(0.3 * targets + rng.beta(1, 3, size=(n, 5)), 0, 1), 2)
    return proba, proba >= 0.4, targets


@pytest.mark.parametrize("seed", range(5))
def test_precision_recall_f1_equal_scikit_learn(seed):
    _, decisions, targets = labelled(120, seed=seed)
    ours = precision_recall_f1(with_none(decisions), with_none(targets))
    theirs = precision_recall_fscore_support(with_none(targets), with_none(decisions), zero_division=0)
    for mine, other in zip(ours, theirs[:3], strict=True):
        assert mine == pytest.approx(other)
    assert macro_f1(decisions, targets) == pytest.approx(theirs[2][:5].mean())
    assert macro_f1(with_none(decisions), with_none(targets)) == pytest.approx(theirs[2].mean())


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_equals_scikit_learn_with_ties(seed):
    proba, _, targets = labelled(300, seed=seed)
    for j in range(5):
        assert average_precision(proba[:, j], targets[:, j]) == pytest.approx(
            average_precision_score(targets[:, j], proba[:, j])
        )


def test_figures_without_positives_or_decisions_are_zero():
    nothing = np.zeros((4, 5), dtype=bool)
    something = np.ones((4, 5), dtype=bool)
    assert precision_recall_f1(nothing, something).precision.tolist() == [0.0] * 5
    assert precision_recall_f1(something, nothing).recall.tolist() == [0.0] * 5
    assert precision_recall_f1(nothing, nothing).f1.tolist() == [0.0] * 5
    assert average_precision(np.array([0.1, 0.9]), np.array([False, False])) == 0.0
    assert average_precision(np.array([0.1, 0.9]), np.array([True, True])) == 1.0


def test_none_is_a_sixth_class():
    labels = np.array([[0, 0, 0, 0, 0], [0, 1, 0, 0, 1]])
    assert with_none(labels)[:, 5].tolist() == [True, False]


def test_exact_match_needs_every_gap():
    targets = np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]])
    decisions = np.array([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]])
    assert exact_match(decisions, targets) == 0.5


def test_primary_is_the_likeliest_gap_given():
    proba = np.array([[0.3, 0.45, 0.2, 0, 0], [0.3, 0.45, 0.2, 0, 0], [0.1, 0, 0, 0, 0]])
    decisions = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    assert primary_index(proba, decisions).tolist() == [1, 0, 5]


def test_calibration_error_by_hand():
    proba = np.repeat([0.1, 0.6], 10)
    targets = np.array([True] * 2 + [False] * 8 + [True] * 3 + [False] * 7)
    # two bins of ten rows: |0.1 - 0.2| and |0.6 - 0.3|
    assert calibration_error(proba, targets, n_bins=2) == pytest.approx(0.2)
    assert calibration_error(proba, targets, n_bins=1) == pytest.approx(abs(0.35 - 0.25))


def test_calibration_error_tells_calibrated_from_not_and_ignores_the_order_of_ties():
    rng = np.random.default_rng(0)
    proba = np.round(rng.beta(0.5, 3, size=50_000), 2)
    targets = rng.random(50_000) < proba
    assert calibration_error(proba, targets) < 0.01
    assert calibration_error(proba**0.5, targets) > 0.1
    order = rng.permutation(50_000)
    assert calibration_error(proba[order], targets[order]) == pytest.approx(calibration_error(proba, targets))


@pytest.mark.parametrize("n", [1, 3, 9])
def test_calibration_error_of_fewer_rows_than_bins(n):
    assert calibration_error(np.full(n, 0.25), np.ones(n)) == pytest.approx(0.75)


TEXT = "Waited an hour, no towels."  # tokens: Waited an hour, no towels.


def test_word_offsets_cover_the_words():
    assert [TEXT[a:b] for a, b in word_offsets(TEXT)] == ["Waited", "an", "hour,", "no", "towels."]


@pytest.mark.parametrize(
    ("predicted", "f1"),
    [
        ((0, 14), 1.0),  # punctuation is part of its word
        ((0, 9), 2 * 2 / (2 + 3)),  # two of three words, none too many
        ((10, 26), 2 * 1 / (3 + 3)),  # "hour, no towels."
        ((16, 26), 0.0),
        ((4, 4), 0.0),  # an empty passage touches nothing
    ],
)
def test_evidence_token_f1_of_one_pair(predicted, f1):
    annotated = [{"delivery": (0, 14)}]
    assert evidence_token_f1([{"delivery": predicted}], annotated, [word_offsets(TEXT)]) == pytest.approx(f1)


def test_evidence_is_averaged_over_annotated_pairs_and_a_missing_one_counts_zero():
    annotated = [{"delivery": (0, 14), "policy": (16, 26)}, {}, {"customer": (0, 6)}]
    predicted = [{"delivery": (0, 14)}, {"policy": (0, 6)}, {"customer": (0, 6), "policy": (0, 6)}]
    tokens = [word_offsets(TEXT)] * 3
    assert evidence_scores(predicted, annotated, tokens).tolist() == [[1, 2], [0, 0], [1, 1]]
    assert evidence_token_f1(predicted, annotated, tokens) == pytest.approx(2 / 3)
    assert evidence_token_f1([{}], [{}], [[]]) == 0.0


def test_evidence_that_touches_no_word_is_refused_with_its_row():
    with pytest.raises(CorpusError, match="text 1"):
        evidence_token_f1([{}, {}], [{}, {"policy": [6, 7]}], [word_offsets(TEXT)] * 2)


def test_evidence_of_different_lengths_is_refused():
    with pytest.raises(CorpusError, match="equal numbers"):
        evidence_token_f1([{}], [{}, {}], [[]])


def test_bootstrap_interval_of_a_mean_is_the_textbook_one():
    values = np.random.default_rng(0).normal(5, 2, size=400)
    interval = bootstrap(lambda rows: values[rows].mean(), 400, n_resamples=4000, seed=1)
    error = 1.96 * values.std() / np.sqrt(400)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - error, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + error, abs=0.02)


def test_bootstrap_of_several_figures_repeats_with_its_seed_and_widens_with_its_level():
    values = np.random.default_rng(0).random((50, 3))
    first, again, wider = (
        bootstrap(lambda rows: values[rows].mean(axis=0), 50, n_resamples=200, seed=2, level=level)
        for level in (0.9, 0.9, 0.99)
    )
    assert first.low.shape == (3,)
    assert np.array_equal(first.low, again.low)
    assert (wider.low < first.low).all()
    assert (wider.high > first.high).all()


@pytest.mark.parametrize(
    ("n_rows", "settings", "error"),
    [(0, {}, CorpusError), (5, {"n_resamples": 0}, ConfigError), (5, {"level": 1.0}, ConfigError)],
)
def test_bootstrap_refuses(n_rows, settings, error):
    with pytest.raises(error, match="bootstrap"):
        bootstrap(lambda rows: rows.mean(), n_rows, seed=0, **settings)


def test_score_holds_every_figure_with_its_interval():
    proba, decisions, targets = labelled(300)
    primary = np.where(targets.any(axis=1), targets.argmax(axis=1), 5)
    evidence = np.column_stack([0.5 * targets.sum(axis=1), targets.sum(axis=1)])
    result = score(proba, decisions, targets, primary=primary, evidence=evidence, n_resamples=50, seed=3)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    whole = {"macro_f1_five", "macro_f1_six", "exact_match", "primary_accuracy", "evidence_token_f1"}
    assert set(result) == whole | {"n_rows", "bootstrap", "labels"}
    assert list(result["labels"]) == [*LABELS, NONE]
    assert result["n_rows"] == 300
    assert result["bootstrap"] == {"n_resamples": 50, "level": 0.95, "seed": 3}
    assert result["macro_f1_five"]["value"] == pytest.approx(macro_f1(decisions, targets))
    assert result["macro_f1_six"]["value"] == pytest.approx(macro_f1(with_none(decisions), with_none(targets)))
    assert result["evidence_token_f1"]["value"] == pytest.approx(0.5)
    hits = primary_index(proba, decisions) == primary
    assert result["primary_accuracy"]["value"] == pytest.approx(hits.mean())
    for j, label in enumerate(LABELS):
        row = result["labels"][label]
        assert row["n_positive"] == targets[:, j].sum()
        assert row["average_precision"]["value"] == pytest.approx(average_precision(proba[:, j], targets[:, j]))
        assert row["calibration_error"]["value"] == pytest.approx(calibration_error(proba[:, j], targets[:, j]))
        assert row["f1"]["low"] <= row["f1"]["value"] <= row["f1"]["high"]
    assert set(result["labels"][NONE]) == {"n_positive", "precision", "recall", "f1"}
    assert result["macro_f1_five"]["low"] < result["macro_f1_five"]["value"] < result["macro_f1_five"]["high"]


def test_score_leaves_out_what_it_is_not_given():
    result = score(*labelled(40), n_resamples=5)
    assert "primary_accuracy" not in result
    assert "evidence_token_f1" not in result


def test_score_of_rows_without_any_label_or_evidence():
    proba, nothing = np.full((6, 5), 0.1), np.zeros((6, 5), dtype=bool)
    result = score(proba, nothing, nothing, evidence=np.zeros((6, 2)), n_resamples=5)
    assert result["macro_f1_six"]["value"] == pytest.approx(1 / 6)
    assert result["evidence_token_f1"]["value"] == 0.0


def test_score_of_825_rows_takes_a_few_seconds():
    proba, decisions, targets = labelled(825)
    primary = primary_index(proba, targets)
    start = time.process_time()
    score(proba, decisions, targets, primary=primary, evidence=np.ones((825, 2)), n_resamples=1000)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("proba", {"proba": np.zeros((3, 5))}),
        ("decisions", {"decisions": np.zeros((4, 6))}),
        ("targets", {"targets": np.zeros((4, 4))}),
        ("primary", {"primary": np.zeros(3)}),
        ("evidence", {"evidence": np.zeros((4, 3))}),
        ("probability", {"proba": np.full((4, 5), np.nan)}),
    ],
)
def test_score_refuses_arrays_that_do_not_fit(name, changed):
    arrays = {"proba": np.zeros((4, 5)), "decisions": np.zeros((4, 5)), "targets": np.zeros((4, 5))} | changed
    with pytest.raises(CorpusError, match=name):
        score(arrays.pop("proba"), arrays.pop("decisions"), arrays.pop("targets"), n_resamples=2, **arrays)


def test_score_refuses_no_rows():
    empty = np.zeros((0, 5))
    with pytest.raises(CorpusError, match="at least 1"):
        score(empty, empty, empty)


def test_krippendorff_alpha_of_the_published_example():
    # Krippendorff (2011), section A: ten articles, two coders, alpha = 0.095.
    first = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0]]).T
    second = np.array([[1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]).T
    assert krippendorff_alpha_nominal(first, second) == pytest.approx([0.095], abs=0.0005)


def test_krippendorff_alpha_per_label():
    readings = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    other = readings.copy()
    other[:, 2] = 1 - other[:, 2]
    alpha = krippendorff_alpha_nominal(readings, other)
    assert alpha[[0, 3]].tolist() == [1.0, 1.0]
    assert np.isnan(alpha[1])
    assert alpha[2] < 0


@pytest.mark.parametrize(("first", "second"), [((0, 5), (0, 5)), ((3, 5), (4, 5)), ((3,), (3,))])
def test_krippendorff_alpha_refuses_arrays_that_do_not_fit(first, second):
    with pytest.raises(CorpusError, match="readers"):
        krippendorff_alpha_nominal(np.zeros(first), np.zeros(second))
