"""The report as one page of HTML that needs nothing else: no network, no script, no font.

Texts of customers are hostile until shown otherwise: the template escapes all it is given, and the page's policy lets
a browser run nothing and load nothing.
"""

from __future__ import annotations

import datetime
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapnlp.errors import MissingExtraError
from gapnlp.prevalence.alert import Alert
from gapnlp.prevalence.segment import SegmentEstimate
from gapnlp.records import PrevalenceEstimate
from gapnlp.report.charts import draw_bars, draw_groups, draw_periods, readable, share_range
from gapnlp.report.content import GapSection, Quotation, ReportContent, Split, Timeline
from gapnlp.report.words import SEVERAL, about, is_doubted, is_known, points, share

if TYPE_CHECKING:
    from jinja2 import Environment

_WIDE, _NARROW = 880, 343
_MOST_ROWS = 12  # of groups; charts with more lie folded, but for the first two gaps'
_MOST_PRINTED = 60
_LONGEST_NAME = 80
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart and the table that says the same.

    Attributes:
        title: What it shows.
        drawings: SVG elements: one for all widths, or one for wide and one for narrow pages.
        columns: The table's headings.
        rows: Its cells; the first of a row names it.
    """

    title: str
    drawings: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def is_long(self) -> bool:
        """True where the table would fill sheets of paper: it is not printed."""
        return len(self.rows) > _MOST_PRINTED

    @property
    def is_short(self) -> bool:
        """True where chart and table fit one sheet together."""
        return len(self.rows) <= _MOST_ROWS


@dataclass(frozen=True, slots=True)
class Panels:
    """Charts of the same kind, one per gap.

    Attributes:
        shown: Those to see at once.
        folded: Those to see on request.
    """

    shown: tuple[Figure, ...]
    folded: tuple[Figure, ...]


def render_page(content: ReportContent, *, unfolded: bool = False) -> str:
    """Write a report as one page of HTML.

    Args:
        content: What the report says.
        unfolded: Open what a reader could unfold, for programs that make a PDF and do not know how.

    Raises:
        MissingExtraError: `jinja2` or `vl-convert-python` is not installed.
    """
    css = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    template = _environment().get_template("report.html.j2")
    page = template.render(
        content=content,
        css=css,
        style_hash=b64encode(sha256(css.encode()).digest()).decode(),
        unfolded=unfolded,
        bars=_bars(content) if content.estimates and content.n_texts else None,
        splits=[(split, _split_panels(content, split)) for split in content.splits],
        over_time=_time_panels(content, content.timeline) if content.timeline else None,
    )
    return page.strip() + "\n"


def quote_parts(quotation: Quotation) -> tuple[str, str, str]:
    """Split a quotation into what comes before the evidence, the evidence, and what comes after."""
    text, start, end = quotation.text, quotation.start, quotation.end
    return text[:start], text[start:end], text[end:]


def capital(name: str) -> str:
    """Write a name as a title begins."""
    return name[:1].upper() + name[1:]


def short(name: str) -> str:
    """Cut a name that would fill a page."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def day(iso: str) -> str:
    """Write a date as in `1 July 2026`."""
    date = datetime.date.fromisoformat(iso)
    return f"{date.day} {date:%B %Y}"


@cache
def _environment() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as exc:
        raise MissingExtraError("jinja2", "report") from exc
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_finish,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names: dict[str, Any] = {"capital": capital, "short": short, "day": day, "quote_parts": quote_parts}
    environment.filters |= names | {"about": about}
    environment.tests["known"] = is_known
    environment.globals["SEVERAL"] = SEVERAL
    return environment


def _finish(value: object) -> object:
    """Make what a template prints readable; markup is."""
    return readable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _bars(content: ReportContent) -> Figure:
    """Show how much of the archive each gap makes up."""
    shown = [(capital(section.gap.name), section.estimate) for section in content.gaps]
    title = "Share of the texts that points to each gap, with its range"
    drawings = [draw_bars(shown, first=content.answer.label, width=width, title=title) for width in (_WIDE, _NARROW)]
    named = [*shown, ("No gap", content.none)]
    rows = tuple((name, *_cells(estimate), share(estimate.counted)) for name, estimate in named)
    return Figure(title, tuple(drawings), ("Gap", "Estimate", "Range", "Merely counted"), rows)


def _cells(estimate: PrevalenceEstimate) -> tuple[str, str]:
    """Write an estimate and its range into two cells."""
    if not is_known(estimate):
        return "not known", "any"
    width = estimate.high - estimate.low
    return share(estimate.prevalence, width=width), share_range(estimate.low, estimate.high)


def _split_panels(content: ReportContent, split: Split) -> Panels:
    by_gap = [(section, split.segments.of(section.gap.id)) for section in content.gaps]
    return _fold([_group_figure(section, split, segments) for section, segments in by_gap if _any_known(segments)])


def _any_known(segments: Sequence[SegmentEstimate]) -> bool:
    return any(is_known(segment.estimate) for segment in segments)


def _group_figure(section: GapSection, split: Split, segments: Sequence[SegmentEstimate]) -> Figure:
    """Show one gap's share in each group."""
    title, column = capital(section.gap.name), short(split.column)
    claims = [item for item in split.differences if item.label == section.gap.id and item.significant]
    sign = {claim.group: 1 if claim.difference > 0 else -1 for claim in claims}
    drawing = draw_groups(
        segments,
        overall=section.estimate.prevalence if is_known(section.estimate) else None,
        direction=sign,
        title=f"{title}: share of the texts by {column}, with ranges",
    )
    rows = []
    for segment in segments:
        mark = "?" if is_doubted(segment.estimate) else ("", "▲", "▼")[sign.get(segment.group, 0)]
        name = f"{short(segment.group)} {mark}".strip()
        value, span = _cells(segment.estimate)
        wide = share_range(segment.band_low, segment.band_high)
        rows.append((name, f"{segment.estimate.n_texts:,}", value if segment.direct else f"◇ {value}", span, wide))
    return Figure(title, (drawing,), (capital(column), "Texts", "Estimate", "Range", "Wide range"), tuple(rows))


def _time_panels(content: ReportContent, timeline: Timeline) -> Panels:
    levels = {trend.label: trend.levels for trend in timeline.trends}
    by_gap = [(section, levels.get(section.gap.id, ())) for section in content.gaps]
    return Panels(tuple(_time_figure(section, timeline, shown) for section, shown in by_gap if _any_known(shown)), ())


def _time_figure(section: GapSection, timeline: Timeline, levels: Sequence[SegmentEstimate]) -> Figure:
    """Show one gap's share in each period that has enough texts."""
    title = capital(section.gap.name)
    alerts = {alert.period: alert for alert in timeline.alerts if alert.label == section.gap.id}
    drawing = draw_periods(
        timeline.periods,
        levels=levels,
        alerts=tuple(alerts.values()),
        title=f"{title}: share of the texts per {timeline.unit}, with a band",
    )
    rows = []
    for level in levels:
        value, wide = _cells(level.estimate)[0], share_range(level.band_low, level.band_high)
        changed = (_change(alerts[level.group]),) if level.group in alerts else ("",) * bool(alerts)
        rows.append((level.group, f"{level.estimate.n_texts:,}", value, wide, *changed))
    columns = capital(timeline.unit), "Texts", "Estimate", "Wide range", *("Alert",) * bool(alerts)
    return Figure(title, (drawing,), columns, tuple(rows))


def _change(alert: Alert) -> str:
    """Write an alert into a cell of a table."""
    way = "▲ {} points up" if alert.change > 0 else "▼ {} points down"
    return way.format(points(alert.change)) + (" from here on" if alert.lasting else "")


def _fold(figures: Sequence[Figure]) -> Panels:
    """Show all charts if they are short, else the first two."""
    n_shown = len(figures) if all(figure.is_short for figure in figures) else 2
    return Panels(tuple(figures[:n_shown]), tuple(figures[n_shown:]))
