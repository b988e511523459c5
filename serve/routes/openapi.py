"""`GET /openapi.json`: what the service takes and gives, told from its routes."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from serve.routes.answer import JSON, json_bytes
from serve.routes.document import LeanRoute
from serve.schemas.classify import ClassifyText, ClassifyTexts
from serve.schemas.feedback import FeedbackRequest
from serve.schemas.oip import InferRequest, OipError
from serve.schemas.prevalence import PrevalenceOfIds, PrevalenceOfTexts, PrevalenceOfTime
from serve.schemas.problem import ProblemDocument
from serve.schemas.tei import PredictRequest, TeiError
from serve.schemas.text import LONGEST, MOST
from serve.settings import Settings

router = APIRouter(route_class=LeanRoute)
_MODELS = (
    *(ClassifyText, ClassifyTexts, PrevalenceOfIds, PrevalenceOfTexts, PrevalenceOfTime),
    *(FeedbackRequest, PredictRequest, InferRequest, ProblemDocument, TeiError, OipError),
)
_DESCRIPTION = """Which service gap a customer's text points to, how much of a population each gap makes up, and what
closes it.

Errors are problems of RFC 9457 (but in the two other protocols, which have shapes of their own) and never repeat what
was sent. Bodies are JSON in UTF-8, packed with gzip or deflate if you like; their limits count what is unpacked."""
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key made with `gapnlp keys create`."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Return the OpenAPI document. Needs no key."""
    return Response(request.app.state.openapi, media_type=JSON)


def openapi_document(app: FastAPI, settings: Settings) -> bytes:
    """Write the OpenAPI document of an app.

    Args:
        app: Whose routes are told.
        settings: Their limits, and whether keys are needed.
    """
    document = get_openapi(
        title="gapnlp", version=version("gapnlp"), description=_DESCRIPTION, routes=app.routes, openapi_version="3.1.0"
    )
    components = document.setdefault("components", {})
    answers = {answer["model"] for route in app.routes if isinstance(route, LeanRoute) for answer in _models(route)}
    models = sorted({*_MODELS, *answers}, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    components["schemas"] |= definitions["$defs"]  # where FastAPI has them too, it leaves nulls out of the examples
    for operation in _operations(document):
        if not settings.needs_keys or (settings.public_metrics and operation["operationId"].startswith("metrics")):
            _open(operation)
    if settings.needs_keys:
        components["securitySchemes"] = _SECURITY_SCHEMES
    return json_bytes(_limited(document, settings))


def _models(route: LeanRoute) -> list[dict[str, Any]]:
    return [answer for answer in route.responses.values() if "model" in answer]


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def _open(operation: dict[str, Any]) -> None:
    """Say of an operation that it asks for no key; a webhook's 401 is about its signature, and stays."""
    if operation.pop("security", None):
        for status in ("401", "403"):
            operation["responses"].pop(status, None)


def _limited(found: Any, settings: Settings) -> Any:
    """Put the limits of the settings where the schemas name them."""
    if isinstance(found, dict):
        return {
            key: getattr(settings, value) if _is_limit(key, value) else _limited(value, settings)
            for key, value in found.items()
        }
    return [_limited(item, settings) for item in found] if isinstance(found, list) else found


def _is_limit(key: str, value: Any) -> bool:
    return key in ("maxLength", "maxItems") and value in (LONGEST, MOST)
