"""`/predict`, in the shape of Hugging Face's text-embeddings-inference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, WithJsonSchema

from serve.schemas.label import Label
from serve.schemas.text import MOST, TEXT_SCHEMA

_TEXT = TEXT_SCHEMA
_ALONE = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 1}
INPUTS_SCHEMA: dict[str, Any] = {
    "oneOf": [
        _TEXT,
        {"description": "One text in a list.", **_ALONE},
        {
            "description": "Several, each in a list of its own.",
            "type": "array",
            "items": _ALONE,
            "minItems": 1,
            "maxItems": MOST,
        },
    ],
    "description": "A text, or a list of lists of one text each. A pair of texts, as rerankers take it, is refused.",
}


class PredictRequest(BaseModel):
    """What text-embeddings-inference takes at `/predict`; other members are ignored, as there."""

    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        frozen=True,
        json_schema_extra={"examples": [{"inputs": [["Nobody called me back."], ["All fine!"]], "raw_scores": False}]},
    )

    inputs: Annotated[Any, WithJsonSchema(INPUTS_SCHEMA)]
    truncate: bool | None = Field(
        None, description="Read the beginning of a text that is too long; otherwise refuse it."
    )
    truncation_direction: Literal["Left", "Right", "left", "right"] = Field(
        "right", description="Which end of a text that is too long is left out."
    )
    raw_scores: bool = Field(False, description="Scores as log-odds instead of probabilities.")


class TeiScore(BaseModel):
    """One gap's score."""

    score: float
    label: Label


class TeiAnswer(RootModel[list[TeiScore] | list[list[TeiScore]]]):
    """All gaps, the highest score first; for several texts a list of such lists."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [[{"score": 0.97, "label": "communication"}, {"score": 0.21, "label": "delivery"}]]
        }
    )


class TeiError(BaseModel):
    """An error, as text-embeddings-inference writes it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"error": "Model is overloaded", "error_type": "Overloaded"}]}
    )

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]
