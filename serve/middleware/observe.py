"""What is told of every request: an id, a log line, and its numbers; never what it says."""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING, Any

import structlog
from starlette.routing import Match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from serve.metrics import Metrics

UNMATCHED = "(no route)"
CLIENT_LEFT = 499  # no status of HTTP; what nginx calls an answer that nobody waited for
_SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEADER = b"x-request-id"

_log = structlog.get_logger("serve.request")


class ObserveMiddleware:
    """Give each request an id, log how it went, and count it under its route's template.

    The id is the caller's where it sends a sane X-Request-ID, and goes back on the answer. Answers that come by the
    thousand (successes, and refusals under load) are counted but logged at the level debug alone.

    Args:
        app: What is observed; it should let no exception through before its answer has begun.
        metrics: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        tokens = structlog.contextvars.bind_contextvars(request_id=request_id)
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            answer.status = answer.status or 500
            raise
        finally:
            self._metrics.in_flight.dec()
            self._tell(scope, answer)
            structlog.contextvars.reset_contextvars(**tokens)

    def _tell(self, scope: Scope, answer: _Answer) -> None:
        route, method, status = route_of(scope), scope["method"], answer.status or CLIENT_LEFT
        seconds = (answer.finished or time.perf_counter()) - answer.started
        self._metrics.request(route, method, status=status, seconds=seconds)
        _level_of(status)("request", method=method, route=route, status=status, ms=round(1000 * seconds, 1))


class _Answer:
    """What goes back, with the request's id on it.

    Attributes:
        status: 0 until it is known.
        started: When the request came, by `time.perf_counter`.
        finished: When its last byte was handed on; None until then.
    """

    __slots__ = ("_id", "_send", "finished", "started", "status")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._id = request_id.encode()
        self.status = 0
        self.started = time.perf_counter()
        self.finished: float | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (_HEADER, self._id)]
            await self._send(message)
            return
        await self._send(message)
        if not message.get("more_body"):
            self.finished = time.perf_counter()


def route_of(scope: Scope) -> str:
    """Return the template of the route that a request took, such as `/v1/webhooks/{helpdesk}`.

    Of a request that was refused before it came to the router, it is the route that it would have taken.
    """
    return getattr(scope.get("route") or _untaken(scope), "path", None) or UNMATCHED


def _untaken(scope: Scope) -> BaseRoute | None:
    """Return the route that the router would have chosen, had it been asked."""
    if "app" not in scope or "router" in scope:
        return None
    # As the router does: the first that fits, or else the first that fits but for the method.
    routes: Sequence[BaseRoute] = scope["app"].routes
    partial = None
    for route in routes:
        match, _ = route.matches(scope)
        if match is Match.FULL:
            return route
        if match is Match.PARTIAL and partial is None:
            partial = route
    return partial


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _HEADER and _SANE_ID.fullmatch(value):
            return str(value, "ascii")
    return f"{random.getrandbits(64):016x}"


def _level_of(status: int) -> Any:
    if status >= 500:
        return _log.error if status == 500 else _log.warning
    return _log.debug if status < 400 or status in (429, CLIENT_LEFT) else _log.info
