"""How well decisions and probabilities agree with the labels, and how well two readers agree with each other.

Conventions where a figure is undefined: precision without a decision, recall without a positive row, F1 with
neither, and average precision without a positive row are all 0.0, as in scikit-learn with `zero_division=0`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gapnlp.errors import ConfigError, CorpusError
from gapnlp.taxonomy import LABELS, NONE

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Offsets = Sequence[int]  # start and end of a passage, in characters

_TOKEN = re.compile(r"\S+")


class PerLabel(NamedTuple):
    """Precision, recall and F1 of each column, 0-1. *Shapes:* (k,)."""

    precision: FloatArray
    recall: FloatArray
    f1: FloatArray


class Interval(NamedTuple):
    """A figure with its bootstrap interval. *Shapes:* those of the statistic."""

    value: FloatArray
    low: FloatArray
    high: FloatArray


def with_none(labels: npt.ArrayLike) -> BoolArray:
    """Append `none` (no label) as a last column. *Shapes:* (n, 5) in, (n, 6) out."""
    given = np.asarray(labels, dtype=np.bool_)
    return np.column_stack([given, ~given.any(axis=1)])


def precision_recall_f1(decisions: npt.ArrayLike, targets: npt.ArrayLike) -> PerLabel:
    """Compare decisions with labels, column by column. *Shapes:* (n, k), (n, k)."""
    given, truth = np.asarray(decisions, dtype=np.bool_), np.asarray(targets, dtype=np.bool_)
    hits = (given & truth).sum(axis=0)
    n_given, n_true = given.sum(axis=0), truth.sum(axis=0)
    return PerLabel(_ratio(hits, n_given), _ratio(hits, n_true), _ratio(2 * hits, n_given + n_true))


def macro_f1(decisions: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Average F1 over the columns: five as they come, six through `with_none`. *Shapes:* (n, k), (n, k)."""
    return float(precision_recall_f1(decisions, targets).f1.mean())


def exact_match(decisions: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Share of texts whose label set is right as a whole, 0-1. *Shapes:* (n, 5), (n, 5)."""
    return float((np.asarray(decisions, dtype=np.bool_) == np.asarray(targets, dtype=np.bool_)).all(axis=1).mean())


def primary_index(proba: npt.ArrayLike, decisions: npt.ArrayLike) -> IntArray:
    """Pick the likeliest gap among those given; 5 where none is. *Shapes:* (n, 5), (n, 5) in, (n,) out."""
    given = np.asarray(decisions, dtype=np.bool_)
    likeliest = np.where(given, np.asarray(proba, dtype=np.float64), -1.0).argmax(axis=1)
    return np.asarray(np.where(given.any(axis=1), likeliest, given.shape[1]), dtype=np.int64)


def average_precision(proba: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Area under one gap's precision-recall steps, Σ (R_k - R_{k-1}) P_k over distinct probabilities, 0-1.

    Steps, not a line between the points, which would flatter (Davis & Goadrich 2006, "The relationship
    between precision-recall and ROC curves").

    Args:
        proba: Any score that ranks. *Shape:* (n,).
        targets: *Shape:* (n,).
    """
    scores, truth = np.asarray(proba, dtype=np.float64), np.asarray(targets, dtype=np.bool_)
    if not truth.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    hits = np.cumsum(truth[order])[last]
    return float((np.diff(hits / hits[-1], prepend=0.0) * hits / (last + 1)).sum())


def calibration_error(proba: npt.ArrayLike, targets: npt.ArrayLike, *, n_bins: int = 10) -> float:
    """Average, over rows, how far their bin's mean probability is from its share of positives, 0-1.

    The expected calibration error (ECE) of Naeini, Cooper & Hauskrecht (2015, "Obtaining well calibrated
    probabilities using Bayesian binning"), for the positive class, with bins of equal mass (the adaptive form
    of Nixon et al. 2019, "Measuring calibration in deep learning"): with bins of equal width nearly all rows
    of a rare gap share one bin. Equal probabilities share a bin. The figure is never below zero, so that
    noise alone lifts it: about 0.03 at 80 rows a bin, and more in a bootstrap resample, whose interval may
    therefore lie above the figure.

    Args:
        proba: Calibrated probabilities, 0-1. *Shape:* (n,), n at least 1.
        targets: *Shape:* (n,).
        n_bins: Number of bins, at least 1.
    """
    p, truth = np.asarray(proba, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    inner_edges = np.sort(p)[np.arange(1, n_bins) * len(p) // n_bins]
    bins = np.searchsorted(inner_edges, p, side="right")
    return float(np.abs(np.bincount(bins, weights=p - truth)).sum() / len(p))


def word_offsets(text: str) -> list[tuple[int, int]]:
    """Offsets of the tokens that evidence is scored on: runs of anything but white space."""
    return [match.span() for match in _TOKEN.finditer(text)]


def evidence_scores(
    predicted_spans: Sequence[Mapping[str, Offsets]],
    annotated_spans: Sequence[Mapping[str, Offsets]],
    tokens: Sequence[Sequence[Offsets]],
) -> FloatArray:
    """Score evidence per text, ready to be resampled by rows; see `evidence_token_f1`.

    Returns:
        Sum of token-F1 over the labels annotated on the text, and their number. *Shape:* (n, 2).

    Raises:
        CorpusError: Sequences of different lengths, or annotated evidence that touches no token.
    """
    lengths = (len(predicted_spans), len(annotated_spans), len(tokens))
    if len(set(lengths)) != 1:
        raise CorpusError(f"evidence: got {lengths} predicted, annotated and tokenised texts, expected equal numbers")
    scores = np.zeros((lengths[0], 2))
    for row, (predicted, annotated) in enumerate(zip(predicted_spans, annotated_spans, strict=True)):
        for label, span in annotated.items():
            truth = _covered(span, tokens[row])
            if not truth:
                raise CorpusError(f"text {row}: the evidence {list(span)} for {label!r} touches no word: correct it")
            found = _covered(predicted[label], tokens[row]) if label in predicted else set()
            scores[row] += 2 * len(truth & found) / (len(truth) + len(found)), 1
    return scores


def evidence_token_f1(
    predicted_spans: Sequence[Mapping[str, Offsets]],
    annotated_spans: Sequence[Mapping[str, Offsets]],
    tokens: Sequence[Sequence[Offsets]],
) -> float:
    """Average token-F1 of the evidence over all (text, label) pairs that are annotated, 0-1.

    Token-level F1 of DeYoung et al. (2020, "ERASER"). A token counts as covered when the passage touches any
    of its characters. A pair without a prediction counts 0; predictions for labels that are not annotated are
    left to the label metrics. 0.0 where no pair is annotated.

    Args:
        predicted_spans: Per text, label → start and end of the passage.
        annotated_spans: The same from the corpus.
        tokens: Per text, the offsets of its tokens, as `word_offsets` gives them.

    Raises:
        CorpusError: Sequences of different lengths, or annotated evidence that touches no token.
    """
    total, n_pairs = evidence_scores(predicted_spans, annotated_spans, tokens).sum(axis=0)
    return float(total / n_pairs) if n_pairs else 0.0


def bootstrap(
    statistic: Callable[[IntArray], npt.ArrayLike],
    n_rows: int,
    *,
    n_resamples: int = 1000,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Put a percentile interval around a statistic by drawing the rows anew.

    Efron & Tibshirani (1993, "An introduction to the bootstrap", chapter 13).

    Args:
        statistic: Takes row numbers, *shape* (n_rows,), repeats allowed; returns a number or an array of
            fixed shape.
        n_rows: Number of rows, at least 1.
        n_resamples: Number of draws, at least 1.
        seed: Of the draws; statistics bootstrapped with the same seed see the same draws.
        level: Share of the draws inside the interval, in (0, 1).

    Returns:
        The statistic on all rows, and the interval's ends.

    Raises:
        CorpusError: No rows.
        ConfigError: `n_resamples` or `level` is out of its range.
    """
    if n_rows < 1:
        raise CorpusError(f"bootstrap: got {n_rows} rows, expected at least 1")
    if n_resamples < 1 or not 0 < level < 1:
        raise ConfigError(f"bootstrap: got n_resamples={n_resamples}, level={level}, expected at least 1, and 0 to 1")
    rng = np.random.default_rng(seed)
    draws = [statistic(rng.integers(0, n_rows, size=n_rows)) for _ in range(n_resamples)]
    low, high = np.quantile(np.asarray(draws, dtype=np.float64), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(np.asarray(statistic(np.arange(n_rows)), dtype=np.float64), low, high)


def score(
    proba: npt.ArrayLike,
    decisions: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    primary: npt.ArrayLike | None = None,
    evidence: npt.ArrayLike | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """Measure everything that a table of models shows, each figure with its bootstrap interval.

    Args:
        proba: Calibrated probabilities, 0-1. *Shape:* (n, 5).
        decisions: True where the gap is given. *Shape:* (n, 5).
        targets: True where the row carries the gap. *Shape:* (n, 5).
        primary: The row's primary label as its index in `LABELS`, 5 for `none`; left out, so is
            `primary_accuracy`. *Shape:* (n,).
        evidence: From `evidence_scores`; left out, so is `evidence_token_f1`. *Shape:* (n, 2).
        n_resamples: See `bootstrap`.
        seed: See `bootstrap`.
        level: See `bootstrap`.

    Returns:
        JSON-ready: `macro_f1_five`, `macro_f1_six`, `exact_match`, `primary_accuracy`, `evidence_token_f1`,
        and under `labels` per gap `precision`, `recall`, `f1`, `average_precision`, `calibration_error`, and
        for `none` the first three; each `{"value", "low", "high"}`. Beside them `n_rows`, `n_positive` per
        label and `bootstrap`.

    Raises:
        CorpusError: No rows, or arrays that do not fit together.
        ConfigError: A bootstrap setting is out of its range.
    """
    table = _Table.check(proba, decisions, targets, primary=primary, evidence=evidence)
    n_rows = len(table.proba)
    interval = bootstrap(
        lambda rows: list(table.take(rows).figures().values()),
        n_rows,
        n_resamples=n_resamples,
        seed=seed,
        level=level,
    )
    n_positive = with_none(table.targets).sum(axis=0).tolist()
    labels = {name: {"n_positive": n} for name, n in zip((*LABELS, NONE), n_positive, strict=True)}
    settings = {"n_resamples": n_resamples, "level": level, "seed": seed}
    result: dict[str, Any] = {"n_rows": n_rows, "bootstrap": settings, "labels": labels}
    figures = zip(table.figures(), *(ends.tolist() for ends in interval), strict=True)
    for (label, name), value, low, high in figures:
        place = result["labels"][label] if label else result
        place[name] = {"value": value, "low": low, "high": high}
    return result


def krippendorff_alpha_nominal(reader_1: npt.ArrayLike, reader_2: npt.ArrayLike) -> FloatArray:
    """Agreement of two readers beyond chance, per label.

    Krippendorff (2011, "Computing Krippendorff's alpha-reliability", section A) for two readers, two values
    and no gaps in the data: 1 - observed / expected disagreement, where both readers' values make up what
    chance would pair.

    Args:
        reader_1: True where the reader gave the label. *Shape:* (n, k), n at least 1.
        reader_2: The same texts, read by the other. *Shape:* (n, k).

    Returns:
        At most 1; 0 is chance. NaN where no value varies, for then alpha is undefined. *Shape:* (k,).

    Raises:
        CorpusError: No rows, or arrays of different shapes.
    """
    first, second = np.asarray(reader_1, dtype=np.bool_), np.asarray(reader_2, dtype=np.bool_)
    if first.ndim != 2 or first.shape != second.shape or len(first) == 0:
        raise CorpusError(f"readers: got shapes {first.shape} and {second.shape}, expected (n, k) twice, n at least 1")
    n_values = 2 * len(first)
    n_given = first.sum(axis=0) + second.sum(axis=0)
    expected = 2 * n_given * (n_values - n_given) / (n_values * (n_values - 1))
    alpha = np.full(first.shape[1], np.nan)
    varies = expected > 0
    alpha[varies] = 1 - (first != second).mean(axis=0)[varies] / expected[varies]
    return alpha


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows that `score` measures."""

    proba: FloatArray
    decisions: BoolArray
    targets: BoolArray
    primary: IntArray | None
    evidence: FloatArray | None

    @classmethod
    def check(
        cls,
        proba: npt.ArrayLike,
        decisions: npt.ArrayLike,
        targets: npt.ArrayLike,
        *,
        primary: npt.ArrayLike | None,
        evidence: npt.ArrayLike | None,
    ) -> _Table:
        """Refuse arrays that are not of the shapes that `score` states."""
        table = cls(
            np.asarray(proba, dtype=np.float64),
            np.asarray(decisions, dtype=np.bool_),
            np.asarray(targets, dtype=np.bool_),
            None if primary is None else np.asarray(primary, dtype=np.int64),
            None if evidence is None else np.asarray(evidence, dtype=np.float64),
        )
        n = len(table.targets)
        wanted: dict[str, tuple[int, ...]] = dict.fromkeys(("proba", "decisions", "targets"), (n, len(LABELS)))
        wanted |= {"primary": (n,), "evidence": (n, 2)}
        for name, shape in wanted.items():
            array = getattr(table, name)
            if n == 0 or (array is not None and array.shape != shape):
                raise CorpusError(f"score: got {name} of shape {array.shape}, expected {shape} with n at least 1")
        if not ((table.proba >= 0) & (table.proba <= 1)).all():
            raise CorpusError("score: expected every probability in 0-1, got others: calibrate the logits first")
        return table

    def take(self, rows: IntArray) -> _Table:
        """Draw rows, repeats allowed."""
        return _Table(
            self.proba[rows],
            self.decisions[rows],
            self.targets[rows],
            None if self.primary is None else self.primary[rows],
            None if self.evidence is None else self.evidence[rows],
        )

    def figures(self) -> dict[tuple[str, str], float]:
        """Measure each figure; the key is its label, empty for the whole, and its name."""
        per_label = precision_recall_f1(with_none(self.decisions), with_none(self.targets))
        figures = {
            ("", "macro_f1_five"): float(per_label.f1[:-1].mean()),
            ("", "macro_f1_six"): float(per_label.f1.mean()),
            ("", "exact_match"): exact_match(self.decisions, self.targets),
        }
        if self.primary is not None:
            hits = primary_index(self.proba, self.decisions) == self.primary
            figures["", "primary_accuracy"] = float(hits.mean())
        if self.evidence is not None:
            total, n_pairs = self.evidence.sum(axis=0)
            figures["", "evidence_token_f1"] = float(total / n_pairs) if n_pairs else 0.0
        for name, values in per_label._asdict().items():
            figures |= {(label, name): float(v) for label, v in zip((*LABELS, NONE), values, strict=True)}
        for j, label in enumerate(LABELS):
            figures[label, "average_precision"] = average_precision(self.proba[:, j], self.targets[:, j])
            figures[label, "calibration_error"] = calibration_error(self.proba[:, j], self.targets[:, j])
        return figures


def _ratio(part: IntArray, whole: IntArray) -> FloatArray:
    """Divide, with 0.0 where the whole is empty."""
    return np.asarray(part / np.maximum(whole, 1), dtype=np.float64)


def _covered(span: Offsets, tokens: Sequence[Offsets]) -> set[int]:
    """Return the numbers of the tokens that a passage touches."""
    start, end = span
    if start >= end:
        return set()
    return {i for i, (first, last) in enumerate(tokens) if first < end and start < last}
