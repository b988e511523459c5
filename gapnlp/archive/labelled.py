"""Archives that were classified: the probabilities, read back from the columns that `classify` adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from gapnlp.archive.cells import show
from gapnlp.archive.chunk import Row, Source
from gapnlp.archive.columns import GAP_COLUMNS, PROBA_COLUMNS, check_column, guess_text_column
from gapnlp.archive.reader import open_source
from gapnlp.errors import InputError
from gapnlp.taxonomy import LABELS

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_NEEDED = ("gap_labels", *PROBA_COLUMNS)
_CHUNK_ROWS = 4096
_N_SAMPLES = 20


@dataclass(frozen=True, slots=True)
class LabelledArchive:
    """What the model said of the texts of some files, those without labels left out.

    Attributes:
        names: The files, in their order.
        text_columns: Their columns with the text.
        proba: Calibrated probabilities, 0-1. *Shape:* (n, 5).
        decided: True where the model gives the gap. *Shape:* (n, 5).
        number: Number of each text's row, from 1, counted through all files. *Shape:* (n,).
        n_words: Words of each text. *Shape:* (n,).
        n_failed: Rows left out because `gap_error` says that they have no labels.
        models: What `gap_model` says of the others, each once; empty where it is not there.
    """

    names: tuple[str, ...]
    text_columns: tuple[str, ...]
    proba: FloatArray
    decided: BoolArray
    number: IntArray
    n_words: IntArray
    n_failed: int
    models: tuple[str, ...]


def read_labelled(names: Sequence[str], *, text_column: str | None = None) -> LabelledArchive:
    """Read what `classify` wrote, but for the texts themselves.

    Args:
        names: Paths of CSV, TSV, XLSX, JSONL or Parquet files.
        text_column: The column with the text; None to tell it by its name.

    Raises:
        InputError: A file cannot be read, was not classified, or holds a value that `classify` does not write.
        ColumnError: The text column is missing, or cannot be told for certain.
    """
    proba: list[list[float]] = []
    decided: list[list[bool]] = []
    number, n_words, text_columns = [], [], []
    models: dict[str, None] = {}
    n_rows = 0
    for name in names:
        with open_source(name) as source:
            column = _text_column(source, asked=text_column)
            text_columns.append(column)
            for row in _rows(source):
                n_rows += 1
                if row.values.get("gap_error"):
                    continue
                proba.append([_probability(row, column=item, source=source.name) for item in PROBA_COLUMNS])
                decided.append(_decisions(row))
                number.append(n_rows)
                models |= dict.fromkeys([_plain(row.values.get("gap_model"))])
                n_words.append(len(str(row.values.get(column) or "").split()))
    if not proba:
        raise InputError(f"{', '.join(names)}: no row has labels; see the column gap_error for the reasons")
    return LabelledArchive(
        names=tuple(names),
        text_columns=tuple(text_columns),
        proba=np.array(proba, dtype=np.float64),
        decided=np.array(decided, dtype=np.bool_),
        number=np.array(number, dtype=np.int64),
        n_words=np.array(n_words, dtype=np.int64),
        n_failed=n_rows - len(proba),
        models=tuple(filter(None, models)),
    )


def read_texts(
    archive: LabelledArchive, numbers: Sequence[int], *, id_column: str | None = None
) -> list[tuple[str, str]]:
    """Read the texts of some rows, in the order asked for.

    Args:
        archive: Where they are.
        numbers: Row numbers as in `LabelledArchive.number`.
        id_column: The column that names a row; without it the names are empty.

    Returns:
        Name and text of each.

    Raises:
        ColumnError: There is no such column.
    """
    wanted = set(numbers)
    found: dict[int, tuple[str, str]] = {}
    at = 0
    for name, text_column in zip(archive.names, archive.text_columns, strict=True):
        with open_source(name) as source:
            if id_column is not None:
                check_column(id_column, columns=source.columns, option="--id-column", source=source.name)
            for row in _rows(source):
                at += 1
                if at in wanted:
                    found[at] = (_plain(row.values.get(id_column or "")), _plain(row.values.get(text_column)))
    return [found[number] for number in numbers]


def _rows(source: Source) -> Iterator[Row]:
    return (row for chunk in source.chunks(_CHUNK_ROWS) for row in chunk.rows)


def _text_column(source: Source, *, asked: str | None) -> str:
    missing = [column for column in _NEEDED if column not in source.columns]
    if missing:
        raise InputError(
            f"{source.name}: has no column {missing[0]}, which classifying adds; label the file first, as in  "
            f"gapnlp classify {source.name} -o labelled.csv"
        )
    if asked is not None:
        return check_column(asked, columns=source.columns, option="--text-column", source=source.name)
    columns = [column for column in source.columns if column not in GAP_COLUMNS]
    samples = [row.values for row in islice(_rows(source), _N_SAMPLES) if not row.error]
    return guess_text_column(samples, columns=columns, source=source.name)


def _probability(row: Row, *, column: str, source: str) -> float:
    value = row.values.get(column)
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever is no number is refused below
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= 1:
        raise InputError(
            f"{source}, {row.place}: {column} is {show(value)!r}, expected a number from 0 to 1; "
            "classify the original file again, and do not edit the columns gap_*"
        )
    return number


def _decisions(row: Row) -> list[bool]:
    value = row.values.get("gap_labels")
    given = value if isinstance(value, list) else str(value or "").split(";")
    return [label in given for label in LABELS]


def _plain(value: object) -> str:
    return "" if value is None else str(value)
