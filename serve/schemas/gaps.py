"""`/v1/gaps`: the taxonomy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from serve.schemas.label import Label


class GapDocument(BaseModel):
    """One gap of the model."""

    id: Label
    number: int = Field(ge=1, le=5)
    name: str
    names: list[str] = Field(description="Every name in use, the displayed one first.")
    definition: str
    causes: list[str]
    questions: list[str]
    remedies: list[str]


class GapsAnswer(BaseModel):
    """The five gaps."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "version": "1.0",
                    "source": "Parasuraman, A., Zeithaml, V. A. and Berry, L. L. (1985). …",
                    "about": "Gaps 1 to 4 lie inside the provider and feed gap 5 …",
                    "gaps": [
                        {
                            "id": "delivery",
                            "number": 3,
                            "name": "delivery gap",
                            "names": ["delivery gap", "performance gap"],
                            "definition": "What is delivered differs from what the standards ask for.",
                            "causes": ["…"],
                            "questions": ["…"],
                            "remedies": ["…"],
                        }
                    ],
                }
            ]
        }
    )

    version: str = Field(description="Changes whenever the wording does.")
    source: str
    about: str
    gaps: list[GapDocument]
