"""`/v2`: the Open Inference Protocol, for servers and clients of the KServe family."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gapnlp.records import Prediction
from gapnlp.taxonomy import LABELS
from serve.problem import (
    INTERNAL,
    INVALID,
    LONG_TEXT,
    NOT_FOUND,
    QUEUE_FULL,
    TIMED_OUT,
    TOO_MANY,
    UNAVAILABLE,
    FieldError,
    ProblemError,
)
from serve.routes.answer import json_answer, read_body
from serve.routes.document import KEYED, STORED, WITH_BODY, LeanRoute, documented
from serve.routes.health import unready
from serve.routes.reading import read_texts
from serve.schemas.body import check_body, parse_json
from serve.schemas.oip import (
    INPUT,
    LABELS_OUTPUT,
    PROBABILITIES,
    InferAnswer,
    InferInput,
    InferRequest,
    ModelMetadata,
    OipError,
    OipLive,
    OipModelReady,
    OipReady,
    ServerMetadata,
)
from serve.schemas.refusal import MAX_ERRORS, invalid
from serve.schemas.text import check_texts
from serve.service import Service, service_of

router = APIRouter(route_class=LeanRoute)
_TAGS: list[Any] = ["other protocols"]
_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "The model's name, without its version.",
    "schema": {"type": "string", "minLength": 1},
    "example": "gapnlp-en",
}
_VERSION = {**_NAME, "name": "version", "description": "Its version.", "example": "1.0"}


def _model_route(
    ending: str, *, method: str, summary: str, **document: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a route of a model, with and without its version."""

    def declare(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        for path, parameters in (
            ("/v2/models/{name}", [_NAME]),
            ("/v2/models/{name}/versions/{version}", [_NAME, _VERSION]),
        ):
            router.add_api_route(
                path + ending,
                endpoint,
                methods=[method],
                summary=summary,
                tags=_TAGS,
                **documented(parameters=parameters, error=OipError, **document),
            )
        return endpoint

    return declare


@router.get(
    "/v2",
    summary="About the server",
    tags=_TAGS,
    **documented(answer=ServerMetadata, problems=[INTERNAL], error=OipError, secured=False),
)
async def server_metadata(_request: Request) -> Response:
    """Say what server this is."""
    return json_answer({"name": "gapnlp", "version": version("gapnlp"), "extensions": []})


@router.get(
    "/v2/health/live",
    summary="Whether the process answers",
    tags=_TAGS,
    **documented(answer=OipLive, problems=[INTERNAL], error=OipError, secured=False),
)
async def live(_request: Request) -> Response:
    """Say that the process answers."""
    return json_answer({"live": True})


@router.get(
    "/v2/health/ready",
    summary="Whether the service can do its work",
    tags=_TAGS,
    **documented(answer=OipReady, problems=[INTERNAL, UNAVAILABLE], error=OipError, secured=False),
)
async def ready(request: Request) -> Response:
    """Say whether the service can do its work, as `/readyz` does."""
    await _check_ready(service_of(request))
    return json_answer({"ready": True})


@_model_route(
    "/ready",
    method="GET",
    summary="Whether the model is ready",
    answer=OipModelReady,
    problems=[INTERNAL, NOT_FOUND, UNAVAILABLE],
    secured=False,
)
async def model_ready(request: Request) -> Response:
    """Say whether the model of this name is ready."""
    service = service_of(request)
    name, _ = _named(request, service)
    await _check_ready(service)
    return json_answer({"name": name, "ready": True})


@_model_route(
    "",
    method="GET",
    summary="About the model",
    answer=ModelMetadata,
    problems=[*KEYED, NOT_FOUND],
)
async def model_metadata(request: Request) -> Response:
    """Say what the model takes and gives, its labels in their order among that."""
    service = service_of(request)
    await service.gate.admit(request, "classify")
    name, its_version = _named(request, service)
    parameters = {"labels": LABELS}
    return json_answer(
        {
            "name": name,
            "versions": [its_version],
            "platform": "gapnlp",
            "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
            "outputs": [
                {"name": PROBABILITIES, "datatype": "FP64", "shape": [-1, len(LABELS)], "parameters": parameters},
                {"name": LABELS_OUTPUT, "datatype": "BYTES", "shape": [-1], "parameters": parameters},
            ],
        }
    )


@_model_route(
    "/infer",
    method="POST",
    summary="Read texts, as the Open Inference Protocol has it",
    answer=InferAnswer,
    requests=[InferRequest],
    problems=[*WITH_BODY, *KEYED, NOT_FOUND, INVALID, LONG_TEXT, TOO_MANY, QUEUE_FULL, TIMED_OUT, *STORED],
)
async def infer(request: Request) -> Response:
    """Read the texts of the input `text`; nothing is kept."""
    service = service_of(request)
    await service.gate.admit(request, "classify")
    body = await read_body(request)
    name, its_version = _named(request, service)  # after the body: no other model may come before the texts are read
    asked = check_body(InferRequest, parse_json(body))
    predictions = await read_texts(request, _texts(asked.inputs[0], service))
    wanted: list[str] = [output.name for output in asked.outputs] or list(_OUTPUTS)
    answer: dict[str, Any] = {
        "model_name": name,
        "model_version": its_version,
        "outputs": [_OUTPUTS[output](predictions) for output in dict.fromkeys(wanted)],
    }
    if asked.id is not None:
        answer["id"] = asked.id
    return json_answer(answer)


def _texts(given: InferInput, service: Service) -> list[str]:
    texts = [text for item in given.data for text in (item if isinstance(item, list) else [item])]
    if math.prod(given.shape) != len(texts):
        raise invalid(
            [FieldError("/inputs/0/shape", f"got another number of texts than data has, expected [{len(texts)}]")]
        )
    most, longest = service.settings.max_texts, service.settings.max_characters
    if not texts:
        raise invalid([FieldError("/inputs/0/data", f"expected 1 to {most:,} texts, got 0")])
    if len(texts) > most:
        raise ProblemError(TOO_MANY, f"got {len(texts):,} texts, expected at most {most:,}")
    flaws = check_texts(texts, longest=longest)
    errors = [FieldError(f"/inputs/0/data/{index}", flaw.detail) for index, flaw in enumerate(flaws) if flaw]
    if any(flaw.kind is LONG_TEXT for flaw in flaws if flaw):
        raise ProblemError(LONG_TEXT, f"a text may have {longest:,} characters: shorten it", errors=errors[:MAX_ERRORS])
    if errors:
        raise invalid(errors)
    return texts


def _probabilities(predictions: Sequence[Prediction]) -> dict[str, Any]:
    data = [value for prediction in predictions for value in prediction.proba]
    return {"name": PROBABILITIES, "shape": [len(predictions), len(LABELS)], "datatype": "FP64", "data": data}


def _labels(predictions: Sequence[Prediction]) -> dict[str, Any]:
    data = [";".join(prediction.labels) for prediction in predictions]
    return {"name": LABELS_OUTPUT, "shape": [len(predictions)], "datatype": "BYTES", "data": data}


_OUTPUTS: dict[str, Callable[[Sequence[Prediction]], dict[str, Any]]] = {
    PROBABILITIES: _probabilities,
    LABELS_OUTPUT: _labels,
}


async def _check_ready(service: Service) -> None:
    flaws = await unready(service)
    if flaws:
        raise ProblemError(UNAVAILABLE, "the service is not ready", errors=flaws, headers={"Retry-After": "1"})


def _named(request: Request, service: Service) -> tuple[str, str]:
    """Return name and version of the model, if the path names them.

    Raises:
        ProblemError: It names another.
    """
    name, _, its_version = service.model.classifier.name.partition("@")
    asked = request.path_params
    if asked["name"] != name or asked.get("version", its_version) != its_version:
        raise ProblemError(NOT_FOUND, "there is no model of this name and version")
    return name, its_version
