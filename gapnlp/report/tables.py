"""The report's figures as flat tables, for spreadsheets and data frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from gapnlp.errors import MissingExtraError
from gapnlp.prevalence.segment import SegmentEstimate
from gapnlp.records import PrevalenceEstimate
from gapnlp.report.content import ReportContent
from gapnlp.report.words import is_doubted

if TYPE_CHECKING:
    import pandas as pd

Row: TypeAlias = dict[str, Any]

WHOLE = "whole"
_DECIMALS = 6


def tables(content: ReportContent) -> dict[str, list[Row]]:
    """Lay all figures out as tables; each row of one has the same columns.

    Returns:
        `estimates`: every share, of the whole, by group and by period; `part` is `whole` or the column's name.
        `differences`, `alerts`, `changes` and `trends`: how groups and periods differ. `quotations`: with
        the evidence as a text of its own. `actions`: causes, questions and remedies. Shares are 0-1.
    """
    return {
        "estimates": list(_estimates(content)),
        "differences": list(_differences(content)),
        "alerts": list(_alerts(content)),
        "changes": list(_changes(content)),
        "trends": list(_trends(content)),
        "quotations": list(_quotations(content)),
        "actions": list(_actions(content)),
    }


def to_frames(content: ReportContent) -> dict[str, pd.DataFrame]:
    """Return the tables as pandas DataFrames.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as exc:
        raise MissingExtraError("pandas", "pandas") from exc
    return {name: pd.DataFrame(rows) for name, rows in tables(content).items()}


def _estimates(content: ReportContent) -> Iterator[Row]:
    for estimate in (*content.estimates, content.none):
        yield _estimate(estimate, part=WHOLE, group="", band=(None, None))
    for split in content.splits:
        yield from (_segment(segment, part=split.column) for segment in split.segments.estimates)
    if content.timeline:
        for trend in content.timeline.trends:
            yield from (_segment(level, part=content.timeline.column) for level in trend.levels)


def _segment(segment: SegmentEstimate, *, part: str) -> Row:
    band = (segment.band_low, segment.band_high)
    return _estimate(segment.estimate, part=part, group=segment.group, band=band)


def _estimate(estimate: PrevalenceEstimate, *, part: str, group: str, band: tuple[float | None, float | None]) -> Row:
    return {
        "part": part,
        "group": group,
        "gap": estimate.label,
        "texts": estimate.n_texts,
        "counted": _rounded(estimate.counted),
        "prevalence": _rounded(estimate.prevalence),
        "low": _rounded(estimate.low),
        "high": _rounded(estimate.high),
        "band_low": _rounded(band[0]),
        "band_high": _rounded(band[1]),
        "confidence": estimate.confidence,
        "method": estimate.method,
        "doubted": is_doubted(estimate),
        "notes": " ".join(estimate.notes),
    }


def _differences(content: ReportContent) -> Iterator[Row]:
    for split in content.splits:
        for item in split.differences:
            yield {
                "part": split.column,
                "group": item.group,
                "other": item.other,
                "gap": item.label,
                "difference": _rounded(item.difference),
                "low": _rounded(item.low),
                "high": _rounded(item.high),
                "p_value": _rounded(item.p_value),
                "holds": item.significant,
            }


def _alerts(content: ReportContent) -> Iterator[Row]:
    found = [("", "", alert) for alert in content.timeline.alerts] if content.timeline else []
    found += [(split.column, item.group, item.alert) for split in content.splits for item in split.alerts]
    for part, group, alert in found:
        yield {
            "part": part or WHOLE,
            "group": group,
            "gap": alert.label,
            "period": alert.period,
            "lasting": alert.lasting,
            "change": _rounded(alert.change),
            "low": _rounded(alert.low),
            "high": _rounded(alert.high),
            "p_value": _rounded(alert.p_value),
            "false_alarm_rate": alert.false_alarm_rate,
        }


def _changes(content: ReportContent) -> Iterator[Row]:
    trends = content.timeline.trends if content.timeline else ()
    for item in (change for trend in trends for change in (*trend.changes, *trend.against_earlier)):
        yield {
            "gap": item.label,
            "period": item.period,
            "since": item.since,
            "change": _rounded(item.change),
            "low": _rounded(item.low),
            "high": _rounded(item.high),
            "p_value": _rounded(item.p_value),
        }


def _trends(content: ReportContent) -> Iterator[Row]:
    trends = content.timeline.trends if content.timeline else ()
    for item in (trend.slope for trend in trends if trend.slope):
        yield {
            "gap": item.label,
            "per_period": _rounded(item.per_period),
            "low": _rounded(item.low),
            "high": _rounded(item.high),
            "p_value": _rounded(item.p_value),
        }


def _quotations(content: ReportContent) -> Iterator[Row]:
    for item in (quotation for section in content.gaps for quotation in section.quotations):
        yield {
            "gap": item.label,
            "text": item.text,
            "evidence": item.text[item.start : item.end],
            "probability": _rounded(item.probability),
            "place": item.place,
            "groups": ", ".join(item.groups),
        }


def _actions(content: ReportContent) -> Iterator[Row]:
    for section in content.gaps:
        gap = section.gap
        kinds = (("likely cause", gap.causes), ("question to ask", gap.questions), ("what closes it", gap.remedies))
        for kind, sentences in kinds:
            yield from ({"gap": gap.id, "name": gap.name, "kind": kind, "text": text} for text in sentences)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)
