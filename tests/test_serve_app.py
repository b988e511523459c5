"""The application as a whole: errors in one shape, headers, probes, start and end."""

import asyncio
import threading

import pytest
from service_world import fake_world, running, settings_for, shipped_world, wait_until

from gapnlp.errors import ConfigError, ModelNotFoundError
from serve.app import create_app
from serve.middleware.headers import CONTENT_SECURITY_POLICY
from serve.store import StoreError

PROBES = ["/livez", "/readyz", "/v2/health/live", "/v2/health/ready"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("app")) as world:
        yield world


# Errors


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [("/nope", 404, "not-found"), ("/v1/classify", 405, "method-not-allowed"), ("/v1/classify/", 404, "not-found")],
)
def test_every_error_is_a_problem(world, path, status, slug):
    answer = world.get(path, headers={"x-request-id": "my-id"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"urn:gapnlp:problem:{slug}"
    assert problem["status"] == status
    assert problem["instance"] == "my-id" == answer.headers["x-request-id"]
    assert problem["title"]
    assert problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/classify", "POST"),
        ("DELETE", "/livez", "GET"),
        ("PUT", "/predict", "POST"),
        ("OPTIONS", "/v2", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(world, method, path, allowed):
    answer = world.run(world.client.request(method, path))
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed


def test_the_other_protocols_have_errors_of_their_own_shape(world):
    assert world.get("/predict").json() == {
        "error": "use one of the methods that the header Allow names",
        "error_type": "Validation",
    }
    assert list(world.get("/v2/nope").json()) == ["error"]
    assert world.get("/v2nope").json()["type"] == "urn:gapnlp:problem:not-found"


# Headers


@pytest.mark.parametrize("path", ["/", "/livez", "/nope", "/v1/gaps", "/static/page.js"])
def test_every_answer_tells_browsers_to_be_careful(world, path):
    headers = world.get(path).headers
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "frame-ancestors 'none'" in CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-store" if path not in {"/", "/static/page.js"} else "no-cache")
    assert "strict-transport-security" not in headers
    assert "access-control-allow-origin" not in headers


def test_https_is_asked_for_again_only_behind_https(world):
    answer = world.run(world.client.get("https://test/livez"))
    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")


def test_no_page_of_another_origin_may_call_unless_the_operator_says_so(tmp_path, world):
    preflight = {"origin": "https://desk.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in world.get("/v1/gaps", headers=preflight).headers
    with fake_world(tmp_path, cors_origins=("https://desk.example",)) as open_world:
        asked = open_world.run(open_world.client.options("/v1/classify", headers=preflight))
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == "https://desk.example"
        stranger = open_world.run(
            open_world.client.options("/v1/classify", headers=preflight | {"origin": "https://evil.example"})
        )
        assert "access-control-allow-origin" not in stranger.headers
        refused = open_world.post("/v1/classify", {"text": ""}, headers={"origin": "https://desk.example"})
        assert refused.status_code == 422
        assert refused.headers["access-control-allow-origin"] == "https://desk.example"


# Probes


@pytest.mark.parametrize("path", PROBES)
def test_probes_need_no_key_and_know_no_limit(tmp_path, path):
    with fake_world(tmp_path, require_keys=True, rate_limit="1/day") as world:
        assert [world.get(path).status_code for _ in range(5)] == [200] * 5


def test_readiness_says_what_is_missing(tmp_path):
    with fake_world(tmp_path) as world:
        assert world.get("/readyz").json() == {"status": "ready"}
        world.service.state.draining = True
        answer = world.get("/readyz")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/draining"]
        assert world.get("/v2/health/ready").status_code == 503
        assert world.get("/livez").status_code == 200
        assert world.post("/v1/classify", {"text": "slow"}).status_code == 200, "what still comes is answered"
        world.service.state.draining = False
        world.service.store.close()
        assert [error["pointer"] for error in world.get("/readyz").json()["errors"]] == ["/store"]
        assert world.get("/livez").status_code == 200


def test_a_store_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("serve.routes.health._STORE_SECONDS", 0.05)
    with fake_world(tmp_path) as world:
        monkeypatch.setattr(world.service.writer, "read", lambda work: asyncio.sleep(5))
        assert world.get("/readyz").status_code == 503


def test_metrics_count_what_was_answered_and_found(tmp_path):
    with fake_world(tmp_path) as world:
        world.post("/v1/classify", {"texts": ["slow", "promised", "fine"]})
        world.get("/nope/zebra")
        answer = world.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'gapnlp_http_requests_total{method="POST",route="/v1/classify",status="200"} 1.0' in answer.text
        assert 'gapnlp_labels_total{label="delivery",source="api"}' in answer.text
        assert 'gapnlp_model_info{name="tiny@1.0"} 1.0' in answer.text
        assert "gapnlp_ready 1.0" in answer.text
        assert "zebra" not in answer.text


# Start and end


def test_the_shipped_model_is_loaded_and_warm_before_anything_is_answered(tmp_path):
    with shipped_world(tmp_path) as world:
        assert world.get("/readyz").status_code == 200
        assert world.service.model.validation is not None
        assert world.post("/v1/classify", {"text": "Nobody called me back."}).json()["model"].startswith("gapnlp-en@")


def test_a_model_that_is_not_there_keeps_the_service_from_starting(tmp_path):
    with pytest.raises(ModelNotFoundError), running(create_app(settings_for(tmp_path, model=tmp_path / "absent"))):
        pass


def test_a_store_that_cannot_be_opened_keeps_the_service_from_starting(tmp_path):
    app = create_app(settings_for(tmp_path, database_url=f"sqlite:///{tmp_path}/no/such/folder/x.db"))
    with pytest.raises(StoreError), running(app):
        pass


def test_what_was_answered_is_still_there_after_a_restart(tmp_path):
    with fake_world(tmp_path) as world:
        (result,) = world.post("/v1/classify", {"text": "slow"}).json()["results"]
    with fake_world(tmp_path) as world:
        assert world.post("/v1/feedback", {"id": result["id"], "labels": []}).status_code == 201


def test_nothing_is_left_running_at_the_end(tmp_path):
    before = set(threading.enumerate())
    with fake_world(tmp_path) as world:
        assert world.post("/v1/classify", {"text": "slow"}).status_code == 200
        names = {thread.name for thread in set(threading.enumerate()) - before}
        assert any(name.startswith("classify") for name in names)
        assert any(name.startswith("gapnlp-store") for name in names)
    wait_until(lambda: not [t for t in set(threading.enumerate()) - before if not t.name.startswith("asyncio")])


def test_helpdesks_are_opened_where_the_settings_name_them(tmp_path):
    with fake_world(tmp_path) as world:
        assert world.service.helpdesk is None
        assert world.post("/v1/webhooks/standard", {}).status_code == 404
    path = tmp_path / "helpdesks.toml"
    path.write_text("nonsense")
    with pytest.raises(ConfigError), fake_world(tmp_path, connectors=path):
        pass
