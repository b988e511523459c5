"""How requests and answers name a gap, and the numbers from 0 to 1 that go with it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, WithJsonSchema

from gapnlp.taxonomy import LABELS, NONE

Label = Annotated[str, WithJsonSchema({"type": "string", "enum": list(LABELS)})]
Outcome = Annotated[str, WithJsonSchema({"type": "string", "enum": [*LABELS, NONE]})]
Share = Annotated[float, Field(ge=0, le=1)]
