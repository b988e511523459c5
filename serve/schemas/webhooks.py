"""`/v1/webhooks/{helpdesk}`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Received(BaseModel):
    """What became of a webhook."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "stored"}]})

    status: Literal["stored", "duplicate", "ignored"] = Field(
        description="`stored`: it will be worked on. `duplicate`: it came before. `ignored`: no customer wrote."
    )
