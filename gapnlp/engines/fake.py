"""A fixed engine for tests: no model file, the same answer every time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gapnlp.engines.base import EngineOutput
from gapnlp.taxonomy import LABELS


class FakeEngine:
    """Score each token by its id alone and a text by its tokens' mean: batch-invariant by construction."""

    name = "fake"
    n_parallel = 1

    def run(self, input_ids: npt.NDArray[np.int64], attention_mask: npt.NDArray[np.int64]) -> EngineOutput:
        """Run one batch; see `Engine.run` for shapes."""
        shifts = np.arange(1, len(LABELS) + 1, dtype=np.int64)
        token_logits = ((input_ids[..., None] * shifts) % 17 - 8).astype(np.float32)
        mask = attention_mask[..., None].astype(np.float32)
        logits = (token_logits * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
        return EngineOutput(logits.astype(np.float32), token_logits)
