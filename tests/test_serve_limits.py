"""Limits, one below and one above; bodies are counted after they are unpacked."""

import asyncio
import gzip
import json
import tracemalloc
import zlib

import pytest
from helpdesk_world import ENVIRON, ZendeskDesk, new_classifier, write_config
from service_world import fake_world, running, settings_for, wait_until

from serve.app import create_app
from serve.helpdesk import load_connectors
from serve.helpdesk.preview import preview_ticket
from serve.middleware.body import find_unpacker
from serve.problem import ProblemError

MAX = 50_000


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("limits"), max_body_bytes=MAX) as world:
        yield world


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("default")) as world:
        yield world


def body_of(n_bytes):
    """Return a body of exactly so many bytes that is in order otherwise."""
    rest = b'{"texts":["' + b'slow","' * 200 + b'slow"]}'
    return rest + b" " * (n_bytes - len(rest))


def deflate(body, *, wrapped=True):
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


PACKINGS = {
    "identity": lambda body: body,
    "gzip": gzip.compress,
    "deflate": deflate,
    "raw deflate": lambda body: deflate(body, wrapped=False),
}


async def in_chunks(body, size):
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_at_the_limit_passes_and_one_byte_more_does_not(world, packing, chunked):
    for n_bytes, status in ((MAX - 1, 200), (MAX, 200), (MAX + 1, 413)):
        packed = PACKINGS[packing](body_of(n_bytes))
        content = in_chunks(packed, 700) if chunked else packed
        headers = {"content-type": "application/json", "content-encoding": packing.removeprefix("raw ")}
        answer = world.post("/v1/classify", content=content, headers=headers)
        assert answer.status_code == status, (n_bytes, answer.text)
        if status == 413:
            assert answer.json()["type"] == "urn:gapnlp:problem:too-large"
            assert answer.json()["detail"] == "the body, unpacked, may have 50,000 bytes"


def test_the_usual_limit_is_two_megabytes(default):
    for n_bytes, status in ((2_000_000, 200), (2_000_001, 413)):
        assert default.send("/v1/classify", body_of(n_bytes)).status_code == status


def test_a_declared_length_over_the_limit_is_refused_unread(world):
    async def body():
        raise AssertionError("the body was read")
        yield {}

    for length in (b"50001", b"9" * 400):
        sent = world.run(world.call(body(), headers=[(b"content-length", length)]))
        assert sent[0]["status"] == 413


def test_a_body_that_goes_on_for_ever_is_stopped(world):
    n_sent = 0

    async def body():
        nonlocal n_sent
        while True:
            n_sent += 1
            yield {"type": "http.request", "body": b" " * 1000, "more_body": True}

    assert world.run(world.call(body()))[0]["status"] == 413
    assert n_sent <= MAX // 1000 + 1


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_a_bomb_is_stopped_while_it_is_unpacked(world, packing):
    bomb = PACKINGS[packing](b" " * 40_000_000)
    assert len(bomb) < MAX
    answer = world.send("/v1/classify", bomb, content_encoding=packing)
    assert answer.status_code == 413
    assert answer.elapsed.total_seconds() < 1


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_no_more_of_a_bomb_is_ever_in_memory_than_may_be(packing):
    bomb = PACKINGS[packing](b" " * 40_000_000)
    unpack = find_unpacker(packing, max_bytes=MAX).unpack
    tracemalloc.start()
    try:
        with pytest.raises(ProblemError):
            unpack(bomb, True)
        assert tracemalloc.get_traced_memory()[1] < 10 * MAX
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packing", ["gzip", "deflate", "raw deflate"])
@pytest.mark.parametrize("size", [100, 10_000, 10**9])
def test_what_is_much_when_unpacked_comes_a_piece_at_a_time(packing, size):
    body = b"".join(b"%d " % (i * 7919 % 1000) for i in range(300_000)) + b" " * 5_000_000
    packed = PACKINGS[packing](body)
    unpacker = find_unpacker(packing.removeprefix("raw "), max_bytes=len(body))
    pieces = []
    for start in range(0, len(packed), size):
        chunk = packed[start : start + size]
        is_last = start + len(chunk) == len(packed)
        pieces.append(unpacker.unpack(chunk, is_last))
        while unpacker.holds_more:
            pieces.append(unpacker.unpack(b"", is_last))
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= 2**20


def test_a_bomb_in_a_bomb_is_not_unpacked_twice(world):
    answer = world.send("/v1/classify", gzip.compress(gzip.compress(body_of(9000))), content_encoding="gzip, gzip")
    assert answer.status_code == 415


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, deflate", "compress", "é"])
def test_other_packings_are_refused_and_those_that_work_named(world, encoding):
    headers = {"content-type": "application/json", "content-encoding": encoding.encode("latin-1")}
    answer = world.post("/v1/classify", content=b"x", headers=headers)
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "damage", [lambda b: b[:-3], lambda b: b + b"more", lambda b: b[:9] + b"\xff" * 9, lambda _: b"{}"]
)
def test_a_damaged_packing_is_refused(world, packing, damage):
    answer = world.send("/v1/classify", damage(PACKINGS[packing](body_of(9000))), content_encoding=packing)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:gapnlp:problem:malformed"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_what_does_not_say_it_is_json_is_refused(world, kind):
    answer = world.post("/v1/classify", content=b'{"text": "slow"}', headers={"content-type": kind})
    assert answer.status_code == 415
    assert answer.headers["accept"] == "application/json"


@pytest.mark.parametrize(("charset", "status"), [("utf-8", 200), ('"UTF-8"', 200), ("latin-1", 415), ("utf-16", 415)])
def test_json_is_utf_8(world, charset, status):
    answer = world.send("/v1/classify", b'{"text": "slow"}', content_type=f"application/json; charset={charset}")
    assert answer.status_code == status


def test_texts_at_the_limit_pass_and_one_more_does_not(default):
    for n_texts, status in ((511, 200), (512, 200), (513, 422), (0, 422)):
        answer = default.post("/v1/classify", {"texts": ["slow"] * n_texts})
        assert answer.status_code == status
    assert answer.json()["errors"] == [{"pointer": "/texts", "detail": "expected 1 to 512 texts, got 0"}]


def test_characters_at_the_limit_pass_and_one_more_does_not(default):
    for n_characters, status in ((19_999, 200), (20_000, 200), (20_001, 413)):
        for body in ({"text": "é" * n_characters}, {"texts": ["é" * n_characters]}):
            answer = default.post("/v1/classify", body)
            assert answer.status_code == status
            if status == 413:
                assert answer.json()["type"] == "urn:gapnlp:problem:long-text"


def test_the_only_text_decides_about_the_request(default):
    for body in ({"text": ""}, {"texts": [""]}, {"texts": ["", None, "x" * 20_001]}):
        answer = default.post("/v1/classify", body)
        assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/texts/0", "/texts/1", "/texts/2"]
    assert default.post("/v1/classify", {"texts": ["x" * 20_001] * 2}).status_code == 413


def test_the_setting_of_the_characters_is_the_limit_everywhere(tmp_path, monkeypatch):
    for name, value in {**ENVIRON, "GAPNLP_MAX_CHARACTERS": "9"}.items():
        monkeypatch.setenv(name, value)
    with ZendeskDesk() as desk:
        desk.open(1, "slow and more of it")
        settings = settings_for(tmp_path, connectors=write_config(tmp_path, desk), store_text=True)
        with running(create_app(settings, classifier=new_classifier())) as world:
            told = world.get("/openapi.json").json()["components"]["schemas"]
            assert told["ClassifyText"]["properties"]["text"]["maxLength"] == 9
            answer = world.post("/v1/classify", {"text": "slow" * 3})
            assert answer.status_code == 413
            assert answer.json()["detail"] == "a text may have 9 characters: shorten it"
            assert answer.json()["errors"] == [{"pointer": "/text", "detail": "got 12 characters, expected at most 9"}]

            webhook = desk.created(1)
            world.post("/v1/webhooks/zendesk", content=webhook.body, headers=dict(webhook.headers))

            def kept():
                with world.service.store.read() as conn:
                    return conn.exec_driver_sql("SELECT text, truncated FROM predictions").all()

            wait_until(kept)
            assert [tuple(row) for row in kept()] == [("slow and ", 1)]

            connector = load_connectors(settings.connectors, environ=ENVIRON)["zendesk"]

            async def preview():
                try:
                    return await preview_ticket(
                        connector, "1", predict=new_classifier().predict, max_characters=settings.max_characters
                    )
                finally:
                    await connector.close()

            (text,) = world.run(preview()).texts
            assert (text.words, text.is_cut) == ("slow and ", True)


def test_a_client_that_sends_too_slowly_is_sent_away(tmp_path):
    with fake_world(tmp_path, timeout_seconds=0.2) as world:

        async def body():
            yield {"type": "http.request", "body": b"{", "more_body": True}
            for _ in range(50):
                await asyncio.sleep(0.05)
                yield {"type": "http.request", "body": b" ", "more_body": True}

        sent = world.run(world.call(body()))
        assert sent[0]["status"] == 408
        assert json.loads(sent[1]["body"])["type"] == "urn:gapnlp:problem:slow-client"


def test_a_client_that_sends_no_body_at_all_is_sent_away(tmp_path):
    with fake_world(tmp_path, timeout_seconds=0.2) as world:

        async def silence():
            await asyncio.sleep(5)
            yield {"type": "http.request", "body": b""}

        sent = world.run(world.call(silence()))
        assert sent[0]["status"] == 408
        assert json.loads(sent[1]["body"])["type"] == "urn:gapnlp:problem:slow-client"


def test_a_client_that_goes_away_before_its_body_is_there_harms_nobody(world):
    async def body():
        yield {"type": "http.request", "body": b"{", "more_body": True}
        yield {"type": "http.disconnect"}

    assert world.run(world.call(body()))[0]["status"] == 499
    assert world.get("/livez").status_code == 200


def test_errors_do_not_pile_up(default):
    answer = default.post("/v1/classify", {"texts": [""] * 512})
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 20
    assert answer.json()["detail"] == "512 parts of the body are not what was expected"
