"""What OpenAPI tells of a route, said beside the route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from serve.problem import (
    FORBIDDEN,
    INTERNAL,
    MALFORMED,
    MEDIA,
    MEDIA_TYPE,
    RATE_LIMITED,
    SLOW_CLIENT,
    TOO_LARGE,
    UNAUTHORIZED,
    UNAVAILABLE,
    Kind,
)
from serve.routes.answer import JSON
from serve.schemas.problem import ProblemDocument

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]
KEYED = (UNAUTHORIZED, FORBIDDEN, RATE_LIMITED, INTERNAL)
WITH_BODY = (MALFORMED, SLOW_CLIENT, TOO_LARGE, MEDIA)
STORED = (UNAVAILABLE,)
_FILE = {"type": "string", "format": "binary"}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds until another try.", "schema": {"type": "integer"}}}
_STATUS_HEADERS: Mapping[int, Mapping[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "How to send a key.", "schema": {"type": "string"}}},
    409: _RETRY_AFTER,
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


class LeanRoute(APIRoute):
    """A route whose function takes the request and returns the answer, with nothing in between.

    FastAPI documents it like any other. What it would do per request (dependencies, their exit stacks, the checking
    of parameters) takes longer than a text takes to be read.
    """

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]], **kwargs: Any) -> None:
        super().__init__(path, endpoint, **kwargs)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = answer


def documented(
    *,
    answer: type[BaseModel] | Any = None,
    status: int = 200,
    requests: Sequence[type[BaseModel]] = (),
    problems: Sequence[Kind] = (),
    error: type[BaseModel] = ProblemDocument,
    media_types: Sequence[str] = (JSON,),
    headers: Mapping[str, Any] | None = None,
    files: Sequence[str] = (),
    parameters: Sequence[Mapping[str, Any]] = (),
    secured: bool = True,
) -> dict[str, Any]:
    """Return the arguments with which a route tells all that it takes and answers.

    Args:
        answer: What it answers with when all goes well.
        status: And with which status.
        requests: What its body may be, one of them; none for no body.
        problems: What else it may answer with.
        error: The shape of these.
        media_types: Of the answer.
        headers: Of the answer, as OpenAPI writes them.
        files: Media types of its body where that is a file.
        parameters: Path, query and header parameters, as OpenAPI writes them.
        secured: Whether it asks for a key.
    """
    extra: dict[str, Any] = {"parameters": [dict(parameter) for parameter in parameters]} if parameters else {}
    if secured:
        extra["security"] = SECURITY
    if requests:
        extra["requestBody"] = {"required": True, "content": {JSON: _content(requests)}}
    if files:
        extra["requestBody"] = {"required": True, "content": {media_type: {"schema": _FILE} for media_type in files}}
    responses: dict[int, dict[str, Any]] = {}
    for kind in problems:
        responses.setdefault(kind.status, _problem(error, status=kind.status))["description"] += f"{kind.title}. "
    ok = {"description": "Done.", **({"model": answer} if answer else {}), **({"headers": headers} if headers else {})}
    if JSON not in media_types:
        ok["content"] = {media_type: {"schema": {"type": "string"}} for media_type in media_types}
    return {
        "responses": {status: ok, **responses},
        "status_code": status,
        "openapi_extra": extra,
    }


def reference(model: type[BaseModel]) -> dict[str, str]:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _content(requests: Sequence[type[BaseModel]]) -> dict[str, Any]:
    references = [reference(model) for model in requests]
    return {"schema": references[0] if len(references) == 1 else {"oneOf": references}}


def _problem(error: type[BaseModel], *, status: int) -> dict[str, Any]:
    media_type = MEDIA_TYPE if error is ProblemDocument else JSON
    found: dict[str, Any] = {"description": "", "content": {media_type: {"schema": reference(error)}}}
    if status in _STATUS_HEADERS:
        found["headers"] = dict(_STATUS_HEADERS[status])
    return found
