"""The report's page: complete, closed to the outside, safe against hostile texts, and true to its content."""

import dataclasses
import html
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest

from gapnlp.errors import MissingExtraError
from gapnlp.prevalence.alert import Alert
from gapnlp.prevalence.comparison import REST, Difference
from gapnlp.prevalence.segment import SegmentEstimate, Segments
from gapnlp.prevalence.trend import Trend
from gapnlp.records import PrevalenceEstimate
from gapnlp.report.charts import ShareAxis, draw_bars, draw_groups, draw_periods, share_range
from gapnlp.report.content import (
    Answer,
    GapSection,
    GroupAlert,
    Method,
    Quality,
    Quotation,
    ReportContent,
    SourceFile,
    Split,
    Timeline,
)
from gapnlp.report.page import render_page
from gapnlp.report.words import SEVERAL, about, share
from gapnlp.taxonomy import LABELS, load_taxonomy

SHARES = {"knowledge": 0.061, "policy": 0.2, "delivery": 0.164, "communication": 0.312, "customer": 0.108}
ANSWER = Answer(
    "communication",
    "Close the communication gap first.",
    ("It comes first.", "No other gap comes near."),
    "The ranges hold the true share 95 times in 100.",
    True,
    ("What it costs is another question.",),
)
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title></svg><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}&amp;&lt;",
    "שלום \u202eevil\u202c عالم",
    "😀👩‍👩‍👧 z\u0335\u0336a\u0337l\u0338g\u0321o",
    "word" * 1250,
    r"C:\1 \g<0> \u0041 $x^2$",
    "nul\x00 bell\x07 lone\ud800 line\nbreak",
)
VOID = {"meta", "br", "img", "link", "hr", "input"}


def estimate(label, value, *, n=2000, confidence=0.95, **changes):
    half = 1.96 * sqrt(max(value * (1 - value), 1e-4) / n) * 1.7
    low, high = max(value - half, 0.0), min(value + half, 1.0)
    made = PrevalenceEstimate(label, n, 0.6 * value + 0.05, value, low, high, confidence, "adjusted", ("A note.",))
    return dataclasses.replace(made, **changes)


def quotation(label, text="They promised Tuesday. It came a week late.", start=0, end=22, groups=("North",)):
    return Quotation(label, text, start, end, 0.9, "labelled.csv, row 17", groups)


def segment(label, value, *, group, n, direct=True):
    one = estimate(label, value, n=n, method="adjusted" if direct else "model-based")
    reach = 0.6 * (one.high - one.low)
    return SegmentEstimate(group, direct, max(one.prevalence - reach, 0.0), min(one.prevalence + reach, 1.0), one)


def wave(label, i, *, n, rng):
    return float(np.clip(SHARES[label] * (1 + 0.25 * np.sin(i / 3)) + rng.normal(0, 0.4 / sqrt(n)), 0.002, 0.95))


def split_of(names, *, column="branch", seed=0):
    rng = np.random.default_rng(seed)
    sizes = [max(int(900 / (1 + i)), 31) for i in range(len(names))]
    estimates = tuple(
        segment(label, wave(label, i, n=n, rng=rng), group=name, n=n, direct=n > 120)
        for label in LABELS
        for i, (name, n) in enumerate(zip(names, sizes, strict=True))
    )
    signs = (1, -1, 1)[: len(names)]
    claims = tuple(
        Difference("policy", name, REST, 0.08 * sign, *sorted((0.03 * sign, 0.13 * sign)), 0.002, True)
        for name, sign in zip(names, signs, strict=False)
    )
    alerts = (GroupAlert(names[0], alert("policy", "2025-07")),)
    findings = (
        f"{names[0]}: the policy gap is 8.0 points more frequent.",
        f"{names[0]}: the policy gap stands out in 2025-07.",
    )
    segments = Segments(estimates, merged=("Isle", "Fen"))
    return Split(column, tuple(names), tuple(sizes), segments, claims, alerts, findings, ("About the groups.",))


def alert(label, period, *, change=0.031, lasting=False):
    return Alert(label, period, lasting, change, *sorted((0.5 * change, 1.5 * change)), 0.001, 0.05)


def timeline_of(periods, *, thin=(), alerts=(), unit="month", seed=1):
    rng = np.random.default_rng(seed)
    sizes = [0 if period in thin else 600 for period in periods]
    trends = tuple(
        Trend(
            label,
            tuple(
                segment(label, wave(label, i, n=n, rng=rng), group=period, n=n)
                for i, (period, n) in enumerate(zip(periods, sizes, strict=True))
                if n
            ),
            (),
            (),
            None,
        )
        for label in LABELS
    )
    findings = tuple(f"The {item.label} gap stands out in {item.period}." for item in alerts) or (
        "No gap changed beyond chance.",
    )
    notes = ("About the line.",)
    return Timeline("date", unit, tuple(periods), tuple(sizes), 3, trends, tuple(alerts), findings, notes)


def months(n):
    return [f"{2024 + i // 12}-{i % 12 + 1:02}" for i in range(n)]


def content_of(*, splits=(), timeline=None, quotations=None, labels=LABELS, **changes):
    taxonomy = load_taxonomy()
    estimates = tuple(estimate(label, SHARES[label]) for label in LABELS)
    ranked = sorted((one for one in estimates if one.label in labels), key=lambda one: -one.prevalence)
    sections = tuple(
        GapSection(
            rank,
            taxonomy[one.label],
            one,
            f"{about(one).capitalize()} of the texts point to it.",
            (quotation(one.label),) if quotations is None else tuple(quotations),
        )
        for rank, one in enumerate(ranked, start=1)
    )
    none = estimate("none", 0.412)
    made = ReportContent(
        title="Which service gap to close first",
        created="2026-07-01",
        sources=(SourceFile("labelled.csv", 2005), SourceFile("more.parquet", 4)),
        n_texts=2000,
        confidence=0.95,
        masked=True,
        answer=ANSWER,
        estimates=estimates,
        none=none,
        notes=(SEVERAL, "A note."),
        gaps=sections,
        splits=tuple(splits),
        timeline=timeline,
        quality=Quality(2009, 9, 1, 40, 2, (("empty text", 9),), ("9 of 2,009 rows have no labels.",)),
        method=Method("gapnlp-en@1.1", (("What the model did", "It read."),), ("Fieller (1954).",)),
    )
    return dataclasses.replace(made, **changes)


def full():
    alerts = (alert("communication", "2024-09"), alert("communication", "2025-03", change=-0.052, lasting=True))
    names = ["Aldermouth", "Kelby Quay", "Northwick Sands", "Oxley Bar", "Penfarrow"]
    return content_of(
        splits=(split_of(names),), timeline=timeline_of(months(18), thin=("2024-05", "2024-06"), alerts=alerts)
    )


def many():
    names = [f"Branch of a rather long name no. {i}" for i in range(20)]
    return content_of(splits=(split_of(names),), timeline=timeline_of(months(24)))


def empty():
    nothing = Answer("", "These data do not say which gap to close first.", (), "Nothing can be said.", False)
    quality = Quality(0, 0, 0, 0, 0, (), ("There are no rows.",))
    none = estimate("none", 0.0, low=0.0, high=1.0, n_texts=0)
    return content_of(answer=nothing, estimates=(), gaps=(), none=none, n_texts=0, notes=(), quality=quality)


def hostile():
    quotes = [quotation("policy", text, 1, 9, groups=(text,)) for text in HOSTILE]
    bad = "<script>x</script>"
    made = content_of(quotations=quotes, splits=(split_of(list(HOSTILE), column=f"</h2>{bad}"),))
    return dataclasses.replace(
        made,
        title=f"</title>{bad}",
        sources=(SourceFile(f"{bad}.csv", 3),),
        quality=dataclasses.replace(made.quality, failures=((bad, 1),)),
    )


CASES = {
    "full": full,
    "plain": content_of,
    "one-gap": lambda: content_of(labels=("policy",)),
    "many": many,
    "empty": empty,
    "hostile": hostile,
}


@dataclasses.dataclass
class Element:
    tag: str
    attributes: dict
    text: str = ""
    children: list = dataclasses.field(default_factory=list)

    def all(self, tag):
        return [found for child in self.children for found in ([child] if child.tag == tag else []) + child.all(tag)]


class Page(HTMLParser):
    """Parses a page into elements, and refuses one whose tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert self.open == [self.root], [element.tag for element in self.open]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        assert len(element.attributes) == len(attrs), f"an attribute twice in <{tag}>"
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element.text += data


@pytest.fixture(scope="module", params=CASES)
def case(request):
    content = CASES[request.param]()
    text = render_page(content)
    return content, text, Page(text).root


def plain(root):
    return " ".join(root.all("body")[0].text.split())


def test_the_page_needs_nothing_from_outside(case):
    _, _, root = case
    elements = [element for tag in ("html",) for element in root.all(tag)]
    elements += [found for tag in _tags(root) for found in root.all(tag)]
    assert {element.tag for element in elements}.isdisjoint(
        {"script", "link", "iframe", "object", "embed", "img", "base"}
    )
    for element in elements:
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"]
        for name in ("href", "src", "srcset", "action", "xlink:href", "data", "poster"):
            assert element.attributes.get(name, "#").startswith("#"), element
    style = root.all("style")[0].text
    assert "@import" not in style
    assert "url(" not in style + "".join(f"{e.attributes}" for e in elements)
    assert "@font-face" not in style


def _tags(root):
    return {child.tag for child in root.children} | {tag for child in root.children for tag in _tags(child)}


def test_the_policy_allows_no_script_and_only_this_style(case):
    from base64 import b64encode
    from hashlib import sha256

    _, _, root = case
    (policy,) = (m.attributes["content"] for m in root.all("meta") if "http-equiv" in m.attributes)
    (style,) = root.all("style")
    hashed = b64encode(sha256(style.text.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{hashed}'" in policy
    assert "unsafe" not in policy


def test_the_page_is_in_order_for_those_who_hear_it(case):
    _, _, root = case
    levels = [int(tag[1]) for tag in re.findall(r"<(h[1-6])", case[1])]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    ids = [e.attributes["id"] for tag in _tags(root) for e in root.all(tag) if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    referred = [e.attributes["href"][1:] for e in root.all("a")]
    referred += [
        e.attributes["aria-labelledby"] for t in _tags(root) for e in root.all(t) if "aria-labelledby" in e.attributes
    ]
    assert set(referred) <= set(ids)
    assert root.all("html")[0].attributes["lang"] == "en"
    for svg in root.all("svg"):
        assert svg.attributes["role"] == "img"
        assert svg.children[0].tag == "title"
        assert svg.children[0].text
    for figure in root.all("figure"):
        if figure.all("svg"):
            assert figure.all("table"), "a chart without a table"
    for row in root.all("tr"):
        assert all(cell.attributes.get("scope") in ("row", "col") for cell in row.all("th"))


def test_every_percentage_on_the_page_is_one_of_the_content(case):
    content, _, root = case
    words = _texts(content)
    known = set(re.findall(r"\d[\d.]*%", " ".join(words)))
    for one in _estimates(content):
        shown = (share(one.prevalence, width=one.high - one.low), share(one.counted), share_range(one.low, one.high))
        known |= set(re.findall(r"[\d.]+%", " ".join(shown)))
    known |= set(re.findall(r"[\d.]+%", about(content.none)))
    for one in _segments(content):
        known |= set(re.findall(r"[\d.]+%", share_range(one.band_low, one.band_high)))
    body = root.all("body")[0]
    pieces = re.findall(r">([^<]+)<", case[1].partition("<body>")[2])
    axes = {text.text for svg in body.all("svg") for text in svg.all("text") if re.fullmatch(r"\d+%", text.text)}
    assert {found for piece in pieces for found in re.findall(r"[\d.]+%", piece)} <= known | axes


def _texts(value):
    if isinstance(value, str):
        return [value]
    if dataclasses.is_dataclass(value):
        return [text for f in dataclasses.fields(value) for text in _texts(getattr(value, f.name))]
    return [text for item in value for text in _texts(item)] if isinstance(value, tuple) else []


def _segments(content):
    by_time = [trend.levels for trend in content.timeline.trends] if content.timeline else []
    return [one for split in content.splits for one in split.segments.estimates] + [
        s for levels in by_time for s in levels
    ]


def _estimates(content):
    return [*content.estimates, content.none, *(one.estimate for one in _segments(content))]


def test_every_estimate_stands_in_a_table():
    content = full()
    root = Page(render_page(content)).root
    rows = {tuple(cell.text for cell in row.children) for row in root.all("tr")}
    for section in content.gaps:
        one, name = section.estimate, section.gap.name.capitalize()
        value = share(one.prevalence, width=one.high - one.low)
        assert (name, value, share_range(one.low, one.high), share(one.counted)) in rows
    for one in content.splits[0].segments.estimates:
        e, mark = one.estimate, "" if one.direct else "◇ "
        cells = share(e.prevalence, width=e.high - e.low), share_range(e.low, e.high)
        wide = share_range(one.band_low, one.band_high)
        found = [row for row in rows if row[1:] == (f"{e.n_texts:,}", mark + cells[0], cells[1], wide)]
        assert any(row[0].startswith(one.group) for row in found)
    for trend in content.timeline.trends:
        for one in trend.levels:
            e = one.estimate
            cells = (one.group, f"{e.n_texts:,}", share(e.prevalence, width=e.high - e.low))
            assert any(row[:3] == cells and row[3] == share_range(one.band_low, one.band_high) for row in rows)


def test_everything_that_is_said_is_on_the_page(case):
    content, _, root = case
    shown = plain(root)
    said = [content.answer.headline, content.answer.certainty, *content.answer.reasons, *content.answer.caveats]
    said += [*content.notes, *content.quality.notes, *content.method.references, content.method.model]
    said += [text for paragraph in content.method.paragraphs for text in paragraph]
    for section in content.gaps:
        said += [section.summary, section.gap.definition, *section.gap.causes, *section.gap.questions]
        said += section.gap.remedies
    said += content.timeline.findings + content.timeline.notes if content.timeline else ()
    for text in said:
        assert " ".join(text.split()) in shown
    if content.n_texts:
        assert about(content.none) in shown


def test_hostile_texts_stay_texts():
    content = hostile()
    text = render_page(content)
    root = Page(text).root
    assert "<script" not in text
    assert "onerror" not in {name for tag in _tags(root) for e in root.all(tag) for name in e.attributes}
    assert "49" not in root.all("blockquote")[3].text
    replaced = [re.sub("[\x00\x07\ud800]", "\ufffd", quote) for quote in HOSTILE]
    assert [quote.text for quote in root.all("blockquote")[: len(HOSTILE)]] == replaced
    text.encode("utf-8")
    assert all(quote.attributes["dir"] == "auto" for quote in root.all("blockquote"))
    # In charts and headings names are cut: none of 5,000 characters pushes the rest off the page.
    assert max(len(label.text) for svg in root.all("svg") for label in svg.all("text")) < 100
    assert max(len(heading.text) for tag in ("h2", "h3") for heading in root.all(tag)) < 100


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("They promised Tuesday. It came late.", 5, 13),
        ("😀😀 <b>late</b> & rude", 3, 14),
        ("\x00\x01late", 2, 6),
        ("late", 0, 4),
    ],
)
def test_the_evidence_is_marked_character_by_character(text, start, end):
    root = Page(render_page(content_of(quotations=[quotation("policy", text, start, end)], labels=("policy",)))).root
    (quote,) = root.all("blockquote")
    (mark,) = quote.all("mark")
    clean = text.replace("\x00", "\ufffd").replace("\x01", "\ufffd")
    assert mark.text == clean[start:end]
    assert quote.text == clean


def test_a_quotation_without_evidence_has_no_mark():
    root = Page(render_page(content_of(quotations=[quotation("policy", start=3, end=3)]))).root
    assert root.all("blockquote")
    assert not root.all("mark")


def test_the_same_content_gives_the_same_page():
    assert render_page(full()) == render_page(full())


def test_dark_and_print_have_their_styles():
    style = Page(render_page(content_of())).root.all("style")[0].text
    assert "@media screen and (prefers-color-scheme: dark)" in style
    assert "@page { size: A4" in style
    assert "::details-content" in style


def colours(style, *, dark):
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[1 if dark else 0]))


def contrast(one, other):
    """Ratio of two colours' luminances (WCAG 2.2, relative luminance)."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_told_apart(dark):
    style = Page(render_page(content_of())).root.all("style")[0].text
    c = colours(style, dark=dark)
    for text, ground in [("ink", "paper"), ("muted", "paper"), ("accent", "paper"), ("ink", "box"), ("muted", "box")]:
        assert contrast(c[text], c[ground]) >= 4.5
    assert contrast(c["mark-ink"], c["mark"]) >= 4.5
    assert contrast(c["accent"], c["band"]) >= 3
    assert contrast(c["ink"], c["bar"]) >= 3


def test_drawings_take_their_colours_from_the_page(case):
    _, _, root = case
    style = root.all("style")[0].text
    for svg in root.all("svg"):
        for tag in _tags(svg):
            for element in svg.all(tag):
                for name in ("fill", "stroke"):
                    colour = element.attributes.get(name, "none")
                    assert colour in ("none", "transparent") or re.fullmatch(r"var\(--[a-z]+\)", colour), element
                    assert not colour.startswith("var") or f"{colour[4:-1]}:" in style


def test_direct_and_model_based_differ_in_shape_and_in_words():
    rows = [segment("policy", 0.2, group="A", n=500), segment("policy", 0.3, group="B", n=40, direct=False)]
    disc = draw_groups(rows[:1], overall=0.2, direction={}, title="T")
    both = draw_groups(rows, overall=0.2, direction={"B": 1}, title="T")
    assert disc.count('fill="var(--paper)"') == 0
    assert both.count('fill="var(--paper)"') == 1
    assert ("▲" in disc, "▲" in both) == (False, True)
    root = Page(render_page(content_of(splits=(split_of(["A", "B", "C", "D", "E", "F", "G", "H"]),)))).root
    cells = [row.children[2].text for row in root.all("tr") if len(row.children) == 5]
    assert any(cell.startswith("◇ ") for cell in cells)
    assert any(cell[0].isdigit() for cell in cells)


def paths(svg, colour, *, attribute):
    return [e.attributes["d"] for e in Page(svg).root.all("path") if e.attributes.get(attribute) == f"var(--{colour})"]


def test_a_line_breaks_where_a_period_is_missing():
    periods = months(8)
    levels = [segment("policy", 0.2, group=period, n=500) for period in periods if period != "2024-04"]
    whole = draw_periods(periods[:3], levels=levels[:3], alerts=(), title="T")
    broken = draw_periods(periods, levels=levels, alerts=(), title="T")
    lines = [len([d for d in paths(svg, "accent", attribute="stroke") if "L" in d]) for svg in (whole, broken)]
    assert lines == [1, 2]
    assert (
        len(paths(draw_periods(periods[:1], levels=levels[:1], alerts=(), title="T"), "accent", attribute="fill")) == 1
    )


def test_alerts_are_marked_in_the_chart_and_in_the_table():
    periods = months(9)
    alerts = [alert("policy", "2024-03"), alert("policy", "2024-06", change=-0.04, lasting=True)]
    levels = [segment("policy", 0.2, group=period, n=500) for period in periods]
    with_alerts = draw_periods(periods, levels=levels, alerts=alerts, title="T")
    without = draw_periods(periods, levels=levels, alerts=(), title="T")
    marks = [len(paths(svg, "ink", attribute="fill")) for svg in (with_alerts, without)]
    assert marks == [2, 0]
    root = Page(render_page(content_of(timeline=timeline_of(periods, alerts=alerts)))).root
    last = [row.children[-1].text for row in root.all("tr") if row.children[0].text in ("2024-03", "2024-06")]
    assert "▲ 3.1 points up" in last
    assert "▼ 4.0 points down from here on" in last


def test_bars_are_as_long_as_their_shares():
    shown = [("Policy gap", estimate("policy", 0.2)), ("Delivery gap", estimate("delivery", 0.1))]
    svg = draw_bars(shown, first="policy", width=343, title="T")
    (first,), (second,) = (paths(svg, colour, attribute="fill") for colour in ("accent", "bar"))
    lengths = [float(re.search(r"h([\d.]+)", path)[1]) for path in (first, second)]
    assert lengths[0] == pytest.approx(2 * lengths[1], rel=0.01)
    assert f"20%  ({share_range(shown[0][1].low, shown[0][1].high)})" in html.unescape(svg)


def test_a_gap_that_cannot_be_estimated_gets_words_instead_of_a_bar():
    unknown = estimate("delivery", 0.3, low=0.0, high=1.0)
    svg = draw_bars(
        [("Policy gap", estimate("policy", 0.2)), ("Delivery gap", unknown)], first="", width=343, title="T"
    )
    assert "cannot be estimated" in svg
    assert len(paths(svg, "bar", attribute="fill")) == 1
    assert "100%" not in svg  # the other bars keep their scale
    only = draw_bars([("Delivery gap", unknown)], first="", width=343, title="T")
    assert "cannot be estimated" in only
    content = content_of()
    sections = tuple(
        dataclasses.replace(s, estimate=dataclasses.replace(s.estimate, low=0.0, high=1.0)) for s in content.gaps
    )
    root = Page(render_page(dataclasses.replace(content, gaps=sections))).root
    assert [row.children[1].text for row in root.all("tr")][1:6] == ["not known"] * 5


@pytest.mark.parametrize(
    ("highest", "end"),
    [(0.0, 0.01), (0.004, 0.01), (0.021, 0.03), (0.1, 0.1), (0.11, 0.15), (0.31, 0.4), (0.51, 0.6), (1.0, 1.0)],
)
def test_an_axis_ends_at_the_next_round_figure(highest, end):
    axis = ShareAxis.holding([highest])
    assert axis.end == end
    assert 1 <= round(axis.end / axis.step) <= 5


@pytest.mark.parametrize("n", [1, 2, 5, 6, 13, 24, 120])
def test_names_below_a_line_have_room(n):
    periods = [f"2024-{1 + i // 28:02}-{1 + i % 28:02}" for i in range(n)]
    levels = [segment("policy", 0.2, group=period, n=500) for period in periods]
    svg = draw_periods(periods, levels=levels, alerts=(), title="T")
    places = [float(x) for x in re.findall(r'translate\(([-\d.]+),[\d.]+\)"[^>]*>2024-', svg)]
    assert len(places) in range(1, 5)
    assert all(later - earlier >= 70 for earlier, later in pairwise(places))


def test_long_lists_are_folded_and_open_on_request():
    folded = Page(render_page(many())).root
    assert not [details for details in folded.all("details") if "open" in details.attributes]
    assert len([d for d in folded.all("details") if d.attributes.get("class") == "more"]) == 1
    opened = Page(render_page(many(), unfolded=True)).root
    assert all("open" in details.attributes for details in opened.all("details"))


def test_a_table_of_many_sheets_is_not_printed():
    days = [f"2024-{1 + i // 28:02}-{1 + i % 28:02}" for i in range(90)]
    root = Page(render_page(content_of(timeline=timeline_of(days, unit="day")))).root
    long = [details for details in root.all("details") if details.attributes.get("class") == "unprinted"]
    assert len(long) == 5
    assert all(len(details.all("tr")) == 91 for details in long)


@pytest.mark.parametrize(("module", "package"), [("vl_convert", "vl-convert-python"), ("jinja2", "jinja2")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, module, package):
    from gapnlp.report import page

    content = content_of()
    monkeypatch.setitem(sys.modules, module, None)
    page._environment.cache_clear()
    with pytest.raises(MissingExtraError, match=re.escape(package) + r".*gapnlp\[report\]"):
        render_page(content)
    page._environment.cache_clear()


def test_names_that_begin_alike_are_told_apart():
    rows = [segment("policy", 0.2, group=f"Branch of a rather long name no. {i}", n=500) for i in (7, 8)]
    svg = draw_groups(rows, overall=None, direction={}, title="T")
    names = [text.text for text in Page(svg).root.all("text") if text.text.startswith("Branch")]
    assert names[0].endswith("7")
    assert names[1].endswith("8")


def test_ranges_are_brief():
    assert share_range(0.001, 0.12) == "<1\u201312%"
    assert share_range(0.9, 0.999) == "90\u2013>99%"
    assert share_range(0.001, 0.0123) == "0.1\u20131.2%"
