"""The report's charts: Vega-Lite specifications, drawn to SVG that takes its colours and font from the page.

Colours are CSS variables, so that one drawing serves light, dark and paper. Texts stay texts. A size is in CSS pixels.
Nothing is clipped by id, so that any number of drawings live in one page, and the same data give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil
from typing import Any

from gapnlp.errors import MissingExtraError
from gapnlp.prevalence.alert import Alert
from gapnlp.prevalence.segment import SegmentEstimate
from gapnlp.records import PrevalenceEstimate
from gapnlp.report.words import is_doubted, is_known, share

Spec = dict[str, Any]
Row = dict[str, Any]

INK, MUTED, GRID, ACCENT, BAR, BAND, PAPER = (
    f"var(--{name})" for name in ("ink", "muted", "grid", "accent", "bar", "band", "paper")
)
PANEL_WIDTH = 360

_AXES = ((0.02, 0.01), (0.05, 0.01), (0.1, 0.02), (0.2, 0.05), (0.5, 0.1), (1.0, 0.2))  # longest axis, step
_BAR_STEP, _BAR_MARGIN = 60, 22  # from bar to bar; beside them, for the axis' outer figures
_ROW_STEP, _NAME_ROOM = 22, 150
_LONGEST_NAME = 22  # characters; the drawing cuts to the pixel what still is longer than its room
_MOST_DOTS = 40  # more on one line run into each other
_MARKS = {1: "▲", -1: "▼", 0: ""}
_DOT: Spec = {"type": "point", "filled": True, "opacity": 1, "stroke": ACCENT, "strokeWidth": 1.5}
_DISC = _DOT | {"shape": "circle", "size": 58, "fill": ACCENT}
_DIAMOND = _DOT | {"shape": "diamond", "size": 80, "fill": PAPER}
_CONFIG = {"background": None, "aria": False, "view": {"stroke": None}, "font": "sans-serif"}
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def readable(text: str) -> str:
    """Replace characters that no page may hold, one by one, so that offsets stay true."""
    return _UNFIT.sub("\ufffd", text)


def share_range(low: float, high: float) -> str:
    """Write an interval of shares as briefly as a table needs it: `21\u201328%`, `<1\u20134%`."""
    ends = [share(end, width=high - low).replace("under ", "<").replace("over ", ">") for end in (low, high)]
    return f"{ends[0][:-1]}\u2013{ends[1]}"


def draw_bars(estimates: Sequence[tuple[str, PrevalenceEstimate]], *, first: str, width: int, title: str) -> str:
    """Draw a bar per gap with its interval and, as a small mark, the counted share.

    Args:
        estimates: Name to display and estimate, from top to bottom.
        first: The gap that stands out; may be empty.
        width: Of the drawing.
        title: What it shows, for those who do not see it.
    """
    rows = [_bar(name, estimate, first=first, top=_BAR_STEP * i) for i, (name, estimate) in enumerate(estimates)]
    known = [row for row in rows if row["known"]]
    axis = ShareAxis.holding(max(row["high"], row["counted"]) for row in known)
    plot, height = width - _BAR_MARGIN, _BAR_STEP * len(rows)
    middle = _place("middle", height)
    layers = _names_and_figures(rows, width=plot, height=height)
    for color, is_first in ((ACCENT, True), (BAR, False)):
        chosen = [row for row in known if row["first"] is is_first]
        body = {"x": axis.encode("from"), "x2": {"field": "at"}, "y": _place("top", height), "y2": {"field": "bottom"}}
        layers.append(_layer({"type": "rect", "color": color}, chosen, **body))
    for thickness, size, color in ((4.5, 12, PAPER), (1.5, 9, INK)):  # an edge of paper tells the line from the bar
        rule = {"type": "rule", "strokeWidth": thickness, "color": color}
        cap = {"type": "tick", "orient": "vertical", "size": size, "thickness": thickness, "color": color}
        layers.append(_layer(rule, known, x=axis.encode("low"), x2={"field": "high"}, y=middle))
        layers += [_layer(cap, known, x=axis.encode(end), y=middle) for end in ("low", "high")]
    triangle = {"type": "point", "shape": "triangle-up", "size": 34, "filled": True, "opacity": 1, "color": MUTED}
    layers.append(_layer(triangle, known, x=axis.encode("counted"), y=_place("below", height)))
    return _draw(layers, width=plot, height=height, padding=(2, 1, _BAR_MARGIN - 2, 22), title=title)


def draw_groups(
    segments: Sequence[SegmentEstimate], *, overall: float | None, direction: Mapping[str, int], title: str
) -> str:
    """Draw a point with its intervals per group: a disc if it answers alone, a hollow diamond if it leans on all.

    Args:
        segments: One gap's share in each group, from top to bottom.
        overall: The whole archive's share, a dashed line; None where it is not known.
        direction: 1 for groups that truly lie above the others, -1 below; the rest may be missing.
        title: What it shows, for those who do not see it.
    """
    height, axis = _ROW_STEP * len(segments), ShareAxis.holding([*(s.band_high for s in segments), overall or 0.0])
    rows = [
        _group(segment, mark="?" if is_doubted(segment.estimate) else _MARKS[direction.get(segment.group, 0)])
        | {"y": _ROW_STEP * (i + 0.5)}
        for i, segment in enumerate(segments)
    ]
    y = _place("y", height)
    dashed = {"type": "rule", "strokeDash": [3, 3], "color": MUTED}
    layers = [
        _layer(
            dashed,
            [{"at": overall}] if overall is not None else [],
            x=axis.encode("at"),
            y={"value": 0},
            y2={"value": height},
        ),
        _text("name", rows, {"align": "left", "dx": -_NAME_ROOM, "limit": _NAME_ROOM - 21}, x={"value": 0}, y=y),
        _text("mark", rows, {"align": "right", "dx": -9}, x={"value": 0}, y=y),
    ]
    for low, high, width, color in (("band_low", "band_high", 1, MUTED), ("low", "high", 3, ACCENT)):
        rule = {"type": "rule", "strokeWidth": width, "color": color}
        layers.append(_layer(rule, rows, x=axis.encode(low), x2={"field": high}, y=y))
    for direct in (True, False):
        chosen = [row for row in rows if row["direct"] is direct]
        layers.append(_layer(_DISC if direct else _DIAMOND, chosen, x=axis.encode("at"), y=y))
    plot = PANEL_WIDTH - _NAME_ROOM - 16
    return _draw(layers, width=plot, height=height, padding=(_NAME_ROOM, 4, 16, 20), title=title)


def draw_periods(
    periods: Sequence[str], *, levels: Sequence[SegmentEstimate], alerts: Sequence[Alert], title: str
) -> str:
    """Draw a gap's share over time: a line with its band, broken where periods are missing, alerts marked.

    Args:
        periods: All of them, evenly spaced; at least one.
        levels: Of the periods that have one.
        alerts: A triangle each, upwards or downwards; a lasting one with a line where the level moved.
        title: What it shows, for those who do not see it.
    """
    width, height = PANEL_WIDTH - 68, 132
    axis, rows = ShareAxis.holding(level.band_high for level in levels), _runs(periods, levels)
    x = _along("t", max(len(periods) - 1, 1), pixels=width)
    y, high, run = axis.encode("at"), {"field": "band_high"}, {"field": "run", "type": "nominal"}
    alone = [row for row in rows if sum(other["run"] == row["run"] for other in rows) == 1]
    dot = {"type": "point", "size": 14, "filled": True, "opacity": 1, "color": ACCENT}
    layers = [
        _layer(
            {"type": "area", "opacity": 1, "color": BAND}, rows, x=x, y=axis.encode("band_low"), y2=high, detail=run
        ),
        _layer({"type": "rule", "strokeWidth": 5, "color": BAND}, alone, x=x, y=axis.encode("band_low"), y2=high),
        _layer({"type": "line", "strokeWidth": 2, "color": ACCENT}, rows, x=x, y=y, detail=run),
        _layer(dot, rows if len(rows) <= _MOST_DOTS else alone, x=x, y=y),
        *_alert_layers(rows, alerts, x=x, y=y),
        _time_labels(periods, x=x, y={"value": height + 7}),
    ]
    return _draw(layers, width=width, height=height, padding=(40, 8, 28, 22), title=title)


@dataclass(frozen=True, slots=True)
class ShareAxis:
    """An axis of shares from 0 to a round figure.

    Attributes:
        end: Where it ends, 0-1.
        step: From tick to tick.
    """

    end: float
    step: float

    @classmethod
    def holding(cls, shares: Iterable[float]) -> ShareAxis:
        """Choose the shortest one with at most five steps that holds these shares."""
        highest = min(max(shares, default=0.0), 1.0)
        step = next(step for longest, step in _AXES if highest <= longest)
        return cls(round(max(ceil(highest / step - 1e-9), 1) * step, 4), step)

    def encode(self, field: str) -> Spec:
        """Return the encoding of a field by its place on the axis."""
        axis: Spec = {
            "values": [round(self.step * i, 4) for i in range(round(self.end / self.step) + 1)],
            "format": ".0%",
        }
        axis |= {"title": None, "domain": False, "ticks": False, "grid": True, "gridColor": GRID}
        axis |= {"labelPadding": 6, "labelColor": MUTED, "labelFontSize": 11, "labelFlush": False}
        scale = {"domain": [0, self.end], "nice": False}
        return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _along(field: str, end: float, *, pixels: float) -> Spec:
    """Return the encoding of a place between 0 and `end` that no axis shows."""
    scale = {"domain": [0, end], "range": [0, pixels], "nice": False}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": None}


def _place(field: str, pixels: float) -> Spec:
    """Return the encoding of a place that is given in pixels from the top."""
    return _along(field, pixels, pixels=pixels)


def _layer(mark: Spec, rows: Sequence[Row], **encoding: Spec) -> Spec:
    return {"mark": mark, "data": {"values": list(rows)}, "encoding": encoding}


def _text(field: str, rows: Sequence[Row], mark: Spec, **encoding: Spec) -> Spec:
    style = {"type": "text", "baseline": "middle", "fontSize": 12, "color": INK}
    return _layer(style | mark, rows, text={"field": field}, **encoding)


def _bar(name: str, estimate: PrevalenceEstimate, *, first: str, top: float) -> Row:
    row: Row = {"name": name, "first": estimate.label == first, "known": is_known(estimate)}
    row |= {"above": top + 9, "top": top + 20, "middle": top + 27, "bottom": top + 34, "below": top + 41}
    if not row["known"]:
        return row | {"figure": "cannot be estimated"}
    value = share(estimate.prevalence, width=estimate.high - estimate.low)
    row["figure"] = f"{value}  ({share_range(estimate.low, estimate.high)})"
    row |= {"from": 0, "at": estimate.prevalence, "counted": estimate.counted}
    return row | {"low": estimate.low, "high": estimate.high}


def _names_and_figures(rows: Sequence[Row], *, width: float, height: float) -> list[Spec]:
    """Write each gap's name at the left and its figures at the right, above its bar."""
    layers = []
    for is_first in (True, False):
        chosen = [row for row in rows if row["first"] is is_first]
        style = {"fontSize": 14, "fontWeight": 700 if is_first else 400}
        for field, align, at in (("name", "left", 0), ("figure", "right", width)):
            place = {"x": {"value": at}, "y": _place("above", height)}
            layers.append(_text(field, chosen, style | {"align": align}, **place))
    return layers


def _brief(name: str) -> str:
    """Cut a long name in its middle: names that begin alike mostly end in what tells them apart."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:9].rstrip()}…{name[-8:].lstrip()}"


def _group(segment: SegmentEstimate, *, mark: str) -> Row:
    estimate = segment.estimate
    shares = {"at": estimate.prevalence, "low": estimate.low, "high": estimate.high}
    shares |= {"band_low": segment.band_low, "band_high": segment.band_high}
    return {"name": _brief(readable(segment.group)), "mark": mark, "direct": segment.direct, **shares}


def _runs(periods: Sequence[str], levels: Sequence[SegmentEstimate]) -> list[Row]:
    """Place levels on the time axis; those of one run have no missing period between them."""
    place = {period: t for t, period in enumerate(periods)}
    rows: list[Row] = []
    for level in levels:
        t = place[level.group]
        run = (rows[-1]["run"] + (t != rows[-1]["t"] + 1)) if rows else 0
        rows.append({"t": t, "run": run, "at": level.estimate.prevalence, "period": level.group})
        rows[-1] |= {"band_low": level.band_low, "band_high": level.band_high}
    return rows


def _alert_layers(rows: Sequence[Row], alerts: Sequence[Alert], *, x: Spec, y: Spec) -> list[Spec]:
    """Mark the alerts at their levels."""
    of = {alert.period: alert for alert in alerts}
    marked = [row for row in rows if row["period"] in of]
    dashed = {"type": "rule", "strokeDash": [3, 3], "color": MUTED}
    layers = [_layer(dashed, [row for row in marked if of[row["period"]].lasting], x=x)]
    for shape, is_up in (("triangle-up", True), ("triangle-down", False)):
        mark = {"type": "point", "shape": shape, "size": 110, "filled": True, "opacity": 1}
        mark |= {"fill": INK, "stroke": PAPER, "strokeWidth": 1.5}
        chosen = [row for row in marked if (of[row["period"]].change > 0) is is_up]
        layers.append(_layer(mark, chosen, x=x, y=y))
    return layers


def _time_labels(periods: Sequence[str], *, x: Spec, y: Spec) -> Spec:
    """Write the names of some periods, evenly spaced from the first on, below the chart."""
    step = ceil(len(periods) / (5 if len(periods[0]) <= 8 else 4))
    rows = [{"t": t, "period": periods[t]} for t in range(0, len(periods), step)]
    return _text("period", rows, {"fontSize": 11, "color": MUTED, "baseline": "top"}, x=x, y=y)


def _draw(layers: Sequence[Spec], *, width: int, height: int, padding: tuple[int, int, int, int], title: str) -> str:
    """Draw layers as an SVG element for a page of HTML.

    Args:
        layers: Those without data are left out.
        width: Of the plot.
        height: Of the plot.
        padding: Left, top, right, bottom; texts that stick out of the plot lie in it.
        title: What it shows.
    """
    left, top, right, bottom = padding
    drawn = [layer for layer in layers if layer["data"]["values"]]
    spec = {"width": width, "height": height, "autosize": {"type": "none"}, "layer": drawn, "config": _CONFIG}
    spec |= {"padding": {"left": left, "top": top, "right": right, "bottom": bottom}}
    box = f'width="{left + width + right}" height="{top + height + bottom}"'
    box += f' viewBox="0 0 {left + width + right} {top + height + bottom}"'
    svg = _to_svg(spec)
    return f'<svg role="img" {box}><title>{escape(readable(title))}</title>{svg[svg.index(">") + 1 :]}'


def _to_svg(spec: Spec) -> str:
    """Run Vega-Lite, which is compiled into the package and reads nothing from outside.

    Raises:
        MissingExtraError: `vl-convert-python` is not installed.
    """
    try:
        import vl_convert
    except ImportError as exc:
        raise MissingExtraError("vl-convert-python", "report") from exc
    return vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
