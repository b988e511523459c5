"""Malformed bodies of every kind: no 5xx, nothing repeated, and the service is well after each."""

import json

import pytest
from service_world import CANARY, fake_world

from serve.upload import MEDIA_TYPES

DEEP = 250_000


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("hostile")) as world:
        yield world


def text(value):
    return b'{"text": ' + value + b"}"


MALFORMED = {
    "nothing": b"",
    "white space": b" \n\t ",
    "no json": CANARY.encode(),
    "half an object": b'{"text": "slow"',
    "half a string": b'{"text": "slow',
    "half an escape": b'{"text": "\\u12"}',
    "half a pair": b'{"text": "slow \\ud83d"}',
    "trailing comma": b'{"text": "slow",}',
    "two documents": b'{"text": "slow"} {"text": "slow"}',
    "something after": b'{"text": "slow"}' + CANARY.encode(),
    "single quotes": b"{'text': 'slow'}",
    "no quotes": b"{text: slow}",
    "a comment": b'{"text": "slow" /* x */}',
    "python": b'{"text": None}',
    "undefined": b'{"text": undefined}',
    "nan": text(b"NaN"),
    "infinity": text(b"Infinity"),
    "minus infinity": text(b"-Infinity"),
    "nan in texts": b'{"texts": ["slow", NaN]}',
    "a leading zero": text(b"01"),
    "a leading plus": text(b"+1"),
    "hexadecimal": text(b"0x1f"),
    "a lone minus": text(b"-"),
    "an exponent without digits": text(b"1e"),
    "a lone high surrogate": text(b'"slow \\ud800"'),
    "a lone low surrogate": text(b'"slow \\udc00"'),
    "swapped surrogates": text(b'"\\udc00\\ud800"'),
    "a surrogate in utf-8": text(b'"slow \xed\xa0\x80"'),
    "a lone surrogate as a key": b'{"\\ud800": 1}',
    "bad utf-8": text(b'"slow \xff\xfe"'),
    "a cut character": text(b'"slow \xf0\x9f\x98"'),
    "an overlong character": text(b'"\xc0\xaf"'),
    "past unicode": text(b'"\xf4\x90\x80\x80"'),
    "latin-1": '{"text": "Änderung"}'.encode("latin-1"),
    "utf-16 with a mark": '{"text": "slow"}'.encode("utf-16"),
    "utf-16 little-endian": '{"text": "slow"}'.encode("utf-16-le"),
    "utf-16 big-endian": '{"text": "slow"}'.encode("utf-16-be"),
    "utf-32": '{"text": "slow"}'.encode("utf-32"),
    "a byte order mark": b'\xef\xbb\xbf{"text": "slow"}',
    "nul": b"\x00",
    "nul before": b'\x00{"text": "slow"}',
    "nul after": b'{"text": "slow"}\x00',
    "nul in a string": text(b'"sl\x00ow"'),
    "a newline in a string": text(b'"sl\now"'),
    "deep arrays": b"[" * DEEP,
    "deep closed arrays": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "deep texts": b'{"texts": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep where any value may be": b'{"texts": ["slow", ' + b"[" * 500 + b"]" * 500 + b"]}",
    "a number of 5,000 digits": text(b"9" * 5000),
    "the same key twice": b'{"text": "slow", "text": "fine"}',
    "the same key twice, one escaped": b'{"text": "slow", "\\u0074ext": "fine"}',
    "the same key twice further in": b'{"texts": ["slow", {"a": 1, "a": 2}]}',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "a png": b"\x89PNG\r\n\x1a\n",
    "xml": b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>",
    "a form": b"text=slow&evidence=true",
    "yaml": b"text: slow\n",
}
UNFIT = {
    "null": b"null",
    "true": b"true",
    "a number": b"17",
    "a string": json.dumps(CANARY).encode(),
    "an array": b'["slow"]',
    "an empty object": b"{}",
    "an empty key": b'{"": "slow"}',
    "another key": json.dumps({"text": "slow", CANARY: 1}).encode(),
    "a key of a megabyte": json.dumps({"x" * 1_000_000: 1}).encode(),
    "another case": b'{"Text": "slow"}',
    "no text": text(b"null"),
    "a number as text": text(b"1"),
    "1e999 as text": text(b"1e999"),
    "minus 1e999 as text": text(b"-1e999"),
    "an array as text": text(b'["slow"]'),
    "an object as text": text(b'{"text": "slow"}'),
    "texts as text": b'{"texts": "slow"}',
    "texts as an object": b'{"texts": {"0": "slow"}}',
    "no texts": b'{"texts": null}',
    "empty texts": b'{"texts": []}',
    "both": b'{"text": "slow", "texts": ["slow"]}',
    "evidence as a string": b'{"text": "slow", "evidence": "true"}',
    "evidence as a number": b'{"text": "slow", "evidence": 1}',
    "evidence as null": b'{"text": "slow", "evidence": null}',
    "an empty text": text(b'""'),
    "blank": text(b'" \\t\\r\\n\\u00a0\\u3000"'),
    "nothing visible": text(b'"\\u200b\\u200e\\ufeff\\u00ad\\u0000"'),
    "bad texts alone": b'{"texts": [null, 1e999, [], {}, true, ""]}',
    "__proto__": b'{"__proto__": {"text": "slow"}}',
    "a long number": text(b"9" * 4000),
    "many keys": json.dumps({str(i): i for i in range(20_000)}).encode(),
}
READ = {
    "nul, escaped": text(b'"slow\\u0000"'),
    "control characters, escaped": text(b'"slow \\u0001\\u001b[31m\\u0007"'),
    "emoji": text('"slow 👩🏽‍🚒🇩🇪 🤬"'.encode()),
    "emoji, escaped": text(b'"slow \\ud83d\\ude00"'),
    "right to left": text('"بطيء جدا slow \u202e wols"'.encode()),
    "combining characters": text(('"slow Z' + "\u0351" * 500 + '"').encode()),
    "noncharacters": text('"slow \uffff\ufffe\U0010ffff"'.encode()),
    "private use": text('"slow \ue000\U000f0000"'.encode()),
    "one word of 20,000 letters": text(b'"' + b"x" * 20_000 + b'"'),
    "sql": text(b'"slow\'; DROP TABLE predictions; --"'),
    "html": text(b'"<script>alert(1)</script> slow"'),
    "a template": text(b'"slow {{7*7}} ${7*7} %s %n"'),
    "a path": text(b'"slow ../../../../etc/passwd"'),
    "bad ones among good ones": b'{"texts": ["slow", null, 1e999, {"a": [1]}, "", true, -0.0, [[[]]]]}',
    "escaped keys": b'{"\\u0074\\u0065xt": "slow"}',
    "much white space": b" " * 100_000 + b'{"text":' + b"\n" * 100_000 + b'"slow"}',
}
CASES = [
    *[pytest.param(body, {400}, id=name) for name, body in MALFORMED.items()],
    *[pytest.param(body, {422}, id=name) for name, body in UNFIT.items()],
    *[pytest.param(body, {200}, id=name) for name, body in READ.items()],
    pytest.param(text(b'"' + b"x" * 1_000_000 + b'"'), {413}, id="one word of a megabyte"),
]
BINARY = [MEDIA_TYPES["xlsx"], MEDIA_TYPES["parquet"]]
PATHS = ["/v1/classify", "/v1/prevalence", "/v1/feedback", "/predict", "/v2/models/tiny/infer"]


def test_there_are_enough_of_them():
    assert len(CASES) >= 60


@pytest.mark.parametrize(("body", "statuses"), CASES)
def test_a_body_of_whatever_kind_is_read_or_refused_and_the_service_is_well(world, body, statuses):
    answer = world.send("/v1/classify", body)
    assert answer.status_code in statuses, answer.text[:500]
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 4000
        assert CANARY not in answer.text
    assert world.get("/livez").status_code == 200
    assert world.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", PATHS[1:])
@pytest.mark.parametrize(("body", "statuses"), [case for case in CASES if case.values[1] != {200}])
def test_the_other_routes_bear_them_too(world, path, body, statuses):
    answer = world.send(path, body)
    assert 400 <= answer.status_code < 500
    assert CANARY not in answer.text
    if statuses == {400}:
        assert answer.status_code == 400
    assert world.get("/livez").status_code == 200


@pytest.mark.parametrize("kind", ["text/csv", "application/x-ndjson", *BINARY])
@pytest.mark.parametrize("body", [pytest.param(case.values[0], id=case.id) for case in CASES])
def test_as_an_archive_they_are_read_or_refused_too(world, body, kind):
    answer = world.send("/v1/classify/archive?text_column=text", body, content_type=kind)
    assert answer.status_code == 200 or 400 <= answer.status_code < 500
    if answer.status_code == 200:
        assert kind not in BINARY
        assert int(answer.headers["gapnlp-rows"]) >= 0
    else:
        assert CANARY not in answer.text
    assert world.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "path", ["/%00", "/%ff", "/..%2f..%2fetc/passwd", "/static/..%2fapp.py", "/v2/models/%00/infer"]
)
def test_hostile_paths(world, path):
    assert 400 <= world.get(path).status_code < 500


@pytest.mark.parametrize("name", ["authorization", "idempotency-key", "x-request-id", "content-encoding", "accept"])
@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b"x" * 60_000, b"%s%n", b"\x00", b"\r\nSet-Cookie: a=b"])
def test_hostile_headers(world, name, value):
    headers = {"content-type": "application/json", name: value}
    answer = world.post("/v1/classify", content=b'{"text": "slow"}', headers=headers)
    assert answer.status_code in {200, 400, 415, 422}
    assert "set-cookie" not in answer.headers
    assert world.get("/livez").status_code == 200


def test_numbers_that_are_none_are_no_probability(world):
    for value in (b"1e999", b"-1e999"):
        answer = world.send("/v1/prevalence", b'{"ids": ["a"], "confidence": ' + value + b"}")
        assert answer.status_code == 422
