"""The last resort: what no route foresaw becomes a plain 500."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from serve.problem import INTERNAL, ProblemError, problem_answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger(__name__)


class FailureMiddleware:
    """Answer 500 where an exception comes up, and log it; its place, not its words, which may hold a text."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        except Exception as exc:
            _log.error("a request failed", exc_info=exc)
            if started:
                raise
            problem = ProblemError(INTERNAL, "this is a fault of the service: its log tells more")
            await problem_answer(scope, problem)(scope, receive, send)
