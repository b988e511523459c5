"""`/v1/classify`: what is read, what is answered, what is kept."""

import asyncio
import gc
import json
import socket
import sys
from datetime import UTC, datetime, timedelta

import pytest
import uvicorn
from service_world import BrokenEngine, SlowEngine, fake_world, shipped_world, wait_until

from gapnlp.taxonomy import LABELS, load_taxonomy
from gapnlp.text import hash_text
from serve.middleware.disconnect import has_hung_up, note_connection, while_connected

GRIEVANCE = "They promised a call back within a day. That was two weeks ago."


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("classify")) as world:
        yield world


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    with shipped_world(tmp_path_factory.mktemp("shipped"), engine="openvino-f32") as world:
        yield world


def stored(world, ids):
    return world.run(world.service.writer.read(lambda conn: world.service.store.predictions.get(conn, ids)))


def all_stored(world):
    now = datetime.now(UTC)
    since, until = now - timedelta(days=1), now + timedelta(days=1)
    between = world.service.store.predictions.between
    return world.run(world.service.writer.read(lambda conn: between(conn, since=since, until=until, limit=10_000)))


def test_one_text(world):
    answer = world.post("/v1/classify", {"text": "promised and slow"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert found["model"] == "tiny@1.0"
    (result,) = found["results"]
    expected = world.service.model.classifier.predict(["promised and slow"])[0]
    assert result["primary"] == expected.primary == "delivery"
    assert result["labels"] == list(expected.labels)
    assert result["probabilities"] == expected.proba_by_label
    assert list(result["probabilities"]) == list(LABELS)
    assert result["evidence"] == [{"label": e.label, "start": e.start, "end": e.end} for e in expected.evidence]
    assert result["evidence"]
    assert (result["index"], result["error"], result["truncated"]) == (0, None, False)
    assert result["review"] is expected.review
    assert "gaps" not in result


def test_the_shipped_model_says_over_http_what_it_says_alone(shipped):
    texts = [GRIEVANCE, "All fine, thank you!", "🤬🤬 no crème brûlée, and the waiter laughed at us 🤬"]
    results = shipped.post("/v1/classify", {"texts": texts}).json()["results"]
    expected = shipped.service.model.classifier.predict(texts)
    assert [r["labels"] for r in results] == [list(p.labels) for p in expected]
    for result, prediction in zip(results, expected, strict=True):
        assert list(result["probabilities"].values()) == pytest.approx(prediction.proba, abs=1e-5)
        assert [(e["label"], e["start"], e["end"]) for e in result["evidence"]] == [
            (e.label, e.start, e.end) for e in prediction.evidence
        ]
    assert results[0]["primary"] == "communication"
    assert results[1]["primary"] == "none"


def test_many_texts_keep_their_order_and_bad_ones_get_an_error_of_their_own(world):
    texts = ["slow", "", "promised", None, 3, ["x"], "  \u200b ", "x" * 20_001, "fine"]
    results = world.post("/v1/classify", {"texts": texts}).json()["results"]
    assert [r["index"] for r in results] == list(range(9))
    assert [r["primary"] for r in results] == ["delivery", None, "communication", *[None] * 5, "none"]
    for index in (1, 3, 4, 5, 6):
        assert results[index]["error"]["type"] == "urn:gapnlp:problem:unreadable-text"
    assert results[7]["error"] == {
        "type": "urn:gapnlp:problem:long-text",
        "detail": "got 20,001 characters, expected at most 20,000",
    }
    bad = results[1]
    assert (bad["id"], bad["probabilities"], bad["labels"], bad["evidence"]) == (None, None, [], [])
    assert bad["review"] is True
    assert len(stored(world, [r["id"] for r in results if r["id"]])) == 3


def test_evidence_may_be_left_out_and_explanations_asked_for(world):
    (result,) = world.post("/v1/classify", {"text": "slow promised", "evidence": False, "explain": True}).json()[
        "results"
    ]
    assert result["evidence"] == []
    assert [gap["id"] for gap in result["gaps"]] == result["labels"] == ["delivery", "communication"]
    card = load_taxonomy()["delivery"]
    assert result["gaps"][0]["remedies"] == list(card.remedies)
    assert result["gaps"][0]["causes"] == list(card.causes)
    assert result["gaps"][0]["questions"] == list(card.questions)


def test_offsets_count_characters_not_bytes_nor_utf_16_units(world):
    text = "🤬 naïve slow slow slow"
    (result,) = world.post("/v1/classify", {"text": text}).json()["results"]
    expected = world.service.model.classifier.predict([text])[0].evidence
    passages = {e["label"]: text[e["start"] : e["end"]] for e in result["evidence"]}
    assert passages == {e.label: text[e.start : e.end] for e in expected}
    assert "slow" in passages["delivery"]


# What is kept


def test_each_prediction_is_kept_before_the_answer_with_the_hash_and_not_the_text(world):
    (result,) = world.post("/v1/classify", {"text": "slow  indeed"}).json()["results"]
    (row,) = stored(world, [result["id"]])
    assert row.text_hash == hash_text("slow indeed")
    assert row.text is None
    assert row.source == "api"
    assert row.labels == tuple(result["labels"])
    assert dict(zip(LABELS, row.proba, strict=True)) == result["probabilities"]
    assert [{"label": a, "start": b, "end": c} for a, b, c in row.evidence] == result["evidence"]
    assert row.model == "tiny@1.0"
    assert row.fingerprint == world.service.model.classifier.fingerprint
    assert datetime.now(UTC) - row.created_at < timedelta(minutes=1)


def test_evidence_is_kept_even_where_it_is_not_asked_for(world):
    (result,) = world.post("/v1/classify", {"text": "slow", "evidence": False}).json()["results"]
    assert stored(world, [result["id"]])[0].evidence


def test_the_text_is_kept_where_the_operator_asks_for_it(tmp_path):
    with fake_world(tmp_path, store_text=True) as world:
        (result,) = world.post("/v1/classify", {"text": "slow \U0001f600"}).json()["results"]
        assert stored(world, [result["id"]])[0].text == "slow \U0001f600"


def test_nothing_is_kept_where_the_operator_wants_nothing(tmp_path):
    with fake_world(tmp_path, store_predictions=False) as world:
        (result,) = world.post("/v1/classify", {"text": "slow"}).json()["results"]
        assert result["id"] is None
        assert result["primary"] == "delivery"
        assert all_stored(world) == []


def test_many_long_texts_are_kept_too(world):
    texts = [f"slow {i} " + "very " * 2000 for i in range(12)]
    results = world.post("/v1/classify", {"texts": texts}).json()["results"]
    rows = stored(world, [r["id"] for r in results])
    assert [row.text_hash for row in rows] == [hash_text(text) for text in texts]


def test_ids_are_unique_and_sort_by_time(world):
    ids = [r["id"] for _ in range(3) for r in world.post("/v1/classify", {"texts": ["a"] * 100}).json()["results"]]
    assert len(set(ids)) == 300
    firsts = [ids[0][:12], ids[100][:12], ids[200][:12]]
    assert firsts == sorted(firsts)


def test_a_store_that_fails_is_told_as_503_and_no_answer_goes_out_unkept(tmp_path):
    with fake_world(tmp_path) as world:
        world.service.store.close()
        answer = world.post("/v1/classify", {"text": "slow"})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["type"] == "urn:gapnlp:problem:unavailable"
        assert str(tmp_path) not in answer.text


# What goes wrong while it is read


def test_a_failure_of_the_model_is_a_500_that_says_nothing(tmp_path):
    with fake_world(tmp_path, engine=BrokenEngine()) as world:
        answer = world.post("/v1/classify", {"text": "slow"})
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == "this is a fault of the service: its log tells more"
        assert world.get("/livez").status_code == 200


def test_a_request_that_takes_too_long_is_a_503(tmp_path):
    engine = SlowEngine()
    with fake_world(tmp_path, engine=engine, timeout_seconds=0.2) as world:
        answer = world.post("/v1/classify", {"text": "slow"})
        engine.may_run.set()
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:gapnlp:problem:timed-out"
        assert int(answer.headers["retry-after"]) >= 1
        assert world.post("/v1/classify", {"text": "slow"}).status_code == 200


def test_a_full_queue_is_a_429_before_the_body_is_read_and_probes_are_still_answered(tmp_path):
    engine = SlowEngine()
    with fake_world(tmp_path, engine=engine, max_waiting=4, cache_texts=0) as world:

        async def flood():
            first = asyncio.create_task(world.client.post("/v1/classify", json={"text": "first"}))
            await asyncio.to_thread(engine.is_running.wait)
            waiting = [first] + [
                asyncio.create_task(world.client.post("/v1/classify", json={"text": f"slow {i}"})) for i in range(20)
            ]
            while not world.service.batcher.is_full():
                await asyncio.sleep(0.005)

            async def body():
                raise AssertionError("the body was read")
                yield {}

            refused = [
                await world.call(body(), path=path) for path in ("/v1/classify", "/predict", "/v2/models/a/infer")
            ]
            probes = [
                (await world.client.get(path)).status_code for path in ("/livez", "/readyz", "/metrics", "/v1/gaps")
            ]
            engine.may_run.set()
            return refused, probes, [(await one).status_code for one in waiting]

        refused, probes, statuses = world.run(flood())
        for start, _ in refused:
            assert start["status"] == 429
            assert int(dict(start["headers"])[b"retry-after"]) >= 1
        assert json.loads(refused[0][1]["body"])["type"] == "urn:gapnlp:problem:queue-full"
        assert json.loads(refused[1][1]["body"])["error_type"] == "Overloaded"
        assert list(json.loads(refused[2][1]["body"])) == ["error"]
        assert probes == [200] * 4
        assert set(statuses) == {200, 429}
        assert "gapnlp_shed_total" in world.get("/metrics").text


def test_a_request_that_was_watched_leaves_nothing_for_the_collector():
    async def receive():
        await asyncio.Event().wait()

    async def answer():
        return await while_connected(receive, asyncio.sleep(0.15, "answer"))

    async def requests():
        answers = await asyncio.gather(*(answer() for _ in range(5)))
        await asyncio.sleep(0.01)
        return answers

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(requests()) == ["answer"] * 5
        assert [thing for thing in gc.get_objects() if type(thing).__name__ == "_Watch"] == []
    finally:
        gc.enable()


@pytest.mark.parametrize("parser", ["httptools", "h11"])
def test_a_client_that_left_is_known_before_the_loop_comes_round_to_it(parser):
    async def scenario():
        found = asyncio.get_running_loop().create_future()

        async def app(scope, receive, send):
            note_connection(scope, receive)
            found.set_result(has_hung_up(scope))
            while (await receive())["type"] != "http.disconnect":
                pass

        server = uvicorn.Server(uvicorn.Config(app, http=parser, lifespan="off", log_config=None))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                is_gone = await found
                before = is_gone()
            after = is_gone()  # nothing has been awaited since the client left
            server.should_exit = True
            await serving
        return before, after, has_hung_up({})()

    assert asyncio.run(scenario()) == (False, sys.platform == "linux", False)


def test_a_client_that_left_before_its_turn_costs_nothing(tmp_path):
    async def gone():
        yield {"type": "http.disconnect"}

    with fake_world(tmp_path) as world:
        assert world.run(world.call(gone())) == []
        assert 'status="499"' in world.get("/metrics").text
        assert all_stored(world) == []


def test_a_client_that_goes_away_takes_its_texts_back(tmp_path):
    engine = SlowEngine()
    with fake_world(tmp_path, engine=engine, cache_texts=0) as world:

        async def messages(text, gone):
            yield {"type": "http.request", "body": json.dumps({"texts": [f"{text} {i}" for i in range(8)]}).encode()}
            await gone.wait()
            yield {"type": "http.disconnect"}

        async def leave():
            gone = asyncio.Event()
            first = asyncio.create_task(world.call(messages("first", asyncio.Event())))
            await asyncio.to_thread(engine.is_running.wait)
            second = asyncio.create_task(world.call(messages("second", gone)))
            while world.service.batcher.n_waiting < 8:
                await asyncio.sleep(0.005)
            before = world.service.batcher.n_waiting
            gone.set()
            answer = await asyncio.wait_for(asyncio.shield(second), 5)
            after = world.service.batcher.n_waiting
            engine.may_run.set()
            return before, answer, after, await first

        before, answer, after, first = world.run(leave())
        assert answer[0]["status"] == 499
        assert after <= before - 8 or after == 0
        assert first[0]["status"] == 200
        assert len(all_stored(world)) == 8
        wait_until(lambda: world.service.batcher.n_waiting == 0)
