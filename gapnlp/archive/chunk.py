"""Rows on their way from a reader to a writer, a chunk at a time; what readers and writers are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gapnlp.text import mask_personal_data

MAX_CHUNK_SIZE = 16 * 2**20  # characters; long rows or many columns make a chunk smaller, not the memory larger
_CELL_SIZE = 32  # characters that a cell takes up beside its text


@dataclass(slots=True)
class Row:
    """One row of an archive.

    Attributes:
        place: Where it stands in its file, for messages: `line 17`, `row 17`.
        values: Cell per column; a column that the row lacks has no key.
        error: Empty, or why the row cannot be read as it stands. What could be read of it is in `values`.
    """

    place: str
    values: dict[str, object]
    error: str = ""


@dataclass(slots=True)
class Chunk:
    """Consecutive rows of one source.

    Attributes:
        rows: The rows.
        table: The same rows as a `pyarrow.RecordBatch` where the source has types of its own, else None.
        changed: The columns whose cells in `rows` are no longer those of `table`.
    """

    rows: list[Row]
    table: Any = None
    changed: frozenset[str] = frozenset()


class Source(Protocol):
    """A file of rows, scanned once when opened and read from the start as often as asked."""

    name: str  # what messages call it
    path: Path
    how: str  # how it is read: format, encoding, separator
    columns: tuple[str, ...]
    n_rows: int

    def chunks(self, n_rows: int) -> Iterator[Chunk]:
        """Read from the start, `n_rows` rows at a time; the last chunk, and one of large rows, holds fewer.

        The same file is cut into the same chunks every time.
        """
        ...

    def schema(self) -> Any:
        """Tell the type of every column, as a `pyarrow.Schema`."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def chunked(rows: Iterable[Row], n_rows: int) -> Iterator[Chunk]:
    """Cut a stream into chunks of `n_rows` rows, or of fewer where these are large."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += _size(row)
        if len(chunk) >= n_rows or size >= MAX_CHUNK_SIZE:
            yield Chunk(chunk)
            chunk, size = [], 0
    if chunk:
        yield Chunk(chunk)


def _size(row: Row) -> int:
    return sum([_CELL_SIZE + (len(value) if isinstance(value, str) else 0) for value in row.values.values()])


@dataclass(frozen=True, slots=True)
class Layout:
    """What a writer must know before the first row.

    Attributes:
        columns: The input's columns, in order.
        schema: Gives their types as a `pyarrow.Schema`; called by the formats that have types.
        raw: Write every text exactly, even one that a spreadsheet would run as a formula.
    """

    columns: tuple[str, ...]
    schema: Callable[[], Any]
    raw: bool = False


class Writer(Protocol):
    """Rows out, in the order they come."""

    def write(self, chunk: Chunk, gaps: Sequence[dict[str, object]]) -> None:
        """Append rows, each with its added columns (see `columns.gap_values`)."""
        ...

    def finish(self) -> list[str]:
        """Complete the content; return what the user should know of it, a sentence each."""
        ...

    def abandon(self) -> None:
        """Give up what was begun; the content will be thrown away."""
        ...


def mask_chunk(chunk: Chunk, text_column: str) -> Chunk:
    """Mask the text; in a row that could not be read well, every cell, since the text may be in any."""
    for row in chunk.rows:
        for column in list(row.values) if row.error else [text_column]:
            value = row.values.get(column)
            if isinstance(value, str):
                row.values[column] = mask_personal_data(value)
    return Chunk(chunk.rows, chunk.table, chunk.changed | {text_column})
