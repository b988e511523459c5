"""`/livez` and `/readyz`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive"}]})

    status: str


class Ready(BaseModel):
    """The service can do its work."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ready"}]})

    status: str
