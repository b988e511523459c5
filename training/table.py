"""Rows of a file: read from JSONL, CSV, TSV (each may be gzipped) or Parquet, written as JSONL."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gapnlp.errors import ColumnError, InputError

FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")
CELL_LIMIT = 2**31 - 1  # the csv module stops at 128 KiB a cell, which an e-mail thread can pass

Row = dict[str, Any]


def read_rows(path: Path | str) -> Iterator[tuple[int, Row]]:
    """Yield each row with its number, as a person would look it up.

    A CSV or TSV row is counted as a spreadsheet shows it (the header is row 1), a JSONL row by its line, a
    Parquet row from 1.

    Raises:
        InputError: The file cannot be read, or a row of it is not a row; the message names file and row.
    """
    path = Path(path)
    try:
        yield from _rows(path)
    except FileNotFoundError as exc:
        raise InputError(f"there is no file {str(path)!r}: check the path") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{path}: not UTF-8 (byte {exc.start}); save it as UTF-8") from exc
    except (OSError, EOFError, csv.Error) as exc:
        raise InputError(f"{path}: cannot be read ({exc})") from exc


def require_column(column: str, *, columns: set[str], path: Path | str) -> None:
    """Refuse a table without the column.

    Raises:
        ColumnError: The column is not there; the message lists those that are.
    """
    if column not in columns:
        raise ColumnError(
            f"{path}: there is no column {column!r}: name one of its columns, {', '.join(sorted(columns))}"
        )


def write_rows(rows: Iterable[Row], path: Path | str) -> None:
    """Write rows as JSONL, making the folder where it is missing.

    Raises:
        InputError: The file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="\n") as out:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    except OSError as exc:
        raise InputError(f"{path}: cannot be written ({exc}); choose another place") from exc


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix not in FORMATS or (suffix == ".parquet" and path.suffix == ".gz"):
        raise InputError(f"{path}: unknown format; expected {', '.join(FORMATS)} (all but Parquet also with .gz)")
    if suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    with _open(path) as lines:
        if suffix == ".jsonl":
            yield from _jsonl_rows(lines, path=path)
        else:
            yield from _csv_rows(lines, path=path, delimiter="\t" if suffix == ".tsv" else ",")


def _open(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _jsonl_rows(lines: io.TextIOBase, *, path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as exc:
            raise InputError(f"{path}:{number}: not JSON ({exc})") from exc
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: got a {type(row).__name__}, expected a JSON object")
        yield number, row


def _csv_rows(lines: io.TextIOBase, *, path: Path, delimiter: str) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(CELL_LIMIT)
    reader = csv.reader(lines, delimiter=delimiter)
    header = next(reader, None)
    if header is None:
        raise InputError(f"{path}: the file is empty; expected a header row")
    for number, cells in enumerate(reader, start=2):
        if not cells:
            continue
        if len(cells) > len(header):
            raise InputError(
                f"{path}:{number}: {len(cells)} cells under {len(header)} columns; "
                f"a text with {delimiter!r} in it must stand in double quotes"
            )
        yield number, dict(zip(header, cells, strict=False))


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pa.ArrowException as exc:
        raise InputError(f"{path}: not a Parquet file ({exc})") from exc


def read_texts(path: Path | str, *, column: str) -> list[str]:
    """Read one column of texts; empty cells are left out.

    Raises:
        ColumnError: There is no such column.
        InputError: The file cannot be read.
    """
    rows = [row for _, row in read_rows(path)]
    require_column(column, columns={name for row in rows for name in row}, path=path)
    return [str(row[column]) for row in rows if row.get(column)]
