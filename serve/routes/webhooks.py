"""Webhooks of helpdesks: `/v1/webhooks/{helpdesk}`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serve.connectors import PayloadError, SignatureError, Webhook
from serve.problem import (
    INTERNAL,
    INVALID,
    MALFORMED,
    NOT_FOUND,
    SLOW_CLIENT,
    TOO_LARGE,
    UNAVAILABLE,
    Kind,
    ProblemError,
)
from serve.problem import MEDIA as MEDIA_TYPE
from serve.routes.answer import json_answer
from serve.routes.document import LeanRoute, documented
from serve.schemas.webhooks import Received
from serve.service import service_of

if TYPE_CHECKING:
    from serve.helpdesk import Inbox

BAD_SIGNATURE = Kind("bad-signature", 401, "The webhook does not prove where it comes from")
CHALLENGE = {"WWW-Authenticate": 'Signature realm="gapnlp"'}
_HELPDESK = {
    "name": "helpdesk",
    "in": "path",
    "required": True,
    "description": "The name of the helpdesk in the file of the connectors.",
    "schema": {"type": "string"},
}
_BODY = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}

router = APIRouter(route_class=LeanRoute)
_documented = documented(
    answer=Received,
    status=202,
    problems=[
        *(MALFORMED, BAD_SIGNATURE, NOT_FOUND, SLOW_CLIENT, TOO_LARGE, MEDIA_TYPE, INVALID),
        *(INTERNAL, UNAVAILABLE),
    ],
    parameters=[_HELPDESK],
    secured=False,
)
_documented["openapi_extra"]["requestBody"] = _BODY


@router.post("/v1/webhooks/{helpdesk}", summary="Take a helpdesk's webhook in", tags=["helpdesks"], **_documented)
async def receive(request: Request) -> Response:
    """Check the signature over the bytes as they came, store the delivery and answer; tags follow soon.

    Needs no key: the helpdesk's signature is what proves it. The same delivery sent again has no further effect.
    """
    inbox, name = _inbox_of(request)
    # Names and values of headers are Latin-1, and Starlette hands out the names in lower case.
    webhook = Webhook(dict(request.headers), await request.body())
    try:
        receipt = await inbox.receive(name, webhook)
    except SignatureError as exc:
        raise ProblemError(BAD_SIGNATURE, str(exc), headers=CHALLENGE) from None
    except PayloadError as exc:
        raise ProblemError(INVALID, str(exc)) from None
    return json_answer({"status": receipt.value}, status=202)


@router.head("/v1/webhooks/{helpdesk}", include_in_schema=False)
async def look(request: Request) -> Response:
    """Say that the address is there: some helpdesks ask before they take it."""
    _inbox_of(request)
    return Response()


def _inbox_of(request: Request) -> tuple[Inbox, str]:
    helpdesk = service_of(request).helpdesk
    name: str = request.path_params["helpdesk"]
    if helpdesk is None or not helpdesk.inbox.knows(name):
        raise ProblemError(NOT_FOUND, "the settings have no helpdesk of this name: see GAPNLP_CONNECTORS")
    return helpdesk.inbox, name
