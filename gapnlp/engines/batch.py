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


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences that run together.

    Attributes:
        indices: Which they are.
        width: Tokens that each is padded to.
    """

    indices: list[int]
    width: int


def plan_batches(lengths: Sequence[int], *, tokens_per_batch: int = TOKENS_PER_BATCH) -> list[Batch]:
    """Sort sequences into batches of few shapes, the narrowest first.

    A sequence is padded to the next multiple of `PAD_TO` and runs among its like: its own length alone decides the
    shape it is computed in, so its result cannot depend on what else there is to do. The number of rows is the most
    that the limit allows or, for what is left over, a power of two, so that shapes stay few however long this goes on.

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
            left = len(indices) - start
            n_rows = most if left >= most else 1 << (left.bit_length() - 1)
            batches.append(Batch(indices[start : start + n_rows], width))
            start += n_rows
    return batches


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
        return _run_batch(engine, [sequences[index] for index in batch.indices], width=batch.width, pad_id=pad_id)

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


def _run_batch(engine: Engine, sequences: Sequence[Sequence[int]], *, width: int, pad_id: int) -> EngineOutput:
    input_ids = np.full((len(sequences), width), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(sequences), width), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        input_ids[row, : len(sequence)] = sequence
        attention_mask[row, : len(sequence)] = 1
    output = engine.run(input_ids, attention_mask)
    if output.logits.shape != (len(sequences), len(LABELS)):
        raise ValueError(
            f"engine {engine.name} gave logits of shape {output.logits.shape}, expected {(len(sequences), len(LABELS))}"
        )
    return output
