"""Parquet archives, read batch by batch with the types they have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from gapnlp.archive.cells import escape_surrogates, to_text
from gapnlp.archive.chunk import MAX_CHUNK_SIZE, Chunk, Layout, Row
from gapnlp.archive.columns import GAP_COLUMNS, PROBA_COLUMNS, check_columns
from gapnlp.archive.kinds import EXACT, is_text, mark_exact
from gapnlp.errors import InputError

_GROUP_ROWS = 65_536  # a row group is complete at so many rows,
_GROUP_BYTES = 64 * 2**20  # or at so many bytes


class ParquetSource:
    """A Parquet file; see `Source`.

    Raises:
        InputError: The file is damaged, encrypted or no Parquet.
    """

    def __init__(self, path: Path, *, name: str) -> None:
        self.name = name
        self.path = path
        self.how = "Parquet"
        with self._open() as file:
            self._schema = file.schema_arrow
            self.n_rows = int(file.metadata.num_rows)
            self._row_size = _row_size(file.metadata)
            self._exact = _exact_integers(file)
        self.columns = check_columns(self._schema.names, source=name)

    def chunks(self, n_rows: int) -> Iterator[Chunk]:
        """Read from the start; see `Source.chunks`."""
        at = 1
        with self._open() as file:
            for batch in file.iter_batches(batch_size=max(1, min(n_rows, MAX_CHUNK_SIZE // self._row_size))):
                yield Chunk(
                    [Row(f"row {at + i}", values) for i, values in enumerate(_python_rows(batch))],
                    table=batch,
                )
                at += batch.num_rows

    def schema(self) -> Any:
        """Return the file's own types, the integers that floats hold marked for `merge_schemas`."""
        import pyarrow as pa

        fields = [mark_exact(field) if field.name in self._exact else field for field in self._schema]
        return pa.schema(fields, metadata=self._schema.metadata)

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    @contextmanager
    def _open(self) -> Iterator[Any]:
        import pyarrow.parquet as pq

        with self._explained(), pq.ParquetFile(self.path, pre_buffer=False, memory_map=False) as file:
            yield file

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, ValueError, OSError) as exc:
            raise InputError(f"{self.name}: cannot be read as Parquet ({exc}); write it again, unencrypted") from exc


def _exact_integers(file: Any) -> set[str]:
    """Return the columns of long integers all of which a float holds exactly, as far as the file tells."""
    import pyarrow as pa

    found = {field.name for field in file.schema_arrow if field.type in (pa.int64(), pa.uint64())}
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    for column in (group.column(i) for group in groups for i in range(group.num_columns)):
        if column.path_in_schema in found and not _is_exact(column):
            found.remove(column.path_in_schema)
    return found


def _is_exact(column: Any) -> bool:
    known = column.statistics
    if known is None or not known.has_min_max:
        return bool(known is not None and known.null_count == column.num_values)
    return known.min in EXACT and known.max in EXACT


def _row_size(metadata: Any) -> int:
    """Return the bytes of an average row, unpacked, at least 1 per column."""
    n_bytes = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return max(int(n_bytes) // max(int(metadata.num_rows), 1), int(metadata.num_columns), 1)


def _python_rows(batch: Any) -> list[dict[str, object]]:
    """Turn a batch into rows."""
    columns = [_python_cells(array) for array in batch.columns]
    return [dict(zip(batch.schema.names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _python_cells(array: Any) -> list[Any]:
    """Turn a column into Python's values; a time finer than its microseconds, or beyond its years, becomes text."""
    import pyarrow as pa

    fine = pa.types.is_temporal(array.type) and getattr(array.type, "unit", "") == "ns"
    try:
        return list((array.cast(pa.string()) if fine else array).to_pylist())
    except OverflowError:
        return [python_cell(cell) for cell in array]


def python_cell(cell: Any) -> Any:
    """Turn a `pyarrow.Scalar` into Python's value, in which a time beyond Python's years is text."""
    import pyarrow as pa

    try:
        return cell.as_py()
    except OverflowError:
        pass
    if isinstance(cell, pa.MapScalar):
        return [tuple(python_cell(part) for part in entry.values()) for entry in cell.values]
    if isinstance(cell, pa.ListScalar):
        return [python_cell(item) for item in cell.values]
    if isinstance(cell, pa.StructScalar):
        return {name: python_cell(part) for name, part in cell.items()}
    return _far_time(cell)


def _far_time(cell: Any) -> str:
    """Write a time that Python cannot hold: its date up to the year 32,767, from there on its number."""
    import pyarrow as pa

    if getattr(cell.type, "tz", None) is not None:
        bare = str(cell.cast(pa.timestamp(cell.type.unit)).cast(pa.string()))
        if bare.startswith("<"):  # of a time with a zone, pyarrow would write some other year
            return bare
    return str(cell.cast(pa.string()))


def text_array(array: Any) -> Any:
    """Turn a column into texts; lists, objects and bytes that are no text become what the flat formats make of them."""
    import pyarrow as pa

    if not pa.types.is_nested(array.type):
        with suppress(pa.ArrowInvalid):
            return array.cast(pa.string())
    return pa.array([None if cell is None else to_text(_decoded(cell)) for cell in _python_cells(array)], pa.string())


def _decoded(cell: object) -> object:
    """Return bytes as the text that they are in UTF-8, and everything else as it is."""
    try:
        return cell.decode() if isinstance(cell, bytes) else cell
    except UnicodeDecodeError:
        return cell


class ParquetWriter:
    """Write Parquet; the input's columns keep their types, and evidence is JSON text. See `Writer`."""

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._inputs = layout.schema()
        self._added = _gap_schema()
        whole = pa.schema([*self._inputs, *self._added], metadata=self._inputs.metadata)
        self._schema = whole
        self._writer = pq.ParquetWriter(file, whole)
        self._waiting: list[Any] = []

    def write(self, chunk: Chunk, gaps: Sequence[dict[str, object]]) -> None:
        """Append rows; see `Writer.write`. They are gathered into row groups of a useful size."""
        import pyarrow as pa

        added = [{**values, "gap_evidence": json.dumps(values["gap_evidence"])} for values in gaps]
        arrays = [_input_array(chunk, field) for field in self._inputs]
        arrays += [_array([values[field.name] for values in added], field.type) for field in self._added]
        self._waiting.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        if sum(batch.num_rows for batch in self._waiting) >= _GROUP_ROWS or (
            sum(batch.nbytes for batch in self._waiting) >= _GROUP_BYTES
        ):
            self._flush()

    def finish(self) -> list[str]:
        """Write what waits, and the footer."""
        self._flush()
        self._writer.close()
        return []

    def abandon(self) -> None:
        """Close the file at what is written."""
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
            self._waiting.clear()


def _gap_schema() -> Any:
    import pyarrow as pa

    types = dict.fromkeys(GAP_COLUMNS, pa.string())
    types |= dict.fromkeys(PROBA_COLUMNS, pa.float64())
    types |= dict.fromkeys(("gap_review", "gap_truncated"), pa.bool_())
    types["gap_labels"] = pa.list_(pa.string())
    return pa.schema(list(types.items()))


def _input_array(chunk: Chunk, field: Any) -> Any:
    """Take a column as it came, or build it from the rows where it has no such type of its own."""
    if chunk.table is not None and field.name not in chunk.changed and field.name in chunk.table.schema.names:
        array = chunk.table.column(field.name)
        if array.type == field.type:
            return array
        if not is_text(field.type):
            return _widened(array, field)
    return _array([row.values.get(field.name) for row in chunk.rows], field.type)


def _widened(array: Any, field: Any) -> Any:
    import pyarrow as pa

    try:
        return array.cast(field.type)
    except pa.ArrowInvalid as exc:
        raise InputError(
            f"the column {field.name!r} has the type {field.type} in one input and {array.type} in another, which "
            f"holds a value that does not fit ({exc}); mend that value, or write CSV or JSONL"
        ) from exc


def _array(values: list[Any], kind: Any) -> Any:
    import pyarrow as pa

    if is_text(kind):
        values = [None if value is None else escape_surrogates(to_text(value)) for value in values]
    return pa.array(values, type=kind)
