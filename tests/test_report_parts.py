"""What the parts of an archive learn of the model's errors: from an audit, where there is one."""

from dataclasses import replace

import numpy as np
from report_world import VALIDATION

from gapnlp.audit import Audit
from gapnlp.calibration import logit, sigmoid
from gapnlp.prevalence import fit_gap_scores, moments, score_texts
from gapnlp.prevalence.gap_score import ValidationScores
from gapnlp.prevalence.segment import estimate_segments
from gapnlp.report.parts import FEWEST_READ, rows_to_learn_from
from gapnlp.taxonomy import LABELS

N_GROUPS = 8
SHARES = np.array([0.12, 0.25, 0.5, 0.2, 0.15])


def archive_of_another_kind(rng):
    """Draw groups with shares of their own, whose texts get higher scores than those the model was checked on."""
    shares = SHARES * rng.uniform(0.6, 1.4, (N_GROUPS, len(LABELS)))
    group = np.repeat(np.arange(N_GROUPS), rng.integers(100, 500, N_GROUPS))
    truth = rng.uniform(size=(len(group), len(LABELS))) < shares[group]
    proba = np.empty(truth.shape)
    for j in range(len(LABELS)):
        for side in (False, True):
            rows = truth[:, j] == side
            proba[rows, j] = rng.choice(VALIDATION.proba[VALIDATION.labels[:, j] == side, j], rows.sum())
    return shares, group, truth, sigmoid(0.8 * logit(proba) + 0.7)


def held(proba, group, shares, rows):
    """Tell which groups' intervals hold the true share."""
    scores = fit_gap_scores(proba, rows)
    summed = moments(score_texts(proba, scores), group, n_groups=N_GROUPS)
    found = estimate_segments(summed, scores, names=[str(i) for i in range(N_GROUPS)]).estimates
    places = [(item.estimate, shares[int(item.group), LABELS.index(item.estimate.label)]) for item in found]
    return [estimate.low <= share <= estimate.high for estimate, share in places]


def test_an_audit_makes_the_intervals_of_groups_hold_where_the_model_errs_otherwise():
    rng = np.random.default_rng(0)
    alone, audited = [], []
    for _ in range(30):
        shares, group, truth, proba = archive_of_another_kind(rng)
        read = np.sort(rng.choice(len(group), 300, replace=False))
        audit = Audit.simple(read, truth[read], n_texts=len(group))
        alone += held(proba, group, shares, rows_to_learn_from(proba, VALIDATION, None)[0])
        rows, from_audit = rows_to_learn_from(proba, VALIDATION, audit)
        assert from_audit == LABELS
        audited += held(proba, group, shares, rows)
    assert np.mean(alone) < 0.1
    assert 0.93 <= np.mean(audited) <= 0.98


def test_parts_learn_from_what_was_read_where_a_simple_draw_found_enough():
    rng = np.random.default_rng(0)
    proba, labels = rng.uniform(size=(400, 5)), np.zeros((400, 5), dtype=bool)
    labels[:, 0] = True  # none is without the first
    labels[:FEWEST_READ, 1] = True
    labels[: FEWEST_READ - 1, 2] = True
    labels[::2, 3:] = True
    validation = ValidationScores(rng.uniform(size=(300, 5)), rng.uniform(size=(300, 5)) < 0.5)
    audit = Audit.simple(np.arange(100), labels[:100], n_texts=400)
    rows, from_audit = rows_to_learn_from(proba, validation, audit)
    assert from_audit == (LABELS[1], *LABELS[3:])
    assert [len(row.positives) + len(row.negatives) for row in rows] == [300, 100, 300, 100, 100]
    assert len(rows[1].positives) == FEWEST_READ
    stratified = replace(audit, stratum=np.repeat([0, 1], 200), n_strata=2, drawn_for=LABELS[1])
    for other in (None, stratified):
        rows, from_audit = rows_to_learn_from(proba, validation, other)
        assert from_audit == ()
        assert {len(row.positives) + len(row.negatives) for row in rows} == {300}
