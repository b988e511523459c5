"""A worker: loads the model once, and labels one partition after the other."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapnlp.archive.cells import show
from gapnlp.archive.chunk import Chunk, Layout, mask_chunk
from gapnlp.archive.columns import gap_values
from gapnlp.archive.disk import explained_writing
from gapnlp.archive.parquet import ParquetWriter
from gapnlp.archive.scored import Scored, failed
from gapnlp.archive.scoring import Scorer
from gapnlp.distributed.rows import Partition, Stretches
from gapnlp.distributed.storage import explained, join, locate, publish
from gapnlp.errors import GapnlpError, InputError, ModelError
from gapnlp.taxonomy import LABELS, NONE

if TYPE_CHECKING:
    from gapnlp.classifier import GapClassifier
    from gapnlp.engines import EngineName

N_FAILURES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What a worker must know of the job.

    Attributes:
        output: The folder of the output.
        schema: The input's columns, as a `pyarrow.Schema`.
        model: A model directory; None for the shipped model.
        engine: See `GapClassifier.load`; None for its default.
        scored_by: The fingerprint of the classifier, which must be the same on all machines.
        n_threads: CPUs it may use.
        mask: Mask personal data in the text.
        id_column: The column whose value names a row in messages.
        done: Files of the output that an earlier run has finished.
    """

    output: str
    schema: Any
    model: str | None
    engine: EngineName | None
    scored_by: str
    n_threads: int
    mask: bool
    id_column: str | None
    done: frozenset[str]


@cache
def load_once(
    model: str | None = None, *, engine: EngineName | None = None, n_threads: int | None = 1
) -> GapClassifier:
    """Load a model the first time that this process asks for it, and hand out the same one afterwards.

    Args:
        model: A model directory; None for the shipped model.
        engine: See `GapClassifier.load`; None for its default.
        n_threads: Cores it may use: one worker's share of the machine; None for all.

    Raises:
        ModelError: It cannot be used.
    """
    from gapnlp.classifier import GapClassifier

    if engine is None:
        return GapClassifier.load(model, n_threads=n_threads)
    return GapClassifier.load(model, engine=engine, n_threads=n_threads)


class Worker:
    """Labels partitions; Ray Data keeps one in every process and hands it batches of partitions."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._stretches = Stretches()

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        """Label the partitions of a batch; return a report (JSON) for each, in the column `report`."""
        rows = [dict(zip(batch, cells, strict=True)) for cells in zip(*batch.values(), strict=True)]
        partitions = [
            Partition(int(row["number"]), str(row["url"]), int(row["start"]), int(row["stop"]), str(row["text_column"]))
            for row in rows
        ]
        return {"report": [json.dumps(self.label(partition)) for partition in partitions]}

    def label(self, partition: Partition) -> dict[str, Any]:
        """Label one partition, unless that is done; return what became of its rows, or `error`."""
        name = partition.file_name
        found = {"name": name, "kept": False}
        try:
            kept = self._tally_kept(partition)
            if kept is not None:
                return {"name": name, "kept": True, **kept}
            with tempfile.TemporaryDirectory(prefix="gapnlp-") as folder:
                file = Path(folder, name)
                counts = self._write(partition, file)
                publish(file, join(self._options.output, name))
                return found | counts | self._tally(partition, str(file))
        except GapnlpError as exc:
            return found | {"error": f"{partition.url}, rows {partition.start + 1:,} to {partition.stop:,}: {exc}"}

    def _write(self, partition: Partition, file: Path) -> dict[str, Any]:
        """Write the labelled rows; return how many were duplicates, and how many the model failed on."""
        schema = self._options.schema
        scorer = Scorer(self._load())
        n_retry = 0
        with explained_writing("the temporary folder of a worker"), file.open("wb") as out:
            writer = ParquetWriter(out, Layout(tuple(schema.names), lambda: schema))
            try:
                for chunk in self._chunks(partition):
                    scored = _score(chunk, scorer, text_column=partition.text_column)
                    n_retry += sum(item.retry for item in scored)
                    writer.write(chunk, [gap_values(item.prediction) for item in scored])
                writer.finish()
            except BaseException:
                writer.abandon()
                raise
        return {"duplicates": scorer.n_duplicates, "retry": n_retry}

    def _load(self) -> GapClassifier:
        options = self._options
        classifier = load_once(options.model, engine=options.engine, n_threads=options.n_threads)
        if classifier.fingerprint != options.scored_by:
            raise ModelError(
                f"this worker would score with {classifier.fingerprint!r}, the job began with {options.scored_by!r}; "
                "give every machine the same model and gapnlp, and where their processors differ, name the engine "
                "openvino-f32, which is the same on all"
            )
        return classifier

    def _chunks(self, partition: Partition) -> Iterator[Chunk]:
        if partition.start == partition.stop:
            return iter(())
        chunks = self._stretches.chunks(partition)
        return (mask_chunk(chunk, partition.text_column) for chunk in chunks) if self._options.mask else chunks

    def _tally_kept(self, partition: Partition) -> dict[str, Any] | None:
        """Count what an earlier run has left; None where there is nothing, or nothing that can be read."""
        if partition.file_name not in self._options.done:
            return None
        try:
            return self._tally(partition, join(self._options.output, partition.file_name))
        except InputError:
            return None

    def _tally(self, partition: Partition, url: str) -> dict[str, Any]:
        """Count what a finished file says."""
        import pyarrow.parquet as pq

        id_column = self._options.id_column
        columns = ["gap_labels", "gap_review", "gap_truncated", "gap_error"]
        file_system, path = locate(url)
        with explained(url, doing="read"):
            rows = pq.read_table(path, columns=[*columns, *([id_column] if id_column else [])], filesystem=file_system)
        errors = rows["gap_error"].to_pylist()
        failures = [
            f"{partition.url}, row {partition.start + place + 1:,}"
            f"{f' ({id_column} {show(rows[id_column][place].as_py())})' if id_column else ''}: {errors[place]}"
            for place in [place for place, error in enumerate(errors) if error][:N_FAILURES]
        ]
        counted = dict.fromkeys((*LABELS, NONE), 0)
        for labels, error in zip(rows["gap_labels"].to_pylist(), errors, strict=True):
            for label in [] if error else labels or [NONE]:
                counted[label] += 1
        return {
            "rows": len(errors),
            "failed": sum(map(bool, errors)),
            "truncated": sum(rows["gap_truncated"].to_pylist()),
            "review": sum(rows["gap_review"].to_pylist()),
            "counted": counted,
            "failures": failures,
        }


def _score(chunk: Chunk, scorer: Scorer, *, text_column: str) -> list[Scored]:
    """Score the rows that could be read; the others carry their own error."""
    readable = iter(scorer.score([row.values.get(text_column) for row in chunk.rows if not row.error]))
    return [failed(row.error, model=scorer.model) if row.error else next(readable) for row in chunk.rows]
