"""The archive in parts: by group and over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gapnlp.audit import Audit
from gapnlp.prevalence import Moments, fit_gap_scores, moments, score_texts
from gapnlp.prevalence.alert import MIN_PERIODS, Alert, find_changes
from gapnlp.prevalence.comparison import compare_segments
from gapnlp.prevalence.estimate import SHIFTED
from gapnlp.prevalence.gap_score import GapRows, GapScore, ValidationScores, fit_gap_rows, score_gains
from gapnlp.prevalence.segment import SegmentEstimate, Segments, estimate_segments
from gapnlp.prevalence.shift import ALARM_LEVEL, label_shift_p_values
from gapnlp.prevalence.trend import estimate_trend
from gapnlp.report.content import GroupAlert, Split, Timeline
from gapnlp.report.dates import Over, Periods
from gapnlp.report.findings import (
    difference_findings,
    doubtful_groups,
    doubtful_periods,
    group_alert_notes,
    group_alert_sentence,
    split_notes,
    time_findings,
    time_notes,
)
from gapnlp.report.reading import Archive
from gapnlp.report.words import shared_notes
from gapnlp.taxonomy import LABELS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FALSE_ALARM_RATE = 0.05  # of one gap's line
FALSE_DISCOVERY_RATE = 0.05  # of the differences called out
FEWEST_READ = 10  # of an audit, with a gap and without: then they tell how the model errs
_MOST_SIMULATED = 5_000  # groups times periods that alerts are searched in: the rarer, the more is simulated


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for every part.

    Attributes:
        confidence: Of the intervals, between 0 and 1.
        min_texts: A group or period with fewer texts is not shown by itself.
        warnings: What the notes of every part begin with.
    """

    confidence: float
    min_texts: int
    warnings: tuple[str, ...] = ()


def rows_to_learn_from(
    proba: FloatArray, validation: ValidationScores, audit: Audit | None
) -> tuple[tuple[GapRows, ...], tuple[str, ...]]:
    """Choose the rows that tell how the model scores texts with and without each gap.

    The best are those of the archive itself that were read, where a simple random draw found enough of them with the
    gap and without; with ten, nominal 95 % intervals hold in 92-94 %. A stratified draw has other scores than the
    archive on either side.

    Args:
        proba: The archive's. *Shape:* (n_texts, 5).
        validation: The held-out rows that the model came with.
        audit: What was read; None for nothing.

    Returns:
        One gap after the other; and the gaps whose rows are the audit's.
    """
    checked = fit_gap_rows(validation)
    if audit is None or audit.n_strata > 1:
        return checked, ()
    read = fit_gap_rows(ValidationScores(proba[audit.rows], audit.labels))
    enough = [min(len(rows.negatives), len(rows.positives)) >= FEWEST_READ for rows in read]
    rows = tuple(own if yes else other for own, other, yes in zip(read, checked, enough, strict=True))
    return rows, tuple(label for label, yes in zip(LABELS, enough, strict=True) if yes)


@dataclass(frozen=True, slots=True)
class Sums:
    """The texts' scores, to be summed up per group.

    Attributes:
        scores: One per gap.
        rows: The validation rows of each gap.
        values: Of the texts. *Shape:* (n_texts, 5).
        decided: True where the model gave the gap. *Shape:* (n_texts, 5).
    """

    scores: tuple[GapScore, ...]
    rows: tuple[GapRows, ...]
    values: FloatArray
    decided: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, archive: Archive, rows: tuple[GapRows, ...]) -> Sums:
        """Score all texts."""
        scores = fit_gap_scores(archive.proba, rows)
        return cls(scores, rows, score_texts(archive.proba, scores), archive.decided)

    def by(self, group: IntArray, *, n_groups: int) -> tuple[Moments, FloatArray]:
        """Sum up the scores of texts whose group is not -1; count their labels too."""
        there = group >= 0
        at, values, decided = (
            (group, self.values, self.decided)
            if there.all()
            else (group[there], self.values[there], self.decided[there])
        )
        summed = moments(values, at, n_groups=n_groups)
        given = [np.bincount(at, weights=decided[:, j], minlength=n_groups) for j in range(len(LABELS))]
        return summed, np.column_stack(given) / np.maximum(summed.n, 1)[:, None]

    def label_shift(self, group: IntArray, *, n_groups: int) -> FloatArray:
        """Test for each group whether its scores are a mixture of validation's. *Shape:* (n_groups, 5), p-values."""
        p = np.ones((n_groups, len(LABELS)))
        for j, (rows, score) in enumerate(zip(self.rows, self.scores, strict=True)):
            if score.informed:
                negatives, positives = (score_gains(side, q=score.q) for side in (rows.negatives, rows.positives))
                p[:, j] = label_shift_p_values(
                    self.values[:, j], group, n_groups=n_groups, negatives=negatives, positives=positives
                )
        return p


def build_timeline(sums: Sums, periods: Periods, *, over: Over, limits: Limits) -> Timeline:
    """Say what the archive shows over time."""
    summed, counted = sums.by(periods.of_text, n_groups=len(periods.names))
    names, confidence, min_texts = periods.names, limits.confidence, limits.min_texts
    trends = estimate_trend(
        summed, sums.scores, periods=names, counted=counted, confidence=confidence, min_texts=min_texts
    )
    p = sums.label_shift(periods.of_text, n_groups=len(names))
    place = {name: at for at, name in enumerate(names)}
    trends = tuple(replace(trend, levels=_doubt(trend.levels, p, place=place)) for trend in trends)
    alerts = find_changes(
        summed,
        sums.scores,
        periods=names,
        false_alarm_rate=FALSE_ALARM_RATE,
        confidence=confidence,
        min_texts=min_texts,
    )
    levels = [level for trend in trends for level in trend.levels]
    n_shown, slopes = len(trends[0].levels), [trend.slope for trend in trends]
    findings = time_findings(alerts, slopes, unit=over.unit, n_shown=n_shown, level=FALSE_ALARM_RATE)
    n_undated = int(np.count_nonzero(periods.of_text < 0))
    n_thin = int(np.count_nonzero(summed.n > 0)) - n_shown
    notes = time_notes(
        over.unit,
        n_undated=n_undated,
        n_thin=n_thin,
        min_texts=limits.min_texts,
        rate=FALSE_ALARM_RATE,
        n_shown=n_shown,
    )
    return Timeline(
        column=over.column,
        unit=over.unit,
        periods=periods.names,
        n_texts=tuple(summed.n.tolist()),
        n_undated=n_undated,
        trends=trends,
        alerts=alerts,
        findings=(*findings, *doubtful_periods(levels, unit=over.unit)),
        notes=(*limits.warnings, *shared_notes(level.estimate for level in levels), *notes),
    )


def build_split(
    sums: Sums, archive: Archive, *, at: int, column: str, periods: Periods | None, over: Over | None, limits: Limits
) -> Split:
    """Say what one way to split the archive shows.

    Args:
        sums: The texts' scores.
        archive: Their groups.
        at: Which of the archive's splits.
        column: Its name.
        periods: The texts' periods; None without a timeline.
        over: What the periods are of.
        limits: What holds for every part.
    """
    names, codes = _largest_first(archive.group_names[at], archive.groups[at])
    summed, counted = sums.by(codes, n_groups=len(names))
    segments = estimate_segments(
        summed, sums.scores, names=names, counted=counted, confidence=limits.confidence, min_texts=limits.min_texts
    )
    segments, trusted = _check_label_shift(segments, sums, codes, names=names)
    compared = compare_segments(
        summed,
        sums.scores,
        names=names,
        trusted=trusted,
        confidence=limits.confidence,
        false_discovery_rate=FALSE_DISCOVERY_RATE,
    )
    shown = {names[i] for i in np.flatnonzero(summed.n >= limits.min_texts)}
    differences = tuple(item for item in compared if item.group in shown)
    findings = [*difference_findings(differences, column=column), *doubtful_groups(segments.estimates)]
    notes = split_notes(segments, n_differences=len(differences), rate=FALSE_DISCOVERY_RATE, min_texts=limits.min_texts)
    alerts: tuple[GroupAlert, ...] = ()
    if periods is not None and over is not None:
        alerts, n_searched = _group_alerts(sums, codes, names=names, periods=periods, limits=limits)
        findings += [group_alert_sentence(alert, unit=over.unit) for alert in alerts]
        notes += group_alert_notes(n_searched, n_groups=len(names), unit=over.unit, rate=FALSE_ALARM_RATE)
    return Split(
        column=column,
        groups=names,
        n_texts=tuple(summed.n.tolist()),
        segments=segments,
        differences=differences,
        alerts=alerts,
        findings=tuple(findings),
        notes=(*limits.warnings, *shared_notes(segment.estimate for segment in segments.estimates), *notes),
    )


def _check_label_shift(
    segments: Segments, sums: Sums, codes: IntArray, *, names: Sequence[str]
) -> tuple[Segments, npt.NDArray[np.bool_]]:
    """Note on each estimate where its texts speak against its condition.

    Returns:
        The segments, and where each of the groups of `names` may be compared. *Shape:* (n_groups, 5).
    """
    shown = [segment.group for segment in segments.of(LABELS[0])]
    place = {name: at for at, name in enumerate(shown)} | dict.fromkeys(segments.merged, len(shown) - 1)
    at = np.array([place.get(name, -1) for name in names], dtype=np.int64)
    p = sums.label_shift(at[codes], n_groups=len(shown))
    trusted = np.vstack([p, np.ones(len(LABELS))])[at] >= ALARM_LEVEL  # -1, a group that is not shown, is the last row
    return replace(segments, estimates=_doubt(segments.estimates, p, place=place)), trusted


def _doubt(
    estimates: Sequence[SegmentEstimate], p: FloatArray, *, place: Mapping[str, int]
) -> tuple[SegmentEstimate, ...]:
    """Note it on the estimates whose test for label shift fails; `place` is each group's row of p-values."""
    noted = []
    for item in estimates:
        value = float(p[place[item.group], LABELS.index(item.estimate.label)])
        if value < ALARM_LEVEL:
            notes = (*item.estimate.notes, SHIFTED.format(p=value))
            item = replace(item, estimate=replace(item.estimate, notes=notes))  # noqa: PLW2901
        noted.append(item)
    return tuple(noted)


def _group_alerts(
    sums: Sums, codes: IntArray, *, names: Sequence[str], periods: Periods, limits: Limits
) -> tuple[tuple[GroupAlert, ...], int]:
    """Search the largest groups for changes; the rate of false alarms holds for all of them together."""
    n_periods = len(periods.names)
    cell = np.where(periods.of_text < 0, -1, codes * n_periods + periods.of_text)
    summed, _ = sums.by(cell, n_groups=len(names) * n_periods)
    n = summed.n.reshape(len(names), n_periods)
    bearing = np.flatnonzero((n >= limits.min_texts).sum(axis=1) >= MIN_PERIODS)
    searched = bearing[: max(_MOST_SIMULATED // n_periods, 1)]
    found: list[GroupAlert] = []
    for group in searched.tolist():
        rows = slice(group * n_periods, (group + 1) * n_periods)
        alerts: tuple[Alert, ...] = find_changes(
            Moments(summed.n[rows], summed.mean[rows], summed.var[rows]),
            sums.scores,
            periods=periods.names,
            false_alarm_rate=FALSE_ALARM_RATE / len(searched),
            confidence=limits.confidence,
            min_texts=limits.min_texts,
        )
        found += [GroupAlert(names[group], alert) for alert in alerts]
    return tuple(found), len(searched)


def _largest_first(names: Sequence[str], codes: npt.NDArray[np.int32]) -> tuple[tuple[str, ...], IntArray]:
    n_texts = np.bincount(codes, minlength=len(names))
    order = sorted(range(len(names)), key=lambda i: (-n_texts[i], names[i]))
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    return tuple(names[i] for i in order), place[codes]
