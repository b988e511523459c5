"""What a customer wrote stays out of logs, metrics and errors, whatever goes wrong."""

import contextlib
import gzip
import io
import itertools
import json
import logging
import sys
import threading
from urllib.parse import quote

import pytest
import structlog
from service_world import CANARY, BrokenEngine, SlowEngine, fake_world

from serve.logs import configure_logging
from serve.settings import Settings
from serve.upload import MEDIA_TYPES

ROUTES = ["/v1/classify", "/v1/prevalence", "/v1/feedback", "/predict", "/v2/models/tiny/infer"]
TEXT = f"slow said {CANARY}"
BODIES = [
    {"text": TEXT},
    {"texts": [TEXT, "", {CANARY: CANARY}]},
    {"texts": [TEXT * 2000]},
    {"text": TEXT * 2000},
    {"text": [CANARY]},
    {"text": TEXT, CANARY: 1},
    {"text": TEXT, "evidence": CANARY},
    {"ids": [CANARY]},
    {"ids": [{CANARY: CANARY}]},
    {"since": CANARY, "until": CANARY},
    {"id": CANARY, "labels": []},
    {"id": CANARY, "labels": [CANARY, "none"], "author": CANARY, "comment": CANARY * 1000},
    {"inputs": TEXT},
    {"inputs": [[TEXT, CANARY]]},
    {"inputs": TEXT, "truncation_direction": CANARY},
    {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}], "id": "7"},
    {"inputs": [{"name": CANARY, "shape": [CANARY], "datatype": CANARY, "data": [CANARY], CANARY: CANARY}]},
    {"inputs": [{"name": "text", "shape": [7], "datatype": "BYTES", "data": [TEXT]}], "parameters": {CANARY: CANARY}},
    CANARY,
    [CANARY],
]
RAW = [
    CANARY.encode(),
    f'{{"text": "{CANARY}", "text": "{CANARY}"}}'.encode(),
    f'{{"{CANARY}": 1, "{CANARY}": 2}}'.encode(),
    f'{{"text": "{CANARY}'.encode(),
    f'{{"text": "{CANARY} \\ud800"}}'.encode(),
    CANARY.encode("utf-16"),
    CANARY.encode() + b"\xff",
]
ARCHIVES = [
    f"comment\n{TEXT}\n".encode(),
    f"{CANARY},more\n{TEXT},{CANARY}\n".encode(),
    f'{{"{CANARY}": "{TEXT}"}}\n{CANARY}\n'.encode(),
]


@pytest.fixture
def log():
    """Log as the service does, everything, into a string."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    stream = io.StringIO()
    configure_logging(Settings(log_level="debug"), stream=stream)
    yield stream
    structlog.reset_defaults()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    root.handlers[:], root.level = before
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


def check(world, answer, log):
    """Look for the canary in an answer that is an error, and in all that was logged and counted so far."""
    if answer.status_code >= 400:
        assert CANARY not in answer.text
        assert CANARY not in str(answer.headers)
    assert CANARY not in log.getvalue()
    body, _ = world.service.metrics.render()
    assert CANARY.encode() not in body


@contextlib.contextmanager
def worlds(tmp_path, *, engine=None, **changes):
    with fake_world(tmp_path, engine=engine, **changes) as world:
        yield world


def send_everything(world, log):
    statuses = set()
    for path in ROUTES:
        for body in [*(json.dumps(body).encode() for body in BODIES), *RAW]:
            answer = world.send(path, body)
            check(world, answer, log)
            statuses.add(answer.status_code)
            again = world.send(path, gzip.compress(body), content_encoding="gzip", idempotency_key="k")
            check(world, again, log)
            statuses.add(again.status_code)
    archives = itertools.product((*RAW, *ARCHIVES), MEDIA_TYPES.values(), ("", f"?text_column={CANARY}"))
    for body, media_type, query in archives:
        answer = world.send(f"/v1/classify/archive{query}", body, content_type=media_type)
        check(world, answer, log)
        statuses.add(answer.status_code)
    return statuses


def test_the_canary_sings_where_it_may(tmp_path, log):
    """Or the tests below would look for something that is not there."""
    with worlds(tmp_path, store_text=True) as world:
        (result,) = world.post("/v1/classify", {"text": TEXT}).json()["results"]
        get = world.service.store.predictions.get
        (row,) = world.run(world.service.writer.read(lambda conn: get(conn, [result["id"]])))
        assert CANARY in row.text
    assert '"route":"/v1/classify"' in log.getvalue()


def test_bodies_of_every_kind(tmp_path, log):
    with worlds(tmp_path, store_text=True) as world:
        assert send_everything(world, log) == {200, 400, 404, 413, 422}


def test_a_model_that_fails_and_says_so(tmp_path, log):
    with worlds(tmp_path, engine=BrokenEngine()) as world:
        assert 500 in send_everything(world, log)
    assert "RuntimeError" in log.getvalue(), "the type of the error is told"


def test_a_store_that_fails(tmp_path, log):
    with worlds(tmp_path, store_text=True) as world:
        world.service.store.close()
        assert 503 in send_everything(world, log)
    assert "StoreClosedError" in log.getvalue()


def test_a_disk_that_is_full(tmp_path, log):
    with worlds(tmp_path, store_text=True) as world:

        def fill(conn):
            conn.exec_driver_sql("PRAGMA max_page_count = 1")

        with contextlib.suppress(Exception):
            world.run(world.service.writer.run(fill))
        for _ in range(30):
            answer = world.post("/v1/classify", {"texts": [f"{TEXT} {i} " + "x" * 9000 for i in range(100)]})
            check(world, answer, log)
            if answer.status_code != 200:
                break
        assert answer.status_code == 503


def test_texts_that_are_not_read_in_time(tmp_path, log):
    engine = SlowEngine()
    with worlds(tmp_path, engine=engine, timeout_seconds=0.1) as world:
        answer = world.post("/v1/classify", {"text": TEXT})
        assert answer.status_code == 503
        check(world, answer, log)
        engine.may_run.set()


@pytest.mark.parametrize(
    "name", ["authorization", "x-api-key", "idempotency-key", "user-agent", "x-request-id", CANARY]
)
def test_headers(tmp_path, log, name):
    with worlds(tmp_path, require_keys=True) as world:
        for value in (f"Bearer {CANARY}", f"Bearer gapnlp_0_{CANARY}", f" {CANARY} é".encode("latin-1")):
            answer = world.post("/v1/classify", {"text": TEXT}, headers={name: value})
            assert answer.status_code == 401
            check(world, answer, log)


def test_paths_and_queries(tmp_path, log):
    with worlds(tmp_path) as world:
        for path in (f"/{CANARY}", f"/v1/classify/{CANARY}", f"/v2/models/{CANARY}", f"/static/{CANARY}", "/livez"):
            for method in ("GET", "POST", "DELETE"):
                address = f"{path}?q={quote(TEXT)}"
                check(world, world.run(world.client.request(method, address)), log)


def test_a_fault_of_the_service_itself(tmp_path, log, monkeypatch):
    def fail(*_args, **_kwargs):
        raise KeyError(TEXT)

    monkeypatch.setattr("serve.routes.classify._results", fail)
    with worlds(tmp_path) as world:
        answer = world.post("/v1/classify", {"text": TEXT})
        assert answer.status_code == 500
        check(world, answer, log)
    assert "KeyError" in log.getvalue()
    assert "serve.routes.classify:" in log.getvalue(), "the place of the error is told"
