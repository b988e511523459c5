"""Labelled rows: read them, check them, write them."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gapnlp.errors import CorpusError, InputError, UnknownGapError
from gapnlp.taxonomy import LABELS, NONE, resolve_gap
from gapnlp.text import check_text, fold_text, replace_surrogates
from training.table import Row, read_rows, require_column, write_rows

logger = logging.getLogger(__name__)

UNLABELLED = ""
"""Stands as the only label of a row whose label cell is blank, until `check_examples` refuses it."""

FLOOR = 20
"""Rows of a gap below which training on it is guesswork."""

SHOWN = 20  # problems spelled out in an error; the rest are counted


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text.

    Attributes:
        id: The row's own id, or `file:row` where it has none.
        text: What the customer wrote, untouched (but for lone surrogates, which no model reads).
        labels: Ids of the gaps, the primary first; empty where nothing is complained of.
        evidence: Label → (start, end), offsets of characters into `text`.
        source: Where the text comes from.
        sector: Kind of business.
        channel: How the text came in.
        group: Rows of one group belong in one split.
        subset: The part of its corpus that the row belongs to (`contrast`, `archive`); column `set`.
        where: `file:row`, for messages.
    """

    id: str
    text: str
    labels: tuple[str, ...]
    evidence: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    source: str = ""
    sector: str = ""
    channel: str = ""
    group: str = ""
    subset: str = ""
    where: str = field(default="", compare=False)


def read_examples(
    paths: Path | str | Iterable[Path | str],
    *,
    text_column: str = "text",
    labels_column: str = "labels",
    blank_is_none: bool = False,
) -> list[Example]:
    """Read labelled rows from JSONL, CSV, TSV (each also .gz) or Parquet.

    The label cell is a list, or a string joined by `;`, of any accepted names of the gaps; the primary stands
    first. `none` or an empty list says that nothing is complained of. A *blank* cell (empty string, null, key
    absent in this row) is taken as not labelled, and `check_examples` refuses it: half-labelled files are
    common, and read as "no gap" they would teach the model to miss complaints.

    A name that is no gap's is kept as it is, so that `check_examples` can list all of them at once.

    Args:
        paths: One file or several.
        text_column: Column of the text.
        labels_column: Column of the labels.
        blank_is_none: Read a blank label cell as "no gap" all the same.

    Raises:
        ColumnError: A file has no such column.
        InputError: A file cannot be read.
        CorpusError: A row's evidence is no map of label → [start, end].
    """
    if isinstance(paths, Path | str):
        paths = [paths]
    return [
        _example(
            row,
            where=f"{path}:{number}",
            text_column=text_column,
            labels=_labels(row.get(labels_column), blank_is_none=blank_is_none),
        )
        for path in paths
        for number, row in _checked_rows(Path(path), columns=(text_column, labels_column))
    ]


def write_examples(examples: Iterable[Example], path: Path | str) -> None:
    """Write rows as JSONL in the shape of the shipped corpus, which `read_examples` reads back."""
    write_rows(map(to_row, examples), path)


def to_row(example: Example) -> Row:
    """Turn an example into the row of the shipped corpus: every field, always of the same type."""
    return {
        "id": example.id,
        "text": example.text,
        "labels": list(example.labels),
        "evidence": [{"label": k, "start": start, "end": end} for k, (start, end) in example.evidence.items()],
        "source": example.source,
        "sector": example.sector,
        "channel": example.channel,
        "set": example.subset,
        "group": example.group,
    }


def check_examples(examples: Sequence[Example]) -> list[Example]:
    """Check every row and return them without exact duplicates, which are logged as a warning.

    Two texts are the same where they differ in white space or Unicode composition at most.

    Raises:
        CorpusError: Unknown or missing labels, empty texts, evidence that does not fit text and labels, or
            one text with two label sets. All of them are counted, the first 20 spelled out with file and row.
    """
    problems: list[str] = []
    first: dict[str, Example] = {}
    dropped: list[str] = []
    for example in examples:
        problems += [f"{example.where or example.id}: {problem}" for problem in _problems(example)]
        folded = fold_text(example.text)
        if not folded:
            continue
        earlier = first.setdefault(folded, example)
        if earlier is example:
            continue
        if set(earlier.labels) == set(example.labels):
            dropped.append(example.where or example.id)
        else:
            problems.append(_conflict(example, earlier=earlier))
    _refuse(problems, what="the labelled rows cannot be trained on")
    if dropped:
        logger.warning("%d exact duplicates dropped: %s", len(dropped), _listing(dropped, separator=", "))
    return list(first.values())


def check_leakage(train: Iterable[Example], held_out: Iterable[Example]) -> None:
    """Refuse a text that stands both in the training rows and in the held-out ones.

    Raises:
        CorpusError: At least one does; the first 20 are named.
    """
    held = {fold_text(example.text): example for example in held_out}
    problems = [
        f"{example.where or example.id}: the same text is held out ({other.where or other.id})"
        for example in train
        if (other := held.get(fold_text(example.text)))
    ]
    _refuse(problems, what="training rows leak into the held-out ones; leave them out of one side")


def check_floor(examples: Iterable[Example], *, floor: int = FLOOR) -> None:
    """Refuse a corpus with too few rows of a gap.

    Raises:
        CorpusError: At least one gap has fewer than `floor` rows; the message gives the count of every gap.
    """
    counts = count_labels(examples)
    short = [label for label in LABELS if counts[label] < floor]
    if short:
        listing = ", ".join(f"{label} {counts[label]}" for label in LABELS)
        raise CorpusError(
            f"too few rows for {', '.join(short)}: got {listing}; expected at least {floor} of each gap. "
            "Label more of them, or train together with the shipped corpus"
        )


def count_labels(examples: Iterable[Example]) -> Counter[str]:
    """Count the rows of each gap, and as `none` those without one."""
    return Counter(label for example in examples for label in example.labels or (NONE,))


def codebook_version(path: Path | str) -> str:
    """Read the version of a codebook from its `Version:` line.

    Raises:
        CorpusError: None of its first ten lines is one.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()[:10]
    except OSError as exc:
        raise InputError(f"the codebook {str(path)!r} cannot be read ({exc})") from exc
    for line in lines:
        if line.startswith("Version:"):
            return line.removeprefix("Version:").strip()
    raise CorpusError(f"{path}: no line 'Version: …' among its first ten; add one")


def _checked_rows(path: Path, *, columns: tuple[str, ...]) -> list[tuple[int, Row]]:
    rows = list(read_rows(path))
    if not rows:
        raise InputError(f"{path}: no rows; expected labelled texts")
    present = {column for _, row in rows for column in row}
    for column in columns:
        require_column(column, columns=present, path=path)
    return rows


def _example(row: Row, *, where: str, text_column: str, labels: tuple[str, ...]) -> Example:
    def cell(name: str) -> str:
        value = row.get(name)
        return "" if value is None else str(value)

    return Example(
        id=cell("id") or where,
        text=replace_surrogates(cell(text_column)),
        labels=labels,
        evidence=_evidence(row.get("evidence"), where=where),
        source=cell("source"),
        sector=cell("sector"),
        channel=cell("channel"),
        group=cell("group"),
        subset=cell("set"),
        where=where,
    )


def _labels(cell: Any, *, blank_is_none: bool) -> tuple[str, ...]:
    if isinstance(cell, str):
        cell = json.loads(cell) if _is_json_list(cell) else [name for name in cell.split(";") if name.strip()] or None
    if cell is None:
        return () if blank_is_none else (UNLABELLED,)
    if not isinstance(cell, list):
        cell = [cell]
    found = tuple(dict.fromkeys(_label(name) for name in cell))
    return () if found == (NONE,) else found


def _is_json_list(cell: str) -> bool:
    try:
        return isinstance(json.loads(cell), list)
    except ValueError:
        return False


def _label(name: Any) -> str:
    if not isinstance(name, str):
        return f"{name!r} ({type(name).__name__})"  # a class index: which gap it meant is anyone's guess
    if name.strip().casefold() == NONE:
        return NONE
    try:
        return resolve_gap(name.strip())
    except UnknownGapError:
        return name.strip()


def _evidence(cell: Any, *, where: str) -> dict[str, tuple[int, int]]:
    try:
        if isinstance(cell, str):
            cell = json.loads(cell) if cell.strip() else None
        if not cell:
            return {}
        if isinstance(cell, Mapping):
            spans = [(label, span) for label, span in cell.items() if span is not None]
        else:
            spans = [(span["label"], (span["start"], span["end"])) for span in cell]
        return {_label(label): (int(start), int(end)) for label, (start, end) in spans}
    except (TypeError, ValueError, KeyError) as exc:
        raise CorpusError(
            f"{where}: evidence {cell!r} is neither a map of label to [start, end] "
            "nor a list of objects with label, start and end"
        ) from exc


def _problems(example: Example) -> list[str]:
    found = []
    try:
        check_text(example.text)
    except InputError as exc:
        found.append(str(exc))
    if example.labels == (UNLABELLED,):
        return [*found, "not labelled; write 'none' where nothing is complained of, or leave the row out"]
    found += [_label_problem(label) for label in example.labels if label not in LABELS]
    for label, (start, end) in example.evidence.items():
        if label not in example.labels:
            found.append(f"evidence for {label!r}, which is not among its labels")
        if not 0 <= start < end <= len(example.text):
            found.append(f"evidence [{start}, {end}] for {label!r} lies outside the {len(example.text)} characters")
    return found


def _label_problem(label: str) -> str:
    if label == NONE:
        return "'none' stands beside a gap; it is one or the other"
    try:
        resolve_gap(label)
    except UnknownGapError as exc:
        return str(exc)
    return f"{label!r} is no gap's id"


def _conflict(example: Example, *, earlier: Example) -> str:
    here, there = (";".join(e.labels) or NONE for e in (example, earlier))
    where, before = (e.where or e.id for e in (example, earlier))
    return f"{where}: labelled {here}, but {before}, the same text, {there}"


def _refuse(problems: Sequence[str], *, what: str) -> None:
    if problems:
        noun = "problem" if len(problems) == 1 else "problems"
        raise CorpusError(f"{what}: {len(problems)} {noun}\n" + _listing(problems, separator="\n"))


def _listing(items: Sequence[str], *, separator: str) -> str:
    more = [f"… and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return separator.join([*items[:SHOWN], *more])
