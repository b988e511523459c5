"""Refusal while too much waits already: decided before anything of the request is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from serve.problem import QUEUE_FULL, ProblemError, problem_answer, retry_after

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from serve.service import Service

_CLASSIFYING = re.compile(r"/v1/classify|/predict|/v2/models/[^/]+(?:/versions/[^/]+)?/infer")


class ShedMiddleware:
    """Answer 429 to what would have to wait for the model while its queue is full."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            service: Service = scope["app"].state.service
            if service.batcher.is_full() and _CLASSIFYING.fullmatch(scope["path"]):
                service.metrics.shed()
                await problem_answer(scope, full_problem(service.batcher.retry_after()))(scope, receive, send)
                return
        await self.app(scope, receive, send)


def full_problem(seconds: float) -> ProblemError:
    """Return the problem of a full queue, to be tried again in so many seconds."""
    return ProblemError(
        QUEUE_FULL, "as many texts wait for the model as may: try again later", headers=retry_after(seconds)
    )
