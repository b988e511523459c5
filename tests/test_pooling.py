"""Empirical Bayes on means: how far groups differ, and estimates drawn to the middle."""

import numpy as np
import pytest

from gapnlp.prevalence.pooling import MIN_GROUPS, between_variance, pool


def test_between_variance_makes_the_weighted_squares_as_large_as_expected():
    rng = np.random.default_rng(0)
    var = rng.uniform(0.5, 4, size=(12, 3))
    mean = rng.normal(size=(12, 3)) * np.sqrt(var + 5)
    between = between_variance(mean, var)
    weight = 1 / (var + between)
    centre = (weight * mean).sum(axis=0) / weight.sum(axis=0)
    assert (between > 0).all()
    assert (weight * (mean - centre) ** 2).sum(axis=0) == pytest.approx([11, 11, 11])


def test_between_variance_is_right_on_average_and_zero_where_sampling_explains_all():
    rng = np.random.default_rng(1)
    var = np.tile([[0.5], [1.0], [3.0]], (10, 2000))
    found = between_variance(rng.normal(size=var.shape) * np.sqrt(var + 2), var)
    assert found.mean() == pytest.approx(2, rel=0.05)
    assert between_variance(np.ones((5, 1)), np.ones((5, 1))).tolist() == [0.0]


def test_the_less_known_is_drawn_further():
    var = np.array([[0.01], [1.0], [9.0], [0.01], [0.01]])
    mean = np.array([[3.0], [3.0], [3.0], [-1.0], [0.0]])
    pooled = pool(mean, var)
    drawn = (mean - pooled.mean)[:3, 0]
    assert 0 < drawn[0] < drawn[1] < drawn[2]
    assert pooled.var[0] < pooled.var[1] < pooled.var[2] < 9


@pytest.mark.parametrize("between", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("k", [MIN_GROUPS, 10, 30])
def test_intervals_hold_the_truth_over_the_groups(between, k):
    rng = np.random.default_rng(k)
    var = np.repeat(np.geomspace(0.2, 5, k)[:, None], 1500, axis=1)
    truth = 7 + np.sqrt(between) * rng.standard_normal(var.shape)
    pooled = pool(truth + np.sqrt(var) * rng.standard_normal(var.shape), var)
    held = np.abs(pooled.mean - truth) <= 1.96 * np.sqrt(pooled.var)
    assert held.mean() >= 0.93


def test_pooling_is_nearer_to_the_truth_than_the_groups_alone():
    rng = np.random.default_rng(2)
    truth, var = rng.normal(size=(20, 500)), np.full((20, 500), 2.0)
    alone = truth + np.sqrt(2) * rng.standard_normal(truth.shape)
    assert ((pool(alone, var).mean - truth) ** 2).mean() < 0.5 * ((alone - truth) ** 2).mean()


def test_equal_means_without_variance_stay_as_they_are():
    pooled = pool(np.full((6, 1), 2.0), np.zeros((6, 1)))
    assert pooled.mean == pytest.approx(np.full((6, 1), 2.0))
    assert np.isfinite(pooled.var).all()
