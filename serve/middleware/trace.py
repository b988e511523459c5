"""A span for each request, without what the request says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serve.metrics import METHODS
from serve.middleware.observe import route_of
from serve.tracing import NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.trace import Span, TracerProvider
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_Headers = list[tuple[bytes, bytes]]


class _HeaderGetter(Getter[_Headers]):
    """Read the headers of an ASGI scope."""

    def get(self, carrier: _Headers, key: str) -> list[str] | None:
        """Return the values of a header."""
        name = key.lower().encode()
        return [value.decode("latin-1") for found, value in carrier if found == name] or None

    def keys(self, carrier: _Headers) -> list[str]:
        """Return the headers' names."""
        return [name.decode("latin-1") for name, _ in carrier]


class TraceMiddleware:
    """Make a span of each request, under the caller's trace where it names one.

    A span tells the method, the template of the route, the status and an exception's type: no path, no query, no
    header, no message. The trace's id is in every log line of the request.

    Args:
        app: What is traced.
        provider: Makes the spans, see `serve.tracing.open_tracing`.
        quiet: Paths that get no span, such as those of probes.
    """

    def __init__(self, app: ASGIApp, *, provider: TracerProvider, quiet: Iterable[str] = ()) -> None:
        self._app = app
        self._tracer = provider.get_tracer(NAME)
        self._quiet = frozenset(quiet)
        self._propagator = TraceContextTextMapPropagator()
        self._getter = _HeaderGetter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in self._quiet:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        with self._tracer.start_as_current_span(
            method,
            context=self._propagator.extract(scope["headers"], getter=self._getter),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.scheme": scope["scheme"]},
            record_exception=False,  # it would send the exception's message
            set_status_on_exception=False,
        ) as span:
            trace_id = format_trace_id(span.get_span_context().trace_id)
            with structlog.contextvars.bound_contextvars(trace_id=trace_id):
                await self._answer(span, scope, receive, send)

    async def _answer(self, span: Span, scope: Scope, receive: Receive, send: Send) -> None:
        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set_attribute("http.response.status_code", message["status"])
                if message["status"] >= 500:
                    span.set_status(StatusCode.ERROR)
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception as exc:
            span.set_attribute("error.type", type(exc).__qualname__)
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            _name(span, scope)


def _name(span: Span, scope: dict[str, Any] | Scope) -> None:
    route = route_of(scope)
    span.set_attribute("http.route", route)
    span.update_name(f"{scope['method'] if scope['method'] in METHODS else 'HTTP'} {route}")
