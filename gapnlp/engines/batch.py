"""Run sequences of any length through an engine: sorted by length, in batches of a bounded number of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from gapnlp.engines.base import Engine, EngineOutput
from gapnlp.taxonomy import LABELS

TOKENS_PER_BATCH = 4096
PAD_TO = 16  # few different shapes: engines keep plans and memory per shape


def run_sequences(
    engine: Engine,
    sequences: Sequence[Sequence[int]],
    *,
    pad_id: int,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Iterator[tuple[int, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Run every sequence once, shortest first.

    Args:
        engine: What runs them.
        sequences: Token ids of each, special tokens included.
        pad_id: The id that fills a batch up.
        tokens_per_batch: The most tokens a batch may have, padding included.

    Yields:
        Index of the sequence, its logits of shape (5,) and its token logits of shape (n_tokens, 5).
    """
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    for batch in _batches(order, lengths=[len(sequence) for sequence in sequences], tokens_per_batch=tokens_per_batch):
        output = _run_batch(engine, [sequences[index] for index in batch], pad_id=pad_id)
        for row, index in enumerate(batch):
            yield index, output.logits[row], output.token_logits[row, : len(sequences[index])]


def _batches(order: Sequence[int], *, lengths: Sequence[int], tokens_per_batch: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for index in order:  # lengths grow, so the newest one is the longest of its batch
        if batch and (len(batch) + 1) * _padded(lengths[index]) > tokens_per_batch:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _run_batch(engine: Engine, sequences: Sequence[Sequence[int]], *, pad_id: int) -> EngineOutput:
    width = _padded(max(map(len, sequences)))
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


def _padded(length: int) -> int:
    return -(-length // PAD_TO) * PAD_TO
