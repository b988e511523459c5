"""Label an archive: read, classify, write, a chunk at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

from gapnlp.archive.cells import show
from gapnlp.archive.chunk import Chunk, Layout, Row, Source
from gapnlp.archive.columns import check_column, check_unlabelled, gap_values, guess_text_column
from gapnlp.archive.jsonlines import RAW_COLUMN
from gapnlp.archive.kinds import merge_schemas
from gapnlp.archive.reader import STREAM, open_source
from gapnlp.archive.workbook import check_sheet_rows
from gapnlp.archive.writer import Output, Target, choose_target
from gapnlp.errors import InputError
from gapnlp.records import Prediction
from gapnlp.taxonomy import LABELS, NONE
from gapnlp.text import mask_personal_data

CHUNK_ROWS = 2048
_N_SAMPLES = 20
_N_FAILURES = 5


class Classifier(Protocol):
    """What a job needs of a model: `GapClassifier` is one."""

    name: str

    def predict(self, texts: Sequence[object], *, evidence: bool = True) -> list[Prediction]:
        """Return a prediction per text, with its `error` set where a text cannot be read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What to label, and how.

    Attributes:
        inputs: Paths, or `-` for stdin; their rows follow each other in this order.
        output: A path, or `-` for stdout.
        text_column: The column with the text; None to tell it by its name.
        id_column: The column whose value names a row in messages.
        stream_kind: `csv`, `tsv` or `jsonl`: what stdin and stdout carry.
        mask: Mask personal data in the text, before it is classified and written.
        raw: Write texts exactly, even those that a spreadsheet would run as formulas.
        force: Replace an output that is there.
        chunk_rows: Rows that are classified together.
    """

    inputs: tuple[str, ...]
    output: str
    text_column: str | None = None
    id_column: str | None = None
    stream_kind: str | None = None
    mask: bool = False
    raw: bool = False
    force: bool = False
    chunk_rows: int = CHUNK_ROWS


@dataclass(slots=True)
class Summary:
    """What became of the rows.

    Attributes:
        output: Where they are.
        model: `name@version`.
        n_rows: Rows written.
        n_failed: Rows without labels, `gap_error` says why.
        n_truncated: Rows whose text was longer than the model reads.
        n_review: Rows that a person should look at.
        counted: Rows per label (a row with several counts for each), and per `none`.
        seconds: Time from the first row to the finished output.
        failures: The first few failed rows, each with its place and reason.
        notes: What else there is to know.
    """

    output: str
    model: str
    n_rows: int = 0
    n_failed: int = 0
    n_truncated: int = 0
    n_review: int = 0
    counted: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*LABELS, NONE), 0))
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """Rows a second, 0 where there were none."""
        return self.n_rows / self.seconds if self.seconds else 0.0

    def count(self, predictions: Sequence[Prediction]) -> None:
        """Add one chunk."""
        self.n_rows += len(predictions)
        self.n_failed += sum(bool(prediction.error) for prediction in predictions)
        self.n_truncated += sum(prediction.truncated for prediction in predictions)
        self.n_review += sum(prediction.review for prediction in predictions)
        read = [prediction for prediction in predictions if not prediction.error]
        for label, n_rows in Counter(label for prediction in read for label in prediction.labels or (NONE,)).items():
            self.counted[label] += n_rows

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for programs to read."""
        return {
            "output": self.output,
            "model": self.model,
            "rows": self.n_rows,
            "failed": self.n_failed,
            "truncated": self.n_truncated,
            "review": self.n_review,
            "counted": dict(self.counted),
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second, 1),
            "failures": list(self.failures),
            "notes": list(self.notes),
        }


class _Input(NamedTuple):
    source: Source
    text_column: str


class ArchiveJob:
    """A job whose inputs are open and whose columns are found: all it needs is a model.

    Attributes:
        n_rows: Rows of all inputs.
        inputs: How each input is read, a line each.
    """

    def __init__(self, options: JobOptions, *, target: Target, inputs: Sequence[_Input]) -> None:
        self._options = options
        self._target = target
        self._inputs = inputs
        self.n_rows = sum(item.source.n_rows for item in inputs)
        self.inputs = [f"{source.name}: {source.how}; text in {column!r}" for source, column in inputs]

    def run(self, classifier: Classifier, *, on_rows: Callable[[int], object] = lambda _: None) -> Summary:
        """Label all rows, in their order.

        Args:
            classifier: The model.
            on_rows: Called after each chunk with the number of its rows.

        Raises:
            InputError: An input turned out damaged, or the output cannot be written; then there is no output.
        """
        summary = Summary(self._target.name, classifier.name)
        began = time.perf_counter()
        with Output(self._target, self._layout()) as output:
            for chunk, text_column in self._chunks():
                predictions = self._classify(chunk, classifier, text_column=text_column)
                output.write(chunk, [gap_values(prediction) for prediction in predictions])
                summary.count(predictions)
                self._note_failures(summary, chunk.rows, predictions)
                on_rows(len(chunk.rows))
            summary.notes += output.commit()
        summary.seconds = time.perf_counter() - began
        return summary

    def _layout(self) -> Layout:
        sources = [item.source for item in self._inputs]
        columns = dict.fromkeys(column for source in sources for column in source.columns)
        return Layout(tuple(columns), lambda: merge_schemas([source.schema() for source in sources]), self._options.raw)

    def _chunks(self) -> Iterator[tuple[Chunk, str]]:
        for source, text_column in self._inputs:
            for chunk in source.chunks(self._options.chunk_rows):
                yield (_mask(chunk, text_column) if self._options.mask else chunk), text_column

    def _classify(self, chunk: Chunk, classifier: Classifier, *, text_column: str) -> list[Prediction]:
        """Classify the rows that could be read; the others carry their own error."""
        readable = iter(classifier.predict([row.values.get(text_column) for row in chunk.rows if not row.error]))
        return [_failed(row.error, model=classifier.name) if row.error else next(readable) for row in chunk.rows]

    def _note_failures(self, summary: Summary, rows: list[Row], predictions: list[Prediction]) -> None:
        for row, prediction in zip(rows, predictions, strict=True):
            if prediction.error and len(summary.failures) < _N_FAILURES:
                column = self._options.id_column
                named = f" ({column} {show(row.values[column])})" if column in row.values else ""
                summary.failures.append(f"{row.place}{named}: {prediction.error}")


@contextmanager
def open_job(options: JobOptions) -> Iterator[ArchiveJob]:
    """Open the inputs and refuse whatever can be refused before a model is loaded.

    Raises:
        InputError: An input cannot be read, or the output must not be written.
        ColumnError: The text column is missing, or cannot be told for certain.
    """
    target = choose_target(options.output, options.inputs, force=options.force, stream_kind=options.stream_kind)
    if options.inputs.count(STREAM) > 1:
        raise InputError("stdin (-) is named twice; it can be read once")
    with ExitStack() as stack:
        inputs = [_open_input(stack, name, options=options) for name in options.inputs]
        job = ArchiveJob(options, target=target, inputs=inputs)
        if target.file_format.kind == "xlsx":
            check_sheet_rows(job.n_rows)
        yield job


def _open_input(stack: ExitStack, name: str, *, options: JobOptions) -> _Input:
    source = stack.enter_context(open_source(name, stream_kind=options.stream_kind))
    check_unlabelled(source.columns, source=source.name)
    if options.id_column is not None:
        check_column(options.id_column, columns=source.columns, option="--id-column", source=source.name)
    if options.text_column is not None:
        column = check_column(options.text_column, columns=source.columns, option="--text-column", source=source.name)
        return _Input(source, column)
    columns = [column for column in source.columns if column not in (RAW_COLUMN, options.id_column)]
    rows = (row for chunk in islice(source.chunks(_N_SAMPLES), 1) for row in chunk.rows)
    samples = [row.values for row in rows if not row.error]
    return _Input(source, guess_text_column(samples, columns=columns or source.columns, source=source.name))


def _mask(chunk: Chunk, text_column: str) -> Chunk:
    """Mask the text; in a row that could not be read well, every cell, since the text may be in any."""
    for row in chunk.rows:
        for column in list(row.values) if row.error else [text_column]:
            value = row.values.get(column)
            if isinstance(value, str):
                row.values[column] = mask_personal_data(value)
    return Chunk(chunk.rows, chunk.table, chunk.changed | {text_column})


def _failed(error: str, *, model: str) -> Prediction:
    return Prediction((), (0.0,) * len(LABELS), (), review=True, truncated=False, model=model, error=error)
