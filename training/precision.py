"""The number format and the device that a run computes on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal, cast

Precision = Literal["auto", "fp32", "bf16"]


def find_device() -> str:
    """Return `cuda` where a device is there, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def autocast(precision: Precision) -> AbstractContextManager[Any]:
    """Compute in bf16 where the setting says so; `auto` means on CUDA only."""
    import torch

    device = find_device()
    enabled = precision == "bf16" or (precision == "auto" and device == "cuda")
    return cast("AbstractContextManager[Any]", torch.autocast(device, dtype=torch.bfloat16, enabled=enabled))
