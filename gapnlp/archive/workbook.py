"""XLSX archives: the first sheet, read as a stream, after a look at what the file would inflate to."""

from __future__ import annotations

import datetime
import math
import re
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import IO, Any

from gapnlp.archive.cells import escape_surrogates, make_safe, to_text
from gapnlp.archive.chunk import Chunk, Layout, Row, chunked
from gapnlp.archive.columns import GAP_COLUMNS, check_columns, flatten_gap_values
from gapnlp.archive.kinds import KindScan
from gapnlp.errors import InputError

# A full sheet of long comments stays under these; a bomb does not.
MAX_INFLATED = 4 * 2**30
MAX_RATIO = 200
_RATIO_FROM = 64 * 2**20  # bytes; a small file may be as repetitive as it likes
MAX_CELL = 32_767  # characters
MAX_SHEET_ROWS = 1_048_575  # below the header
_ROWS_A_STEP = 64
_NO_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can say
_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")
_NOT_XML = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
# What openpyxl, zipfile and the XML parser raise at damaged or locked files.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, SyntaxError, RuntimeError, ArithmeticError),
    *(LookupError, ValueError, TypeError, AttributeError),
)


class WorkbookSource:
    """The first sheet of an XLSX workbook, whose first row names the columns; see `Source`.

    Formulas give the value they had when the workbook was saved.

    Raises:
        InputError: The file is no workbook, is damaged, is a bomb, or its first sheet is empty.
    """

    def __init__(self, path: Path, *, name: str) -> None:
        self.name = name
        self.path = path
        check_inflated_size(path, name=name)
        _, header = next(self._cells(), (0, []))
        while header and header[-1] is None:  # formatted cells beyond the table
            header.pop()
        if not header:
            raise InputError(f"{name}: the first sheet is empty; expected a header row")
        self.columns = check_columns(["" if cell is None else str(cell) for cell in header], source=name)
        self._kinds = KindScan()
        self._kinds.see(dict.fromkeys(self.columns))
        self.n_rows = 0
        for row in self._rows():
            self._kinds.see(row.values)
            self.n_rows += 1
        self.how = f"XLSX, sheet {self._sheet!r}" + (f", first of {self._n_sheets}" * (self._n_sheets > 1))

    def chunks(self, n_rows: int) -> Iterator[Chunk]:
        """Read from the start; see `Source.chunks`."""
        return chunked(self._rows(), n_rows)

    def schema(self) -> Any:
        """Infer the types from all rows: number, truth value, date or text."""
        return self._kinds.schema()

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    def _cells(self) -> Iterator[tuple[int, list[Any]]]:
        """Read the rows that are not blank, each with its number."""
        try:
            with closing(self._load()) as book:
                if not book.worksheets:
                    raise InputError(f"{self.name}: the workbook has no sheet of cells")
                sheet = book.worksheets[0]
                sheet.reset_dimensions()  # what the file says of its size may be wrong
                self._sheet, self._n_sheets = sheet.title, len(book.worksheets)
                for number, row in enumerate(_quietly(sheet.iter_rows(values_only=True)), start=1):
                    if number > MAX_SHEET_ROWS + 1:
                        raise InputError(f"{self.name}: has a row beyond the {MAX_SHEET_ROWS + 1:,} that a sheet holds")
                    if any(cell is not None for cell in row):
                        yield number, [_unescape(cell) for cell in row]
        except _BROKEN as exc:
            raise InputError(
                f"{self.name}: cannot be read as an XLSX workbook ({exc}); open it in a spreadsheet program "
                "and save it again as .xlsx"
            ) from exc

    def _load(self) -> Any:
        from openpyxl import load_workbook

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # styles and extensions that no reader of values needs
            return load_workbook(self.path, read_only=True, data_only=True)

    def _rows(self) -> Iterator[Row]:
        return (self._row(cells, number) for number, cells in islice(self._cells(), 1, None))

    def _row(self, cells: list[Any], number: int) -> Row:
        width = len(self.columns)
        surplus = [str(cell) for cell in cells[width:] if cell is not None]
        cells = [*cells[:width], *[None] * (width - len(cells))]
        error = ""
        if surplus:
            error = f"row {number} has cells beyond the last named column; they are kept in {self.columns[-1]!r}"
            last = [] if cells[-1] is None else [str(cells[-1])]
            cells[-1] = ", ".join([*last, *surplus])
        return Row(f"row {number}", dict(zip(self.columns, cells, strict=True)), error)


def _quietly(rows: Iterator[Any]) -> Iterator[Any]:
    """Keep back the warnings of each step; between the steps other code has its own."""
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = list(islice(rows, _ROWS_A_STEP))
        if not batch:
            return
        yield from batch


def check_inflated_size(path: Path, *, name: str) -> None:
    """Refuse a zip file that would inflate to more than a workbook can honestly need.

    Raises:
        InputError: No zip file, or too large inflated.
    """
    inflated, packed = sizes_of(path, name=name)
    if inflated > MAX_INFLATED or (inflated > _RATIO_FROM and inflated > MAX_RATIO * packed):
        raise InputError(
            f"{name}: would inflate from {packed:,} to {inflated:,} bytes, more than a workbook needs "
            f"(at most {MAX_INFLATED:,} bytes, and {MAX_RATIO} times its size); save it as CSV if it is sound"
        )


def sizes_of(path: Path, *, name: str) -> tuple[int, int]:
    """Return how many bytes a workbook holds, inflated and packed, without inflating it.

    The sizes are those of the zip directory; the zip reader stops at them, so they cannot lie.

    Raises:
        InputError: No zip file, or no workbook.
    """
    try:
        with zipfile.ZipFile(path) as book:
            entries = book.infolist()
    except zipfile.BadZipFile as exc:
        raise InputError(f"{name}: damaged or no XLSX workbook ({exc}); save it again as .xlsx") from exc
    if "[Content_Types].xml" not in {entry.filename for entry in entries}:
        raise InputError(f"{name}: a zip file, but no XLSX workbook; unpack it, or save it as .xlsx")
    return sum(entry.file_size for entry in entries), max(sum(entry.compress_size for entry in entries), 1)


class _TimelessZip(zipfile.ZipFile):
    """A zip file that says nothing of when it was written, so that the same rows give the same bytes."""

    def writestr(self, zinfo_or_arcname: Any, data: Any, *args: Any, **kwargs: Any) -> None:
        """Add an entry from memory."""
        super().writestr(self._entry(zinfo_or_arcname), data, *args, **kwargs)

    def write(self, filename: Any, arcname: Any = None, *_args: Any, **_kwargs: Any) -> None:
        """Add an entry from a file."""
        entry = self._entry(arcname)
        entry.file_size = Path(filename).stat().st_size  # beyond 2 GiB the entry needs a larger header
        with Path(filename).open("rb") as source, self.open(entry, "w") as target:
            shutil.copyfileobj(source, target, 2**20)

    def _entry(self, name: str) -> zipfile.ZipInfo:
        entry = zipfile.ZipInfo(name, _NO_TIME)
        entry.compress_type = self.compression
        return entry


class WorkbookWriter:
    """Write one sheet, row by row; see `Writer`."""

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        from openpyxl import Workbook

        self._file = file
        self._layout = layout
        self._book = Workbook(write_only=True)
        self._sheet = self._book.create_sheet("gaps")
        self._n_rows = 0
        self._n_cut = 0
        self._sheet.append([self._cell(name) for name in (*layout.columns, *GAP_COLUMNS)])

    def write(self, chunk: Chunk, gaps: Sequence[dict[str, object]]) -> None:
        """Append rows; see `Writer.write`.

        Raises:
            InputError: The sheet is full.
        """
        self._n_rows += len(chunk.rows)
        check_sheet_rows(self._n_rows)
        for row, added in zip(chunk.rows, gaps, strict=True):
            cells = [row.values.get(column) for column in self._layout.columns]
            self._sheet.append([self._cell(value) for value in (*cells, *flatten_gap_values(added).values())])

    def finish(self) -> list[str]:
        """Zip the sheet up; tell how many cells had to be cut."""
        from openpyxl.writer.excel import ExcelWriter

        self._book.properties.created = self._book.properties.modified = datetime.datetime(*_NO_TIME)  # noqa: DTZ001
        ExcelWriter(self._book, _TimelessZip(self._file, "w", zipfile.ZIP_DEFLATED)).save()
        if not self._n_cut:
            return []
        held = f"{MAX_CELL:,} characters that an XLSX cell can hold"
        return [f"{self._n_cut} cells were cut to the {held}; CSV holds them all"]

    def abandon(self) -> None:
        """Close the sheet."""
        self._sheet.close()

    def _cell(self, value: object) -> Any:
        """Turn a value into what openpyxl writes as it stands; a text never becomes a formula."""
        from openpyxl.cell import WriteOnlyCell

        if value is None or value == "":
            return None
        if _fits(value):
            return value
        text = to_text(value)
        text = make_safe(text) if isinstance(value, str) and not self._layout.raw else text
        text = _escape(escape_surrogates(text))
        if len(text) > MAX_CELL:
            self._n_cut += 1
            text = text[:MAX_CELL]
        cell = WriteOnlyCell(self._sheet, value=text)
        cell.data_type = "s"
        return cell


def check_sheet_rows(n_rows: int) -> None:
    """Refuse more rows than a sheet has below its header.

    Raises:
        InputError: They do not fit.
    """
    if n_rows > MAX_SHEET_ROWS:
        raise InputError(
            f"{n_rows:,} rows do not fit into a sheet, which holds {MAX_SHEET_ROWS:,} below its header; "
            "write to .csv or .parquet instead"
        )


def _fits(value: object) -> bool:
    """Tell whether a cell can hold the value itself, exactly."""
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return abs(value) < 10**15  # a spreadsheet keeps 15 digits
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, datetime.datetime):
        return value.tzinfo is None and value.year >= 1900
    return isinstance(value, datetime.date) and value.year >= 1900


def _escape(text: str) -> str:
    """Write what XML cannot hold as `_xHHHH_` (ECMA-376, ST_Xstring), and what looks like that as a text."""
    text = _ESCAPED.sub(lambda match: f"_x005F{match[0]}", text)
    return _NOT_XML.sub(lambda match: f"_x{ord(match[0]):04X}_", text)


def _unescape(value: object) -> object:
    if not isinstance(value, str) or "_x" not in value:
        return value
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), value)
