"""Run sequences of any length through an engine, in batches of one width each and a bounded number of tokens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapnlp.engines.base import Engine, EngineOutput
from gapnlp.taxonomy import LABELS

TOKENS_PER_BATCH = 2048
PAD_TO = 16  # few different widths: engines keep plans and memory per shape
CALL_TOKENS = 64  # what a call costs beside its tokens, in tokens


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences that run together.

    Attributes:
        indices: Which they are.
        width: Tokens that each is padded to.
        n_rows: Rows that the engine is given: as many as there are sequences, or more, the rest empty.
    """

    indices: list[int]
    width: int
    n_rows: int


def plan_batches(lengths: Sequence[int], *, tokens_per_batch: int = TOKENS_PER_BATCH) -> list[Batch]:
    """Sort sequences into batches of few shapes, the narrowest first.

    A sequence is padded to the next multiple of `PAD_TO` and runs among its like: its own length alone decides the
    shape it is computed in, so its result cannot depend on what else there is to do. The number of rows is the most
    that the limit allows or, for what is left over, a power of two, so that shapes stay few however long this goes on:
    the next one up, with empty rows, where those cost less than another call would.

    Args:
        lengths: Tokens of each sequence, at least 1.
        tokens_per_batch: The most tokens in a batch, padding included; a longer sequence goes alone.
    """
    by_width: defaultdict[int, list[int]] = defaultdict(list)
    for index, length in enumerate(lengths):
        by_width[-(-length // PAD_TO) * PAD_TO].append(index)
    batches = []
    for width, indices in sorted(by_width.items()):
        most = max(1, tokens_per_batch // width)
        start = 0
        while start < len(indices):
            n_rows = _n_rows(len(indices) - start, most=most, width=width)
            batches.append(Batch(indices[start : start + n_rows], width, n_rows))
            start += n_rows
    return batches


def _n_rows(n_left: int, *, most: int, width: int) -> int:
    """Return how many rows to run next: `most`, or a power of two that is near to how many sequences are left."""
    if n_left >= most:
        return most
    lower = 1 << (n_left.bit_length() - 1)
    upper = min(2 * lower, most)
    return upper if lower < n_left and (upper - n_left) * width <= CALL_TOKENS else lower


def run_sequences(
    engine: Engine,
    sequences: Sequence[Sequence[int]],
    *,
    pad_id: int,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Iterator[tuple[int, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Run every sequence once, shortest first, as many batches at a time as the engine takes.

    Args:
        engine: What runs them.
        sequences: Token ids of each, special tokens included.
        pad_id: The id that fills a batch up.
        tokens_per_batch: The most tokens a batch may have, padding included.

    Yields:
        Index of the sequence, its logits of shape (5,) and its token logits of shape (n_tokens, 5).
    """
    batches = plan_batches([len(sequence) for sequence in sequences], tokens_per_batch=tokens_per_batch)

    def run(batch: Batch) -> EngineOutput:
        return _run_batch(engine, batch, [sequences[index] for index in batch.indices], pad_id=pad_id)

    for batch, output in zip(batches, _run_all(run, batches, n_parallel=engine.n_parallel), strict=True):
        for row, index in enumerate(batch.indices):
            yield index, output.logits[row], output.token_logits[row, : len(sequences[index])]


def _run_all(
    run: Callable[[Batch], EngineOutput], batches: Sequence[Batch], *, n_parallel: int
) -> Iterator[EngineOutput]:
    if min(n_parallel, len(batches)) <= 1:
        yield from map(run, batches)
        return
    with ThreadPoolExecutor(n_parallel) as pool:
        yield from pool.map(run, batches)


def _run_batch(engine: Engine, batch: Batch, sequences: Sequence[Sequence[int]], *, pad_id: int) -> EngineOutput:
    input_ids = np.full((batch.n_rows, batch.width), pad_id, dtype=np.int64)
    attention_mask = np.zeros((batch.n_rows, batch.width), dtype=np.int64)
    attention_mask[:, 0] = 1  # of empty rows too: attention to nothing at all is no number
    for row, sequence in enumerate(sequences):
        input_ids[row, : len(sequence)] = sequence
        attention_mask[row, : len(sequence)] = 1
    output = engine.run(input_ids, attention_mask)
    if output.logits.shape != (batch.n_rows, len(LABELS)):
        raise ValueError(
            f"engine {engine.name} gave logits of shape {output.logits.shape}, expected {(batch.n_rows, len(LABELS))}"
        )
    return output
