import asyncio
import sys

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from gapnlp.errors import MissingExtraError
from serve.app import create_app
from serve.middleware.observe import UNMATCHED
from serve.middleware.trace import TraceMiddleware
from serve.settings import Settings
from serve.tracing import open_tracing

CANARY = "my card 4111"
PARENT = "4bf92f3577b34da6a3ce929d0e0e4736"


class Route:
    path = "/v1/webhooks/{helpdesk}"


def traced(app, *, headers=(), path="/v1/webhooks/zendesk", method="POST"):
    """Send one request through the middleware; return the spans that were exported."""
    exporter = InMemorySpanExporter()
    provider = open_tracing(exporter)

    async def send(message):
        pass

    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": CANARY.encode(),
        "headers": [(b"user-agent", CANARY.encode()), *headers],
    }
    try:
        asyncio.run(TraceMiddleware(app, provider=provider, quiet=["/livez"])(scope, None, send))
    finally:
        provider.shutdown()
    return exporter.get_finished_spans()


def answering(status=200):
    async def app(scope, receive, send):
        scope["route"] = Route
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": CANARY.encode()})

    return app


def test_a_span_tells_method_route_and_status_and_nothing_of_what_was_said():
    (span,) = traced(answering(202))
    assert span.name == "POST /v1/webhooks/{helpdesk}"
    assert span.kind is SpanKind.SERVER
    assert dict(span.attributes) == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.route": "/v1/webhooks/{helpdesk}",
        "http.response.status_code": 202,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert CANARY not in span.to_json()


def test_an_exception_is_told_by_its_type_alone():
    spans = []

    async def failing(scope, receive, send):
        spans.append(trace.get_current_span())
        raise ValueError(CANARY)

    with pytest.raises(ValueError, match=CANARY):
        traced(failing)
    (span,) = spans
    assert span.attributes["error.type"] == "ValueError"
    assert span.attributes["http.route"] == UNMATCHED
    assert span.status.status_code is StatusCode.ERROR
    assert span.events == ()
    assert CANARY not in span.to_json()


@pytest.mark.parametrize(("status", "code"), [(404, StatusCode.UNSET), (503, StatusCode.ERROR)])
def test_only_failures_of_the_service_are_errors(status, code):
    (span,) = traced(answering(status))
    assert span.status.status_code is code


def test_the_callers_trace_goes_on():
    (span,) = traced(answering(), headers=[(b"traceparent", f"00-{PARENT}-00f067aa0ba902b7-01".encode())])
    assert f"{span.context.trace_id:032x}" == PARENT
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"


def test_log_lines_carry_the_trace():
    seen = {}

    async def app(scope, receive, send):
        seen.update(structlog.contextvars.get_contextvars())

    traced(app, headers=[(b"traceparent", f"00-{PARENT}-00f067aa0ba902b7-01".encode())])
    assert seen == {"trace_id": PARENT}
    assert structlog.contextvars.get_contextvars() == {}


def test_probes_get_no_span():
    assert traced(answering(), path="/livez", method="GET") == ()


def test_a_method_that_http_does_not_know_is_not_told():
    (span,) = traced(answering(), method=CANARY)
    assert span.name == "HTTP /v1/webhooks/{helpdesk}"
    assert CANARY not in span.to_json()


def test_the_service_is_named_and_may_be_named_otherwise(monkeypatch):
    assert traced(answering())[0].resource.attributes["service.name"] == "gapnlp"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gaps-eu")
    assert traced(answering())[0].resource.attributes["service.name"] == "gaps-eu"


def test_without_the_packages_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gapnlp\[tracing\]'"):
        open_tracing()
    with pytest.raises(MissingExtraError):
        create_app(Settings(tracing=True))
    create_app(Settings())


def test_the_framework_sends_nothing_of_its_own_even_where_a_provider_is_there(monkeypatch):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider())
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    app = create_app(Settings())
    assert not app._native_telemetry.enabled()
    assert not app._telemetry["auto_configure"]
