"""What the service counts, for Prometheus.

No label can take a value that a request makes up: routes are the templates of the application, sources and connectors
those of the settings, and past a bound any further one is called `other`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics import MetricWrapperBase

from serve.drift import OUTCOMES, RollingMix

if TYPE_CHECKING:
    import numpy.typing as npt

    from gapnlp.records import Prediction

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0)
_MOST_VALUES = 100  # of one label
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The service's counters, on a registry of their own.

    Args:
        registry: Where they are registered; None for a new one.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nothing here reads
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._mix = RollingMix()
        self._reference: npt.ArrayLike | None = None
        self._model = ""
        self._known: dict[str, set[str]] = {}
        self._children: dict[tuple[MetricWrapperBase, tuple[str, ...]], Any] = {}
        self._open_http()
        self._open_model()
        self._open_mix()

    def _open_http(self) -> None:
        self._requests = self._counter(
            "gapnlp_http_requests", "Requests that were answered.", ("route", "method", "status")
        )
        self._seconds = Histogram(
            "gapnlp_http_request_seconds",
            "From a request's first byte to its answer's last.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = self._gauge("gapnlp_http_requests_in_flight", "Requests that wait for their answer.")
        self._shed = self._counter("gapnlp_shed", "Requests that were refused because too many texts wait.")
        self._deliveries = self._counter(
            "gapnlp_deliveries", "Deliveries of helpdesks, by what became of them.", ("connector", "outcome")
        )

    def _open_model(self) -> None:
        self._waiting = self._gauge("gapnlp_queue_texts", "Texts that wait for the model.")
        self._limit = self._gauge("gapnlp_queue_limit_texts", "Texts that may wait for the model.")
        self._ready = self._gauge("gapnlp_ready", "1 while the model is loaded, warm and the service is not stopping.")
        self._model_info = self._gauge("gapnlp_model_info", "1, under the name of the model that serves.", ("name",))
        self._batch_seconds = Histogram(
            "gapnlp_batch_seconds", "What the model took for one batch.", buckets=SECONDS, registry=self.registry
        )
        self._batch_texts = Histogram(
            "gapnlp_batch_texts", "Texts in one batch.", buckets=_BATCH_SIZES, registry=self.registry
        )
        self._tokens = self._counter("gapnlp_tokens", "Tokens that the model read, about.")

    def _open_mix(self) -> None:
        self._texts = self._counter("gapnlp_texts", "Texts that got labels, or could not be read.", ("source",))
        self._labels = self._counter("gapnlp_labels", "Labels that were given.", ("source", "label"))
        self._reviews = self._counter("gapnlp_reviews", "Texts flagged for a person to look at.", ("source",))
        self._failed = self._counter("gapnlp_texts_failed", "Texts that could not be read.", ("source",))
        share = self._gauge("gapnlp_label_share", "Share of the latest texts with a label, or with none.", ("label",))
        for outcome in OUTCOMES:
            share.labels(outcome).set_function(partial(self._mix.share, outcome))
        self._gauge("gapnlp_label_window_texts", "Texts that the shares and the drift look back on.").set_function(
            lambda: len(self._mix)
        )
        self._gauge(
            "gapnlp_label_drift",
            "Total variation (0-1) between the mix of labels now and on the model's validation rows.",
        ).set_function(self._drift)

    def request(self, route: str, method: str, *, status: int, seconds: float) -> None:
        """Count a request that was answered.

        Args:
            route: Template of its path.
            method: What the request says; one that HTTP does not know is called `other`.
            status: 100-599.
            seconds: From its first byte to its answer's last.
        """
        route = self._bounded("route", route)
        self._child(self._requests, route, method if method in METHODS else OTHER, str(status)).inc()
        self._child(self._seconds, route).observe(seconds)

    def shed(self) -> None:
        """Count a request that was refused because too many texts wait."""
        self._shed.inc()

    def batch(self, n_texts: int, n_tokens: int, seconds: float) -> None:
        """Count a batch that the model has read; made to be `Batcher`'s `on_batch`."""
        self._batch_texts.observe(n_texts)
        self._batch_seconds.observe(seconds)
        self._tokens.inc(n_tokens)

    def unread(self, n_texts: int, source: str) -> None:
        """Count texts that never came before the model: empty, too long, or no texts at all."""
        if n_texts:
            source = self._bounded("source", source)
            self._child(self._texts, source).inc(n_texts)
            self._child(self._failed, source).inc(n_texts)

    def predictions(self, predictions: Sequence[Prediction], source: str, *, rolls: bool = True) -> None:
        """Count what came out, and let the mix of labels roll on.

        Args:
            predictions: One per text.
            source: `api`, `archive`, or the connector's name.
            rolls: False leaves the mix where it is: an old archive says nothing of the latest texts.
        """
        source = self._bounded("source", source)
        self._child(self._texts, source).inc(len(predictions))
        n_reviews = n_failed = 0
        for prediction in predictions:
            if prediction.error:
                n_failed += 1
                continue
            n_reviews += prediction.review
            if rolls:
                self._mix.add(prediction.labels)
            for label in prediction.labels or (OUTCOMES[-1],):
                self._child(self._labels, source, label).inc()
        self._child(self._reviews, source).inc(n_reviews)
        self._child(self._failed, source).inc(n_failed)

    def model(self, name: str, mix: npt.ArrayLike | None = None) -> None:
        """Take note of the model that serves from now on; the mix of labels starts anew.

        Args:
            name: `name@version`.
            mix: Of its labels on its validation rows, see `serve.drift.mix_of`; None where it has none.
                *Shape:* (6,).
        """
        if self._model:
            self._model_info.remove(self._model)
        self._model = name
        self._model_info.labels(name).set(1)
        self._mix.clear()
        self._reference = mix

    def delivery(self, connector: str, outcome: str) -> None:
        """Count a helpdesk's delivery under what became of it."""
        self._deliveries.labels(self._bounded("connector", connector), self._bounded("outcome", outcome)).inc()

    def watch_queue(self, waiting: Callable[[], float], *, limit: int) -> None:
        """Show a queue: `waiting` is asked for the number of texts whenever metrics are read."""
        self._waiting.set_function(waiting)
        self._limit.set(limit)

    def watch_ready(self, ready: Callable[[], bool]) -> None:
        """Show whether the service is ready: `ready` is asked whenever metrics are read."""
        self._ready.set_function(ready)

    def render(self) -> tuple[bytes, str]:
        """Return the metrics in Prometheus' text format, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4

    def _drift(self) -> float:
        return float("nan") if self._reference is None else self._mix.drift(self._reference)

    def _bounded(self, label: str, value: str) -> str:
        known = self._known.setdefault(label, set())
        if value in known or len(known) < _MOST_VALUES:
            known.add(value)
            return value
        return OTHER

    def _child(self, metric: MetricWrapperBase, *values: str) -> Any:
        """Return what `metric.labels` returns, which takes several times as long to find it."""
        child = self._children.get((metric, values))
        if child is None:
            child = self._children[metric, values] = metric.labels(*values)
        return child

    def _counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, help_text, labels, registry=self.registry)
