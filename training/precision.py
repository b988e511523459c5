"""The number format and the device that a run computes on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, cast

import torch


def find_device() -> str:
    """Return `cuda` where a device is there, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def autocast(precision: str) -> AbstractContextManager[Any]:
    """Compute in bf16 where the setting says so; `auto` means on CUDA only."""
    device = find_device()
    enabled = precision == "bf16" or (precision == "auto" and device == "cuda")
    return cast("AbstractContextManager[Any]", torch.autocast(device, dtype=torch.bfloat16, enabled=enabled))
