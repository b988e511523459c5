"""Label an archive: read, classify, write, a chunk at a time; what is done is kept until all is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from gapnlp import __version__
from gapnlp.archive.cells import show
from gapnlp.archive.chunk import Chunk, Layout, mask_chunk
from gapnlp.archive.columns import gap_values
from gapnlp.archive.fingerprint import Fingerprint
from gapnlp.archive.inputs import Input, expand_names, open_input
from gapnlp.archive.kinds import merge_schemas
from gapnlp.archive.ledger import Ledger, open_ledger
from gapnlp.archive.scored import Scored, failed
from gapnlp.archive.scoring import Classifier, Scorer
from gapnlp.archive.summary import Summary
from gapnlp.archive.workbook import check_sheet_rows
from gapnlp.archive.writer import Output, Target, check_replaceable, choose_target

CHUNK_ROWS = 8192
_N_FAILURES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What to label, and how.

    Attributes:
        inputs: Paths, patterns such as `*.csv`, or `-` for stdin; their rows follow each other in this order.
        output: A path, or `-` for stdout.
        text_column: The column with the text; None to tell it by its name.
        id_column: The column whose value names a row in messages.
        stream_kind: `csv`, `tsv` or `jsonl`: what stdin and stdout carry.
        mask: Mask personal data in the text, before it is classified and written.
        raw: Write texts exactly, even those that a spreadsheet would run as formulas.
        force: Replace an output that is there.
        restart: Forget what an earlier run left unfinished.
        chunk_rows: Rows that are classified and kept together.
    """

    inputs: tuple[str, ...]
    output: str
    text_column: str | None = None
    id_column: str | None = None
    stream_kind: str | None = None
    mask: bool = False
    raw: bool = False
    force: bool = False
    restart: bool = False
    chunk_rows: int = CHUNK_ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who is told what, while a job runs.

    Attributes:
        on_rows: Called with the number of rows that were labelled since the call before.
        on_kept: Called with the number of rows whose results an earlier run had left.
        stop: Asked at the end of each chunk; where it says True, the job stops as if by Ctrl-C.
    """

    on_rows: Callable[[int], object] = lambda _: None
    on_kept: Callable[[int], object] = lambda _: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a chunk stands: the rows before it, and its input."""

    first_row: int
    input: Input


class ArchiveJob:
    """A job whose inputs are open and whose columns are found: all it needs is a model.

    Attributes:
        n_rows: Rows of all inputs.
        inputs: How each input is read, a line each.
    """

    def __init__(
        self, options: JobOptions, *, target: Target, inputs: Sequence[Input], ledger: Ledger | None = None
    ) -> None:
        self._options = options
        self._target = target
        self._inputs = inputs
        self._ledger = ledger
        self._print: Fingerprint | None = None
        self.n_rows = sum(item.source.n_rows for item in inputs)
        self.inputs = [f"{item.source.name}: {item.source.how}; text in {item.text_column!r}" for item in inputs]
        if ledger is not None:
            self._print = self._fingerprint()
            ledger.check(self._print)

    @property
    def n_kept(self) -> int:
        """Rows whose results are safe, by this run or an earlier one; always 0 where the output is stdout."""
        return self._ledger.n_rows_done if self._ledger else 0

    def run(self, classifier: Classifier, *, watch: Watch | None = None) -> Summary:
        """Label all rows, in their order; go on where an earlier run has stopped.

        Args:
            classifier: The model.
            watch: Who is told of the progress, and may stop it.

        Raises:
            InputError: An input turned out damaged, or something cannot be written; what is done is kept.
            ModelError: The model fails on every text; what is done is kept.
            KeyboardInterrupt: `watch.stop` said so; what is done is kept.
        """
        watch = watch or Watch()
        summary = Summary(self._target.name, classifier.name)
        began = time.perf_counter()
        scorer = Scorer(classifier)
        if self._ledger and self._print:
            self._ledger.begin(replace(self._print, model=classifier.name, model_print=classifier.fingerprint))
        n_retry = 0
        with Output(self._target, self._layout(), part=self._ledger.part if self._ledger else None) as output:
            for chunk, place in self._chunks():
                scored, is_kept = self._score(chunk, place, scorer=scorer, watch=watch)
                output.write(chunk, [gap_values(item.prediction) for item in scored])
                n_retry += sum(item.retry for item in scored)
                summary.count([item.prediction for item in scored])
                summary.n_kept += len(chunk.rows) * is_kept
                self._note_failures(summary, chunk, scored, source=place.input.source.name)
                if watch.stop() and summary.n_rows < self.n_rows:
                    raise KeyboardInterrupt
            summary.notes += output.finish()
            self._place(output, keep_ledger=bool(n_retry))
        summary.n_duplicates = scorer.n_duplicates
        summary.notes += self._notes(n_retry)
        summary.seconds = time.perf_counter() - began
        return summary

    def _fingerprint(self) -> Fingerprint:
        return Fingerprint(
            tuple(item.fingerprint() for item in self._inputs),
            {
                "text_columns": [item.text_column for item in self._inputs],
                "mask": self._options.mask,
                "chunk_rows": self._options.chunk_rows,
                "gapnlp": __version__,
            },
        )

    def _layout(self) -> Layout:
        sources = [item.source for item in self._inputs]
        columns = dict.fromkeys(column for source in sources for column in source.columns)
        return Layout(tuple(columns), lambda: merge_schemas([source.schema() for source in sources]), self._options.raw)

    def _chunks(self) -> Iterator[tuple[Chunk, _Place]]:
        first_row = 0
        for item in self._inputs:
            for chunk in item.source.chunks(self._options.chunk_rows):
                n_rows = len(chunk.rows)
                yield (mask_chunk(chunk, item.text_column) if self._options.mask else chunk), _Place(first_row, item)
                first_row += n_rows

    def _score(self, chunk: Chunk, place: _Place, *, scorer: Scorer, watch: Watch) -> tuple[list[Scored], bool]:
        """Return the results of a chunk, and whether an earlier run had left them all."""
        texts = [row.values.get(place.input.text_column) for row in chunk.rows if not row.error]
        n_rows = len(chunk.rows)
        kept = self._ledger.read(place.first_row, n_rows=n_rows, n_texts=len(texts)) if self._ledger else None
        is_kept = kept is not None
        told = _Told(n_rows, watch.on_kept if is_kept else watch.on_rows)
        scored = scorer.score(texts, kept=[None if item.retry else item for item in kept or []], on_texts=told.more)
        if self._ledger and scored != kept:
            self._ledger.write(place.first_row, n_rows=n_rows, scored=scored)
        told.more(n_rows)
        readable = iter(scored)
        model = scorer.model
        return [failed(row.error, model=model) if row.error else next(readable) for row in chunk.rows], is_kept

    def _place(self, output: Output, *, keep_ledger: bool) -> None:
        for item in self._inputs:
            item.check_unchanged()
        if self._ledger:
            self._ledger.note_placed()
        output.place()
        if self._ledger and not keep_ledger:
            self._ledger.remove()

    def _notes(self, n_retry: int) -> list[str]:
        notes = []
        if self._ledger and self._ledger.n_damaged:
            notes.append(f"{self._ledger.n_damaged} chunks that an earlier run had left were damaged; done again")
        if n_retry:
            again = "; the same command tries these alone again" if self._ledger else ""
            notes.append(f"on {n_retry:,} rows the model failed for a reason that may pass{again}")
        return notes

    def _note_failures(self, summary: Summary, chunk: Chunk, scored: Sequence[Scored], *, source: str) -> None:
        for row, item in zip(chunk.rows, scored, strict=True):
            if item.prediction.error and len(summary.failures) < _N_FAILURES:
                file = f"{source}, " * (len(self._inputs) > 1)
                column = self._options.id_column
                named = f" ({column} {show(row.values[column])})" if column in row.values else ""
                summary.failures.append(f"{file}{row.place}{named}: {item.prediction.error}")


class _Told:
    """Counts the rows of a chunk that were told of, so that they come to its size whatever the model reports."""

    def __init__(self, n_rows: int, tell: Callable[[int], object]) -> None:
        self._n_left = n_rows
        self._tell = tell

    def more(self, n_rows: int) -> None:
        n_told = min(n_rows, self._n_left)
        self._n_left -= n_told
        if n_told:
            self._tell(n_told)


@contextmanager
def open_job(options: JobOptions) -> Iterator[ArchiveJob]:
    """Open the inputs and refuse whatever can be refused before a model is loaded.

    Raises:
        InputError: An input cannot be read, or the output must not be written.
        ColumnError: The text column is missing, or cannot be told for certain.
    """
    target = choose_target(options.output, options.inputs, stream_kind=options.stream_kind)
    check_replaceable(target, force=options.force, restart=options.restart)
    names = expand_names(options.inputs, output=target.path)
    with ExitStack() as stack:
        ledger = None
        if target.path is not None:
            ledger = stack.enter_context(open_ledger(target.path, name=target.name, restart=options.restart))
            check_replaceable(target, force=options.force, restart=options.restart)  # another run may just have ended
        columns = {"text_column": options.text_column, "id_column": options.id_column}
        inputs = [open_input(stack, name, **columns, stream_kind=options.stream_kind) for name in names]
        job = ArchiveJob(options, target=target, inputs=inputs, ledger=ledger)
        if target.file_format.kind == "xlsx":
            check_sheet_rows(job.n_rows)
        yield job
