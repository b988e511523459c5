"""Stretches of the rows of a file, wherever it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

from gapnlp.archive.chunk import Chunk, Source
from gapnlp.archive.format import format_of
from gapnlp.archive.inputs import Input, open_input
from gapnlp.distributed.storage import fetch, locate
from gapnlp.errors import InputError

CHUNK_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Partition:
    """The rows `start` to `stop` (from 0, the last one not included) of one input.

    Attributes:
        number: Its place in the output, from 0.
        url: The input.
        start: The first row.
        stop: The row after the last.
        text_column: The column with the text.
    """

    number: int
    url: str
    start: int
    stop: int
    text_column: str

    @property
    def file_name(self) -> str:
        """The name of its output file; in the order of names, the rows are in the order of the inputs."""
        return f"part-{self.number:06d}.parquet"


def is_parquet(url: str) -> bool:
    """Tell whether a file is Parquet, by its name.

    Raises:
        InputError: The extension is none of those known.
    """
    return format_of(url).kind == "parquet"


def count_rows(url: str) -> int:
    """Return the rows of a Parquet file, as its footer says."""
    with _parquet(url) as file:
        return int(file.metadata.num_rows)


@contextmanager
def opened(url: str, rows: range, *, text_column: str | None = None, id_column: str | None = None) -> Iterator[Input]:
    """Open a file, or a copy of it: of a Parquet file only `rows`, of any other format all rows.

    Args:
        url: The file.
        rows: The rows that are wanted, from 0.
        text_column: The column with the text; None to tell it by its name.
        id_column: The column whose value names a row in messages.

    Raises:
        InputError: The file is missing, empty, damaged or labelled already.
        ColumnError: A column is missing, or the text column cannot be told for certain.
    """
    with tempfile.TemporaryDirectory(prefix="gapnlp-") as folder, ExitStack() as stack:
        local = _cut_parquet(url, Path(folder), rows=rows) if is_parquet(url) else fetch(url, folder=Path(folder))
        try:
            item = open_input(stack, str(local), text_column=text_column, id_column=id_column, stream_kind=None)
            item.source.name = url
            yield item
        except InputError as exc:
            raise type(exc)(str(exc).replace(str(local), url)) from exc


class Stretches:
    """Reads partitions one after the other; a text file stays open until another is wanted, as opening scans it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._url = ""
        self._source: Source | None = None

    def chunks(self, partition: Partition) -> Iterator[Chunk]:
        """Read the rows of a partition, some thousand at a time.

        Raises:
            InputError: The file is missing or damaged.
        """
        rows = range(partition.start, partition.stop)
        if is_parquet(partition.url):
            with opened(partition.url, rows, text_column=partition.text_column) as item:
                yield from item.source.chunks(CHUNK_ROWS)
            return
        if self._source is None or partition.url != self._url:
            self.close()
            item = self._stack.enter_context(opened(partition.url, rows, text_column=partition.text_column))
            self._url, self._source = partition.url, item.source
        yield from _between(self._source, rows)

    def close(self) -> None:
        """Let go of the file that is open."""
        self._source = None
        self._stack.close()


def _between(source: Source, rows: range) -> Iterator[Chunk]:
    at = 0
    for chunk in source.chunks(CHUNK_ROWS):
        first, last = max(rows.start - at, 0), min(rows.stop - at, len(chunk.rows))
        if first < last:
            yield Chunk(chunk.rows[first:last])
        at += len(chunk.rows)
        if at >= rows.stop:
            return


def _cut_parquet(url: str, folder: Path, *, rows: range) -> Path:
    """Copy rows of a Parquet file; of the file, only the row groups that hold them are read."""
    import pyarrow.parquet as pq

    copy = folder / PurePosixPath(url).name
    with _parquet(url) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        ends = list(accumulate(sizes))
        groups = [i for i, end in enumerate(ends) if end > rows.start and end - sizes[i] < rows.stop]
        at = ends[groups[0]] - sizes[groups[0]] if groups else 0
        with pq.ParquetWriter(copy, file.schema_arrow) as writer:
            for batch in file.iter_batches(batch_size=CHUNK_ROWS, row_groups=groups) if groups else ():
                first, last = max(rows.start - at, 0), min(rows.stop - at, batch.num_rows)
                if first < last:
                    writer.write_batch(batch.slice(first, last - first))
                at += batch.num_rows
    return copy


@contextmanager
def _parquet(url: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file_system, path = locate(url)
    try:
        with pq.ParquetFile(path, filesystem=file_system, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, ValueError, OSError) as exc:
        raise InputError(f"{url}: cannot be read as Parquet ({exc}); write it again, unencrypted") from exc
