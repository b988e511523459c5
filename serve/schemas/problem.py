"""The shape of a problem."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ProblemDetail(BaseModel):
    """What is wrong with one part of the body."""

    pointer: str = Field(description="Where in the body, as a JSON pointer (RFC 6901).")
    detail: str = Field(description="What was expected, and of what kind that is which was got.")


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 writes it. It never repeats what was sent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:gapnlp:problem:invalid",
                    "title": "The request is not what was expected",
                    "status": 422,
                    "detail": "1 part of the body is not what was expected",
                    "instance": "6f1c2a8e5b7d4c0f9a3e2d1b0c8f7a6e",
                    "errors": [{"pointer": "/evidence", "detail": "got a string, expected true or false"}],
                }
            ]
        }
    )

    type: str = Field(description="Tells kinds of problems apart; `urn:gapnlp:problem:` and a word.")
    title: str = Field(description="What it is, the same for every problem of this type.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was expected, and what to do.")
    instance: str = Field("", description="The id of the request, as in the header X-Request-ID.")
    errors: list[ProblemDetail] = Field([], description="What is wrong with which part of the body.")
