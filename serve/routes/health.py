"""Probes and metrics: `/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from sqlalchemy import Connection, text
from starlette.requests import Request
from starlette.responses import Response

from serve.problem import FORBIDDEN, INTERNAL, RATE_LIMITED, UNAUTHORIZED, UNAVAILABLE, FieldError, ProblemError
from serve.routes.answer import json_answer
from serve.routes.document import LeanRoute, documented
from serve.schemas.health import Alive, Ready
from serve.service import Service, service_of
from serve.store import StoreError

router = APIRouter(route_class=LeanRoute)
_STORE_SECONDS = 2.0  # in which the store must answer a probe


@router.get(
    "/livez",
    summary="Whether the process answers",
    tags=["operations"],
    **documented(answer=Alive, problems=[INTERNAL], secured=False),
)
async def livez(_request: Request) -> Response:
    """Say that the process answers; needs no key and is never refused."""
    return json_answer({"status": "alive"})


@router.get(
    "/readyz",
    summary="Whether the service can do its work",
    tags=["operations"],
    **documented(answer=Ready, problems=[INTERNAL, UNAVAILABLE], secured=False),
)
async def readyz(request: Request) -> Response:
    """Say whether the model is loaded and warm, the store answers, and the service is not about to stop."""
    flaws = await unready(service_of(request))
    if flaws:
        raise ProblemError(UNAVAILABLE, "the service is not ready", errors=flaws, headers={"Retry-After": "1"})
    return json_answer({"status": "ready"})


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    tags=["operations"],
    **documented(problems=[UNAUTHORIZED, FORBIDDEN, RATE_LIMITED, INTERNAL], media_types=["text/plain"]),
)
async def metrics(request: Request) -> Response:
    """Answer in Prometheus' text format. Needs a key with the scope `metrics`, unless the operator opened it."""
    service = service_of(request)
    if not service.settings.public_metrics:
        await service.gate.admit(request, "metrics")
    body, content_type = service.metrics.render()
    return Response(body, headers={"Content-Type": content_type})


async def unready(service: Service) -> list[FieldError]:
    """Say what keeps the service from its work: nothing where it is ready."""
    flaws = []
    if service.state.draining:
        flaws.append(FieldError("/draining", "the service is stopping"))
    if not service.live.ready:
        flaws.append(FieldError("/model", "the model is not loaded and warm yet"))
    if not await _store_answers(service):
        flaws.append(FieldError("/store", "the store does not answer"))
    return flaws


async def _store_answers(service: Service) -> bool:
    try:
        async with asyncio.timeout(_STORE_SECONDS):
            await service.writer.read(_ping)
    except (StoreError, TimeoutError):
        return False
    return True


def _ping(conn: Connection) -> None:
    conn.execute(text("SELECT 1"))
