"""Parquet archives, read batch by batch with the types they have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gapnlp.archive.cells import escape_surrogates, to_text
from gapnlp.archive.chunk import Chunk, Layout, Row
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
        import pyarrow.parquet as pq

        self.name = name
        self.how = "Parquet"
        with self._explained():
            self._file = pq.ParquetFile(path)
        self.columns = check_columns(self._file.schema_arrow.names, source=name)
        self.n_rows = int(self._file.metadata.num_rows)

    def chunks(self, n_rows: int) -> Iterator[Chunk]:
        """Read from the start; see `Source.chunks`."""
        at = 1
        with self._explained():
            for batch in self._file.iter_batches(batch_size=n_rows):
                yield Chunk(
                    [Row(f"row {at + i}", values) for i, values in enumerate(_python_rows(batch))],
                    table=batch,
                )
                at += batch.num_rows

    def schema(self) -> Any:
        """Return the file's own types."""
        return self._file.schema_arrow

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, ValueError, OSError) as exc:
            raise InputError(f"{self.name}: cannot be read as Parquet ({exc}); write it again, unencrypted") from exc


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
