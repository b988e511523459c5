"""The protocol that every engine answers to."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class EngineOutput(NamedTuple):
    """What an engine returns for one batch.

    Attributes:
        logits: Text head. *Shape:* (batch, 5), float32.
        token_logits: Evidence head. *Shape:* (batch, seq, 5), float32; meaningless at padding.
    """

    logits: npt.NDArray[np.float32]
    token_logits: npt.NDArray[np.float32]


class Engine(Protocol):
    """Token ids in, logits out.

    A row's result must not depend on the rows beside it; `run` may be called from several threads at once.

    Attributes:
        name: What it runs on and in which precision: part of what decides a score.
        n_parallel: Batches that are worth running at once.
    """

    name: str
    n_parallel: int

    def run(self, input_ids: npt.NDArray[np.int64], attention_mask: npt.NDArray[np.int64]) -> EngineOutput:
        """Run one batch.

        Args:
            input_ids: Token ids, padded on the right. *Shape:* (batch, seq).
            attention_mask: 1 at tokens, 0 at padding. *Shape:* (batch, seq).
        """
        ...
