"""A report in the formats that people and programs take further: JSON, CSV, XLSX, Markdown, and the page."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from gapnlp.archive.cells import escape_surrogates, make_safe
from gapnlp.errors import InputError
from gapnlp.records import PrevalenceEstimate
from gapnlp.report.content import GapSection, Quotation, ReportContent
from gapnlp.report.tables import Row, tables
from gapnlp.report.words import is_known, share, span
from gapnlp.taxonomy import NONE

KINDS = ("html", "print", "json", "csv", "xlsx", "md")
JSON_VERSION = 1
_SUFFIXES = {".html": "html", ".htm": "html", ".json": "json", ".csv": "csv", ".xlsx": "xlsx", ".md": "md"}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~])")
_NOT_XML = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
_MAX_CELL = 32_767
_WIDTHS = {"text": 90, "notes": 60, "evidence": 50, "place": 30, "group": 26, "groups": 26, "says": 110}
_SHARES = frozenset({"counted", "prevalence", "low", "high", "band_low", "band_high", "confidence", "difference"})
_MORE_SHARES = frozenset({"change", "per_period", "false_alarm_rate", "probability"})


def kind_of(name: str) -> str:
    """Tell a report's format by its file's name.

    Raises:
        InputError: The extension is none of those known.
    """
    kind = _SUFFIXES.get(PurePath(name.lower()).suffix)
    if kind is None:
        raise InputError(f"{name}: expected a name that ends in {', '.join(_SUFFIXES)}, or  --format KIND")
    return kind


def render(content: ReportContent, *, kind: str) -> bytes:
    """Write a report.

    Args:
        content: What it says.
        kind: One of `KINDS`.
    """
    return _RENDER[kind](content)


def to_json(content: ReportContent) -> str:
    """Write everything as one JSON object; shares are 0-1, and what is no number is null."""
    document = {"format": JSON_VERSION, **_finite(asdict(content))}
    return escape_surrogates(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)) + "\n"


def to_csv(content: ReportContent) -> str:
    """Write every share, one a row: of the whole, by group and by period."""
    rows = tables(content)["estimates"]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({column: _safe(cell) for column, cell in row.items()} for row in rows)
    return escape_surrogates(text.getvalue())


def to_markdown(content: ReportContent) -> str:
    """Write what one pastes into a ticket: the answer, the shares, what was found, and the first gap in full."""
    lines = [f"# {_plain(content.title)}", "", f"**{_plain(content.answer.headline)}**", ""]
    lines += [*map(_plain, (*content.answer.reasons, content.answer.certainty)), ""]
    lines += [*_share_table(content), "", *_bullets([*content.answer.caveats, *content.notes]), ""]
    for split in content.splits:
        lines += [f"## By {_plain(split.column)}", "", *_bullets(split.findings), ""]
        lines += [*_group_table(content, split.column, split.groups), "", *_bullets(split.notes), ""]
    if content.timeline:
        lines += ["## Over time", "", *_bullets(content.timeline.findings), ""]
        lines += [*_group_table(content, content.timeline.column, content.timeline.periods), ""]
        lines += [*_bullets(content.timeline.notes), ""]
    for section in content.gaps:
        lines += _gap_section(section, whole=section.gap.id == (content.answer.label or content.gaps[0].gap.id))
    lines += ["## Data", "", *_bullets(content.quality.notes), ""]
    files = ", ".join(f"{source.name} ({source.n_rows:,} rows)" for source in content.sources)
    lines.append(_plain(f"Made on {content.created} from {files}, labelled by {content.method.model}."))
    return escape_surrogates("\n".join(lines)) + "\n"


def to_workbook(content: ReportContent) -> bytes:
    """Write an XLSX workbook: the answer first, then a sheet per table; no cell is ever run as a formula."""
    from openpyxl import Workbook

    book = Workbook()
    sheets: Any = book
    sheets.remove(sheets.active)
    says = [{"part": part, "says": sentence} for part, sentence in _sentences(content)]
    for name, rows in {"answer": says, **tables(content)}.items():
        if rows:
            _fill(book.create_sheet(name), rows)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _to_page(content: ReportContent, *, unfolded: bool) -> bytes:
    from gapnlp.report.page import render_page

    return render_page(content, unfolded=unfolded).encode("utf-8", "backslashreplace")


_RENDER: dict[str, Callable[[ReportContent], bytes]] = {
    "html": lambda content: _to_page(content, unfolded=False),
    "print": lambda content: _to_page(content, unfolded=True),  # the page with all that folds open, to make a PDF of
    "json": lambda content: to_json(content).encode(),
    # With the byte order mark, spreadsheet programs read the file as UTF-8.
    "csv": lambda content: to_csv(content).encode("utf-8-sig"),
    "xlsx": to_workbook,
    "md": lambda content: to_markdown(content).encode(),
}


def _sentences(content: ReportContent) -> Iterator[tuple[str, str]]:
    """Give everything that the report says in words, in the order of reading."""
    answer, quality = content.answer, content.quality
    yield "title", content.title
    yield "answer", answer.headline
    yield from (("why", sentence) for sentence in answer.reasons)
    yield "how sure", answer.certainty
    yield from (("mind", sentence) for sentence in (*answer.caveats, *content.notes))
    for split in content.splits:
        yield from ((f"by {split.column}", sentence) for sentence in (*split.findings, *split.notes))
    if content.timeline:
        yield from (("over time", sentence) for sentence in (*content.timeline.findings, *content.timeline.notes))
    yield from (("data", sentence) for sentence in quality.notes)
    yield from (("data", f"{n_rows:,} rows: {reason}") for reason, n_rows in quality.failures)
    yield from ((f"method: {title}", text) for title, text in content.method.paragraphs)
    yield from (("source", reference) for reference in content.method.references)
    yield from (("file", f"{source.name} ({source.n_rows:,} rows)") for source in content.sources)
    yield "made on", content.created
    yield "model", content.method.model


def _share_table(content: ReportContent) -> list[str]:
    lines = [
        f"| gap | estimate | {content.confidence:.0%} range | counted |",
        "|---|---:|---:|---:|",
    ]
    names = {section.gap.id: section.gap.name for section in content.gaps} | {NONE: "no gap"}
    for estimate in (*(section.estimate for section in content.gaps), content.none):
        value, interval = _value(estimate)
        lines.append(f"| {names[estimate.label]} | {value} | {interval} | {share(estimate.counted)} |")
    return lines


_MARKS = {
    r"\*": r"\* model-based",
    "?": "? texts unlike those that the classifier was checked on: not to be relied on",
}


def _group_table(content: ReportContent, column: str, names: Sequence[str]) -> list[str]:
    """Lay one column's shares out, a row per group and a column per gap."""
    cells: dict[str, dict[str, str]] = {}
    n_texts: dict[str, int] = {}
    for row in tables(content)["estimates"]:
        if row["part"] == column:
            cells.setdefault(row["group"], {})[row["gap"]] = _short(row)
            n_texts[row["group"]] = row["texts"]
    if not cells:
        return []
    gaps = [section.gap.id for section in content.gaps]
    order = [name for name in names if name in cells] + [name for name in cells if name not in names]
    lines = [f"| {_plain(column)} | texts | {' | '.join(gaps)} |", f"|---|---:|{'---:|' * len(gaps)}"]
    lines += [
        f"| {_plain(name)} | {n_texts[name]:,} | {' | '.join(cells[name][gap] for gap in gaps)} |" for name in order
    ]
    written = "".join(cell for row in cells.values() for cell in row.values())
    marks = [meaning for mark, meaning in _MARKS.items() if mark in written]
    lines += ["", "; ".join(marks)] if marks else []
    return lines


def _short(row: Mapping[str, Any]) -> str:
    star = r"\*" if row["method"] == "model-based" else ""
    doubt = "?" if row["doubted"] else ""
    return f"{share(row['prevalence'])} ({share(row['low'])} to {share(row['high'])}){star}{doubt}"


def _value(estimate: PrevalenceEstimate) -> tuple[str, str]:
    if not is_known(estimate):
        return "unknown", "any"
    return share(estimate.prevalence, width=estimate.high - estimate.low), span(estimate)


def _gap_section(section: GapSection, *, whole: bool) -> list[str]:
    gap = section.gap
    lines = [f"## {section.rank}. {gap.name[0].upper()}{gap.name[1:]}", "", _plain(section.summary), ""]
    lines += [f"> {_quoted(quotation)}\n" for quotation in section.quotations]
    parts = [("Likely causes", gap.causes), ("Questions to ask", gap.questions), ("What closes it", gap.remedies)]
    for title, sentences in parts if whole else parts[2:]:
        lines += [f"**{title}**", "", *_bullets(sentences), ""]
    return lines


def _quoted(item: Quotation) -> str:
    pieces = (item.text[: item.start], item.text[item.start : item.end], item.text[item.end :])
    before, evidence, after = (_MARKDOWN.sub(r"\\\1", piece) for piece in pieces)
    marked = f"**{evidence}**" if evidence else ""
    where = ", ".join((*item.groups, item.place))
    return f"{before}{marked}{after} ({_plain(where)})"


def _bullets(sentences: Sequence[str]) -> list[str]:
    return [f"- {_plain(sentence)}" for sentence in sentences]


def _plain(text: str) -> str:
    """Write a text so that Markdown shows it as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _fill(sheet: Any, rows: Sequence[Row]) -> None:
    from openpyxl.styles import Alignment, Font
    from openpyxl.utils import get_column_letter

    columns = list(rows[0])
    sheet.append(columns)
    for place, column in enumerate(columns, start=1):
        sheet.cell(1, place).font = Font(bold=True)
        sheet.column_dimensions[get_column_letter(place)].width = _WIDTHS.get(column, 14)
    for at, row in enumerate(rows, start=2):
        for place, column in enumerate(columns, start=1):
            cell, value = sheet.cell(at, place), row[column]
            if isinstance(value, str):
                cell.value, cell.data_type = _cell_text(value), "s"
                cell.alignment = Alignment(wrap_text=_WIDTHS.get(column, 0) > 50, vertical="top")
            else:
                cell.value = value
            if column in _SHARES or column in _MORE_SHARES:
                cell.number_format = "0.0%"
    sheet.freeze_panes = "A2"


def _cell_text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", escape_surrogates(make_safe(text)))[:_MAX_CELL]


def _safe(cell: object) -> object:
    return make_safe(cell) if isinstance(cell, str) else cell


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
