"""The columns of `classify`, batch by batch, as arrays of numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gapnlp.archive.cells import show
from gapnlp.archive.columns import PROBA_COLUMNS
from gapnlp.archive.parquet import text_array
from gapnlp.errors import InputError
from gapnlp.report.table import undo_safe
from gapnlp.taxonomy import LABELS

IntArray = npt.NDArray[np.int64]

EMPTY = "(empty)"
MICRO = 1_000_000  # probabilities are kept with the six decimals that flat files have
_YES = ("true", "1")


def numpy_of(array: Any) -> npt.NDArray[Any]:
    """Turn a column into an array of numpy. *Shape:* (n,)."""
    return np.asarray(array.to_numpy(zero_copy_only=False))


def proba_of(batch: Any, number: IntArray, *, name: str) -> npt.NDArray[np.int32]:
    """Return the probabilities in millionths. *Shape:* (n, 5)."""
    import pyarrow as pa

    columns = [numpy_of(batch.column(column).cast(pa.float64())) for column in PROBA_COLUMNS]
    values = np.column_stack(columns)
    good = (values >= 0) & (values <= 1)
    if not good.all():
        row, column = (int(place) for place in np.argwhere(~good)[0])
        raise InputError(
            f"{name}, row {number[row]}: {PROBA_COLUMNS[column]} is {values[row, column]}, expected a number from 0 to "
            "1; classify the original file again, and do not edit the columns gap_*"
        )
    return np.asarray(np.rint(values * MICRO), dtype=np.int32)


def labels_of(column: Any, *, name: str) -> tuple[list[tuple[int, ...]], IntArray]:
    """Return the combinations of labels in a batch, primary first, and which one each text has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = pc.binary_join(column.cast(pa.list_(pa.string())), ";")
    encoded = column.cast(pa.string()).fill_null("").dictionary_encode()
    combinations = []
    for text in encoded.dictionary.to_pylist():
        labels = [part.strip() for part in text.split(";") if part.strip()]
        unknown = [label for label in labels if label not in LABELS]
        if unknown:
            raise InputError(
                f"{name}: gap_labels holds {show(unknown[0])!r}, expected {', '.join(LABELS)}; classify the original "
                "file again, and do not edit the columns gap_*"
            )
        combinations.append(tuple(dict.fromkeys(LABELS.index(label) for label in labels)))
    return combinations, numpy_of(encoded.indices).astype(np.int64)


def texts_of(column: Any, *, flat: bool) -> list[str]:
    """Return the texts as they were classified; a missing one is empty."""
    texts = text_array(column).fill_null("").to_pylist()
    return [undo_safe(text) for text in texts] if flat else texts


def truths_of(batch: Any, column: str) -> npt.NDArray[np.int64]:
    """Return a column of truth values as 0 and 1; all 0 where there is none. *Shape:* (n,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column not in batch.schema.names:
        return np.zeros(batch.num_rows, dtype=np.int64)
    array = batch.column(column)
    if not pa.types.is_boolean(array.type):
        array = pc.is_in(pc.utf8_lower(array.cast(pa.string())), value_set=pa.array(_YES))
    return numpy_of(array.fill_null(False)).astype(np.int64)


def group_name(name: str | None, *, flat: bool) -> str:
    """Return the name that a group is shown under."""
    if name is None or not name.strip():
        return EMPTY
    return (undo_safe(name) if flat else name).strip()
