"""CSV and TSV archives: separator found, ragged rows and stray quotes kept to the row they are in."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, Any, NamedTuple

from gapnlp.archive.cells import make_safe, to_text
from gapnlp.archive.chunk import Chunk, Layout, Row, chunked
from gapnlp.archive.columns import GAP_COLUMNS, check_columns, flatten_gap_values
from gapnlp.archive.textfile import MAX_LINE, TextFile
from gapnlp.errors import InputError

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_N_SNIFFED = 200  # lines that the separator is told from,
_SNIFFED = 2**22  # or as many as have so many characters,
_LONG = 2**16  # without those that alone have so many;
_N_IN_QUOTE = 1_800  # lines more where a quote is still open there,
_IN_QUOTE = 2**18  # or as many as have so many characters: every stray quote among them reads on to their end
_MAX_RECORD_LINES = 10_000  # a quote still open after so many lines was never meant as one


class Record(NamedTuple):
    """The cells of one record, the line it starts at (from 1), and what is wrong with its quotes."""

    line: int
    cells: list[str]
    error: str = ""


class DelimitedSource:
    """A CSV or TSV file with a header line; see `Source`.

    Raises:
        InputError: The file is empty, is JSON, or its header names a column twice or not at all.
    """

    def __init__(self, text: TextFile, *, kind: str) -> None:
        csv.field_size_limit(MAX_LINE)
        self._text = text
        self.name = text.name
        self.path = text.path
        _check_not_json(text.first_line, name=self.name)
        self._separator = _find_separator(text, tab_first=kind == "tsv")
        self.how = f"{kind.upper()}, {text.encoding}, separated by {_SEPARATORS[self._separator]}"
        self.columns = check_columns(next(self._records()).cells, source=self.name)
        self.n_rows = sum(1 for _ in self._rows())

    def chunks(self, n_rows: int) -> Iterator[Chunk]:
        """Read from the start; see `Source.chunks`."""
        return chunked(self._rows(), n_rows)

    def schema(self) -> Any:
        """Call every column text: `007` stays `007`."""
        import pyarrow as pa

        return pa.schema([(column, pa.string()) for column in self.columns])

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    def _records(self) -> Iterator[Record]:
        return read_records(self._text.lines(), separator=self._separator)

    def _rows(self) -> Iterator[Row]:
        return (self._row(record) for record in islice(self._records(), 1, None))

    def _row(self, record: Record) -> Row:
        width = len(self.columns)
        cells, error = record.cells, record.error
        if len(cells) > width and not any(cells[width:]):
            cells = cells[:width]
        if len(cells) != width and not error:
            error = f"line {record.line} has {len(cells)} cells, the header has {width}"
        if len(cells) > width:
            error += f"; the surplus is kept in the column {self.columns[-1]!r}"
            cells = [*cells[: width - 1], self._separator.join(cells[width - 1 :])]
        return Row(f"line {record.line}", dict(zip(self.columns, cells, strict=False)), error)


def read_records(lines: Iterator[str], *, separator: str) -> Iterator[Record]:
    """Read the records of a delimited text; blank lines are none.

    A quote that is opened and not properly closed would swallow the lines after it. Such a record is given up
    after its first line, which comes out with an error, and reading goes on with the line after.
    """
    again: deque[str] = deque()  # lines given back, to be read once more
    taken: list[str] = []  # lines of the record being read

    def feed() -> Iterator[str]:
        while len(taken) < _MAX_RECORD_LINES and (line := again.popleft() if again else next(lines, "")):
            taken.append(line)
            yield line

    reader = csv.reader(feed(), delimiter=separator, strict=True)
    at, width = 1, 0
    while True:
        taken.clear()
        try:
            record = Record(at, next(reader))
        except StopIteration:
            return
        except csv.Error as exc:
            unclosed = len(taken) > 1 or "end of data" in str(exc)
            record = _read_alone(taken[0], at=at, separator=separator, unclosed=unclosed, width=width)
            again.extendleft(reversed(taken[1:]))
            del taken[1:]
            reader = csv.reader(feed(), delimiter=separator, strict=True)
        at += len(taken)
        if any(line.strip() or separator in line for line in taken):  # tabs alone are the cells of a TSV row
            width = width or len(record.cells)
            yield record


def _read_alone(line: str, *, at: int, separator: str, unclosed: bool, width: int) -> Record:
    """Read a line of wrong quotes: as plain characters if they make `width` cells, else forgivingly."""
    plain = next(csv.reader([line], delimiter=separator, quoting=csv.QUOTE_NONE))
    if unclosed:
        return Record(at, plain, f"line {at} opens a quote that is not properly closed")
    return Record(at, plain if len(plain) == width else next(csv.reader([line], delimiter=separator)))


def _find_separator(text: TextFile, *, tab_first: bool) -> str:
    """Choose the separator that gives most records as many cells as the header has."""
    lines = _first_lines(text)
    separators = sorted(_SEPARATORS, key=lambda separator: tab_first and separator != "\t")
    scores = {separator: _score(lines, separator) for separator in separators}
    several = {separator: score for separator, score in scores.items() if score[1] > 1 and score[0] > 0}
    if several:
        return max(several, key=lambda separator: several[separator])
    return max(scores, key=lambda separator: scores[separator][0])  # one column: none that cuts its rows


def _first_lines(text: TextFile) -> list[str]:
    """Return the header and the lines after it, but for those so long that they would fill the memory.

    They end outside of quotes where they can: a quote that is cut looks like one that is never closed.
    """
    lines: list[str] = []
    n_left, n_quotes = _SNIFFED, 0
    for number, line in enumerate(islice(text.lines(), _N_SNIFFED + _N_IN_QUOTE)):
        if number == _N_SNIFFED:
            n_left = min(n_left, _IN_QUOTE)
        if n_left < 0 or (number >= _N_SNIFFED and n_quotes % 2 == 0):
            break
        n_left -= len(line)
        if not lines or len(line) <= _LONG:
            lines.append(line)
            n_quotes += line.count('"')
    return lines


def _score(lines: list[str], separator: str) -> tuple[float, int]:
    """Return the share of records that are as wide as the header, 0-1, and that width."""
    header, *records = read_records(iter(lines), separator=separator)
    width = len(header.cells)
    even = sum(len(record.cells) == width and not record.error for record in records)
    return (even / len(records) if records else 1.0), width


def _check_not_json(line: str, *, name: str) -> None:
    if line.lstrip().startswith(('{"', "[{")):
        raise InputError(f"{name}: its content is JSON, read as CSV; name it .jsonl, with one object a line")


class DelimitedWriter:
    """Write CSV or TSV in UTF-8; see `Writer`."""

    def __init__(self, file: IO[bytes], layout: Layout, *, kind: str) -> None:
        self._file = file
        self._layout = layout
        self._buffer = io.StringIO()
        delimiter = "\t" if kind == "tsv" else ","
        self._plain = csv.writer(self._buffer, delimiter=delimiter, lineterminator="\n")
        self._quoted = csv.writer(self._buffer, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._append([*layout.columns, *GAP_COLUMNS])
        self._flush()

    def write(self, chunk: Chunk, gaps: Sequence[dict[str, object]]) -> None:
        """Append rows; see `Writer.write`."""
        for row, added in zip(chunk.rows, gaps, strict=True):
            cells = [row.values.get(column) for column in self._layout.columns]
            self._append([*cells, *flatten_gap_values(added).values()])
        self._flush()

    def finish(self) -> list[str]:
        """Do nothing: every row is already written."""
        return []

    def abandon(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def _append(self, cells: Sequence[object]) -> None:
        texts = [self._text(cell) for cell in cells]
        # Python 3.11 leaves a bare "\r" unquoted where "\n" ends the lines: readers would end the row there.
        (self._quoted if any("\r" in text for text in texts) else self._plain).writerow(texts)

    def _text(self, cell: object) -> str:
        if isinstance(cell, str) and not self._layout.raw:
            return make_safe(cell)
        return to_text(cell)

    def _flush(self) -> None:
        self._file.write(self._buffer.getvalue().encode("utf-8", "backslashreplace"))
        self._buffer.seek(0)
        self._buffer.truncate()
