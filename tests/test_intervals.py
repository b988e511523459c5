"""Quantiles, and intervals for a share and for a ratio, against SciPy and against their own promise."""

import numpy as np
import pytest
from scipy import stats

from gapnlp.errors import ConfigError
from gapnlp.intervals import fieller_interval, t_value, wilson_interval, z_value


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.99])
def test_z_value_is_the_normal_quantile(confidence):
    assert z_value(confidence) == pytest.approx(stats.norm.ppf(0.5 + confidence / 2), abs=1e-9)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, -0.1, float("nan")])
def test_a_confidence_outside_0_1_is_refused(confidence):
    with pytest.raises(ConfigError, match=r"expected a number between 0 and 1, such as 0\.95"):
        z_value(confidence)
    with pytest.raises(ConfigError):
        t_value(confidence, 10)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99])
def test_t_value_is_students_quantile(confidence):
    df = np.array([3, 4, 5.5, 9, 30, 200])
    assert t_value(confidence, df) == pytest.approx(stats.t.ppf(0.5 + confidence / 2, df), rel=0.01)
    assert t_value(confidence, df[2:]) == pytest.approx(stats.t.ppf(0.5 + confidence / 2, df[2:]), rel=0.001)


def test_t_value_at_the_ends_of_its_range():
    assert t_value(0.95, np.inf) == pytest.approx(z_value(0.95))
    assert t_value(0.95, [0.3, 2]) == pytest.approx(stats.t.ppf(0.975, 2))
    falling = t_value(0.95, np.linspace(2, 4, 50))
    assert np.all(np.diff(falling) < 0)
    assert np.max(np.abs(np.diff(falling))) < 0.1


@pytest.mark.parametrize(("k", "n"), [(0, 12), (1, 300), (7, 20), (20, 20)])
def test_wilson_agrees_with_scipy(k, n):
    expected = stats.binomtest(k, n).proportion_ci(confidence_level=0.9, method="wilson")
    got = wilson_interval(k / n, n, confidence=0.9)
    assert (float(got.low), float(got.high)) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_without_rows_knows_nothing_and_broadcasts():
    low, high = wilson_interval([[0.0], [0.5]], [0, 10, 1000], confidence=0.95)
    assert low.shape == high.shape == (2, 3)
    assert low[:, 0].tolist() == [0, 0]
    assert high[:, 0].tolist() == [1, 1]
    assert (np.diff(high - low) < 0).all()


def test_fieller_ends_solve_the_equation():
    top, bottom, var_top, var_bottom, cov = 0.3, 0.8, 0.004, 0.006, 0.002
    low, high = fieller_interval(
        top, bottom, var_numerator=var_top, var_denominator=var_bottom, covariance=cov, confidence=0.95
    )
    for end in (low, high):
        off = (top - end * bottom) ** 2
        assert off == pytest.approx(z_value(0.95) ** 2 * (var_top - 2 * end * cov + end**2 * var_bottom))
    assert low < top / bottom < high


def test_fieller_with_a_known_denominator_is_the_plain_interval():
    low, high = fieller_interval(0.3, 0.5, var_numerator=0.01, var_denominator=0.0, confidence=0.95)
    half = z_value(0.95) * 0.1 / 0.5
    assert (float(low), float(high)) == pytest.approx((0.6 - half, 0.6 + half))


def test_fieller_widens_with_fewer_degrees_of_freedom():
    widths = [
        float(
            np.diff(fieller_interval(0.3, 0.8, var_numerator=0.004, var_denominator=0.006, confidence=0.95, df=df))[0]
        )
        for df in (np.inf, 30, 9, 3)
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[1]


@pytest.mark.parametrize(("bottom", "var_bottom"), [(0.0, 0.0), (0.0, 0.1), (0.1, 0.01), (-0.1, 0.01)])
def test_fieller_says_0_to_1_where_the_denominator_may_be_0(bottom, var_bottom):
    low, high = fieller_interval(0.2, bottom, var_numerator=0.01, var_denominator=var_bottom, confidence=0.95)
    assert (float(low), float(high)) == (0.0, 1.0)


def test_fieller_covers_a_ratio_as_often_as_it_says_where_the_delta_method_does_not():
    rng, n = np.random.default_rng(0), 20_000
    noise = rng.multivariate_normal([0.4, 0.5], [[0.01, 0.008], [0.008, 0.02]], size=n)  # the ratio is 0.8
    top, bottom = noise.T
    low, high = fieller_interval(
        top, bottom, var_numerator=0.01, var_denominator=0.02, covariance=0.008, confidence=0.9
    )
    bounded = ~((low == 0) & (high == 1))
    # Exact for the unclipped set, whose unbounded form is reported as (0, 1), which holds 0.8 as well.
    covered = (low <= 0.8) & (high >= 0.8)
    assert bounded.mean() > 0.9
    assert covered.mean() == pytest.approx(0.9, abs=0.01)
    ratio = top / bottom
    error = np.sqrt(0.01 - 2 * ratio * 0.008 + ratio**2 * 0.02) / np.abs(bottom)
    assert abs(np.mean(np.abs(ratio - 0.8) <= z_value(0.9) * error) - 0.9) > 0.01
