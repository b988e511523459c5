"""The front door: an archive's scores in, shares with intervals that hold out."""

import json
import time
import tracemalloc
import warnings

import numpy as np
import pytest

from gapnlp.calibration import sigmoid
from gapnlp.errors import ConfigError, InputError
from gapnlp.prevalence.estimate import (
    ASSUMPTION,
    BLIND,
    ValidationScores,
    counted_share,
    estimate_prevalence,
    fit_gap_scores,
    moments,
    probabilistic_count,
    score_texts,
    to_frame,
)
from gapnlp.prevalence.gap_score import fit_gap_rows
from gapnlp.taxonomy import LABELS

RATES = np.array([0.05, 0.15, 0.55, 0.10, 0.30])
REACH = np.array([1.5, 1.6, 1.6, 2.2, 1.8])  # how far apart the log likelihood ratios of the two sides lie


def drawn(n, *, shares, seed, harder=0.0):
    """Calibrated probabilities at `RATES`, and labels, of texts with these shares of the gaps."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 5)) < shares
    looks = labels & (rng.random((n, 5)) >= harder)
    ratio = rng.normal(np.where(looks, 0.5, -0.5) * REACH**2, REACH)
    return sigmoid(ratio + np.log(RATES / (1 - RATES))), labels


@pytest.fixture(scope="module")
def validation():
    return ValidationScores(*drawn(900, shares=RATES, seed=1))


def test_estimates_find_the_shares_that_counting_misses(validation):
    shares = np.array([0.2, 0.02, 0.2, 0.4, 0.05])
    proba, labels = drawn(20_000, shares=shares, seed=2)
    estimates = estimate_prevalence(proba, proba > 0.4, validation)
    assert [e.label for e in estimates] == list(LABELS)
    error = [abs(e.prevalence - t) for e, t in zip(estimates, labels.mean(axis=0), strict=True)]
    off = [abs(e.counted - t) for e, t in zip(estimates, labels.mean(axis=0), strict=True)]
    assert sum(error) < sum(off) / 2
    for e in estimates:
        assert 0 <= e.low <= e.prevalence <= e.high <= 1
        assert (e.n_texts, e.confidence, e.method, e.notes) == (20_000, 0.95, "adjusted", (ASSUMPTION,))


def test_intervals_hold_as_often_as_they_say_and_counting_does_not():
    shares, covered, errors = np.array([0.15, 0.05, 0.35, 0.2, 0.6]), [], []
    for seed in range(80):
        rows = ValidationScores(*drawn(900, shares=RATES, seed=(seed, 0)))
        proba, labels = drawn(1500, shares=shares, seed=(seed, 1))
        for e, truth in zip(estimate_prevalence(proba, proba > 0.4, rows), labels.mean(axis=0), strict=True):
            covered.append(e.low <= truth <= e.high)
            errors.append((abs(e.prevalence - truth), abs(e.counted - truth)))
    assert 0.92 <= np.mean(covered) <= 0.98  # of 400; the standard error is 0.011
    ours, counted = np.mean(errors, axis=0)
    assert ours < counted / 2


def test_an_archive_of_other_texts_is_noticed_and_its_own_is_not(validation):
    def alarms(**how):
        proba, _ = drawn(10_000, shares=np.full(5, 0.4), seed=3, **how)
        return [len(e.notes) > 1 for e in estimate_prevalence(proba, proba > 0.5, validation)]

    assert not any(alarms())
    proba, _ = drawn(10_000, shares=np.full(5, 0.4), seed=4)
    proba[::4] = 0.3 * RATES / (1 - RATES)  # one text in four gets a score that says next to nothing
    notes = [e.notes for e in estimate_prevalence(proba, proba > 0.5, validation)]
    assert all("Label a sample by hand" in note[-1] for note in notes)


def test_few_validation_positives_are_said_and_widen(validation):
    proba, _ = drawn(5000, shares=RATES, seed=5)
    has = np.flatnonzero(validation.labels[:, 2])
    kept = np.setdiff1d(np.arange(900), has[12:])
    few = ValidationScores(validation.proba[kept], validation.labels[kept])
    wide, narrow = (estimate_prevalence(proba, proba > 0.5, rows)[2] for rows in (few, validation))
    assert any("Only 12 of the rows it was checked on carry this gap" in note for note in wide.notes)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


@pytest.mark.parametrize(("value", "side"), [(False, "carry"), (True, "do not carry")])
def test_a_side_without_validation_rows_leaves_any_share_possible(validation, value, side):
    labels = validation.labels.copy()
    labels[:, 3] = value
    proba, _ = drawn(300, shares=RATES, seed=6)
    estimate = estimate_prevalence(proba, proba > 0.5, ValidationScores(validation.proba, labels))[3]
    assert (estimate.low, estimate.high) == (0.0, 1.0)
    assert f"Only 0 of the rows it was checked on {side} this gap: too few to estimate from" in estimate.notes[1]


def test_constant_scores_leave_any_share_possible():
    rows = ValidationScores(np.full((100, 5), 0.3), np.tile(np.arange(100)[:, None] < 30, (1, 5)))
    for estimate in estimate_prevalence(np.full((40, 5), 0.3), np.zeros((40, 5)), rows):
        assert (estimate.low, estimate.high, estimate.prevalence) == (0.0, 1.0, 0.3)
        assert BLIND in estimate.notes


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_one_text_gets_a_wide_interval_and_no_crash(validation, value):
    for estimate in estimate_prevalence(np.full((1, 5), value), np.zeros((1, 5), dtype=bool), validation):
        assert 0 <= estimate.low <= estimate.prevalence <= estimate.high <= 1
        assert estimate.high - estimate.low > 0.3


@pytest.mark.parametrize(
    ("proba", "decided", "said"),
    [
        (np.zeros((0, 5)), np.zeros((0, 5)), "n_texts at least 1"),
        (np.zeros((3, 4)), np.zeros((3, 4)), "expected"),
        (np.zeros(5), np.zeros(5), "expected"),
        (np.where(np.eye(3, 5) > 0, np.nan, 0.5), np.zeros((3, 5)), "for text 0.*leave out texts that have no scores"),
        (np.full((2, 5), 1.01), np.zeros((2, 5)), "0-1"),
        (np.zeros((3, 5)), np.zeros((2, 5)), "decided: got shape"),
        (np.zeros((3, 5)), np.full((3, 5), 0.7), "decided"),
    ],
)
def test_archives_that_cannot_be_used_are_refused(validation, proba, decided, said):
    with pytest.raises(InputError, match=said):
        estimate_prevalence(proba, decided, validation)


def test_a_confidence_out_of_range_is_refused(validation):
    with pytest.raises(ConfigError, match="confidence"):
        estimate_prevalence(np.zeros((1, 5)), np.zeros((1, 5)), validation, confidence=95)


def test_more_confidence_is_a_wider_interval(validation):
    proba, _ = drawn(1000, shares=RATES, seed=7)
    widths = [
        [e.high - e.low for e in estimate_prevalence(proba, proba > 0.5, validation, confidence=c)]
        for c in (0.8, 0.95, 0.99)
    ]
    assert (np.diff(widths, axis=0) > 0).all()


@pytest.mark.slow  # importing quapy takes seconds
def test_counts_agree_with_an_independent_implementation():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        functional = pytest.importorskip("quapy.functional")
    proba, labels = drawn(500, shares=RATES, seed=8)
    for j in range(5):
        theirs = functional.prevalence_from_labels(labels[:, j].astype(int), [0, 1])[1]
        assert counted_share(labels)[j] == pytest.approx(theirs, abs=1e-12)
        both = np.column_stack([1 - proba[:, j], proba[:, j]])
        theirs = functional.prevalence_from_probabilities(both, binarize=False)[1]
        assert probabilistic_count(proba)[j] == pytest.approx(theirs, abs=1e-12)


def test_moments_are_those_of_each_group():
    rng = np.random.default_rng(9)
    scores, groups = rng.normal(size=(200, 5)), rng.choice([0, 1, 3], 200)
    groups[groups == 3] = np.where(np.arange((groups == 3).sum()) == 0, 3, 1)  # group 3 has one text, group 2 none
    got = moments(scores, groups, n_groups=4)
    assert got.n.tolist() == [np.sum(groups == k) for k in range(4)]
    for k in (0, 1):
        assert got.mean[k] == pytest.approx(scores[groups == k].mean(axis=0))
        assert got.var[k] == pytest.approx(scores[groups == k].var(axis=0, ddof=1))
    assert got.mean[3] == pytest.approx(scores[groups == 3][0])
    assert not got.mean[2].any()
    assert not got.var[2:].any()


def test_scores_of_texts_are_those_of_each_gap(validation):
    proba, _ = drawn(50, shares=RATES, seed=10)
    scores = fit_gap_scores(proba, fit_gap_rows(validation))
    assert [s.label for s in scores] == list(LABELS)
    texts = score_texts(proba, scores)
    assert texts.shape == (50, 5)
    assert texts[:, 4].tolist() == scores[4].score(proba[:, 4]).tolist()


def test_the_frame_has_a_row_per_gap(validation):
    pytest.importorskip("pandas")
    proba, _ = drawn(50, shares=RATES, seed=11)
    estimates = estimate_prevalence(proba, proba > 0.5, validation)
    frame = to_frame(estimates)
    assert frame["label"].tolist() == list(LABELS)
    assert frame["prevalence"].tolist() == [e.prevalence for e in estimates]


@pytest.mark.slow
def test_a_million_texts_take_seconds_and_little_memory(validation):
    proba, _ = drawn(1_000_000, shares=RATES, seed=12)
    decided = proba > 0.5
    tracemalloc.start()
    started = time.process_time()
    estimate_prevalence(proba, decided, validation)
    seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 10
    assert peak < 3 * proba.nbytes


def test_the_benchmark_runs_small_and_tells_the_naive_bootstrap_fails(monkeypatch, tmp_path, capsys):
    from benchmarks import prevalence as benchmark

    proba, labels = drawn(600, shares=RATES, seed=13)
    np.savez(tmp_path / "scores.npz", proba=proba, labels=labels, decided=proba > 0.4)
    small = {"SIZES": (300, 3000), "SHARES": (0.1, 0.6), "FEW_POSITIVES": (10,), "BOOTSTRAPPED": 1}
    for name, value in (small | {"N_BOOTSTRAP": 60}).items():
        monkeypatch.setattr(benchmark, name, value)
    arguments = ["--scores", str(tmp_path / "scores.npz"), "--reps", "4", "--jobs", "1", "--save", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["prevalence", *arguments])
    benchmark.main()
    figures = json.loads((tmp_path / "prevalence.json").read_text())
    assert len(figures["shifted"]) == 5 * 2 * 2
    assert benchmark.mean_of(figures["shifted"], "covered") > 0.85
    assert benchmark.mean_of(figures["shifted"], "naive_counted") < 0.5
    for part, is_better in (("shifted", False), ("natural", True)):  # it supposes what holds in natural archives alone
        errors = [benchmark.mean_of(figures[part], field) for field in ("error_probabilistic", "error")]
        assert (errors[0] < errors[1]) is is_better
    assert (tmp_path / "prevalence.md").read_text() == capsys.readouterr().out
