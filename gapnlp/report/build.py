"""From labelled files to what a report says."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gapnlp.archive.audit_file import read_audit
from gapnlp.audit import Audit, audited_estimates
from gapnlp.errors import ConfigError, InputError
from gapnlp.intervals import z_value
from gapnlp.model_dir import load_model_dir
from gapnlp.prevalence import estimate_prevalence
from gapnlp.prevalence.gap_score import ValidationScores
from gapnlp.prevalence.segment import MIN_TEXTS
from gapnlp.records import PrevalenceEstimate
from gapnlp.report.answer import write_answer
from gapnlp.report.content import GapSection, Quality, ReportContent, Split, Timeline
from gapnlp.report.dates import Over, to_periods
from gapnlp.report.findings import part_warnings, quality_notes
from gapnlp.report.method import describe_method
from gapnlp.report.parts import Limits, Sums, build_split, build_timeline, rows_to_learn_from
from gapnlp.report.reading import Archive, Wanted, read_archive
from gapnlp.report.words import SEVERAL, collect_notes, gap_summary, share
from gapnlp.taxonomy import LABELS, NONE, load_taxonomy

FloatArray = npt.NDArray[np.float64]

TITLE = "Which service gap to close first"
_N_REASONS = 5


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a report is to say.

    Attributes:
        by: Columns to split the archive by.
        over: The column with the dates, as `date`, `date:week` or `date:month:%d/%m/%Y`; None for none.
        audit: What `gapnlp audit draw` wrote, marked by people; None for none.
        model: The directory of the model that labelled the archive; None for the shipped one.
        confidence: Of the intervals, between 0 and 1.
        min_texts: A group or period with fewer texts is not shown by itself.
        mask: Mask personal data in quotations.
        text_column: The column with the text; None to tell it by its name.
        id_column: The column that names a row where it is quoted; None for its number.
        title: Of the report; empty for the usual one.
        created: The day, as in `2026-07-01`; empty for today.
    """

    by: tuple[str, ...] = ()
    over: str | Over | None = None
    audit: str | Path | None = None
    model: str | Path | None = None
    confidence: float = 0.95
    min_texts: int = MIN_TEXTS
    mask: bool = False
    text_column: str | None = None
    id_column: str | None = None
    title: str = ""
    created: str = ""


def build_report(inputs: Sequence[str | Path], options: ReportOptions | None = None) -> ReportContent:
    """Read what `gapnlp classify` wrote, and find out what there is to say.

    Args:
        inputs: The files.
        options: What the report is to say.

    Raises:
        InputError: A file cannot be used: it was not classified, or by another model, or a date cannot be told.
        ColumnError: A column is missing, or the text column cannot be told for certain.
        ModelError: The model came without the scores that estimates rest on.
        ConfigError: A setting is out of its range.
    """
    asked = options or ReportOptions()
    over = Over.parse(asked.over) if isinstance(asked.over, str) else asked.over
    _check(asked)
    model = load_model_dir(asked.model)
    validation = model.load_validation()
    archive = read_archive([str(name) for name in inputs], Wanted(asked.by, over, asked.text_column, asked.id_column))
    _check_model(archive, model.name)
    periods = None if over is None else to_periods(archive.days, unit=over.unit, column=over.column)
    audit = None if asked.audit is None else read_audit(asked.audit, archive.proba)
    estimates, none = _whole(archive, validation, audit=audit, confidence=asked.confidence)
    timeline: Timeline | None = None
    splits: tuple[Split, ...] = ()
    if asked.by or over:
        rows, from_audit = rows_to_learn_from(archive.proba, validation, audit)
        limits = Limits(asked.confidence, asked.min_texts, part_warnings(estimates, from_audit=from_audit))
        sums = Sums.of(archive, rows)
        timeline = None if over is None or periods is None else build_timeline(sums, periods, over=over, limits=limits)
        splits = tuple(
            build_split(sums, archive, at=at, column=asked.by[at], periods=periods, over=over, limits=limits)
            for at in range(len(asked.by))
        )
    n_checked = len(validation.proba)
    n_read = None if audit is None else len(audit.rows)
    quality = _quality(archive, n_undated=timeline.n_undated if timeline else None)
    return ReportContent(
        title=asked.title or TITLE,
        created=asked.created or datetime.datetime.now().astimezone().date().isoformat(),
        sources=archive.sources,
        n_texts=archive.n_texts,
        confidence=asked.confidence,
        masked=asked.mask,
        answer=write_answer(estimates, n_checked=n_checked, n_read=n_read, caveats=_caveats(quality)),
        estimates=estimates,
        none=none,
        notes=(SEVERAL, *collect_notes((*estimates, none))),
        gaps=_gaps(archive, estimates, mask=asked.mask),
        splits=splits,
        timeline=timeline,
        quality=quality,
        method=describe_method(model.name, n_checked=n_checked, n_read=n_read, splits=splits, timeline=timeline),
    )


def _check(options: ReportOptions) -> None:
    """Refuse before anything is read."""
    z_value(options.confidence)
    if options.min_texts < 1:
        raise ConfigError(f"min_texts: got {options.min_texts}, expected 1 or more")
    if len(set(options.by)) < len(options.by):
        raise ConfigError(f"by: got {', '.join(options.by)}, expected every column once")


def _check_model(archive: Archive, name: str) -> None:
    """Refuse scores whose errors are not those that were measured."""
    files = ", ".join(source.name for source in archive.sources)
    if len(archive.models) > 1:
        raise InputError(
            f"{files}: labelled by several models ({', '.join(archive.models)}), whose errors differ; classify all "
            "with one model, or report on them one by one"
        )
    if archive.models != (name,):
        got = archive.models[0] if archive.models else "an unknown model (gap_model is empty)"
        raise InputError(
            f"{files}: labelled by {got}, but {name} was loaded, and its errors are not those of another model; name "
            "the right one with  --model DIR , or classify the original file again"
        )


def _whole(
    archive: Archive, validation: ValidationScores, *, audit: Audit | None, confidence: float
) -> tuple[tuple[PrevalenceEstimate, ...], PrevalenceEstimate]:
    """Estimate the five gaps, and the texts without any."""
    if audit is None:
        found = estimate_prevalence(archive.proba, archive.decided, validation, confidence=confidence)
        held_out = ValidationScores(_fivefold(_no_gap(validation.proba)), _fivefold(~validation.labels.any(axis=1)))
        none = estimate_prevalence(*_none_of(archive), held_out, confidence=confidence)[0]
    else:
        found = audited_estimates(archive.proba, archive.decided, audit, confidence=confidence)
        first, second = (_fivefold(~labels.any(axis=1)) for labels in (audit.labels, audit.second))
        none = audited_estimates(
            *_none_of(archive), replace(audit, labels=first, second=second), confidence=confidence
        )[0]
    return tuple(found), replace(none, label=NONE)


def _none_of(archive: Archive) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    return _fivefold(_no_gap(archive.proba)), _fivefold(archive.given == 0)


def _no_gap(proba: FloatArray) -> FloatArray:
    """Score texts by the chance of no gap, had gaps nothing to do with each other; any score serves the estimate."""
    return np.asarray(np.prod(1 - proba, axis=1))


def _fivefold(column: Any) -> npt.NDArray[Any]:
    """Repeat a column, for estimators that take one for each gap. *Shapes:* (n,) in, (n, 5) out."""
    return np.broadcast_to(column[:, None], (len(column), len(LABELS)))


def _quality(archive: Archive, *, n_undated: int | None) -> Quality:
    quality = Quality(
        n_rows=archive.n_texts + archive.n_failed,
        n_failed=archive.n_failed,
        n_truncated=archive.n_truncated,
        n_review=archive.n_review,
        n_duplicates=archive.n_duplicates,
        failures=tuple(archive.failures.most_common(_N_REASONS)),
        notes=(),
    )
    return replace(quality, notes=quality_notes(quality, n_undated=n_undated))


def _caveats(quality: Quality) -> list[str]:
    failed = quality.n_failed / quality.n_rows
    return [f"{share(failed)} of the rows have no labels: what they say is in no figure."] if failed > 0.05 else []


def _gaps(archive: Archive, estimates: Sequence[PrevalenceEstimate], *, mask: bool) -> tuple[GapSection, ...]:
    """Write a section per gap, the highest estimate first; no text is quoted twice."""
    taxonomy, taken = load_taxonomy(), set[str]()
    ranked = sorted(estimates, key=lambda estimate: -estimate.prevalence)
    return tuple(
        GapSection(
            rank=rank,
            gap=taxonomy[estimate.label],
            estimate=estimate,
            summary=gap_summary(estimate),
            quotations=archive.quotations.choose(LABELS.index(estimate.label), mask=mask, taken=taken),
        )
        for rank, estimate in enumerate(ranked, start=1)
    )
