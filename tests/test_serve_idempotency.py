"""`Idempotency-Key`: sent again, answered again, done once."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from service_world import BrokenEngine, SlowEngine, fake_world

BODY = json.dumps({"text": "slow"}).encode()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("once")) as world:
        yield world


def n_stored(world):
    now = datetime.now(UTC)
    since, until = now - timedelta(days=1), now + timedelta(days=1)
    between = world.service.store.predictions.between
    return len(world.run(world.service.writer.read(lambda conn: between(conn, since=since, until=until, limit=10_000))))


def test_the_same_request_gets_the_same_answer_to_the_byte_and_is_done_once(world):
    first = world.send("/v1/classify", BODY, idempotency_key="a")
    before = n_stored(world)
    again = world.send("/v1/classify", BODY, idempotency_key="a")
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.content == again.content
    assert first.headers["content-type"] == again.headers["content-type"]
    assert n_stored(world) == before
    assert world.send("/v1/classify", BODY, idempotency_key="b").content != first.content, "ids differ"
    assert world.send("/v1/classify", BODY).content != first.content


def test_another_body_is_refused(world):
    world.send("/v1/classify", BODY, idempotency_key="c")
    answer = world.send("/v1/classify", json.dumps({"text": "other"}).encode(), idempotency_key="c")
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:gapnlp:problem:key-reused"


def test_a_key_belongs_to_one_path_and_one_caller(tmp_path):
    with fake_world(tmp_path, require_keys=True) as world:
        keys = [world.key("classify", "feedback") for _ in range(2)]
        answers = [
            world.send("/v1/classify", BODY, idempotency_key="a", authorization=f"Bearer {key}").json() for key in keys
        ]
        assert answers[0]["results"][0]["id"] != answers[1]["results"][0]["id"]
        id_ = answers[0]["results"][0]["id"]
        said = json.dumps({"id": id_, "labels": []}).encode()
        answer = world.send("/v1/feedback", said, idempotency_key="a", authorization=f"Bearer {keys[0]}")
        assert answer.status_code == 201


def test_feedback_is_kept_once(world):
    id_ = world.send("/v1/classify", BODY).json()["results"][0]["id"]
    said = json.dumps({"id": id_, "labels": ["policy"]}).encode()
    first, again = (world.send("/v1/feedback", said, idempotency_key="f") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content


def test_while_it_is_worked_on_the_same_request_is_told_to_wait(tmp_path):
    engine = SlowEngine()
    with fake_world(tmp_path, engine=engine) as world:
        headers = {"idempotency-key": "slow", "content-type": "application/json"}

        async def twice():
            first = asyncio.create_task(world.client.post("/v1/classify", content=BODY, headers=headers))
            await asyncio.to_thread(engine.is_running.wait)
            second = await world.client.post("/v1/classify", content=BODY, headers=headers)
            engine.may_run.set()
            return await first, second

        first, second = world.run(twice())
        assert second.status_code == 409
        assert second.headers["retry-after"] == "1"
        assert second.json()["type"] == "urn:gapnlp:problem:running"
        assert first.status_code == 200
        assert world.send("/v1/classify", BODY, idempotency_key="slow").content == first.content


def test_what_failed_may_be_tried_again(tmp_path):
    with fake_world(tmp_path, engine=BrokenEngine()) as world:
        assert world.send("/v1/classify", BODY, idempotency_key="x").status_code == 500
    with fake_world(tmp_path) as world:
        assert world.send("/v1/classify", BODY, idempotency_key="x").status_code == 200


def test_a_client_that_went_away_may_try_again(tmp_path):
    engine = SlowEngine()
    with fake_world(tmp_path, engine=engine) as world:

        async def messages():
            yield {"type": "http.request", "body": BODY}
            await asyncio.to_thread(engine.is_running.wait)
            yield {"type": "http.disconnect"}

        gone = world.run(world.call(messages(), headers=[(b"idempotency-key", b"gone")]))
        assert gone[0]["status"] == 499
        engine.may_run.set()
        assert world.send("/v1/classify", BODY, idempotency_key="gone").status_code == 200


def test_answers_outlive_a_restart(tmp_path):
    with fake_world(tmp_path) as world:
        first = world.send("/v1/classify", BODY, idempotency_key="kept")
    with fake_world(tmp_path) as world:
        again = world.send("/v1/classify", BODY, idempotency_key="kept")
        assert again.content == first.content
        assert n_stored(world) == 1


def test_answers_are_forgotten_in_time(tmp_path, monkeypatch):
    with fake_world(tmp_path, idempotency_hours=24) as world:
        first = world.send("/v1/classify", BODY, idempotency_key="old")
        asked = []
        begin = world.service.store.idempotency.begin

        def later(conn, key, *, now, keep_hours, **rest):
            asked.append(keep_hours)
            return begin(conn, key, now=now + timedelta(hours=24, minutes=1), keep_hours=keep_hours, **rest)

        monkeypatch.setattr(world.service.store.idempotency, "begin", later)
        assert world.send("/v1/classify", BODY, idempotency_key="old").content != first.content
        assert asked == [24]


def test_answers_are_kept_without_predictions_too(tmp_path):
    with fake_world(tmp_path, store_predictions=False) as world:
        first, again = (world.send("/v1/classify", BODY, idempotency_key="k") for _ in range(2))
        assert first.content == again.content


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256, "\x7f"])
def test_keys_that_are_none(world, key):
    headers = {"content-type": "application/json", "idempotency-key": key.encode("latin-1")}
    answer = world.post("/v1/classify", content=BODY, headers=headers)
    assert answer.status_code == 422
    assert world.send("/v1/classify", BODY, idempotency_key="x" * 255).status_code == 200
