"""Audits: which rows are drawn, and estimates that hold however the classifier errs."""

import warnings
from itertools import combinations

import numpy as np
import pytest

from gapnlp.audit import (
    Audit,
    Design,
    audited_estimates,
    choose_design,
    draw_rows,
    fingerprint,
    plan_audit,
    reader_agreement,
)
from gapnlp.audit.design import MAX_STRATA, spread
from gapnlp.audit.difference import _fit_power, difference_estimate
from gapnlp.audit.interval import stratified_interval
from gapnlp.errors import ConfigError, CorpusError
from gapnlp.intervals import wilson_interval
from gapnlp.prevalence.gap_score import at_likeliest_share, sld
from gapnlp.taxonomy import LABELS

NO_SECOND = {"second": np.zeros((0, 5), dtype=bool), "second_rows": np.zeros(0, dtype=np.int64)}
EVERYTHING_READ = "Every text was read: this is a count."


def archive(rng, n_texts, *, share=(0.02, 0.05, 0.3, 0.1, 0.6), quality=2.0):
    """Make probabilities, which are calibrated, and the truth."""
    logits = np.log(np.array(share) / (1 - np.array(share))) + quality * rng.normal(size=(n_texts, 5)) - quality**2 / 4
    proba = 1 / (1 + np.exp(-logits))
    return proba, rng.random((n_texts, 5)) < proba


def read(proba, labels, design, *, seed):
    rows = draw_rows(proba, design, seed=seed).rows
    return Audit(
        rows=rows,
        labels=labels[rows],
        stratum=design.stratum(proba),
        n_strata=len(design.n_rows),
        n_drawn=len(rows),
        drawn_for=design.gap,
        **NO_SECOND,
    )


def coverage(proba, labels, design, *, n_audits=250):
    truth = labels.mean(axis=0)
    held = []
    for seed in range(n_audits):
        found = audited_estimates(proba, proba > 0.5, read(proba, labels, design, seed=seed))
        held.append([item.low - 1e-12 <= t <= item.high + 1e-12 for item, t in zip(found, truth, strict=True)])
    return np.mean(held, axis=0)


@pytest.mark.parametrize(("share", "n"), [(0.0, 50), (0.02, 100), (0.5, 30), (1.0, 20)])
def test_strata_read_alike_give_wilsons_interval(share, n):
    together = stratified_interval([share, share], [0.3 * n, 0.7 * n], weight=[0.3, 0.7], confidence=0.9)
    assert np.allclose(together, wilson_interval(share, n, confidence=0.9), atol=1e-9)


def test_the_interval_of_strata_ends_where_the_best_explanation_is_z_standard_errors_away():
    p, n, w, z = np.array([0.02, 0.4]), np.array([200.0, 50.0]), np.array([0.8, 0.2]), 1.959963984540054
    low, high = stratified_interval(p, n, weight=w, confidence=0.95)
    first = np.linspace(1e-9, 1, 400_001)
    for end in (low, high):
        second = (end - w[0] * first) / w[1]
        possible = (second > 0) & (second < 1)
        x = np.stack([first, np.where(possible, second, 0.5)])
        likelihood = (n[:, None] * (p[:, None] * np.log(x) + (1 - p[:, None]) * np.log(1 - x + 1e-300))).sum(axis=0)
        best = x[:, np.argmax(np.where(possible, likelihood, -np.inf))]
        error = np.sqrt((w**2 * best * (1 - best) / n).sum())
        assert abs((w @ p - end) / error) == pytest.approx(z, abs=1e-3)


def test_a_stratum_without_a_positive_row_still_says_how_many_there_may_be():
    low, high = stratified_interval([0.0, 0.5], [40, 1000], weight=[0.9, 0.1], confidence=0.95)
    assert low < 0.05
    assert high > 0.05 + 0.9 * 3 / 40 * 0.9  # about the rule of three


def test_strata_read_to_the_end_are_known_and_strata_not_read_are_not():
    whole = stratified_interval([0.25, 0.5], [np.inf, np.inf], weight=[0.5, 0.5], confidence=0.95)
    assert whole == (0.375, 0.375)
    low, high = stratified_interval([0.25, 0.5], [np.inf, 0], weight=[0.5, 0.5], confidence=0.95)
    assert (low, high) == (0.125, 0.625)


def test_point_estimates_are_those_of_ppi_python():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ppi_py = pytest.importorskip("ppi_py")
    rng = np.random.default_rng(3)
    proba, labels = archive(rng, 3000)
    rows = rng.choice(3000, 200, replace=False)
    for power in (0.0, 0.6, 1.0):
        ours = difference_estimate(
            labels[rows], proba[rows], archive_mean=proba.mean(axis=0), n_texts=3000, power=power
        ).share
        theirs = ppi_py.ppi_mean_pointestimate(labels[rows].astype(float), proba[rows], proba, lam=power)
        assert np.abs(ours - theirs).max() <= 1e-6


def test_the_estimate_is_unbiased_over_all_possible_draws():
    rng = np.random.default_rng(0)
    labels, scores = rng.random((9, 1)) < 0.4, rng.random((9, 1))
    found = [
        difference_estimate(labels[list(rows)], scores[list(rows)], archive_mean=scores.mean(axis=0), n_texts=9).share
        for rows in combinations(range(9), 5)
    ]
    assert np.ptp(found) > 0.1
    assert np.mean(found) == pytest.approx(labels.mean(), abs=1e-12)


def test_a_rows_own_label_has_no_say_in_its_power():
    rng = np.random.default_rng(1)
    labels, scores = (rng.random((40, 1)) < 0.5).astype(float), rng.random((40, 1))
    changed = labels.copy()
    changed[7] = 1 - changed[7]
    before, after = _fit_power(labels, scores), _fit_power(changed, scores)
    assert before[7] == pytest.approx(after[7], abs=1e-12)
    assert before[8] != after[8]


def test_good_scores_narrow_the_interval_and_bad_ones_do_not_widen_it():
    rng = np.random.default_rng(2)
    proba, labels = archive(rng, 20_000, share=(0.2,) * 5, quality=3.0)
    rows = rng.choice(20_000, 500, replace=False)

    def width(scores):
        found = audited_estimates(scores, scores > 0.5, Audit.simple(rows, labels[rows], n_texts=20_000))
        return np.array([item.high - item.low for item in found])

    plain = np.subtract(*wilson_interval(labels[rows].mean(axis=0), 500, confidence=0.95)[::-1])
    assert (width(proba) < 0.85 * plain).all()
    assert (width(1 - proba) < 1.02 * plain).all()
    assert (width(rng.permutation(proba)) < 1.03 * plain).all()


def test_when_everything_is_read_the_interval_is_the_count():
    proba, labels = archive(np.random.default_rng(4), 120)
    for design in (Design("", (), (120,)), choose_design(proba, 120, gap="policy")):
        found = audited_estimates(proba, proba > 0.5, read(proba, labels, design, seed=0))
        truth = labels.mean(axis=0)
        assert [item.prevalence for item in found] == pytest.approx(truth.tolist(), abs=1e-12)
        assert [item.high - item.low for item in found] == pytest.approx([0] * 5, abs=1e-9)
        assert found[0].notes == (EVERYTHING_READ,)


@pytest.mark.parametrize("spoil", ["nothing", "inverted", "constant"])
def test_intervals_of_a_random_draw_hold_whatever_the_scores(spoil):
    rng = np.random.default_rng(5)
    proba, labels = archive(rng, 3000, share=(0.006, 0.03, 0.1, 0.3, 0.7))
    proba = {"nothing": proba, "inverted": 1 - proba, "constant": np.full_like(proba, 0.3)}[spoil]
    held = coverage(proba, labels, Design("", (), (200,)))
    assert (held >= 0.92).all()
    assert held.mean() >= 0.94


@pytest.mark.parametrize("spoil", ["nothing", "inverted", "missed"])
def test_intervals_of_a_draw_for_one_gap_hold_whatever_the_scores(spoil):
    rng = np.random.default_rng(6)
    proba, labels = archive(rng, 3000, share=(0.01,) * 5)
    if spoil == "missed":
        proba = np.where(labels, proba.min(), proba)
    if spoil == "inverted":
        proba = 1 - proba
    held = coverage(proba, labels, choose_design(proba, 200, gap="knowledge"), n_audits=100)
    assert (held >= 0.90).all()
    assert held.mean() >= 0.94


def test_the_textbook_interval_fails_where_ours_holds():
    rng = np.random.default_rng(7)
    labels = np.column_stack([rng.permutation(3000) < 18] * 5)
    proba = np.full((3000, 5), 0.006)
    ours, textbook = [], []
    for _ in range(200):
        rows = rng.choice(3000, 200, replace=False)
        found = audited_estimates(proba, labels, Audit.simple(rows, labels[rows], n_texts=3000))[0]
        share = labels[rows, 0].mean()
        error = np.sqrt(share * (1 - share) / 200)
        ours.append(found.low <= 0.006 <= found.high)
        textbook.append(abs(share - 0.006) <= 1.96 * error)
    assert np.mean(textbook) < 0.8
    assert np.mean(ours) > 0.93


def test_a_rare_gap_needs_fewer_rows_when_drawn_for():
    rng = np.random.default_rng(8)
    proba, labels = archive(rng, 20_000, share=(0.05,) * 5, quality=3.0)

    def width(design):
        found = [audited_estimates(proba, proba > 0.5, read(proba, labels, design, seed=s))[0] for s in range(8)]
        return np.mean([item.high - item.low for item in found])

    plain = np.subtract(*wilson_interval(labels[:, 0].mean(), 600, confidence=0.95)[::-1])
    assert width(choose_design(proba, 600, gap="knowledge")) ** 2 < 0.5 * plain**2
    assert width(choose_design(proba, 600, gap="knowledge")) < width(choose_design(proba, 600))


def test_a_part_of_the_archive_is_estimated_by_its_own_rows():
    proba, labels = archive(np.random.default_rng(9), 4000)
    audit = read(proba, labels, choose_design(proba, 800, gap="policy"), seed=0)
    part = np.arange(4000) % 3 == 1
    taken = audit.take(part)
    index = np.flatnonzero(part)
    assert taken.n_texts == part.sum()
    assert sorted(index[taken.rows]) == sorted(row for row in audit.rows if part[row])
    assert (labels[part][taken.rows] == taken.labels).all()
    assert (audit.stratum[part] == taken.stratum).all()
    same = audit.take(index[::-1])
    assert (labels[index[::-1]][same.rows] == same.labels).all()
    found = audited_estimates(proba[part], proba[part] > 0.5, taken)
    other = audited_estimates(proba[index[::-1]], proba[index[::-1]] > 0.5, same)
    assert [item.high for item in found] == pytest.approx([item.high for item in other])
    assert all(item.low <= t <= item.high for item, t in zip(found, labels[part].mean(axis=0), strict=True))


def test_a_part_where_nothing_was_read_could_be_anything():
    proba, labels = archive(np.random.default_rng(10), 100)
    audit = Audit.simple([0, 1], labels[:2], n_texts=100).take(np.arange(50, 100))
    found = audited_estimates(proba[50:], proba[50:] > 0.5, audit)[1]
    assert (found.low, found.high) == (0, 1)
    assert found.prevalence == pytest.approx(proba[50:, 1].mean())
    assert "No text was read of a group of 50 texts" in " ".join(found.notes)


def test_records_say_what_they_rest_on():
    proba, labels = archive(np.random.default_rng(11), 500)
    audit = Audit.simple(np.arange(29), labels[:29], n_texts=500)
    found = audited_estimates(proba, proba > 0.5, audit, confidence=0.9)
    assert [item.label for item in found] == list(LABELS)
    assert {(item.method, item.n_texts, item.confidence) for item in found} == {("audited", 500, 0.9)}
    assert found[2].counted == pytest.approx((proba[:, 2] > 0.5).mean())
    assert found[0].notes[0].startswith("Rests on 29 of 500 texts, drawn at random and read; ")
    assert "Only 29 texts were read" in found[0].notes[1]
    half_read = Audit(
        np.arange(40), labels[:40], np.zeros(500, dtype=np.int64), 1, n_drawn=60, drawn_for="policy", **NO_SECOND
    )
    notes = audited_estimates(proba, proba > 0.5, half_read)[0].notes
    assert "drawn by the score of policy" in notes[0]
    assert notes[1].startswith("20 of the 60 texts drawn were left unread")


def test_two_readers():
    labels = np.zeros((10, 5), dtype=bool)
    labels[:4, 1] = True
    second = labels[:8].copy()
    second[0, 1] = False  # the first alone saw it
    second[6, 1] = second[7, 1] = True  # the second alone did
    audit = Audit(np.arange(10), labels, np.zeros(1000, dtype=np.int64), 1, second, np.arange(8), n_drawn=10)
    found = reader_agreement(audit)[1]
    assert (found.label, found.n_rows, found.n_disputed, found.agreement) == ("policy", 8, 3, 0.625)
    assert (found.down, found.up) == pytest.approx((1 / 8, 2 / 8))
    assert found.alpha == pytest.approx(1 - (3 / 8) / (2 * 9 * 7 / (16 * 15)))
    notes = audited_estimates(np.full((1000, 5), 0.2), np.zeros((1000, 5)), audit)
    assert "Two readers disagreed on 3 of the 8 texts that both read" in notes[1].notes[-1]
    assert "anywhere from 27.5% to 65.0%" in notes[1].notes[-1]
    assert notes[0].notes[-1] == "Two readers agreed on all of the 8 texts that both read."
    assert len(audit.take(np.arange(7)).second) == 7
    assert reader_agreement(Audit.simple([0], labels[:1], n_texts=5)) == ()


def test_disputes_weigh_as_their_rows_do():
    labels, stratum = np.zeros((4, 5), dtype=bool), np.array([0] * 96 + [1] * 4)
    second = labels.copy()
    second[3, 0] = True  # in the small stratum
    audit = Audit(np.array([0, 1, 96, 97]), labels, stratum, 2, second, np.arange(4), n_drawn=4)
    assert audit.inclusion.tolist() == [2 / 96, 2 / 96, 0.5, 0.5]
    assert reader_agreement(audit)[0].up == pytest.approx(2 / 100)


@pytest.mark.parametrize(
    ("rows", "n_texts", "message"),
    [
        ([0, 12], 10, "got rows 0 to 12, expected 0 to 9: the audit is of another archive"),
        ([3, 3], 10, "a row is there twice"),
        ([0, 1, 2], 10, r"shapes \(2, 5\)"),
    ],
)
def test_an_audit_that_does_not_fit_is_refused(rows, n_texts, message):
    with pytest.raises(CorpusError, match=message):
        Audit.simple(rows, np.zeros((2, 5)), n_texts=n_texts)


def test_arrays_that_do_not_fit_are_refused():
    audit = Audit.simple([0], np.zeros((1, 5)), n_texts=3)
    with pytest.raises(CorpusError, match=r"expected \(3, 5\) as in the audit"):
        audited_estimates(np.zeros((4, 5)), np.zeros((4, 5)), audit)
    with pytest.raises(CorpusError, match="gap_error"):
        audited_estimates(np.full((3, 5), np.nan), np.zeros((3, 5)), audit)


def test_a_draw():
    proba, _ = archive(np.random.default_rng(12), 2000)
    simple = draw_rows(proba, choose_design(proba, 300), seed=5, double=0.2)
    assert len(set(simple.rows.tolist())) == 300
    assert simple.n_double == 60
    assert not (np.diff(simple.rows) > 0).all()
    longer = draw_rows(proba, choose_design(proba, 400), seed=5).rows
    assert (longer[:300] == simple.rows).all()  # an audit can grow
    assert (draw_rows(proba, choose_design(proba, 300), seed=6).rows != simple.rows).any()
    design = choose_design(proba, 300, gap="knowledge")
    drawn = draw_rows(proba, design, seed=5).rows
    assert np.bincount(design.stratum(proba)[drawn]).tolist() == list(design.n_rows)
    assert sum(design.n_rows) == 300
    first, last = design.stratum(proba)[drawn[:150]].mean(), design.stratum(proba)[drawn[150:]].mean()
    assert abs(first - last) < 1  # the order does not tell the stratum


def test_doubtful_texts_are_read_more_often_but_none_are_left_out():
    proba, _ = archive(np.random.default_rng(13), 20_000, quality=3.0)
    design = choose_design(proba, 1000, gap="communication")
    rate = np.array(design.n_rows) / np.bincount(design.stratum(proba))
    assert len(rate) == MAX_STRATA
    assert rate[-1] > 3 * rate[0]
    assert rate.min() > 0.1 * 1000 / 20_000 * 0.9  # the floor: a tenth of the rows is spread evenly


@pytest.mark.parametrize("n_rows", [25, 1000, 2500, 2909])
def test_rows_are_shared_out_to_the_last(n_rows):
    n_texts = np.array([2000, 900, 6, 3])
    rows = spread(np.array([0.001, 0.1, 0.5, 0.9]), n_texts, n_rows=n_rows, evenly=0.2)
    assert rows.sum() == n_rows
    assert (rows <= n_texts).all()
    assert (rows >= 2).all()


def test_scores_that_do_not_differ_make_one_stratum():
    for value in (0.0, 0.3):
        design = choose_design(np.full((200, 5), value), 100, gap="policy")
        assert (design.cuts, design.n_rows) == ((), (100,))


def test_six_decimals_decide_stratum_and_fingerprint():
    proba, _ = archive(np.random.default_rng(14), 3000)
    flat = np.round(proba, 6)
    design = choose_design(proba, 200, gap="policy")
    assert (design.stratum(proba) == design.stratum(flat)).all()
    assert fingerprint(proba) == fingerprint(flat)
    assert fingerprint(proba[::-1]) != fingerprint(proba)
    flat[0, 0] += 2e-6
    assert fingerprint(flat) != fingerprint(proba)


def rare_here(rng, n_texts, *, prior, share):
    """Make an archive in which every gap is rarer than where its probabilities were calibrated, and the truth."""
    n_pool = 200_000
    proba, labels = archive(rng, n_pool, share=(prior,) * 5, quality=3.0)
    has, rest = np.flatnonzero(labels[:, 0]), np.flatnonzero(~labels[:, 0])
    n_with = round(share * n_texts)
    drawn = rng.permutation(np.concatenate([rng.choice(has, n_with), rng.choice(rest, n_texts - n_with)]))
    return proba[drawn], labels[drawn], labels.mean(axis=0)


def test_a_gap_that_is_rarer_here_is_foretold_and_drawn_for_as_such():
    proba, labels, priors = rare_here(np.random.default_rng(20), 20_000, prior=0.3, share=0.02)
    taken_at_its_word = plan_audit(proba, half_width=0.01, gap="knowledge")
    plan = plan_audit(proba, half_width=0.01, gap="knowledge", priors=priors)
    assert taken_at_its_word.gaps[0].share > 0.06
    assert plan.gaps[0].share == pytest.approx(0.02, abs=0.005)
    assert plan.n_rows < 0.6 * taken_at_its_word.n_rows

    def width(design):
        found = [audited_estimates(proba, proba > 0.5, read(proba, labels, design, seed=s))[0] for s in range(20)]
        assert np.mean([item.low <= labels[:, 0].mean() <= item.high for item in found]) >= 0.8
        return np.mean([item.high - item.low for item in found])

    blunt = width(choose_design(proba, 600, gap="knowledge"))
    assert width(choose_design(proba, 600, gap="knowledge", priors=priors)) < 0.93 * blunt
    assert width(choose_design(proba, plan.n_rows, gap="knowledge", priors=priors)) / 2 == pytest.approx(0.01, rel=0.15)


def test_probabilities_at_another_share():
    proba, _, priors = rare_here(np.random.default_rng(21), 20_000, prior=0.3, share=0.02)
    chance = at_likeliest_share(proba[:, 0], priors[0])
    assert chance.mean() == pytest.approx(sld(proba[:, 0], priors[0]), abs=1e-9)  # where the iterations come to rest
    assert (np.diff(chance[np.argsort(proba[:, 0])]) >= 0).all()
    odds, before = chance / (1 - chance), proba[:, 0] / (1 - proba[:, 0])
    assert np.ptp(np.log(odds / before)) < 1e-9
    assert at_likeliest_share(np.full(10, 0.3), 0.3) == pytest.approx(np.full(10, 0.3))
    assert (at_likeliest_share(np.zeros(10), 0.3) < 1e-6).all()


def test_a_plan():
    proba, _ = archive(np.random.default_rng(15), 20_000, quality=3.0)
    plan = plan_audit(proba, half_width=0.02)
    assert [item.label for item in plan.gaps] == list(LABELS)
    assert plan.n_rows == max(item.n_rows for item in plan.gaps) < plan.n_plain
    assert plan_audit(proba, half_width=0.01).n_rows > 2 * plan.n_rows
    plain = plan.gaps[2]
    widths = [
        np.subtract(*wilson_interval(plain.share, n * 19_999 / (20_000 - n), confidence=0.95)[::-1]) / 2
        for n in (plain.n_plain - 1, plain.n_plain)
    ]
    assert widths[0] > 0.02 >= widths[1]
    alone = plan_audit(proba, half_width=0.02, gap="communication")
    assert [item.label for item in alone.gaps] == ["communication"]
    assert alone.n_rows < plan.gaps[3].n_rows
    assert plan_audit(proba[:50], half_width=0.001).n_rows == 50


def test_a_plan_keeps_its_word():
    rng = np.random.default_rng(16)
    proba, labels = archive(rng, 20_000)
    for gap in ("", "policy"):
        plan = plan_audit(proba, half_width=0.025, gap=gap)
        needy = LABELS.index(max(plan.gaps, key=lambda item: item.n_rows).label)
        design = choose_design(proba, plan.n_rows, gap=gap)
        found = [audited_estimates(proba, proba > 0.5, read(proba, labels, design, seed=s))[needy] for s in range(20)]
        assert np.mean([item.high - item.low for item in found]) / 2 == pytest.approx(0.025, rel=0.1)


@pytest.mark.parametrize(
    "call",
    [
        lambda p: choose_design(p, 0),
        lambda p: choose_design(p, 11),
        lambda p: draw_rows(p, Design("", (), (5,)), seed=0, double=1.5),
        lambda p: plan_audit(p, half_width=0.0),
        lambda p: plan_audit(p, half_width=0.5),
    ],
)
def test_settings_out_of_range_are_refused(call):
    with pytest.raises(ConfigError, match="got"):
        call(np.full((10, 5), 0.5))


def test_scores_that_are_no_probabilities_are_refused():
    with pytest.raises(CorpusError, match="expected every probability in 0-1"):
        choose_design(np.full((10, 5), np.nan), 5)
    with pytest.raises(CorpusError, match=r"expected \(n, 5\)"):
        choose_design(np.zeros((10, 2)), 5)
