"""The rows of an audit as a file: blind to the model when written, with a person's marks when read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from gapnlp.archive.cells import escape_surrogates, make_safe, show
from gapnlp.archive.chunk import Row, Source
from gapnlp.archive.format import format_of
from gapnlp.archive.reader import open_source
from gapnlp.errors import ColumnError, InputError, UnknownGapError
from gapnlp.taxonomy import LABELS, resolve_gap

KINDS = ("csv", "xlsx", "jsonl")
COLUMNS = ("row", "id", "text", *LABELS, "read")
YES = frozenset({"1", "1.0", "x", "y", "yes", "true", "\u2713", "\u2714"})
NO = frozenset({"", "0", "0.0", "n", "no", "false", "-"})

Marks: TypeAlias = Mapping[int, tuple[bool, ...]]
"""Row number → per gap, whether the reader found it; the rows that were read."""

_WIDTHS = {"row": 8, "id": 14, "text": 90}
_MAX_CELL = 32_767  # characters that a cell of a workbook holds


class AuditRow(NamedTuple):
    """One row to read.

    Attributes:
        number: Of the row in its archive, from 1.
        name: What the archive calls it; may be empty.
        text: What the customer wrote.
    """

    number: int
    name: str
    text: str


def check_kind(name: str) -> None:
    """Refuse a file name whose format people cannot fill in.

    Raises:
        InputError: The extension is none of `KINDS`.
    """
    found = format_of(name)
    if found.kind not in KINDS or Path(name).suffix.lower() != f".{found.kind}":
        raise InputError(f"{name}: people are to fill it in; expected a name that ends in .csv, .xlsx or .jsonl")


def write_rows(path: Path, rows: Sequence[AuditRow]) -> None:
    """Write rows with empty columns to mark; the file appears whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    columns = [column for column in COLUMNS if column != "id" or any(row.name for row in rows)]
    cells = [[_cell(row, column) for column in columns] for row in rows]
    content = _CONTENT[format_of(path.name).kind](columns, cells)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({exc.strerror}); check the folder and the disk") from exc


def read_marks(path: Path, *, drawn: Container[int]) -> Marks:
    """Read which rows were read, and which gaps were found.

    Args:
        path: What `write_rows` wrote, with marks; columns may be reordered, and gaps go by any of their names.
        drawn: The row numbers that may be there.

    Raises:
        InputError: A mark cannot be read, or a row was not drawn, is there twice, or has gaps but is not marked read.
        ColumnError: A column is missing.
    """
    marks: dict[int, tuple[bool, ...]] = {}
    seen: dict[int, str] = {}
    with open_source(str(path)) as source:
        gaps = _gap_columns(source)
        for row in (row for chunk in source.chunks(1024) for row in chunk.rows):
            if row.error:
                raise InputError(f"{source.name}: {row.error}; mend the row, or fill in a fresh copy")
            number = _number(row, source=source, drawn=drawn)
            if number in seen:
                raise InputError(f"{source.name}, {row.place}: row {number} is in {seen[number]} too; keep one of them")
            seen[number] = row.place
            found = tuple(_mark(row, column, source=source) for column in gaps)
            if _mark(row, "read", source=source):
                marks[number] = found
            elif any(found):
                raise InputError(
                    f"{source.name}, {row.place}: a gap is marked but 'read' is not; mark 'read' in every row that "
                    "was read, also in those without a gap, or the share of every gap would come out too high"
                )
    return marks


def _cell(row: AuditRow, column: str) -> object:
    if column == "row":
        return row.number
    return {"id": row.name, "text": row.text}.get(column, "")


def _safe(cell: object) -> object:
    return make_safe(cell) if isinstance(cell, str) else cell


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerow(columns)
    writer.writerows([[_safe(cell) for cell in row] for row in rows])
    # With the byte order mark, spreadsheet programs read the file as UTF-8.
    return text.getvalue().encode("utf-8-sig", "backslashreplace")


def _jsonl(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    lines = [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n" for row in rows]
    return "".join(lines).encode("utf-8", "backslashreplace")


def _xlsx(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    """Lay the rows out for a person: the header stays in view, long texts wrap."""
    from openpyxl import Workbook
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
    from openpyxl.styles import Alignment, Font
    from openpyxl.utils import get_column_letter

    book = Workbook()
    sheet: Any = book.active
    sheet.title = "audit"
    sheet.append(list(columns))
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    for at, row in enumerate(rows, start=2):
        for place, value in enumerate(row, start=1):
            cell = sheet.cell(at, place)
            cell.alignment = Alignment(wrap_text=True, vertical="top")
            if isinstance(value, str) and value:
                plain = escape_surrogates(ILLEGAL_CHARACTERS_RE.sub("\N{REPLACEMENT CHARACTER}", make_safe(value)))
                cell.value, cell.data_type = plain[:_MAX_CELL], "s"
            elif not isinstance(value, str):
                cell.value = value
    for place, column in enumerate(columns, start=1):
        sheet.column_dimensions[get_column_letter(place)].width = _WIDTHS.get(column, 15)
    sheet.freeze_panes = "A2"
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


_CONTENT = {"csv": _csv, "jsonl": _jsonl, "xlsx": _xlsx}


def _gap_columns(source: Source) -> list[str]:
    """Find the column of each gap, in the order of `LABELS`."""
    found: dict[str, str] = {}
    for column in source.columns:
        try:
            label = resolve_gap(column)
        except UnknownGapError:
            continue
        if label in found:
            raise ColumnError(f"{source.name}: the columns {found[label]!r} and {column!r} mean the same gap; keep one")
        found[label] = column
    missing = [name for name in ("row", "read") if name not in source.columns]
    missing += [label for label in LABELS if label not in found]
    if missing:
        raise ColumnError(
            f"{source.name}: has no column {missing[0]!r}; expected the columns that  gapnlp audit draw  wrote, with "
            "nothing but their cells filled in"
        )
    return [found[label] for label in LABELS]


def _number(row: Row, *, source: Source, drawn: Container[int]) -> int:
    value = row.values.get("row")
    try:
        number = int(float(str(value)))
    except (ValueError, OverflowError):
        number = 0
    if number not in drawn:
        raise InputError(
            f"{source.name}, {row.place}: row {show(value)!r} is not one of those that were drawn; "
            "leave the column 'row' as it was, and add no rows"
        )
    return number


def _mark(row: Row, column: str, *, source: Source) -> bool:
    value = row.values.get(column)
    mark = str("" if value is None else value).strip().casefold()
    if mark not in YES and mark not in NO:
        raise InputError(
            f"{source.name}, {row.place}, column {column}: got {show(value)!r}, expected x, 1 or yes where it applies "
            "and nothing where it does not"
        )
    return mark in YES
