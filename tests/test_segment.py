"""Prevalence per group: direct, pooled and simultaneous intervals, and what becomes of tiny groups."""

from dataclasses import replace

import numpy as np
import pytest
from score_world import World, shifted, side_by_side

from gapnlp.errors import ConfigError, CorpusError
from gapnlp.prevalence.estimate import ASSUMPTION, BLIND, Moments
from gapnlp.prevalence.segment import estimate_segments, merge, within_variance

WORLD = World()
SIZES = np.array([3000, 2000, 1200, 900, 300, 200, 150, 120, 90, 70, 50, 40])
NAMES = [f"branch {i}" for i in range(len(SIZES))]


def archive(seed, shares, *, sizes=SIZES, world=WORLD):
    rng = np.random.default_rng(seed)
    return world.groups(rng, shares=np.broadcast_to(shares, len(sizes)), sizes=sizes), [world.score(rng)]


def estimates(seed, shares, **settings):
    moments, scores = archive(seed, shares, sizes=settings.pop("sizes", SIZES), world=settings.pop("world", WORLD))
    names = settings.pop("names", NAMES[: len(moments.n)])
    return estimate_segments(moments, scores, names=names, **settings)


def held(segments, shares):
    return [s.estimate.low <= share <= s.estimate.high for s, share in zip(segments.estimates, shares, strict=True)]


@pytest.mark.parametrize(("level", "world"), [(0.1, WORLD), (0.01, World(level=0.02))])
def test_intervals_and_bands_hold_the_truth_as_often_as_stated(level, world):
    rng, direct, pooled, bands = np.random.default_rng(0), [], [], []
    for seed in range(250):
        shares = level * rng.gamma(6, 1 / 6, len(SIZES))
        segments = estimates(seed, shares, world=world)
        for ok, segment in zip(held(segments, shares), segments.estimates, strict=True):
            (direct if segment.direct else pooled).append(ok)
        bands.append(all(s.band_low <= t <= s.band_high for s, t in zip(segments.estimates, shares, strict=True)))
    assert 0.93 <= np.mean(direct) <= 0.975
    assert np.mean(pooled) >= 0.93
    assert np.mean(bands) >= 0.91


def test_small_groups_lean_on_the_others_and_say_so():
    moments, scores = archive(1, 0.1)
    segments = estimate_segments(moments, scores, names=NAMES)
    assert [s.direct for s in segments.estimates] == sorted((s.direct for s in segments.estimates), reverse=True)
    large, small = segments.estimates[0], segments.estimates[-1]
    assert (large.direct, large.estimate.method, large.estimate.notes) == (True, "adjusted", (ASSUMPTION,))
    assert (small.direct, small.estimate.method) == (False, "model-based")
    assert "its 40 texts are too few" in small.estimate.notes[1]
    alone = estimate_segments(*archive(1, 0.1), names=NAMES, min_texts=40).estimates[-1].estimate
    assert alone == small.estimate
    own = (moments.mean[-1, 0] - scores[0].m0) / (scores[0].m1 - scores[0].m0)
    common = large.estimate.prevalence
    assert abs(small.estimate.prevalence - common) < abs(np.clip(own, 0, 1) - common)


def test_pooled_estimates_are_nearer_to_the_truth_and_narrower():
    rng, errors, widths = np.random.default_rng(2), [], []
    for seed in range(60):
        shares = 0.1 * rng.gamma(8, 1 / 8, len(SIZES))
        moments, scores = archive(seed, shares)
        pooled = estimate_segments(moments, scores, names=NAMES).estimates[-1].estimate
        last = Moments(moments.n[-1:], moments.mean[-1:], moments.var[-1:])
        alone = estimate_segments(last, scores, names=NAMES[-1:]).estimates[0].estimate
        errors.append([abs(one.prevalence - shares[-1]) for one in (pooled, alone)])
        widths.append([one.high - one.low for one in (pooled, alone)])
    assert np.mean(errors, axis=0)[0] < 0.6 * np.mean(errors, axis=0)[1]
    assert np.mean(widths, axis=0)[0] < 0.75 * np.mean(widths, axis=0)[1]


def test_whether_a_group_answers_for_itself_is_not_decided_by_its_answer():
    sizes = np.full(30, 400)
    for level, expected in ((0.2, True), (0.02, False)):
        segments = estimates(3, np.linspace(0, 2 * level, 30), sizes=sizes, names=[*map(str, range(30))])
        assert {s.direct for s in segments.estimates} == {expected}


def test_bands_are_wider_the_more_groups_a_chart_has():
    few, many = (estimates(4, 0.1, sizes=np.full(k, 2000), names=[*map(str, range(k))]) for k in (2, 40))
    for segments, ratio in ((few, 1.14), (many, 1.7)):
        one = segments.estimates[0]
        assert (one.band_high - one.band_low) / (one.estimate.high - one.estimate.low) == pytest.approx(ratio, abs=0.1)


def test_tiny_groups_are_put_together():
    sizes, names = np.array([500, 29, 12, 0, 3]), ["a", "b", "c", "d", "e"]
    moments, scores = archive(5, 0.1, sizes=sizes)
    counted = np.array([[0.1], [0.2], [0.4], [0.0], [1.0]])
    segments = estimate_segments(moments, scores, names=names, counted=counted)
    assert [s.group for s in segments.estimates] == ["a", "other (3 small groups)"]
    assert (segments.merged, segments.left_out, segments.n_left_out) == (("b", "c", "e"), (), 0)
    other = segments.estimates[1].estimate
    assert other.n_texts == 44
    assert other.counted == pytest.approx((29 * 0.2 + 12 * 0.4 + 3) / 44)
    share = (np.average(moments.mean[:, 0], weights=sizes * (sizes < 30)) - scores[0].m0) / (
        scores[0].m1 - scores[0].m0
    )
    assert other.prevalence == pytest.approx(np.clip(share, 0, 1))


def test_tiny_groups_that_are_few_even_together_are_left_out_and_counted():
    segments = estimates(6, 0.1, sizes=np.array([500, 20, 9, 0]), names=["a", "b", "c", "d"])
    assert [s.group for s in segments.estimates] == ["a"]
    assert (segments.merged, segments.left_out, segments.n_left_out) == ((), ("b", "c"), 29)


def test_merged_sums_are_those_of_the_texts_together():
    rng = np.random.default_rng(7)
    parts = [WORLD.texts(rng, share=s, n=n) for s, n in ((0.1, 40), (0.5, 7), (0.2, 1))]
    split = Moments(
        np.array([40, 7, 1]),
        np.array([[h.mean()] for h in parts]),
        np.array([[h.var(ddof=1) if len(h) > 1 else 0.0] for h in parts]),
    )
    together, texts = merge(split, np.array([True, True, True])), np.concatenate(parts)
    assert together.n.tolist() == [48]
    assert together.mean[0, 0] == pytest.approx(texts.mean())
    assert together.var[0, 0] == pytest.approx(texts.var(ddof=1))
    assert within_variance(split)[0] == pytest.approx((39 * parts[0].var(ddof=1) + 6 * parts[1].var(ddof=1)) / 45)


def test_an_error_of_the_scale_moves_all_groups_together():
    moments, [score] = archive(8, 0.4)
    here, there = (estimate_segments(moments, [s], names=NAMES).estimates for s in (score, shifted(score, by=-0.1)))
    moved = [b.estimate.prevalence - a.estimate.prevalence for a, b in zip(here, there, strict=True)]
    assert moved == pytest.approx([0.1 / (score.m1 - score.m0)] * len(NAMES))


def test_one_group():
    (only,) = estimates(9, 0.1, sizes=np.array([60]), names=["only"]).estimates
    assert only.direct
    assert (only.band_low, only.band_high) == (only.estimate.low, only.estimate.high)
    assert "too few groups to lean on" in only.estimate.notes[1]
    (large,) = estimates(9, 0.1, sizes=np.array([5000]), names=["only"]).estimates
    assert large.estimate.notes == (ASSUMPTION,)


def test_no_groups_and_only_empty_ones():
    score = WORLD.score(np.random.default_rng(0))
    for k in (0, 3):
        empty = Moments(np.zeros(k, dtype=np.int64), np.zeros((k, 1)), np.zeros((k, 1)))
        assert estimate_segments(empty, [score], names=["x"] * k).estimates == ()


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_groups_at_the_very_ends_keep_an_interval(level):
    for segment in estimates(10, level).estimates:
        one = segment.estimate
        assert 0 <= segment.band_low <= one.low <= one.prevalence <= one.high <= segment.band_high <= 1
        assert one.high - one.low > 0.005


def test_scores_without_variance_give_finite_intervals():
    flat = Moments(SIZES, np.full((len(SIZES), 1), -0.4), np.zeros((len(SIZES), 1)))
    for segment in estimate_segments(flat, [WORLD.score(np.random.default_rng(0))], names=NAMES).estimates:
        one = segment.estimate
        assert 0 <= one.low <= one.prevalence <= one.high <= 1


def test_a_gap_that_cannot_be_told_from_the_rest_may_have_any_share():
    moments, [score] = archive(11, 0.1)
    blind = replace(score, m1=score.m0, label="policy")
    segments = estimate_segments(side_by_side(moments, moments), [score, blind], names=NAMES)
    assert len(segments.of("delivery")) == len(segments.of("policy")) == len(NAMES)
    for segment in segments.of("policy"):
        assert (segment.estimate.low, segment.estimate.high) == (0, 1)
        assert BLIND in segment.estimate.notes
    assert segments.of("delivery")[0].estimate.high < 0.3


def test_few_validation_rows_are_told():
    moments, scores = archive(12, 0.1, world=World(n_pos=20))
    notes = estimate_segments(moments, scores, names=NAMES).estimates[0].estimate.notes
    assert any("Only 20 of the rows" in note for note in notes)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"min_texts": 0}, ConfigError, "min_texts"),
        ({"confidence": 0.0}, ConfigError, "confidence"),
        ({"counted": [[0.1]]}, CorpusError, "counted"),
        ({"names": ["too", "few"]}, CorpusError, "2 names"),
    ],
)
def test_what_does_not_fit_is_refused(settings, error, words):
    with pytest.raises(error, match=words):
        estimates(13, 0.1, **settings)
