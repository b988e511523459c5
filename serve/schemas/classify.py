"""`/v1/classify`: texts in, predictions out."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from serve.schemas.body import REQUEST
from serve.schemas.label import Label, Outcome, Share
from serve.schemas.text import Text, Texts

TEXT_EXAMPLE = "They promised a call back within a day. That was two weeks ago."
_EVIDENCE = Field(True, description="Answer with the passages that speak for each gap.")
_EXPLAIN = Field(False, description="Answer with causes, questions and remedies of the gaps found.")


class ClassifyText(BaseModel):
    """One text to read."""

    model_config = REQUEST | ConfigDict(
        title="ClassifyText", json_schema_extra={"examples": [{"text": TEXT_EXAMPLE, "explain": True}]}
    )

    text: Text
    evidence: bool = _EVIDENCE
    explain: bool = _EXPLAIN


class ClassifyTexts(BaseModel):
    """Several texts to read."""

    model_config = REQUEST | ConfigDict(
        title="ClassifyTexts", json_schema_extra={"examples": [{"texts": [TEXT_EXAMPLE, "All fine, thank you!"]}]}
    )

    texts: Texts
    evidence: bool = _EVIDENCE
    explain: bool = _EXPLAIN


class Passage(BaseModel):
    """The part of a text that speaks for one gap."""

    label: Label
    start: int = Field(ge=0, description="Its first character, counted from 0 in Unicode code points.")
    end: int = Field(ge=1, description="The character after its last.")


class Probabilities(BaseModel):
    """Calibrated probability of each gap."""

    knowledge: Share
    policy: Share
    delivery: Share
    communication: Share
    customer: Share


class TextError(BaseModel):
    """Why a text was not read."""

    type: str = Field(description="`urn:gapnlp:problem:unreadable-text` or `urn:gapnlp:problem:long-text`.")
    detail: str = Field(description="What was got, and what was expected.")


class GapCard(BaseModel):
    """A gap, and what closes it."""

    id: Label
    name: str
    definition: str
    causes: list[str]
    questions: list[str]
    remedies: list[str]


class Result(BaseModel):
    """What the model says of one text; where `error` is set it says nothing."""

    index: int = Field(ge=0, description="Of the text in the request.")
    id: str | None = Field(description="To give feedback on this prediction, or ask for prevalence; null if not kept.")
    primary: Outcome | None = Field(description="The gap that carries the most weight, or `none`.")
    labels: list[Label] = Field(description="The gaps found, the primary first; empty for `none`.")
    probabilities: Probabilities | None
    evidence: list[Passage] = Field(description="One passage per label at the most.")
    review: bool = Field(description="Below the precision that the model promises: a person should look.")
    truncated: bool = Field(description="The end of the text was left out.")
    error: TextError | None
    gaps: list[GapCard] = Field([], description="With `explain`: the gaps found, in the order of `labels`.")


class ClassifyAnswer(BaseModel):
    """One result per text, in the order of the request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "gapnlp-en@1.1",
                    "results": [
                        {
                            "index": 0,
                            "id": "019aa7c1f0d47b0a9c3e5d1f2b4a6c8e",
                            "primary": "communication",
                            "labels": ["communication"],
                            "probabilities": {
                                "knowledge": 0.01,
                                "policy": 0.02,
                                "delivery": 0.21,
                                "communication": 0.97,
                                "customer": 0.01,
                            },
                            "evidence": [{"label": "communication", "start": 0, "end": 38}],
                            "review": False,
                            "truncated": False,
                            "error": None,
                        }
                    ],
                }
            ]
        }
    )

    model: str = Field(description="`name@version` of the model.")
    results: list[Result]
