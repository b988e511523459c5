"""`GET /`: one page for people, and its two files."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.requests import Request
from starlette.responses import Response

from gapnlp.taxonomy import load_taxonomy
from serve.problem import NOT_FOUND, ProblemError
from serve.routes.document import LeanRoute
from serve.service import service_of

_HERE = Path(__file__).parent.parent
_FILES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
router = APIRouter(route_class=LeanRoute)


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """Return the page."""
    settings = service_of(request).settings
    html = _page(
        settings.needs_keys,
        max_characters=settings.max_characters,
        max_megabytes=settings.max_upload_bytes // 1_000_000,
        feedback=settings.store_predictions,
    )
    return Response(html, media_type="text/html", headers={"Cache-Control": "no-cache"})


@router.get("/static/{name}", include_in_schema=False)
async def static(request: Request) -> Response:
    """Return one of the page's files; its address holds its version, so browsers may keep it."""
    name = request.path_params["name"]
    if name not in _FILES:
        raise ProblemError(NOT_FOUND, "the page has no such file")
    kept = "public, max-age=31536000, immutable" if request.query_params.get("v") == _version(name) else "no-cache"
    return Response(_content(name), headers={"Content-Type": _FILES[name], "Cache-Control": kept})


@cache
def _page(needs_keys: bool, *, max_characters: int, max_megabytes: int, feedback: bool) -> str:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        needs_keys=needs_keys,
        max_characters=max_characters,
        max_megabytes=max_megabytes,
        feedback=feedback,
        gaps=load_taxonomy().gaps,
        versions={name: _version(name) for name in _FILES},
    )


@cache
def _content(name: str) -> bytes:
    return (_HERE / "static" / name).read_bytes()


@cache
def _version(name: str) -> str:
    return hashlib.sha256(_content(name)).hexdigest()[:12]
