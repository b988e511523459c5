"""Parquet archives, read batch by batch with the types they have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gapnlp.archive.cells import escape_surrogates, to_text
from gapnlp.archive.chunk import MAX_CHUNK_SIZE, Chunk, Layout, Row
from gapnlp.archive.columns import GAP_COLUMNS, PROBA_COLUMNS, check_columns
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
        """Return the file's own types."""
        return self._schema

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


def _row_size(metadata: Any) -> int:
    """Return the bytes of an average row, unpacked, at least 1 per column."""
    n_bytes = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return max(int(n_bytes) // max(int(metadata.num_rows), 1), int(metadata.num_columns), 1)


def _python_rows(batch: Any) -> list[dict[str, object]]:
    """Turn a batch into rows; a time finer than Python's microseconds becomes text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = []
    for array in batch.columns:
        fine = pa.types.is_temporal(array.type) and getattr(array.type, "unit", "") == "ns"
        columns.append((pc.cast(array, pa.string()) if fine else array).to_pylist())
    return [dict(zip(batch.schema.names, cells, strict=True)) for cells in zip(*columns, strict=True)]


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
    import pyarrow as pa

    if chunk.table is not None and field.name not in chunk.changed and field.name in chunk.table.schema.names:
        array = chunk.table.column(field.name)
        if array.type == field.type:
            return array
        if not pa.types.is_string(field.type):
            return array.cast(field.type)
    return _array([row.values.get(field.name) for row in chunk.rows], field.type)


def _array(values: list[Any], kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_string(kind):
        values = [None if value is None else escape_surrogates(to_text(value)) for value in values]
    return pa.array(values, type=kind)
