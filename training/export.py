"""From the trained network to the graph that the light engine runs.

`model.onnx` holds the graph alone: every large weight is read from the safetensors files beside it, where it lies in
eight or sixteen bits, and is widened (and transposed, where ONNX wants it the other way round) once, when the graph is
loaded. One copy of the weights thus serves both `transformers` and the light engines, and both compute in float32 on
equal numbers.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from gapnlp.errors import ModelError
from gapnlp.model_dir import EVIDENCE_HEAD, GRAPH, WEIGHTS
from training.network import SMALL, GapNetwork

OPSET = 19  # the first with eight-bit floats
# What safetensors calls a type, how torch rounds to it, what ONNX calls it.
_TYPES = {
    "F16": (torch.float16, TensorProto.FLOAT16),
    "F8_E4M3": (torch.float8_e4m3fn, TensorProto.FLOAT8E4M3FN),
}


def export_graph(network: GapNetwork, folder: Path) -> None:
    """Write `model.onnx` into a folder that already holds the safetensors files of this network.

    Args:
        network: The trained network, its weights rounded (`GapNetwork.round_weights`).
        folder: The model directory being written.

    Raises:
        ModelError: A weight of the graph is in none of the files.
    """
    model = _trace(network)
    places = {stored.content: stored for name in (WEIGHTS, EVIDENCE_HEAD) for stored in _stored_tensors(folder / name)}
    kept, nodes = [], []
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        if initializer.data_type != TensorProto.FLOAT or values.size < SMALL:
            kept.append(initializer)
            continue
        reference, widen = _refer(initializer.name, values, places=places)
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


class _Content(NamedTuple):
    """What a tensor of a safetensors file holds; two tensors may be equal."""

    kind: str
    shape: tuple[int, ...]
    raw: bytes


class _Stored(NamedTuple):
    """A tensor of a safetensors file, and the position of its first byte."""

    file: str
    offset: int
    content: _Content


def _stored_tensors(path: Path) -> Iterator[_Stored]:
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    for name, entry in json.loads(raw[8:start]).items():
        if name != "__metadata__" and entry["dtype"] in _TYPES:
            first, last = (start + position for position in entry["data_offsets"])
            yield _Stored(path.name, first, _Content(entry["dtype"], tuple(entry["shape"]), raw[first:last]))


def _find(values: npt.NDArray[np.float32], places: Mapping[_Content, _Stored]) -> _Stored | None:
    """Find the stored tensor that holds exactly these values."""
    tensor = torch.from_numpy(np.array(values, order="C"))
    for kind, (dtype, _) in _TYPES.items():
        rounded = tensor.to(dtype)
        if torch.equal(rounded.float(), tensor):
            raw = rounded.view(torch.uint8).numpy().tobytes()
            if found := places.get(_Content(kind, values.shape, raw)):
                return found
    return None


def _refer(name: str, values: npt.NDArray[np.float32], *, places: Mapping[_Content, _Stored]) -> tuple[Any, list[Any]]:
    """Return a tensor that points into a safetensors file, and the nodes that make `name` of it."""
    found = _find(values, places)
    turned = found is None and values.ndim == 2
    if turned:
        found = _find(values.T, places)
    if found is None:
        raise ModelError(f"the graph's weight {name!r} of shape {values.shape} is in none of the model's weight files")
    kind, shape, raw = found.content
    reference = TensorProto(name=f"{name}.stored", data_type=_TYPES[kind][1], dims=shape)
    reference.data_location = TensorProto.EXTERNAL
    for key, value in (("location", found.file), ("offset", found.offset), ("length", len(raw))):
        reference.external_data.add(key=key, value=str(value))
    widened = f"{name}.wide" if turned else name
    nodes = [helper.make_node("Cast", [reference.name], [widened], to=TensorProto.FLOAT)]
    if turned:
        nodes.append(helper.make_node("Transpose", [widened], [name], perm=[1, 0]))
    return reference, nodes
