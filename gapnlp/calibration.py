"""Turn a model's logits into probabilities that mean what they say, and probabilities into decisions.

The logits of a fine-tuned network rank texts well but are not frequencies. Per gap, two numbers (slope and
intercept) map a logit to a probability, and a third (the threshold) says from which probability on the gap is
given. All three are fitted on rows that the network never trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from gapnlp.errors import ConfigError, CorpusError, ModelError
from gapnlp.taxonomy import LABELS

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
ThresholdRule = Literal["expected", "empirical"]

MIN_SLOPE = 0.01  # a gap that the model ranks backwards gets a nearly constant probability, never a reversed one
DEFAULT_THRESHOLD = 0.5  # where F1 cannot choose: no positive row, or no probability above zero
# On simulated gaps of 4-15 % this is near the least held-out log loss, and the mean probability stays true.
DEFAULT_PRIOR_STRENGTH = 0.3
_EDGE = 1e-6  # thresholds stay this far inside (0, 1)
_PROBA_EDGE = 1e-12  # `logit` stays finite at 0 and 1
_MAX_NEWTON_STEPS = 100  # about 10 are used


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a model needs after its logits, one value per gap in the order of `LABELS`.

    Attributes:
        slope: Factor on the logit, above 0.
        intercept: Added after the factor.
        thresholds: Smallest probability at which the gap is given, between 0 and 1, both excluded.

    Raises:
        ModelError: A field has not one finite number per gap in its range.
    """

    slope: tuple[float, ...]
    intercept: tuple[float, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("slope", "intercept", "thresholds"):
            object.__setattr__(self, name, _finite_numbers(name, getattr(self, name)))
        if min(self.slope) <= 0:
            raise ModelError(f"calibration: got slope {self.slope}, expected values above 0: calibrate the model again")
        if min(self.thresholds) <= 0 or max(self.thresholds) >= 1:
            raise ModelError(
                f"calibration: got thresholds {self.thresholds}, expected values between 0 and 1: "
                "calibrate the model again"
            )

    def proba(self, logits: npt.ArrayLike) -> FloatArray:
        """Calibrate logits.

        Args:
            logits: Text head of the model. *Shape:* (n, 5).

        Returns:
            Probabilities, 0-1. *Shape:* (n, 5).
        """
        values = np.asarray(logits, dtype=np.float64)
        return sigmoid(values * np.asarray(self.slope) + np.asarray(self.intercept))

    def decide(self, proba: npt.ArrayLike) -> BoolArray:
        """Give each gap whose probability reaches its threshold. *Shapes:* (n, 5) in and out."""
        decisions: BoolArray = np.asarray(proba, dtype=np.float64) >= np.asarray(self.thresholds)
        return decisions

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Write as plain data keyed by gap, so that no reader depends on an order."""
        rows = zip(LABELS, self.slope, self.intercept, self.thresholds, strict=True)
        return {label: {"slope": a, "intercept": b, "threshold": t} for label, a, b, t in rows}

    @classmethod
    def from_dict(cls, data: object) -> Calibration:
        """Read what `to_dict` wrote.

        Raises:
            ModelError: The data is not exactly one slope, intercept and threshold per gap.
        """
        gaps = _fields("calibration", data, LABELS)
        keys = ("slope", "intercept", "threshold")
        rows = [_fields(f"calibration of {label}", gaps[label], keys) for label in LABELS]
        slope, intercept, thresholds = (tuple(row[key] for row in rows) for key in keys)
        return cls(slope=slope, intercept=intercept, thresholds=thresholds)


class CrossFit(NamedTuple):
    """Each row's result from a calibration that never saw the row.

    Attributes:
        proba: Calibrated probabilities, 0-1. *Shape:* (n, 5).
        decisions: True where the gap is given. *Shape:* (n, 5).
    """

    proba: FloatArray
    decisions: BoolArray


def sigmoid(values: npt.ArrayLike) -> FloatArray:
    """Map logits to 0-1 without overflow. *Shape:* any, kept."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(values, dtype=np.float64))))


def logit(proba: npt.ArrayLike) -> FloatArray:
    """Invert `sigmoid`, finite at 0 and 1: for classifiers that give probabilities. *Shape:* any, kept."""
    inside = np.clip(np.asarray(proba, dtype=np.float64), _PROBA_EDGE, 1 - _PROBA_EDGE)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def fit_platt(
    logits: npt.ArrayLike, targets: npt.ArrayLike, *, prior_strength: float = DEFAULT_PRIOR_STRENGTH
) -> tuple[FloatArray, FloatArray]:
    """Fit slope and intercept per gap by penalised logistic regression.

    The form is Platt's (1999, "Probabilistic outputs for support vector machines"). His smoothed targets
    are not used: they pull rare gaps towards one half. In their place a Gaussian prior with mean (1, 0), the
    logits as they are, keeps a gap with few positives, or with none, from running off. The slope is held at
    `MIN_SLOPE` or above; the problem is convex, so solving again with the slope on that bound gives the
    constrained optimum.

    Args:
        logits: Text head on held-out rows. *Shape:* (n, 5).
        targets: True where the row carries the gap. *Shape:* (n, 5).
        prior_strength: Precision (1 / variance) of the prior on slope and on intercept, above 0.

    Returns:
        Slope and intercept. *Shapes:* (5,), (5,).

    Raises:
        CorpusError: No rows, or arrays that do not fit together.
        ConfigError: `prior_strength` is not above 0.
    """
    x, y = _checked_rows(logits, targets)
    if not (math.isfinite(prior_strength) and prior_strength > 0):
        raise ConfigError(f"prior_strength: got {prior_strength}, expected a number above 0")
    fitted = np.array([_fit_gap(x[:, j], y[:, j], prior_strength) for j in range(len(LABELS))])
    return fitted[:, 0], fitted[:, 1]


def expected_f1_thresholds(proba: npt.ArrayLike) -> FloatArray:
    """Choose the thresholds that maximise expected F1, from calibrated probabilities alone.

    Maximises 2 Σ_{p ≥ t} p / (Σ p + n(p ≥ t)), the plug-in form of Ye, Chai, Lee & Chieu (2012, "Optimizing
    F-measure", ICML). The best threshold is half the F1 it reaches (Lipton, Elkan & Naryanaswamy 2014,
    "Optimal thresholding of classifiers to maximize F1 measure"), so that it moves smoothly with the sample.

    Args:
        proba: Calibrated probabilities. *Shape:* (n, 5), n at least 1.

    Returns:
        Thresholds in (0, 0.5]; `DEFAULT_THRESHOLD` for a gap whose probabilities are all zero. *Shape:* (5,).

    Raises:
        CorpusError: No rows, or not five columns of numbers in 0-1.
    """
    values = _checked_proba(proba)
    falling = -np.sort(-values, axis=0)
    n_given = np.arange(1, len(values) + 1)[:, None]
    best = (2 * np.cumsum(falling, axis=0) / (values.sum(axis=0) + n_given)).max(axis=0)
    return np.where(best > 0, np.clip(best / 2, _EDGE, 1 - _EDGE), DEFAULT_THRESHOLD)


def empirical_f1_thresholds(proba: npt.ArrayLike, targets: npt.ArrayLike) -> FloatArray:
    """Choose the thresholds that maximise F1 on the rows given.

    Needs no calibration, but follows single rows where positives are few: `expected_f1_thresholds` is the
    steadier choice for rare gaps. Among equals the highest threshold wins; it lies half way to the next lower
    probability.

    Args:
        proba: Probabilities, 0-1. *Shape:* (n, 5), n at least 1.
        targets: True where the row carries the gap. *Shape:* (n, 5).

    Returns:
        Thresholds in (0, 1); `DEFAULT_THRESHOLD` for a gap without a positive row or a probability above
        zero. *Shape:* (5,).

    Raises:
        CorpusError: No rows, or arrays that do not fit together.
    """
    values, truth = _checked_rows(_checked_proba(proba), targets)
    return np.array([_empirical_threshold(values[:, j], truth[:, j]) for j in range(len(LABELS))])


def fit_calibration(
    logits: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    prior_strength: float = DEFAULT_PRIOR_STRENGTH,
    threshold_rule: ThresholdRule = "expected",
) -> Calibration:
    """Fit slope, intercept and threshold per gap on the same held-out rows.

    Args:
        logits: Text head on held-out rows. *Shape:* (n, 5).
        targets: True where the row carries the gap. *Shape:* (n, 5).
        prior_strength: See `fit_platt`.
        threshold_rule: `expected` for `expected_f1_thresholds`, `empirical` for `empirical_f1_thresholds`.

    Raises:
        CorpusError: No rows, or arrays that do not fit together.
        ConfigError: A setting is out of its range.
    """
    if threshold_rule not in ("expected", "empirical"):
        raise ConfigError(f"threshold_rule: got {threshold_rule!r}, expected 'expected' or 'empirical'")
    slope, intercept = fit_platt(logits, targets, prior_strength=prior_strength)
    proba = sigmoid(np.asarray(logits, dtype=np.float64) * slope + intercept)
    expected = threshold_rule == "expected"
    thresholds = expected_f1_thresholds(proba) if expected else empirical_f1_thresholds(proba, targets)
    return Calibration(tuple(slope.tolist()), tuple(intercept.tolist()), tuple(thresholds.tolist()))


def cross_fit(
    logits: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    n_folds: int = 5,
    seed: int,
    prior_strength: float = DEFAULT_PRIOR_STRENGTH,
    threshold_rule: ThresholdRule = "expected",
) -> CrossFit:
    """Calibrate and decide every row by a calibration fitted on the other folds.

    Quality on the calibration rows is then honest: no row has a say in its own threshold.

    Args:
        logits: Text head on held-out rows. *Shape:* (n, 5).
        targets: True where the row carries the gap. *Shape:* (n, 5).
        n_folds: Number of folds, from 2 to n.
        seed: Of the shuffle inside each label set.
        prior_strength: See `fit_platt`.
        threshold_rule: See `fit_calibration`.

    Raises:
        CorpusError: No rows, or arrays that do not fit together.
        ConfigError: A setting is out of its range.
    """
    x, y = _checked_rows(logits, targets)
    fold = _folds(y, n_folds=n_folds, seed=seed)
    proba, decisions = np.empty_like(x), np.empty_like(y)
    for k in range(n_folds):
        held_out, rest = fold == k, fold != k
        calibration = fit_calibration(x[rest], y[rest], prior_strength=prior_strength, threshold_rule=threshold_rule)
        proba[held_out] = calibration.proba(x[held_out])
        decisions[held_out] = calibration.decide(proba[held_out])
    return CrossFit(proba, decisions)


def _folds(targets: BoolArray, *, n_folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Deal the rows out, label set by label set, so that each fold gets its share of every set."""
    if not 2 <= n_folds <= len(targets):
        raise ConfigError(f"n_folds: got {n_folds}, expected 2 to the number of rows, {len(targets)}")
    label_set = targets @ (1 << np.arange(len(LABELS)))
    order = np.lexsort((np.random.default_rng(seed).random(len(targets)), label_set))
    fold = np.empty(len(targets), dtype=np.int64)
    fold[order] = np.arange(len(targets)) % n_folds
    return fold


def _fit_gap(x: FloatArray, y: BoolArray, strength: float) -> tuple[float, float]:
    """Fit one gap. *Shapes:* (n,), (n,)."""
    ones = np.ones_like(x)
    slope, intercept = _newton(
        np.column_stack([x, ones]),
        y,
        offset=np.zeros_like(x),
        prior_mean=np.array([1.0, 0.0]),
        strength=strength,
    )
    if slope >= MIN_SLOPE:
        return float(slope), float(intercept)
    (intercept,) = _newton(ones[:, None], y, offset=MIN_SLOPE * x, prior_mean=np.zeros(1), strength=strength)
    return MIN_SLOPE, float(intercept)


def _newton(
    design: FloatArray, y: BoolArray, *, offset: FloatArray, prior_mean: FloatArray, strength: float
) -> FloatArray:
    """Minimise Σ log(1 + e^z) - y z + strength/2 |θ - mean|², z = design θ + offset, by Newton steps."""

    def loss(theta: FloatArray) -> float:
        z = design @ theta + offset
        return float((np.logaddexp(0, z) - y * z).sum() + 0.5 * strength * ((theta - prior_mean) ** 2).sum())

    theta = prior_mean.copy()
    for _ in range(_MAX_NEWTON_STEPS):
        p = sigmoid(design @ theta + offset)
        gradient = design.T @ (p - y) + strength * (theta - prior_mean)
        hessian = (design.T * (p * (1 - p))) @ design + strength * np.eye(len(theta))
        step = np.linalg.solve(hessian, gradient)
        scale, start = 1.0, loss(theta)
        while loss(theta - scale * step) > start and scale > _EDGE:
            scale /= 2
        theta = theta - scale * step
        if np.abs(step).max() < _EDGE * (1 + np.abs(theta).max()):
            break
    return theta


def _empirical_threshold(proba: FloatArray, truth: BoolArray) -> float:
    """Choose one gap's threshold on its rows. *Shapes:* (n,), (n,)."""
    if not (truth.any() and proba.any()):
        return DEFAULT_THRESHOLD
    order = np.argsort(-proba, kind="stable")
    falling = proba[order]
    lower = np.append(falling[1:], 0.0)
    n_given = np.arange(1, len(order) + 1)
    f1 = 2 * np.cumsum(truth[order]) / (truth.sum() + n_given)
    f1[falling == lower] = -1.0  # equal probabilities are given together or not at all
    best = int(np.argmax(f1))
    return float(np.clip((falling[best] + lower[best]) / 2, _EDGE, 1 - _EDGE))


def _checked_rows(logits: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Return both as arrays of one shape (n, 5), n at least 1, without NaN or infinity."""
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(targets)
    if x.ndim != 2 or x.shape[1] != len(LABELS) or x.shape != y.shape or len(x) == 0:
        raise CorpusError(
            f"calibration rows: got shapes {x.shape} and {y.shape}, expected (n, {len(LABELS)}) twice with n at least 1"
        )
    if not np.isfinite(x).all():
        row = int(np.argmin(np.isfinite(x).all(axis=1)))
        raise CorpusError(f"calibration row {row}: got {x[row].tolist()}, expected finite numbers: check the model")
    if not np.isin(y, (0, 1)).all():
        raise CorpusError("targets: expected True/False or 0/1 in every cell, got other values")
    return x, y.astype(np.bool_)


def _checked_proba(proba: npt.ArrayLike) -> FloatArray:
    """Return an array of shape (n, 5), n at least 1, of numbers in 0-1."""
    values = np.asarray(proba, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(LABELS) or len(values) == 0:
        raise CorpusError(f"proba: got shape {values.shape}, expected (n, {len(LABELS)}) with n at least 1")
    if not ((values >= 0) & (values <= 1)).all():
        raise CorpusError("proba: expected every value in 0-1, got others: calibrate the logits first")
    return values


def _finite_numbers(name: str, values: object) -> tuple[float, ...]:
    """Return one finite float per gap, or raise `ModelError`."""
    if not isinstance(values, tuple | list) or len(values) != len(LABELS):
        raise ModelError(f"calibration: got {name} {values!r}, expected {len(LABELS)} numbers, one per gap")
    try:
        numbers = tuple(math.nan if isinstance(v, bool | str) else float(v) for v in values)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ModelError(f"calibration: got {name} {values!r}, expected finite numbers") from exc
    if not all(map(math.isfinite, numbers)):
        raise ModelError(f"calibration: got {name} {values!r}, expected finite numbers: calibrate the model again")
    return numbers


def _fields(name: str, data: object, keys: tuple[str, ...]) -> Mapping[str, Any]:
    """Return a mapping with exactly these keys, or raise `ModelError`."""
    if not isinstance(data, Mapping) or set(data) != set(keys):
        got = sorted(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
        raise ModelError(f"{name}: got {got}, expected exactly {sorted(keys)}: calibrate the model again")
    return data
