"""What `classify` wrote, read a batch of rows at a time, with no more columns than are needed."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

from gapnlp.archive.cells import make_safe, show, to_text
from gapnlp.archive.chunk import Source
from gapnlp.archive.columns import PROBA_COLUMNS
from gapnlp.archive.compression import open_packed
from gapnlp.archive.format import FileFormat, format_of
from gapnlp.archive.reader import STREAM, open_source
from gapnlp.archive.tabular import read_records
from gapnlp.archive.textfile import TextFile
from gapnlp.errors import InputError

NEEDED = ("gap_labels", *PROBA_COLUMNS, "gap_error", "gap_model")
_BATCH_ROWS = 32_768
_BLOCK = 4 * 2**20  # bytes of CSV that are parsed at once
_N_SAMPLES = 20


class Table(Protocol):
    """A file of rows, read by columns.

    Attributes:
        name: What messages call it.
        columns: All its columns.
        flat: True where cells are texts for a spreadsheet, so that some begin with the `'` of `make_safe`.
    """

    name: str
    columns: tuple[str, ...]
    flat: bool

    def samples(self) -> list[dict[str, object]]:
        """Return the first rows, all columns."""
        ...

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Read some columns from the start, as `pyarrow.RecordBatch`es; probabilities are numbers, null if empty."""
        ...


@contextmanager
def open_table(name: str) -> Iterator[Table]:
    """Open a file that `classify` wrote; `-` is stdin, as CSV.

    Raises:
        InputError: It cannot be read, or was not classified.
    """
    plain = _plain_csv(name)
    if plain is not None:
        yield plain
        return
    with open_source(name) as source:
        missing = [column for column in NEEDED if column not in source.columns]
        if missing:
            raise InputError(
                f"{source.name}: has no column {missing[0]}, so it was not classified yet; first run  "
                f"gapnlp classify {_quoted(name)} -o labelled.csv  and then report on labelled.csv"
            )
        kind = "csv" if name == STREAM else format_of(name).kind
        yield ParquetTable(source) if kind == "parquet" else RowTable(source, flat=kind in ("csv", "tsv", "xlsx"))


def undo_safe(text: str) -> str:
    """Take away the `'` that `make_safe` put before a text."""
    return text[1:] if text.startswith("'") and make_safe(text[1:]) == text else text


class ParquetTable:
    """A Parquet file; see `Table`."""

    flat = False

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.columns = source.columns
        self._source = source

    def samples(self) -> list[dict[str, object]]:
        """Return the first rows; see `Table.samples`."""
        return [row.values for chunk in islice(self._source.chunks(_N_SAMPLES), 1) for row in chunk.rows]

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Read some columns; see `Table.batches`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self._source.path, pre_buffer=False, memory_map=False) as file:
                yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns))
        except (pa.ArrowException, OSError) as exc:
            raise InputError(f"{self.name}: cannot be read as Parquet ({exc}); write it again, unencrypted") from exc


class RowTable:
    """Any file that is read row by row; see `Table`."""

    def __init__(self, source: Source, *, flat: bool) -> None:
        self.name = source.name
        self.columns = source.columns
        self.flat = flat
        self._source = source

    def samples(self) -> list[dict[str, object]]:
        """Return the first rows; see `Table.samples`."""
        return [row.values for chunk in islice(self._source.chunks(_N_SAMPLES), 1) for row in chunk.rows]

    def batches(self, columns: Sequence[str], *, skip: int = 0) -> Iterator[Any]:
        """Read some columns; see `Table.batches`.

        Args:
            columns: Which.
            skip: Rows to leave out at the start.

        Raises:
            InputError: A row is damaged, or a probability is no number.
        """
        import pyarrow as pa

        rows = islice((row for chunk in self._source.chunks(_BATCH_ROWS) for row in chunk.rows), skip, None)
        while batch := list(islice(rows, _BATCH_ROWS)):
            damaged = next((row for row in batch if row.error), None)
            if damaged is not None:
                raise InputError(f"{self.name}: {damaged.error}; classify the original file again")
            arrays = {}
            for column in columns:
                values = [row.values.get(column) for row in batch]
                if column in PROBA_COLUMNS:
                    numbers = [
                        _number(value, f"{self.name}, {row.place}: {column}")
                        for value, row in zip(values, batch, strict=True)
                    ]
                    arrays[column] = pa.array(numbers, pa.float64())
                else:
                    arrays[column] = pa.array([_text(value, column) for value in values], pa.string())
            yield pa.RecordBatch.from_pydict(arrays)


class CsvTable:
    """A CSV or TSV file as `classify` writes it, parsed by pyarrow; see `Table`."""

    flat = True

    def __init__(self, text: TextFile, *, columns: Sequence[str], file_format: FileFormat) -> None:
        self.name = text.name
        self.columns = tuple(columns)
        self._text = text
        self._format = file_format
        self._separator = "\t" if file_format.kind == "tsv" else ","

    def samples(self) -> list[dict[str, object]]:
        """Return the first rows; see `Table.samples`."""
        records = read_records(self._text.lines(), separator=self._separator)
        return [dict(zip(self.columns, record.cells, strict=False)) for record in islice(records, 1, _N_SAMPLES + 1)]

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Read some columns; see `Table.batches`. From what pyarrow stumbles over on, rows are read one by one."""
        import pyarrow as pa

        n_done = 0
        try:
            with open_packed(self._text.path, packing=self._format.packing, name=self.name) as file:
                for batch in self._open(file, columns):
                    yield batch
                    n_done += batch.num_rows
                return
        except pa.ArrowInvalid:
            pass
        with open_source(self.name) as source:
            yield from RowTable(source, flat=True).batches(columns, skip=n_done)

    def _open(self, file: IO[bytes], columns: Sequence[str]) -> Any:
        import pyarrow as pa
        from pyarrow import csv as pa_csv

        types = {column: pa.float64() if column in PROBA_COLUMNS else pa.string() for column in columns}
        return pa_csv.open_csv(
            file,
            read_options=pa_csv.ReadOptions(block_size=_BLOCK),
            parse_options=pa_csv.ParseOptions(delimiter=self._separator, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(column_types=types, include_columns=list(columns), null_values=[""]),
        )


def _plain_csv(name: str) -> CsvTable | None:
    """Return the fast reader for a file as `classify` writes it; None for all others, damaged ones too."""
    if name == STREAM or not Path(name).is_file() or Path(name).stat().st_size == 0:
        return None
    found = format_of(name)
    if found.kind not in ("csv", "tsv"):
        return None
    with Path(name).open("rb") as file:
        head = file.read(4)
    if head[:2] == b"PK" or head == b"PAR1" or (not found.packing and head[:2] == b"\x1f\x8b"):
        return None
    text = TextFile(Path(name), packing=found.packing, name=name)
    try:
        header = next(csv.reader([text.first_line], delimiter="\t" if found.kind == "tsv" else ",", strict=True))
    except csv.Error:
        return None
    plain = text.encoding in ("utf-8", "utf-8-sig") and len(set(header)) == len(header)
    if not plain or any(column not in header for column in NEEDED):
        return None
    return CsvTable(text, columns=header, file_format=found)


def _quoted(name: str) -> str:
    import shlex

    return shlex.quote(name)


def _number(value: object, place: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)  # type: ignore[arg-type]  # whatever is no number is refused below
    except (TypeError, ValueError):
        raise InputError(
            f"{place} is {show(value)!r}, expected a number from 0 to 1; classify the original file again, and do not "
            "edit the columns gap_*"
        ) from None


def _text(value: object, column: str) -> str | None:
    if column == "gap_labels" and isinstance(value, list):
        return ";".join(str(item) for item in value)
    return None if value is None else to_text(value).encode("utf-8", "replace").decode()
