"""Examples as the network takes them: token ids, and a target per gap for the text and for each of its tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from gapnlp.taxonomy import LABELS
from training.corpus import Example

FloatArray = npt.NDArray[np.float32]
SHUFFLE_WINDOW = 32  # batches that are sorted by length together: little padding, still a random order


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row.

    Attributes:
        ids: Token ids, special tokens included.
        target: Per gap, 0-1; soft where a teacher was asked. *Shape:* (5,).
        token_target: 1 where a token belongs to a gap's evidence. *Shape:* (n_tokens, 5).
        has_evidence: False where nobody marked any evidence, so that the tokens teach nothing.
    """

    ids: list[int]
    target: FloatArray
    token_target: FloatArray
    has_evidence: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows side by side, padded on the right.

    Attributes:
        input_ids: *Shape:* (batch, seq).
        attention_mask: *Shape:* (batch, seq).
        targets: *Shape:* (batch, 5).
        token_targets: *Shape:* (batch, seq, 5).
        token_weights: 1 at tokens that teach the evidence head. *Shape:* (batch, seq).
    """

    input_ids: Tensor
    attention_mask: Tensor
    targets: Tensor
    token_targets: Tensor
    token_weights: Tensor

    def to(self, device: str) -> Batch:
        """Return the batch on another device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__slots__))


def to_targets(examples: Sequence[Example]) -> npt.NDArray[np.bool_]:
    """Return True where a text carries a gap. *Shape:* (n_texts, 5)."""
    return np.array([[label in example.labels for label in LABELS] for example in examples], dtype=bool).reshape(
        -1, len(LABELS)
    )


def encode_examples(
    examples: Sequence[Example], *, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Encoded]:
    """Tokenise labelled rows; what lies beyond `max_length` tokens is left out of training."""
    if not examples:
        return []
    encodings = tokenizer(
        [example.text for example in examples],
        truncation=True,
        max_length=max_length,
        return_offsets_mapping=True,
    )
    targets = to_targets(examples).astype(np.float32)
    columns = zip(examples, encodings["input_ids"], encodings["offset_mapping"], targets, strict=True)
    return [
        Encoded(ids, target, _token_target(example, offsets), bool(example.evidence) or not example.labels)
        for example, ids, offsets, target in columns
    ]


def shuffled_batches(
    rows: Sequence[Encoded], *, batch_size: int, pad_id: int, rng: np.random.Generator
) -> Iterator[Batch]:
    """Deal the rows into batches of like length, in random order."""
    order = rng.permutation(len(rows))
    span = batch_size * SHUFFLE_WINDOW
    batches: list[list[int]] = []
    for first in range(0, len(order), span):
        part = sorted(order[first : first + span].tolist(), key=lambda index: len(rows[index].ids))
        batches += [part[start : start + batch_size] for start in range(0, len(part), batch_size)]
    for index in rng.permutation(len(batches)):
        yield collate([rows[row] for row in batches[index]], pad_id=pad_id)


def collate(rows: Sequence[Encoded], *, pad_id: int) -> Batch:
    """Pad rows to the longest of them."""
    size, width = len(rows), max(len(row.ids) for row in rows)
    batch = Batch(
        input_ids=torch.full((size, width), pad_id),
        attention_mask=torch.zeros((size, width), dtype=torch.long),
        targets=torch.from_numpy(np.stack([row.target for row in rows])),
        token_targets=torch.zeros((size, width, len(LABELS))),
        token_weights=torch.zeros((size, width)),
    )
    for index, row in enumerate(rows):
        length = len(row.ids)
        batch.input_ids[index, :length] = torch.tensor(row.ids)
        batch.attention_mask[index, :length] = 1
        batch.token_targets[index, :length] = torch.from_numpy(row.token_target)
        batch.token_weights[index, :length] = float(row.has_evidence)
    return batch


def _token_target(example: Example, offsets: Sequence[tuple[int, int]]) -> FloatArray:
    target = np.zeros((len(offsets), len(LABELS)), dtype=np.float32)
    starts, ends = np.array(offsets).reshape(-1, 2).T
    for label, (first, last) in example.evidence.items():
        target[(ends > starts) & (starts < last) & (ends > first), LABELS.index(label)] = 1
    return target
