"""OpenVINO on the CPU: the default engine, without torch."""

from __future__ import annotations

import os
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from gapnlp.engines.base import EngineOutput
from gapnlp.errors import ModelError
from gapnlp.model_dir import GRAPH

if TYPE_CHECKING:
    from gapnlp.model_dir import ModelDir

Precision = Literal["bf16", "f32"]
# OpenVINO's Python layer sets itself up at the first run; two threads that come to it together wait for each other
# for ever, one with the interpreter's lock, one with that of the set-up.
_FIRST_RUN = threading.Lock()
PRECISIONS: dict[str, Precision] = {"bf16": "bf16", "f32": "f32"}


class OpenVinoEngine:
    """Run `model.onnx` on one core per batch, several batches side by side.

    The weights and sums are kept in float32; products are made in bfloat16 where the processor has instructions
    for it (faster, and within 0.1 of the logits of float32), else in float32.
    Any two runs on one machine give a row the same bits, whatever stands beside it and however many batches run.

    Attributes:
        name: `openvino-bf16` or `openvino-f32`.
        n_parallel: Batches that may run at once.
    """

    def __init__(self, model: ModelDir, *, n_threads: int | None = None, precision: Precision | None = None) -> None:
        core = _import_openvino().Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        hint = precision or ("bf16" if native else "f32")
        self.name = f"openvino-{hint}"
        self.n_parallel = n_threads or n_cores()
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "NUM_STREAMS": self.n_parallel,
            "INFERENCE_NUM_THREADS": self.n_parallel,  # one each: no waiting for each other inside a batch
            "ENABLE_CPU_PINNING": False,  # several processes on one machine must not all sit on the first cores
        }
        try:
            graph = core.read_model(model.path / GRAPH)
            _look_up_before_widening(graph)
            compiled = core.compile_model(graph, "CPU", settings)
        except RuntimeError as exc:
            raise ModelError(f"{GRAPH} of {model.path.name} cannot be run: {exc}") from exc
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.n_parallel):
            self._free.put(compiled.create_infer_request())
        with _FIRST_RUN:
            self.run(np.ones((1, 16), dtype=np.int64), np.ones((1, 16), dtype=np.int64))

    def run(self, input_ids: npt.NDArray[np.int64], attention_mask: npt.NDArray[np.int64]) -> EngineOutput:
        """Run one batch, waiting while `n_parallel` others run; see `Engine.run` for shapes."""
        request = self._free.get()
        try:
            request.infer([input_ids, attention_mask], share_inputs=True)
            logits, token_logits = (request.get_output_tensor(index).data.copy() for index in (0, 1))
        finally:
            self._free.put(request)
        return EngineOutput(logits, token_logits)


def _look_up_before_widening(graph: Any) -> None:
    """Let tables of embeddings stay in the few bits they are stored in, and widen the rows that a text looks up.

    ONNX cannot look rows up in an eight-bit table, so that the graph widens the whole table first, which would
    take four times its memory.
    """
    from openvino import opset8 as op

    for node in graph.get_ordered_ops():
        if node.get_type_name() != "Gather":
            continue
        widened = node.input_value(0).get_node()
        if widened.get_type_name() == "Convert" and widened.input_value(0).get_node().get_type_name() == "Constant":
            rows = op.gather(widened.input_value(0), node.input_value(1), node.input_value(2))
            node.output(0).replace(op.convert(rows, "f32").output(0))


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would tell its makers over the network; it has a stand-in for it."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: import it not
    import openvino

    return openvino


def n_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
