import asyncio
import math
import re
from itertools import pairwise

import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_world import fake_world

from gapnlp.records import Prediction
from gapnlp.taxonomy import LABELS
from serve.drift import FEWEST, OUTCOMES
from serve.metrics import OTHER, SECONDS, Metrics
from serve.middleware.observe import CLIENT_LEFT, UNMATCHED, ObserveMiddleware


def prediction(*labels, review=False, error=""):
    return Prediction(labels, (0.5,) * len(LABELS), (), review=review, truncated=False, model="tiny@1.0", error=error)


def samples(metrics):
    """Return what a scrape reads: (name, labels as sorted pairs) -> value."""
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(metrics, series, /, **labels):
    return samples(metrics).get((series, tuple(sorted(labels.items()))))


def values_of(metrics, name, label):
    return {dict(labels)[label] for found, labels in samples(metrics) if found == name}


def test_two_services_in_one_process_count_apart():
    one, other = Metrics(), Metrics()
    one.shed()
    assert value(one, "gapnlp_shed_total") == 1
    assert value(other, "gapnlp_shed_total") == 0


def test_requests_are_counted_by_route_method_and_status_and_timed():
    metrics = Metrics()
    metrics.request("/v1/classify", "POST", status=200, seconds=0.03)
    metrics.request("/v1/classify", "POST", status=429, seconds=0.001)
    of_route = {"route": "/v1/classify", "method": "POST"}
    assert value(metrics, "gapnlp_http_requests_total", **of_route, status="200") == 1
    assert value(metrics, "gapnlp_http_requests_total", **of_route, status="429") == 1
    bucket = "gapnlp_http_request_seconds_bucket"
    assert value(metrics, bucket, route="/v1/classify", le="0.02") == 1
    assert value(metrics, bucket, route="/v1/classify", le="0.04") == 2


def test_the_buckets_tell_times_from_5_milliseconds_to_10_seconds_apart():
    assert (SECONDS[0], SECONDS[-1]) == (0.005, 10)
    assert all(1.5 <= high / low <= 2.5 for low, high in pairwise(SECONDS))


def test_no_label_takes_more_values_than_can_be_kept():
    metrics = Metrics()
    for index in range(1_000):
        metrics.request(f"/made/up/{index}", "GET", status=404, seconds=0.01)
        metrics.predictions([prediction("policy")], f"source {index}")
        metrics.delivery(f"desk {index}", "done")
    metrics.request("/v1/gaps", "BREW", status=405, seconds=0.01)
    for name, label in (
        ("gapnlp_http_requests_total", "route"),
        ("gapnlp_texts_total", "source"),
        ("gapnlp_deliveries_total", "connector"),
    ):
        found = values_of(metrics, name, label)
        assert OTHER in found
        assert len(found) <= 101
    assert values_of(metrics, "gapnlp_http_requests_total", "method") == {"GET", OTHER}


def test_predictions_are_counted_by_label_and_by_what_is_to_be_looked_at():
    metrics = Metrics()
    metrics.predictions([prediction("policy", "delivery"), prediction(review=True), prediction(error="empty")], "api")
    assert value(metrics, "gapnlp_texts_total", source="api") == 3
    assert value(metrics, "gapnlp_reviews_total", source="api") == 1
    assert value(metrics, "gapnlp_texts_failed_total", source="api") == 1
    counted = {label: value(metrics, "gapnlp_labels_total", source="api", label=label) for label in OUTCOMES}
    assert counted == {
        "knowledge": None,
        "policy": 1,
        "delivery": 1,
        "communication": None,
        "customer": None,
        "none": 1,
    }


def test_batches_are_counted_with_their_tokens():
    metrics = Metrics()
    metrics.batch(8, 300, 0.05)
    metrics.batch(1, 20, 0.004)
    assert value(metrics, "gapnlp_tokens_total") == 320
    assert value(metrics, "gapnlp_batch_texts_sum") == 9
    assert value(metrics, "gapnlp_batch_seconds_count") == 2


def test_the_queue_and_readiness_are_asked_for_when_they_are_read():
    metrics = Metrics()
    state = {"waiting": 3, "ready": False}
    metrics.watch_queue(lambda: state["waiting"], limit=1024)
    metrics.watch_ready(lambda: state["ready"])
    assert value(metrics, "gapnlp_queue_texts") == 3
    assert value(metrics, "gapnlp_queue_limit_texts") == 1024
    assert value(metrics, "gapnlp_ready") == 0
    state.update(waiting=0, ready=True)
    assert value(metrics, "gapnlp_queue_texts") == 0
    assert value(metrics, "gapnlp_ready") == 1


def test_drift_is_measured_against_the_model_that_serves_and_starts_anew_with_another():
    metrics = Metrics()
    delivery_alone = [float(outcome == "delivery") for outcome in OUTCOMES]
    metrics.model("tiny@1.0", delivery_alone)
    assert math.isnan(value(metrics, "gapnlp_label_drift"))
    metrics.predictions([prediction("delivery")] * FEWEST + [prediction("policy")] * FEWEST, "api")
    assert value(metrics, "gapnlp_label_drift") == pytest.approx(0.5)
    assert value(metrics, "gapnlp_label_share", label="policy") == pytest.approx(0.5)
    assert value(metrics, "gapnlp_label_window_texts") == 2 * FEWEST
    metrics.model("tiny@2.0", delivery_alone)
    assert values_of(metrics, "gapnlp_model_info", "name") == {"tiny@2.0"}
    assert value(metrics, "gapnlp_label_window_texts") == 0


def test_a_model_without_validation_has_no_drift():
    metrics = Metrics()
    metrics.model("tiny@1.0")
    metrics.predictions([prediction("delivery")] * FEWEST, "api")
    assert math.isnan(value(metrics, "gapnlp_label_drift"))
    assert value(metrics, "gapnlp_label_share", label="delivery") == 1


# What ObserveMiddleware makes of requests


class Route:
    path = "/v1/webhooks/{helpdesk}"


async def answering(scope, receive, send):
    scope["route"] = Route
    await send({"type": "http.response.start", "status": 202, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"o", "more_body": True})
    await send({"type": "http.response.body", "body": b"k"})
    await asyncio.sleep(0.2)  # background work, which is no part of the answer


async def failing(scope, receive, send):
    raise ValueError("a customer's words")


async def leaving(scope, receive, send):
    """Return without an answer: the client has left."""


def call(app, metrics, *, headers=(), path="/v1/webhooks/zendesk"):
    """Send one request through the middleware; return the messages it answers with, and the scope."""
    sent = []
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"q=secret", "headers": list(headers)}

    async def send(message):
        sent.append(message)

    asyncio.run(ObserveMiddleware(app, metrics=metrics)(scope, None, send))
    return sent, scope


def request_id(sent):
    return dict(sent[0]["headers"])[b"x-request-id"]


def test_a_request_is_counted_under_the_template_of_its_route_until_its_last_byte():
    metrics = Metrics()
    call(answering, metrics)
    labels = {"route": "/v1/webhooks/{helpdesk}", "method": "POST", "status": "202"}
    assert value(metrics, "gapnlp_http_requests_total", **labels) == 1
    assert value(metrics, "gapnlp_http_request_seconds_sum", route=labels["route"]) < 0.15
    assert value(metrics, "gapnlp_http_requests_in_flight") == 0
    assert b"secret" not in metrics.render()[0]


def test_what_has_no_route_is_counted_together():
    metrics = Metrics()
    for path in ("/a", "/b"):
        call(leaving, metrics, path=path)
    labels = {"route": UNMATCHED, "method": "POST", "status": str(CLIENT_LEFT)}
    assert value(metrics, "gapnlp_http_requests_total", **labels) == 2


def test_an_error_that_comes_through_is_counted_as_one_and_goes_on():
    metrics = Metrics()
    with pytest.raises(ValueError, match="words"):
        call(failing, metrics)
    assert values_of(metrics, "gapnlp_http_requests_total", "status") == {"500"}
    assert value(metrics, "gapnlp_http_requests_in_flight") == 0


@pytest.mark.parametrize("sane", [b"4711", b"a1b2-c3.d4_e5", b"x" * 64])
def test_a_sane_request_id_is_kept(sane):
    sent, scope = call(answering, Metrics(), headers=[(b"x-request-id", sane)])
    assert request_id(sent) == sane
    assert scope["state"]["request_id"] == sane.decode()


@pytest.mark.parametrize("insane", [b"", b"x" * 65, b"two words", b"a\nb", b"<b>", b"-a", "ü".encode()])
def test_any_other_request_id_is_replaced(insane):
    sent, _ = call(answering, Metrics(), headers=[(b"x-request-id", insane)])
    assert request_id(sent) != insane
    assert len(request_id(sent)) == 16
    other, _ = call(answering, Metrics())
    assert request_id(other) != request_id(sent)


# The whole application


def test_every_route_of_the_application_is_counted_under_the_path_that_openapi_names(tmp_path):
    with fake_world(tmp_path) as world:
        paths = world.get("/openapi.json").json()["paths"]
        asked = {path: re.sub(r"\{[^}]*\}", "made-up", path) for path in paths}
        for path, filled in asked.items():
            for method in paths[path]:
                world.run(world.client.request(method, filled, content=b"{}"))
        for path in ("/no/such/path", "/v1/classify/no-such"):
            world.get(path)
        counted = values_of(world.service.metrics, "gapnlp_http_requests_total", "route")
    assert set(paths) <= counted
    assert counted - set(paths) <= {UNMATCHED, "/openapi.json"}
    assert len(paths) > 8


def test_what_is_refused_before_the_router_is_counted_under_its_route(tmp_path):
    with fake_world(tmp_path, max_body_bytes=100) as world:
        large = {"content-type": "application/json", "content-length": "101"}
        packed = {"content-type": "application/json", "content-encoding": "br"}
        for number in range(3):
            for method, path in (
                ("POST", "/v1/classify"),
                ("POST", f"/v2/models/made-up-{number}/infer"),
                ("PUT", f"/v2/models/made-up-{number}/versions/{number}"),
                ("POST", f"/no/such/path/{number}"),
                ("POST", f"/v1/classify/{number}"),
            ):
                for headers, status in ((large, 413), (packed, 415)):
                    content = b"x" * 101
                    answer = world.run(world.client.request(method, path, headers=headers, content=content))
                    assert answer.status_code == status, path
        metrics = world.service.metrics
        counted = {
            dict(labels)["route"]: value
            for (name, labels), value in samples(metrics).items()
            if name == "gapnlp_http_requests_total" and dict(labels)["status"] == "413"
        }
    assert counted == {
        "/v1/classify": 3,
        "/v2/models/{name}/infer": 3,
        "/v2/models/{name}/versions/{version}": 3,
        UNMATCHED: 6,
    }
    assert values_of(metrics, "gapnlp_http_requests_total", "route") == set(counted)


def test_what_is_shed_is_counted_under_its_route(tmp_path, monkeypatch):
    with fake_world(tmp_path) as world:
        monkeypatch.setattr(world.service.batcher, "is_full", lambda: True)
        for path in ("/predict", "/v2/models/made-up/infer"):
            assert world.post(path, {}).status_code == 429
        counted = values_of(world.service.metrics, "gapnlp_http_requests_total", "route")
    assert counted == {"/predict", "/v2/models/{name}/infer"}


def test_the_application_counts_texts_batches_and_labels(tmp_path):
    with fake_world(tmp_path) as world:
        results = world.post("/v1/classify", {"texts": ["slow slow", "promised", "x"]}).json()["results"]
        metrics = world.service.metrics
    assert value(metrics, "gapnlp_texts_total", source="api") == 3
    for label in ("delivery", "communication"):
        n_given = sum(label in result["labels"] for result in results)
        assert n_given
        assert value(metrics, "gapnlp_labels_total", source="api", label=label) == n_given
    assert value(metrics, "gapnlp_batch_texts_sum") == 3
    assert value(metrics, "gapnlp_tokens_total") > 0
    assert value(metrics, "gapnlp_model_info", name="tiny@1.0") == 1


def test_texts_that_never_came_before_the_model_are_counted():
    metrics = Metrics()
    metrics.unread(3, "api")
    shown = metrics.render()[0].decode()
    assert 'gapnlp_texts_failed_total{source="api"} 3.0' in shown
    assert 'gapnlp_texts_total{source="api"} 3.0' in shown
