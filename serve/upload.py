"""Uploaded archives: labelled a few rows at a time, beside everything else that is read."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapnlp.archive.chunk import Layout, Row
from gapnlp.archive.columns import gap_values
from gapnlp.archive.format import FileFormat, Kind
from gapnlp.archive.scored import failed
from gapnlp.archive.writer import new_writer
from gapnlp.errors import InputError
from gapnlp.text import check_text
from serve.inference import EngineFailedError, QueueFullError
from serve.problem import BUSY, ProblemError, retry_after

if TYPE_CHECKING:
    from gapnlp.archive.chunk import Source
    from gapnlp.records import Prediction
    from serve.inference import Batcher

MEDIA_TYPES: Mapping[Kind, str] = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "jsonl": "application/x-ndjson",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
}
N_ROWS = 64  # taken from the file at a time
N_CHARACTERS = 8000  # read at a time, or one text: no more of an archive stands before a ticket in the queue
_PATIENCE_SECONDS = 3600
_RETRY_SECONDS = 60


class Places:
    """Room for so many archives at the same time."""

    def __init__(self, n_places: int) -> None:
        self._n_free = n_places

    @contextmanager
    def take(self) -> Iterator[None]:
        """Take one place until the block ends.

        Raises:
            ProblemError: All are taken.
        """
        if not self._n_free:
            raise ProblemError(BUSY, "wait until one is done, or try again later", headers=retry_after(_RETRY_SECONDS))
        self._n_free -= 1
        try:
            yield
        finally:
            self._n_free += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """An archive on its way from rows to labelled rows.

    Attributes:
        source: The rows.
        text_column: Where the text is.
        kind: What to write: `csv`, `tsv` or `jsonl`.
        batcher: What texts are read through.
        model: `name@version`, for rows that are not read.
        max_characters: Of one text.
        on_predictions: Told of what came out, and of how many texts never came before the model.
    """

    source: Source
    text_column: str
    kind: Kind
    batcher: Batcher
    model: str
    max_characters: int
    on_predictions: Callable[[Sequence[Prediction], int], object]

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the labelled file, as `gapnlp classify` writes it."""
        out = io.BytesIO()
        layout = Layout(self.source.columns, self.source.schema)
        writer = new_writer(out, layout, file_format=FileFormat(self.kind))
        chunks = self.source.chunks(N_ROWS)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            predictions = await self._read(chunk.rows)
            await asyncio.to_thread(writer.write, chunk, [gap_values(prediction) for prediction in predictions])
            yield out.getvalue()
            out.seek(0)
            out.truncate()
        writer.finish()
        yield out.getvalue()

    async def _read(self, rows: Sequence[Row]) -> list[Prediction]:
        """Return one prediction per row, with an `error` where it cannot be read."""
        errors = [row.error or self._flaw(row.values.get(self.text_column)) for row in rows]
        texts = [str(row.values[self.text_column]) for row, error in zip(rows, errors, strict=True) if not error]
        found = [one for part in _parts(texts) for one in await self._predict(part)]
        self.on_predictions(found, len(rows) - len(texts))
        rest = iter(found)
        return [failed(error, model=self.model).prediction if error else next(rest) for error in errors]

    def _flaw(self, value: object) -> str:
        """Say what keeps a cell from being read; empty where nothing does."""
        if isinstance(value, str) and len(value) > self.max_characters:
            return f"got {len(value):,} characters, expected at most {self.max_characters:,}"
        try:
            check_text(value)
        except InputError as exc:
            return str(exc)
        return ""

    async def _predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Wait for room in the queue; a text that the model fails on costs no other."""
        while True:
            try:
                return await self.batcher.classify(texts, timeout=_PATIENCE_SECONDS)
            except QueueFullError as exc:
                await asyncio.sleep(exc.retry_after)
            except EngineFailedError:
                if len(texts) == 1:
                    return [failed("the model failed on this text", model=self.model).prediction]
                return [found for text in texts for found in await self._predict([text])]


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """Cut texts into parts of about `N_CHARACTERS`."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) > N_CHARACTERS:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield part
