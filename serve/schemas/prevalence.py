"""`/v1/prevalence`: predictions in, shares of the population out."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticKnownError

from serve.schemas.body import REQUEST
from serve.schemas.label import Label, Share
from serve.schemas.text import Texts

MOST_IDS = 10_000


def _only_text(value: object) -> object:
    """Refuse numbers: nobody can tell seconds from milliseconds."""
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    return value


_CONFIDENCE = Field(
    0.95, ge=0.5, le=0.999, allow_inf_nan=False, description="How often such intervals shall hold the true share."
)
_Moment = Annotated[
    AwareDatetime,
    Field(strict=False),
    BeforeValidator(_only_text),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 40}),
]
Id = Annotated[str, Field(min_length=1, max_length=64)]


class PrevalenceOfIds(BaseModel):
    """Stored predictions, by the ids that `/v1/classify` answered with."""

    model_config = REQUEST | ConfigDict(
        json_schema_extra={"examples": [{"ids": ["019aa7c1f0d47b0a9c3e5d1f2b4a6c8e"], "confidence": 0.9}]}
    )

    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_IDS, description="Each counts once.")]
    confidence: float = _CONFIDENCE


class PrevalenceOfTexts(BaseModel):
    """Texts, which are read for this and not kept."""

    model_config = REQUEST | ConfigDict(
        json_schema_extra={"examples": [{"texts": ["Nobody called me back.", "The driver was friendly."]}]}
    )

    texts: Texts
    confidence: float = _CONFIDENCE


class PrevalenceOfTime(BaseModel):
    """Stored predictions, by when they were made."""

    model_config = REQUEST | ConfigDict(
        json_schema_extra={"examples": [{"since": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"}]}
    )

    since: _Moment = Field(description="From this moment on, with its zone.")
    until: _Moment = Field(description="And before this one.")
    confidence: float = _CONFIDENCE


class Estimate(BaseModel):
    """How much of the population points to one gap."""

    label: Label
    counted: Share = Field(description="Share that the model gave the label: biased, for comparison alone.")
    prevalence: Share = Field(description="The estimate.")
    low: Share
    high: Share
    notes: list[str] = Field(description="What the interval rests on, and what speaks against it.")


class PrevalenceAnswer(BaseModel):
    """One estimate per gap; they may add up to more than 1, since a text may point to several."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "gapnlp-en@1.1",
                    "n_texts": 1200,
                    "n_unread": 3,
                    "confidence": 0.95,
                    "method": "adjusted",
                    "estimates": [
                        {
                            "label": "delivery",
                            "counted": 0.31,
                            "prevalence": 0.27,
                            "low": 0.23,
                            "high": 0.31,
                            "notes": ["The interval rests on this: …"],
                        }
                    ],
                }
            ]
        }
    )

    model: str
    n_texts: int = Field(ge=1, description="Texts that the estimates are of.")
    n_unread: int = Field(ge=0, description="Texts of the request that could not be read, and are left out.")
    confidence: float
    method: str
    estimates: list[Estimate]
