"""`/v1/feedback`: what a person says of a prediction."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from gapnlp.taxonomy import LABELS, NONE, load_taxonomy
from serve.schemas.body import REQUEST
from serve.schemas.label import Label

_MOST_NAMES = 2 * len(LABELS)
_NAMES = sorted({name for gap in load_taxonomy().gaps for name in (gap.id, *gap.names)})
_LABELS_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "array", "items": {"type": "string", "enum": _NAMES}, "maxItems": _MOST_NAMES},
        {"const": [NONE]},
    ],
    "description": (
        "The gaps that are right, by any of their names; case, dashes and white space do not count. `[]` or "
        '`["none"]` where the text points to none.'
    ),
}
_Labels = Annotated[
    list[Annotated[str, Field(max_length=120)]], Field(max_length=_MOST_NAMES), WithJsonSchema(_LABELS_SCHEMA)
]


class FeedbackRequest(BaseModel):
    """What the text really points to."""

    model_config = REQUEST | ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019aa7c1f0d47b0a9c3e5d1f2b4a6c8e",
                    "labels": ["delivery", "promise gap"],
                    "author": "ada",
                    "comment": "They did call, but a week late.",
                }
            ]
        }
    )

    id: str = Field(min_length=1, max_length=64, description="Of the prediction, as `/v1/classify` answered it.")
    labels: _Labels
    author: str | None = Field(None, max_length=200, description="Who says so.")
    comment: str | None = Field(None, max_length=2000, description="Why.")


class FeedbackAnswer(BaseModel):
    """What was kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019aa7c2a1b37c4d8e0f1a2b3c4d5e6f",
                    "prediction": "019aa7c1f0d47b0a9c3e5d1f2b4a6c8e",
                    "labels": ["delivery", "communication"],
                }
            ]
        }
    )

    id: str = Field(description="Of this feedback.")
    prediction: str = Field(description="What it is about.")
    labels: list[Label] = Field(description="The gaps, by their ids.")
