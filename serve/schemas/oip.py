"""`/v2`: the Open Inference Protocol over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from gapnlp.taxonomy import LABELS
from serve.schemas.text import MOST, TEXT_SCHEMA

INPUT = "text"
PROBABILITIES = "probabilities"
LABELS_OUTPUT = "labels"
_LOOSE = ConfigDict(strict=True, extra="ignore", frozen=True)
_Parameters = Annotated[dict[str, Any], Field(description="Taken and ignored.")]
_TEXTS = {
    "type": "array",
    "items": TEXT_SCHEMA,
    "minItems": 1,
    "maxItems": MOST,
    "description": "The texts; as many as `shape` says.",
}


class InferInput(BaseModel):
    """The tensor of texts."""

    model_config = _LOOSE

    name: Literal["text"]
    shape: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=2, description="`[n]`, or `[n, 1]`.")
    datatype: Literal["BYTES"]
    data: Annotated[list[Any], WithJsonSchema(_TEXTS)]
    parameters: _Parameters = Field({})


class InferOutputName(BaseModel):
    """One output that is wanted."""

    model_config = _LOOSE

    name: Literal["probabilities", "labels"]
    parameters: _Parameters = Field({})


class InferRequest(BaseModel):
    """Texts to read."""

    model_config = _LOOSE | ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "42",
                    "inputs": [
                        {
                            "name": "text",
                            "shape": [2],
                            "datatype": "BYTES",
                            "data": ["Nobody called me back.", "All fine!"],
                        }
                    ],
                    "outputs": [{"name": "probabilities"}],
                }
            ]
        }
    )

    id: str | None = Field(None, max_length=200, description="Comes back with the answer.")
    inputs: list[InferInput] = Field(min_length=1, max_length=1)
    outputs: list[InferOutputName] = Field([], description="Which outputs are wanted; all where none is named.")
    parameters: _Parameters = Field({})


class Tensor(BaseModel):
    """One output."""

    name: Literal["probabilities", "labels"]
    shape: list[int]
    datatype: Literal["FP64", "BYTES"]
    data: list[float] | list[str] = Field(description="Row by row.")


class InferAnswer(BaseModel):
    """Probabilities of shape `[n, 5]`, and labels of shape `[n]`: joined by `;`, the primary first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model_name": "gapnlp-en",
                    "model_version": "1.0",
                    "id": "42",
                    "outputs": [
                        {
                            "name": "probabilities",
                            "shape": [1, 5],
                            "datatype": "FP64",
                            "data": [0.01, 0.02, 0.21, 0.97, 0.01],
                        },
                        {"name": "labels", "shape": [1], "datatype": "BYTES", "data": ["communication"]},
                    ],
                }
            ]
        }
    )

    model_name: str
    model_version: str
    id: str | None = Field(None, description="Of the request, where it has one.")
    outputs: list[Tensor]


class TensorMetadata(BaseModel):
    """What a tensor looks like."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1 for as many as there are texts.")
    parameters: dict[str, Any] = Field({}, description="For the outputs: `labels`, the gaps in their order.")


class ServerMetadata(BaseModel):
    """The server."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "gapnlp", "version": "0.1.0", "extensions": []}]}
    )

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(BaseModel):
    """The model."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "gapnlp-en",
                    "versions": ["1.0"],
                    "platform": "gapnlp",
                    "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
                    "outputs": [
                        {
                            "name": "probabilities",
                            "datatype": "FP64",
                            "shape": [-1, 5],
                            "parameters": {"labels": list(LABELS)},
                        },
                        {"name": "labels", "datatype": "BYTES", "shape": [-1], "parameters": {"labels": list(LABELS)}},
                    ],
                }
            ]
        }
    )

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OipLive(BaseModel):
    """Whether the server is live."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"live": True}]})

    live: bool


class OipReady(BaseModel):
    """Whether the server is ready."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ready": True}]})

    ready: bool


class OipModelReady(BaseModel):
    """Whether a model is ready."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "gapnlp-en", "ready": True}]})

    name: str
    ready: bool


class OipError(BaseModel):
    """An error, as the protocol writes it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"error": "there is no model of this name"}]})

    error: str
