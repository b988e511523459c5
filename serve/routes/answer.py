"""Answers, written without a detour: dictionaries straight to JSON."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from serve.problem import MEDIA, ProblemError

JSON = "application/json"


def json_bytes(document: Any) -> bytes:
    """Write JSON."""
    return orjson.dumps(document)


def json_answer(document: Any, *, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(orjson.dumps(document), status_code=status, media_type=JSON)


async def read_body(request: Request) -> bytes:
    """Return the body of a request that says it is JSON.

    Raises:
        ProblemError: It says it is something else; or the body is too large, too slow, or packed wrongly.
    """
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    if media_type.strip().lower() != JSON:
        raise ProblemError(MEDIA, f"expected the header  Content-Type: {JSON}", headers={"Accept": JSON})
    name, _, charset = parameters.strip().partition("=")
    if name.lower() == "charset" and charset.strip('"').lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise ProblemError(MEDIA, "expected JSON in UTF-8", headers={"Accept": JSON})
    return await request.body()
