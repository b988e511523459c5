"""An archive as a report needs it: a few bytes a text, and the candidates for quotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gapnlp.archive.cells import show
from gapnlp.archive.columns import GAP_COLUMNS, check_column, guess_text_column
from gapnlp.archive.parquet import text_array
from gapnlp.errors import InputError
from gapnlp.report.content import SourceFile
from gapnlp.report.dates import NO_DAY, DateReader, Over
from gapnlp.report.decode import EMPTY, MICRO, group_name, labels_of, numpy_of, proba_of, texts_of, truths_of
from gapnlp.report.quotations import Quotations
from gapnlp.report.table import NEEDED, Table, open_table
from gapnlp.taxonomy import LABELS

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

MAX_GROUPS = 1000
_OPTIONAL = ("gap_evidence", "gap_review", "gap_truncated")
_REVIEW, _TRUNCATED = 1, 2
_MAX_REASONS = 200  # different reasons why rows failed that are told apart


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read.

    Attributes:
        by: Columns of the splits.
        over: The column with the dates; None for none.
        text_column: The column with the text; None to tell it by its name.
        id_column: The column that names a row where it is quoted; None for its number.
    """

    by: tuple[str, ...] = ()
    over: Over | None = None
    text_column: str | None = None
    id_column: str | None = None


@dataclass(frozen=True)
class Archive:
    """What the model said of the texts of some files; rows that failed are counted and left out.

    Attributes:
        sources: The files.
        models: The models that labelled them, `name@version`.
        micro: Calibrated probabilities in millionths, which halves the memory. *Shape:* (n_texts, 5).
        given: The model's decisions, one bit per gap. *Shape:* (n_texts,).
        groups: Per split, each text's group as a place in `group_names`. *Shape:* (n_splits, n_texts).
        group_names: Per split, the groups' names.
        days: Since 1970-01-01, `NO_DAY` for none. *Shape:* (n_texts,).
        n_failed: Rows without labels.
        failures: Their reasons, each with its number of rows.
        n_truncated: Texts longer than the model reads.
        n_review: Texts that a person should look at.
        n_duplicates: Texts that equal one before them.
        quotations: What may be quoted.
    """

    sources: tuple[SourceFile, ...]
    models: tuple[str, ...]
    micro: npt.NDArray[np.int32]
    given: npt.NDArray[np.uint8]
    groups: tuple[npt.NDArray[np.int32], ...]
    group_names: tuple[tuple[str, ...], ...]
    days: IntArray
    n_failed: int
    failures: Counter[str]
    n_truncated: int
    n_review: int
    n_duplicates: int
    quotations: Quotations

    @property
    def n_texts(self) -> int:
        """Texts with labels."""
        return len(self.given)

    @cached_property
    def proba(self) -> FloatArray:
        """Calibrated probabilities, 0-1. *Shape:* (n_texts, 5)."""
        return self.micro / MICRO

    @cached_property
    def decided(self) -> BoolArray:
        """True where the model gave the gap. *Shape:* (n_texts, 5)."""
        return ((self.given[:, None] >> np.arange(len(LABELS), dtype=np.uint8)) & 1).astype(np.bool_)


def read_archive(names: Sequence[str], wanted: Wanted) -> Archive:
    """Read what `classify` wrote.

    Args:
        names: Paths, or `-`.
        wanted: What to read beside the columns of `classify`.

    Raises:
        InputError: A file cannot be read, was not classified, or holds a value that `classify` does not write.
        ColumnError: A column is missing, or the text column cannot be told for certain.
    """
    reader = _Reader(wanted)
    for name in names:
        with open_table(name) as table:
            reader.read(table)
    return reader.finish(names)


@dataclass(slots=True)
class _Reader:
    """Sums up batch after batch."""

    wanted: Wanted
    sources: list[SourceFile] = field(default_factory=list)
    models: set[str] = field(default_factory=set)
    micro: list[npt.NDArray[np.int32]] = field(default_factory=list)
    given: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    hashes: list[IntArray] = field(default_factory=list)
    dates: list[npt.NDArray[np.int32]] = field(default_factory=list)
    groups: list[list[npt.NDArray[np.int32]]] = field(default_factory=list)
    codes: list[dict[str, int]] = field(default_factory=list)
    flags: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    quotations: Quotations = field(default_factory=Quotations)
    date_reader: DateReader | None = None
    n_before: int = 0  # rows of the files before this one

    def read(self, table: Table) -> None:
        text_column = _text_column(table, self.wanted)
        optional = [column for column in _OPTIONAL if column in table.columns]
        over = [self.wanted.over.column] if self.wanted.over else []
        named = [self.wanted.id_column] if self.wanted.id_column else []
        columns = list(dict.fromkeys([*NEEDED, *optional, text_column, *self.wanted.by, *over, *named]))
        if self.wanted.over and self.date_reader is None:
            self.date_reader = DateReader(self.wanted.over)
        n_rows = 0
        for batch in table.batches(columns):
            self._take(batch, table=table, text_column=text_column, at=n_rows)
            n_rows += batch.num_rows
        self.sources.append(SourceFile(Path(table.name).name, n_rows))
        self.n_before += n_rows

    def finish(self, names: Sequence[str]) -> Archive:
        n_texts = sum(len(part) for part in self.given)
        if not n_texts:
            raise InputError(f"{', '.join(names)}: no row has labels; see the column gap_error for the reasons")
        days = self.date_reader.days(np.concatenate(self.dates)) if self.date_reader else np.full(n_texts, NO_DAY)
        hashes = np.concatenate(self.hashes)
        return Archive(
            sources=tuple(self.sources),
            models=tuple(sorted(self.models)),
            micro=np.concatenate(self.micro),
            given=np.concatenate(self.given),
            groups=tuple(np.concatenate(parts) for parts in zip(*self.groups, strict=True)),
            group_names=tuple(tuple(codes) for codes in self.codes),
            days=days,
            n_failed=sum(self.failures.values()),
            failures=self.failures,
            n_truncated=sum(n for flags, n in self.flags.items() if flags & _TRUNCATED),
            n_review=sum(n for flags, n in self.flags.items() if flags & _REVIEW),
            n_duplicates=len(hashes) - len(np.unique(hashes)),
            quotations=self.quotations,
        )

    def _take(self, batch: Any, *, table: Table, text_column: str, at: int) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self.models.update(name for name in pc.unique(batch.column("gap_model").cast(pa.string())).to_pylist() if name)
        error = batch.column("gap_error").cast(pa.string()).fill_null("")
        failed = pc.not_equal(error, "")
        number = np.arange(at + 1, at + batch.num_rows + 1)  # of the row in its file, from 1
        if pc.any(failed).as_py():
            self._count_failures(error.filter(failed))
            number = number[~numpy_of(failed)]
            batch = batch.filter(pc.invert(failed))
        if not batch.num_rows:
            return
        micro = proba_of(batch, number, name=table.name)
        combinations, code = labels_of(batch.column("gap_labels"), name=table.name)
        bits = np.array([sum(1 << j for j in labels) for labels in combinations], dtype=np.uint8)
        texts = texts_of(batch.column(text_column), flat=table.flat)
        self.micro.append(micro)
        self.given.append(bits[code])
        self.hashes.append(np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts)))
        self._count_flags(batch)
        groups = [
            self._codes(split, batch.column(column), flat=table.flat) for split, column in enumerate(self.wanted.by)
        ]
        self.groups.append(groups)
        if self.wanted.over and self.date_reader:
            self.dates.append(self.date_reader.read(batch.column(self.wanted.over.column), place=table.name))
        evidence = batch.column("gap_evidence") if "gap_evidence" in batch.schema.names else None
        ids = text_array(batch.column(self.wanted.id_column)) if self.wanted.id_column else None
        rows = _Rows(texts, evidence, ids, micro, code, combinations, number=number, groups=groups, flat=table.flat)
        self._gather(rows, name=Path(table.name).name)

    def _count_failures(self, errors: Any) -> None:
        for entry in errors.value_counts().to_pylist():
            # Reasons may hold numbers of lines; beyond so many, they are put together.
            known = entry["values"] in self.failures or len(self.failures) < _MAX_REASONS
            self.failures[entry["values"] if known else "other reasons"] += entry["counts"]

    def _count_flags(self, batch: Any) -> None:
        flags = truths_of(batch, "gap_review") * _REVIEW + truths_of(batch, "gap_truncated") * _TRUNCATED
        self.flags.update(dict(enumerate(np.bincount(flags).tolist())))

    def _codes(self, split: int, column: Any, *, flat: bool) -> npt.NDArray[np.int32]:
        """Number the groups in the order of their appearance."""
        if split == len(self.codes):
            self.codes.append({})
        codes = self.codes[split]
        encoded = text_array(column).dictionary_encode()
        names = [group_name(name, flat=flat) for name in encoded.dictionary.to_pylist()]
        known = [codes.setdefault(name, len(codes)) for name in names]
        if encoded.null_count:
            known.append(codes.setdefault(EMPTY, len(codes)))
        if len(codes) > MAX_GROUPS:
            raise InputError(
                f"the column {self.wanted.by[split]!r} has more than {MAX_GROUPS:,} different values, such as "
                f"{show(next(iter(codes)))!r}; name one that parts the archive into groups, such as a branch"
            )
        indices = encoded.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)
        return np.asarray(np.array(known, dtype=np.int32)[indices])

    def _gather(self, rows: _Rows, *, name: str) -> None:
        """Offer the texts that may be quoted."""
        names = [list(codes) for codes in self.codes]
        for combination, labels in enumerate(rows.combinations):
            places = np.flatnonzero(rows.code == combination) if labels else ()
            for rank, gap in enumerate(labels):
                for i in np.asarray(places)[np.argsort(-rows.micro[places, gap], kind="stable")].tolist():
                    probability = rows.micro[i, gap] / MICRO
                    if not self.quotations.wanted(gap, probability=probability, primary=rank == 0):
                        break
                    self.quotations.offer(
                        gap,
                        rows.texts[i],
                        probability=probability,
                        primary=rank == 0,
                        evidence=rows.evidence_of(i),
                        order=self.n_before + int(rows.number[i]),
                        place=f"{name}, {rows.name_of(i)}",
                        groups=tuple(names[split][part[i]] for split, part in enumerate(rows.groups)),
                    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """The texts of one batch that have labels."""

    texts: list[str]
    evidence: Any
    ids: Any
    micro: npt.NDArray[np.int32]
    code: IntArray
    combinations: list[tuple[int, ...]]
    number: IntArray
    groups: list[npt.NDArray[np.int32]]
    flat: bool

    def name_of(self, i: int) -> str:
        """Return what a row is called: what stands in the column that names rows, else its number."""
        name = EMPTY if self.ids is None else group_name(self.ids[i].as_py(), flat=self.flat)
        return f"row {self.number[i]}" if name == EMPTY else name

    def evidence_of(self, i: int) -> str:
        """Return the evidence of a text as JSON; empty where there is none."""
        return "" if self.evidence is None else str(self.evidence[i].as_py() or "")


def _text_column(table: Table, wanted: Wanted) -> str:
    """Check the columns that were asked for; return that of the text."""
    for column in wanted.by:
        check_column(column, columns=table.columns, option="--by", source=table.name)
    if wanted.over:
        check_column(wanted.over.column, columns=table.columns, option="--over", source=table.name)
    if wanted.id_column is not None:
        check_column(wanted.id_column, columns=table.columns, option="--id-column", source=table.name)
    if wanted.text_column is not None:
        return check_column(wanted.text_column, columns=table.columns, option="--text-column", source=table.name)
    columns = [column for column in table.columns if column not in GAP_COLUMNS]
    return guess_text_column(table.samples(), columns=columns, source=table.name)
