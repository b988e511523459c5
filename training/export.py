"""From the trained network to the graph that the light engine runs.

`model.onnx` holds the graph alone: every large weight is read from the safetensors files beside it, where it lies in
half precision, and is widened (and transposed, where ONNX wants it the other way round) once, when the graph is loaded.
One copy of the weights thus serves both `transformers` and ONNX Runtime, and both compute in float32 on equal numbers.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from gapnlp.errors import ModelError
from gapnlp.model_dir import EVIDENCE_HEAD, GRAPH, WEIGHTS
from training.network import GapNetwork

SMALL = 4096  # weights with fewer elements stay inside the graph
OPSET = 18


def export_graph(network: GapNetwork, folder: Path) -> None:
    """Write `model.onnx` into a folder that already holds the safetensors files of this network.

    Args:
        network: The trained network, its weights rounded (`GapNetwork.round_weights`).
        folder: The model directory being written.

    Raises:
        ModelError: A weight of the graph is in none of the files.
    """
    model = _trace(network)
    stored = [tensor for name in (WEIGHTS, EVIDENCE_HEAD) for tensor in _stored_tensors(folder / name)]
    by_content = {_key(values): (file, offset, values.shape) for file, offset, values in stored}
    kept, nodes = [], []
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        if initializer.data_type != TensorProto.FLOAT or values.size < SMALL:
            kept.append(initializer)
            continue
        reference, widen = _refer(initializer.name, values, by_content=by_content)
        kept.append(reference)
        nodes += widen
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    whole = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(whole)
    del model.graph.value_info[:]
    (folder / GRAPH).write_bytes(model.SerializeToString())


class _Inference(nn.Module):
    def __init__(self, network: GapNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.network(input_ids, attention_mask)  # type: ignore[no-any-return]


def _trace(network: GapNetwork) -> Any:
    ids = torch.ones((2, 16), dtype=torch.long)
    batch, seq = torch.export.Dim("batch"), torch.export.Dim("seq")
    with tempfile.TemporaryDirectory() as scratch, _quiet_exporter():
        path = Path(scratch) / GRAPH
        torch.onnx.export(
            _Inference(network.cpu()).eval(),
            (ids, torch.ones_like(ids)),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits", "token_logits"],
            dynamic_shapes={"input_ids": {0: batch, 1: seq}, "attention_mask": {0: batch, 1: seq}},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return _without_traces(onnx.load(str(path)))


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep what torch's exporter says about itself away from the user."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # it names each operator of torchvision, which this model has none of
    try:
        with warnings.catch_warnings():
            # It calls a part of torch that torch is about to rename.
            warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
            # Both inputs have the same axes on purpose.
            warnings.filterwarnings("ignore", "# The axis name: (batch|seq) will not be used", UserWarning)
            yield
    finally:
        registration.setLevel(level)


def _without_traces(model: Any) -> Any:
    """Take out where in the source each node came from: most of the graph's bytes, and paths of one machine."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def _stored_tensors(path: Path) -> list[tuple[str, int, npt.NDArray[np.float16]]]:
    """Return file name, position in bytes and values of each half-precision tensor of a safetensors file."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    tensors = []
    for name, entry in json.loads(raw[8:start]).items():
        if name != "__metadata__" and entry["dtype"] == "F16":
            first, last = (start + position for position in entry["data_offsets"])
            values = np.frombuffer(raw[first:last], dtype="<f2").reshape(entry["shape"])
            tensors.append((path.name, first, values))
    return tensors


def _key(values: npt.NDArray[Any]) -> tuple[tuple[int, ...], bytes]:
    return values.shape, np.ascontiguousarray(values, dtype=np.float16).tobytes()


def _refer(name: str, values: npt.NDArray[np.float32], *, by_content: dict[Any, Any]) -> tuple[Any, list[Any]]:
    """Return a tensor that points into a safetensors file, and the nodes that make `name` of it."""
    turned = values.ndim == 2 and _key(values) not in by_content
    found = by_content.get(_key(values.T if turned else values))
    if found is None:
        raise ModelError(f"the graph's weight {name!r} of shape {values.shape} is in none of the model's weight files")
    file, offset, shape = found
    reference = TensorProto(name=f"{name}.half", data_type=TensorProto.FLOAT16, dims=shape)
    reference.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file), ("offset", offset), ("length", 2 * int(np.prod(shape)))):
        reference.external_data.add(key=key, value=str(value))
    widened = f"{name}.wide" if turned else name
    nodes = [helper.make_node("Cast", [reference.name], [widened], to=TensorProto.FLOAT)]
    if turned:
        nodes.append(helper.make_node("Transpose", [widened], [name], perm=[1, 0]))
    return reference, nodes
