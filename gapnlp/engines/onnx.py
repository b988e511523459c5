"""ONNX Runtime on the CPU, for machines that OpenVINO does not run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gapnlp.engines.base import EngineOutput
from gapnlp.errors import MissingExtraError, ModelError
from gapnlp.model_dir import GRAPH

if TYPE_CHECKING:
    from gapnlp.model_dir import ModelDir

LOG_ERRORS_ONLY = 3


class OnnxEngine:
    """Run `model.onnx` in float32."""

    name = "onnx"
    n_parallel = 1  # ONNX Runtime spreads one batch over all cores

    def __init__(self, model: ModelDir, *, n_threads: int | None = None) -> None:
        try:
            import onnxruntime as ort
        except ImportError as exc:
            raise MissingExtraError("onnxruntime", "onnx") from exc
        options = ort.SessionOptions()
        options.intra_op_num_threads = n_threads or 0
        options.log_severity_level = LOG_ERRORS_ONLY
        options.enable_mem_pattern = False  # patterns are kept per input shape, and there are many shapes
        try:
            self._session = ort.InferenceSession(
                str(model.path / GRAPH), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:
            raise ModelError(f"{GRAPH} of {model.path.name} cannot be run: {exc}") from exc

    def run(self, input_ids: npt.NDArray[np.int64], attention_mask: npt.NDArray[np.int64]) -> EngineOutput:
        """Run one batch; see `Engine.run` for shapes."""
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        return EngineOutput(*self._session.run(["logits", "token_logits"], feed))
