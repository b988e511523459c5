"""The label-shift check: silent where only the share differs, loud where the classifier errs otherwise."""

import numpy as np
import pytest
from scipy import stats

from gapnlp.prevalence.shift import chi_square_tail, label_shift_p_value, label_shift_p_values


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 10])
@pytest.mark.parametrize("value", [0.0, 0.2, 3.0, 25.0])
def test_chi_square_tail_agrees_with_scipy(df, value):
    assert chi_square_tail(value, df=df) == pytest.approx(stats.chi2.sf(value, df), rel=1e-9)


def drawn(rng, *, n, share, lost=0.0, n_neg=700, n_pos=40):
    """Scores of an archive, of validation negatives and of validation positives."""
    has = rng.random(n) < share
    looks = has & (rng.random(n) >= lost)
    return rng.normal(2.0 * looks), rng.normal(0.0, size=n_neg), rng.normal(2.0, size=n_pos)


@pytest.mark.parametrize("share", [0.005, 0.3, 0.95])
def test_a_mere_change_of_share_raises_as_many_alarms_as_said(share):
    rng = np.random.default_rng(0)
    p = []
    for _ in range(300):
        scores, negatives, positives = drawn(rng, n=2000, share=share)
        p.append(label_shift_p_value(scores, negatives=negatives, positives=positives))
    assert np.mean(np.array(p) < 0.05) < 0.09
    assert np.mean(np.array(p) < 0.01) < 0.03


def test_texts_of_another_kind_raise_an_alarm():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(50):
        scores, negatives, positives = drawn(rng, n=5000, share=0.3)
        scores[: len(scores) // 5] = rng.normal(1.0, 0.3, len(scores) // 5)  # a fifth is neither this nor that
        alarms += label_shift_p_value(scores, negatives=negatives, positives=positives) < 0.01
    assert alarms > 40


def test_the_check_does_not_depend_on_the_scale_of_the_scores():
    scores, negatives, positives = drawn(np.random.default_rng(3), n=500, share=0.5)
    p = label_shift_p_value(scores, negatives=negatives, positives=positives)
    assert p == label_shift_p_value(np.exp(scores), negatives=np.exp(negatives), positives=np.exp(positives))


def test_counts_stand_for_repeated_texts():
    scores, negatives, positives = drawn(np.random.default_rng(4), n=50, share=0.5)
    counts = np.arange(50) % 4
    weighted = label_shift_p_value(scores, negatives=negatives, positives=positives, counts=counts)
    repeated = label_shift_p_value(np.repeat(scores, counts), negatives=negatives, positives=positives)
    assert weighted == pytest.approx(repeated)


def test_groups_are_tested_one_by_one():
    rng = np.random.default_rng(5)
    scores, negatives, positives = drawn(rng, n=300, share=0.2)
    groups = rng.integers(-1, 3, size=300)
    ends = {"negatives": negatives, "positives": positives}
    p = label_shift_p_values(scores, groups, n_groups=4, **ends)
    assert p[:3].tolist() == [label_shift_p_value(scores[groups == group], **ends) for group in range(3)]
    assert p[3] == 1.0


def test_too_few_different_scores_tell_nothing():
    ones = np.ones(20)
    assert label_shift_p_value(ones, negatives=ones, positives=ones) == 1.0


def test_one_text_is_no_crash():
    p = label_shift_p_value(np.array([0.1]), negatives=np.arange(9.0), positives=np.arange(3.0, 9.0))
    assert 0 <= p <= 1
