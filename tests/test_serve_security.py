"""Who may do what, and how often."""

import time

import pytest
from service_world import fake_world

from serve import security
from serve.security import SCOPES, MovingWindow

CALLS = {
    "classify": [
        ("POST", "/v1/classify", {"text": "slow"}),
        ("POST", "/predict", {"inputs": "slow"}),
        ("GET", "/v2/models/tiny", None),
        ("POST", "/v2/models/tiny/infer", {"inputs": []}),
    ],
    "prevalence": [("POST", "/v1/prevalence", {"ids": ["x"]})],
    "feedback": [("POST", "/v1/feedback", {"id": "x", "labels": []})],
    "metrics": [("GET", "/metrics", None)],
}
ALL_CALLS = [(scope, *call) for scope, calls in CALLS.items() for call in calls]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("security"), require_keys=True) as world:
        yield world


@pytest.fixture(scope="module")
def keys(world):
    return {scope: world.key(scope) for scope in SCOPES}


def ask(world, method, path, body, **headers):
    return world.run(world.client.request(method, path, json=body, headers=headers))


@pytest.mark.parametrize(("scope", "method", "path", "body"), ALL_CALLS)
def test_what_needs_a_key_says_so(world, scope, method, path, body):
    answer = ask(world, method, path, body)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize(("scope", "method", "path", "body"), ALL_CALLS)
def test_a_key_opens_what_its_scope_says_and_nothing_else(world, keys, scope, method, path, body):
    for held, key in keys.items():
        status = ask(world, method, path, body, authorization=f"Bearer {key}").status_code
        assert (status == 403) is (held != scope)
        assert status != 401


@pytest.mark.parametrize("path", ["/", "/v1/gaps", "/openapi.json", "/livez", "/readyz", "/static/page.css", "/v2"])
def test_what_holds_nothing_of_customers_is_open(world, path):
    assert world.get(path).status_code == 200


def test_a_key_may_come_in_either_header(world, keys):
    for headers in (
        {"authorization": f"Bearer {keys['classify']}"},
        {"authorization": f"bearer  {keys['classify']} "},
        {"x-api-key": keys["classify"]},
        {"authorization": "Basic Zm9v", "x-api-key": keys["classify"]},
    ):
        assert ask(world, "POST", "/v1/classify", {"text": "slow"}, **headers).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer x", "Basic Zm9v", "Bearer gapnlp_", "Bearer " + "x" * 100_000, "Bearer gapnlp_a_b"],
)
def test_what_is_no_key_is_refused(world, header):
    answer = ask(world, "POST", "/v1/classify", {"text": "slow"}, authorization=header)
    assert answer.status_code == 401
    assert header.partition(" ")[2][:20].strip() not in answer.text or not header.partition(" ")[2].strip()


@pytest.mark.parametrize("change", [lambda key: key[:-1], lambda key: key[:-1] + ("0" if key[-1] != "0" else "1")])
def test_a_key_that_is_nearly_right_is_refused(world, keys, change):
    answer = ask(world, "POST", "/v1/classify", {"text": "slow"}, authorization=f"Bearer {change(keys['classify'])}")
    assert answer.status_code == 401


def test_a_key_that_is_known_costs_no_query(tmp_path, monkeypatch):
    monkeypatch.setattr(security, "REMEMBERED_SECONDS", 60)
    with fake_world(tmp_path, require_keys=True) as world:
        header = {"authorization": f"Bearer {world.key('classify')}"}
        queries = []
        find = world.service.store.keys.find
        monkeypatch.setattr(world.service.store.keys, "find", lambda *args: queries.append(1) or find(*args))
        for _ in range(5):
            assert ask(world, "POST", "/v1/classify", {"text": "slow"}, **header).status_code == 200
        assert len(queries) == 1


def test_a_revoked_key_stops_working_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(security, "REMEMBERED_SECONDS", 0.5)
    with fake_world(tmp_path, require_keys=True) as world:
        key = world.key("classify")
        header = {"authorization": f"Bearer {key}"}
        assert ask(world, "POST", "/v1/classify", {"text": "slow"}, **header).status_code == 200

        def revoke(conn):
            from datetime import UTC, datetime

            world.service.store.keys.revoke(conn, key.split("_")[1], now=datetime.now(UTC))

        world.run(world.service.writer.run(revoke))
        time.sleep(0.6)
        assert ask(world, "POST", "/v1/classify", {"text": "slow"}, **header).status_code == 401


def test_without_keys_everything_is_open_to_this_machine(tmp_path):
    with fake_world(tmp_path) as world:
        assert world.post("/v1/classify", {"text": "slow"}).status_code == 200
        assert world.get("/metrics").status_code == 200


def test_an_address_that_others_can_reach_needs_keys(tmp_path):
    with fake_world(tmp_path, host="0.0.0.0") as world:
        assert world.post("/v1/classify", {"text": "slow"}).status_code == 401


def test_metrics_may_be_opened_alone(tmp_path):
    with fake_world(tmp_path, require_keys=True, public_metrics=True) as world:
        assert world.get("/metrics").status_code == 200
        assert world.post("/v1/classify", {"text": "slow"}).status_code == 401


# How often


def test_each_key_has_a_limit_of_its_own(tmp_path):
    with fake_world(tmp_path, require_keys=True, rate_limit="3/minute") as world:
        first, second = world.key("classify"), world.key("classify")

        def statuses(key, n):
            return [
                ask(world, "POST", "/v1/classify", {"text": "slow"}, authorization=f"Bearer {key}").status_code
                for _ in range(n)
            ]

        assert statuses(first, 5) == [200, 200, 200, 429, 429]
        assert statuses(second, 1) == [200]
        answer = ask(world, "POST", "/v1/classify", {"text": "slow"}, authorization=f"Bearer {first}")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.json()["type"] == "urn:gapnlp:problem:rate-limited"


def test_nobody_can_try_keys_for_long(tmp_path):
    with fake_world(tmp_path, require_keys=True, rate_limit="4/minute") as world:
        tried = [
            ask(world, "POST", "/v1/classify", {"text": "slow"}, authorization=f"Bearer gapnlp_{i}_x").status_code
            for i in range(6)
        ]
        assert tried == [401] * 4 + [429] * 2
        key = world.key("classify")
        answer = ask(world, "POST", "/v1/classify", {"text": "slow"}, authorization=f"Bearer {key}")
        assert answer.status_code == 200, "who has a key is not kept out by who tries"


def test_without_keys_addresses_are_counted(tmp_path):
    with fake_world(tmp_path, rate_limit="2/minute") as world:
        assert [world.post("/v1/classify", {"text": "slow"}).status_code for _ in range(3)] == [200, 200, 429]
        assert world.get("/v1/gaps").status_code == 200


def test_the_window_moves(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(security.time, "monotonic", lambda: now[0])
    window = MovingWindow(2, 60)
    assert [window.hit("a"), window.hit("a")] == [0, 0]
    assert window.hit("a") == pytest.approx(60)
    assert window.hit("b") == 0
    now[0] += 45
    assert window.hit("a") == pytest.approx(15)
    now[0] += 15.1
    assert window.hit("a") == 0
    assert window.hit("a") == 0
    assert window.hit("a") > 59


def test_the_window_forgets_callers_that_it_has_not_seen_for_longest():
    window = MovingWindow(1, 60, most_callers=2)
    assert [window.hit("a"), window.hit("b")] == [0, 0]
    assert window.hit("a") > 0
    assert window.hit("c") == 0
    assert window.hit("a") > 0, "a was seen after b"
    assert window.hit("b") == 0


def test_neighbours_of_one_ipv6_network_are_one_caller():
    class Request:
        def __init__(self, host):
            self.client = type("Client", (), {"host": host})

    address = security._address_of
    assert address(Request("2001:db8:1:2:3::4")) == address(Request("2001:db8:1:2:ffff::1"))
    assert address(Request("2001:db8:1:3::4")) != address(Request("2001:db8:1:2::4"))
    assert address(Request("192.0.2.1")) != address(Request("192.0.2.2"))
    assert address(Request("fe80::1%eth0")).startswith("address:fe80")
    assert address(Request("no:address")) == "address:no:address"
