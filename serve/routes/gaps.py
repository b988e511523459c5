"""`GET /v1/gaps`: the taxonomy."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gapnlp.taxonomy import load_taxonomy
from serve.problem import INTERNAL
from serve.routes.answer import JSON, json_bytes
from serve.routes.document import LeanRoute, documented
from serve.schemas.gaps import GapsAnswer

router = APIRouter(route_class=LeanRoute)


@router.get(
    "/v1/gaps",
    summary="The five gaps",
    tags=["gaps"],
    **documented(answer=GapsAnswer, problems=[INTERNAL], secured=False),
)
async def gaps(_request: Request) -> Response:
    """Return each gap's names, definition, causes, questions and remedies. Needs no key."""
    return Response(_document(), media_type=JSON)


@cache
def _document() -> bytes:
    return json_bytes(asdict(load_taxonomy()))
