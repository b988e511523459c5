"""Put the shipped model inside the wheel; an editable install reads it from `models/` instead."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShippedModel(BuildHookInterface):
    """Add `models/gapnlp-en` to a standard wheel as `gapnlp/_model`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the model's files, unless the wheel is an editable one."""
        if version == "standard":
            build_data["force_include"]["models/gapnlp-en"] = "gapnlp/_model"
