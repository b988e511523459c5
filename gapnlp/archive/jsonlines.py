"""JSON Lines archives: one object a line, keys free to vary, a bad line kept as it was written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import IO, Any

from gapnlp.archive.cells import to_json
from gapnlp.archive.chunk import Chunk, Row, chunked
from gapnlp.archive.columns import MAX_COLUMNS, check_columns
from gapnlp.archive.kinds import KindScan
from gapnlp.archive.textfile import TextFile
from gapnlp.errors import InputError

RAW_COLUMN = "raw_line"  # holds a line that is no JSON object; there only in files that have such lines
_MAX_DEPTH = 100  # lists and objects inside each other; more cannot be handled safely everywhere
_BRACKET = re.compile(r"[\[\]{}]")
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


class JsonLinesSource:
    """A JSONL file; see `Source`. Its columns are the keys of all its lines, in order of appearance.

    Raises:
        InputError: The file is empty, is one JSON array, or no line is an object.
    """

    def __init__(self, text: TextFile) -> None:
        self._text = text
        self.name = text.name
        self.path = text.path
        self.how = f"JSONL, {text.encoding}"
        if text.first_line.lstrip().startswith("["):
            raise InputError(f"{self.name}: begins with a JSON array; expected one object a line")
        self.n_rows, self._kinds = self._scan()
        columns = sorted(self._kinds.kinds, key=lambda column: column == RAW_COLUMN)  # last, where it is there
        self.columns = check_columns(columns, source=self.name)

    def chunks(self, n_rows: int) -> Iterator[Chunk]:
        """Read from the start; see `Source.chunks`."""
        return chunked(self._rows(), n_rows)

    def schema(self) -> Any:
        """Infer the types from all lines: number, truth value or text; lists and objects become JSON text."""
        return self._kinds.schema()

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    def _rows(self) -> Iterator[Row]:
        for number, line in enumerate(self._text.lines(), start=1):
            if line.strip():
                yield _row(line, number)

    def _scan(self) -> tuple[int, KindScan]:
        n_rows = n_bad = 0
        scan = KindScan()
        first_error = ""
        for row in self._rows():
            scan.see(row.values)
            n_rows += 1
            n_bad += bool(row.error)
            first_error = first_error or row.error
            if len(scan.kinds) > MAX_COLUMNS:
                raise InputError(
                    f"{self.name}: has more than {MAX_COLUMNS:,} different keys; expected a few, the same in each line"
                )
        if n_rows == n_bad:
            raise InputError(f"{self.name}: no line is a JSON object; the first problem: {first_error}")
        return n_rows, scan


def _row(line: str, number: int) -> Row:
    place = f"line {number}"
    if _is_deeper(line, _MAX_DEPTH):
        error = f"{place} is nested deeper than {_MAX_DEPTH} levels"
        return Row(place, {RAW_COLUMN: line.rstrip("\r\n")}, error)
    try:
        values = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        return Row(place, {RAW_COLUMN: line.rstrip("\r\n")}, f"{place} is no valid JSON: {exc}")
    if not isinstance(values, dict):
        error = f"{place} holds {type(values).__name__}, expected an object"
        return Row(place, {RAW_COLUMN: line.rstrip("\r\n")}, error)
    return Row(place, values)


def _is_deeper(line: str, depth: int) -> bool:
    """Tell whether brackets may stand deeper than that; those in strings do not count."""
    if line.count("[") + line.count("{") <= depth:
        return False
    level = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", line)):
        level += 1 if bracket[0] in "[{" else -1
        if level > depth:
            return True
    return False


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return values


class JsonLinesWriter:
    """Write one object a line in UTF-8; see `Writer`. A row has the keys it came with, and the added ones."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, chunk: Chunk, gaps: Sequence[dict[str, object]]) -> None:
        """Append rows; see `Writer.write`."""
        lines = [to_json({**row.values, **added}) + "\n" for row, added in zip(chunk.rows, gaps, strict=True)]
        # A lone surrogate becomes its escape, which is what JSON writes for it.
        self._file.write("".join(lines).encode("utf-8", "backslashreplace"))

    def finish(self) -> list[str]:
        """Do nothing: every row is already written."""
        return []

    def abandon(self) -> None:
        """Do nothing: there is nothing to let go of."""
