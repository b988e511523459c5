"""Engines run a model on token ids; every one of them answers to the protocol in `base`."""

from typing import Literal

EngineName = Literal["openvino", "openvino-bf16", "openvino-f32", "onnx", "torch"]
"""What `GapClassifier.load` can be asked for; `openvino` takes the faster precision of the machine."""
