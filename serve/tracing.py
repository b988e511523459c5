"""Where traces go: OpenTelemetry's SDK, only where the settings ask for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gapnlp.errors import MissingExtraError

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

NAME = "gapnlp"

UNTOLD: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""What FastAPI is told of its own telemetry: none, since it sends queries, exceptions' messages and tracebacks."""


def open_tracing(exporter: SpanExporter | None = None) -> TracerProvider:
    """Return what makes spans and sends them; shut it down at the end, so that the last ones are sent.

    It stays our own: a provider for the whole process would have libraries send what they see fit.

    Args:
        exporter: Where to; None for OTLP over HTTP, to where the variables `OTEL_EXPORTER_OTLP_*` say.

    Raises:
        MissingExtraError: OpenTelemetry's SDK or its exporter is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as exc:
        raise MissingExtraError("opentelemetry-exporter-otlp-proto-http", "tracing") from exc
    resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME") or NAME})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    return provider
