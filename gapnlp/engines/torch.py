"""torch, on CUDA where it is there: the reference that other engines are compared to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gapnlp.engines.base import EngineOutput
from gapnlp.errors import MissingExtraError
from gapnlp.model_dir import EVIDENCE_HEAD

if TYPE_CHECKING:
    from gapnlp.model_dir import ModelDir


class TorchEngine:
    """Run the Hugging Face folder and the evidence head in float32."""

    name = "torch"
    n_parallel = 1  # torch spreads one batch over all cores

    def __init__(self, model: ModelDir, *, device: str | None = None) -> None:
        try:
            import torch
            from safetensors.torch import load_file
            from transformers import AutoModelForSequenceClassification
        except ImportError as exc:
            raise MissingExtraError(exc.name or "torch", "train") from exc
        self._torch = torch
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        with without_progress_bar():
            network = AutoModelForSequenceClassification.from_pretrained(
                model.path, dtype=torch.float32, local_files_only=True, trust_remote_code=False
            )
        self._network = network.to(self._device).eval()
        self._head = load_file(model.path / EVIDENCE_HEAD, device=self._device)

    def run(self, input_ids: npt.NDArray[np.int64], attention_mask: npt.NDArray[np.int64]) -> EngineOutput:
        """Run one batch; see `Engine.run` for shapes."""
        torch = self._torch
        ids, mask = (torch.from_numpy(array).to(self._device) for array in (input_ids, attention_mask))
        with torch.inference_mode():
            output = self._network(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            weight, bias = self._head["weight"].float(), self._head["bias"].float()
            token_logits = torch.nn.functional.linear(output.hidden_states[-1], weight, bias)
        return EngineOutput(output.logits.float().cpu().numpy(), token_logits.float().cpu().numpy())


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Keep the bars that `transformers` draws on stderr while it reads weights away; they say nothing to a user."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
