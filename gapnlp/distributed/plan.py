"""What is to be done: the inputs' columns, their rows cut into partitions, and what must stay the same on resuming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapnlp import __version__
from gapnlp.archive.kinds import merge_schemas
from gapnlp.distributed.rows import Partition, count_rows, is_parquet, opened
from gapnlp.distributed.storage import state_of
from gapnlp.errors import ConfigError

if TYPE_CHECKING:
    from gapnlp.engines import EngineName

PARTITION_ROWS = 20_000
_N_SAMPLES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionOptions:
    """How an archive is labelled past one machine.

    Attributes:
        model: A model directory, at the same path for every worker; None for the shipped model.
        engine: See `GapClassifier.load`; None for its default, which all machines must run in the same precision.
        id_column: The column whose value names a row in messages.
        mask: Mask personal data in the text, before it is classified and written.
        restart: Throw away what an earlier run wrote to the output, and begin again.
        partition_rows: The most rows in one file of the output; a crash costs each worker so many at the most.
        n_workers: Workers; None for as many as there are CPUs for.
        n_threads: CPUs of each worker.

    Raises:
        ConfigError: A number is below 1.
    """

    model: str | None = None
    engine: EngineName | None = None
    id_column: str | None = None
    mask: bool = False
    restart: bool = False
    partition_rows: int = PARTITION_ROWS
    n_workers: int | None = None
    n_threads: int = 1

    def __post_init__(self) -> None:
        for name in ("partition_rows", "n_workers", "n_threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: got {value}, expected a whole number from 1 up")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file that was looked into.

    Attributes:
        url: Where it is.
        n_rows: Its rows.
        text_column: The column with the text.
        schema: Its columns and their types, as a `pyarrow.Schema`.
        state: What tells that it is still the same.
    """

    url: str
    n_rows: int
    text_column: str
    schema: Any
    state: Mapping[str, str]


def look_into(url: str, *, text_column: str | None = None, id_column: str | None = None) -> InputFile:
    """Open one input and find its text column. Of a Parquet file, only the beginning and the footer are read.

    Raises:
        InputError: It cannot be read, or is labelled already.
        ColumnError: A column is missing, or the text column cannot be told for certain.
    """
    state = state_of(url)
    with opened(url, range(_N_SAMPLES), text_column=text_column, id_column=id_column) as item:
        n_rows = count_rows(url) if is_parquet(url) else item.source.n_rows
        return InputFile(url, n_rows, item.text_column, item.source.schema(), state)


def common_schema(inputs: Sequence[InputFile]) -> Any:
    """Return the columns of all inputs as a `pyarrow.Schema`: every file of the output has the same."""
    return merge_schemas([item.schema for item in inputs])


def cut(inputs: Sequence[InputFile], *, n_rows: int) -> list[Partition]:
    """Cut every input into partitions of `n_rows` rows; inputs without any row make one, which is empty."""
    stretches = [
        (item.url, start, min(start + n_rows, item.n_rows), item.text_column)
        for item in inputs
        for start in range(0, item.n_rows, n_rows)
    ]
    stretches = stretches or [(inputs[0].url, 0, 0, inputs[0].text_column)]
    return [Partition(number, *stretch) for number, stretch in enumerate(stretches)]


def fingerprint(inputs: Sequence[InputFile], *, options: PartitionOptions, scored_by: str) -> dict[str, Any]:
    """Return all that the output depends on: two runs may share an output where it is equal.

    Args:
        inputs: What is labelled.
        options: How.
        scored_by: The fingerprint of the classifier: its files, its engine and the precision of that.
    """
    return {
        "inputs": [dict(item.state) for item in inputs],
        "text columns": [item.text_column for item in inputs],
        "model or engine": scored_by,
        "masking of personal data": options.mask,
        "rows in a partition": options.partition_rows,
        "version of gapnlp": __version__,
    }
