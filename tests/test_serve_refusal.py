"""What is said of a body that does not fit: what was got, what was expected, and nothing of what was sent."""

import json
import re

import pytest
from service_world import CANARY, fake_world

from serve.schemas.body import check_body
from serve.schemas.classify import ClassifyText, ClassifyTexts
from serve.schemas.feedback import FeedbackRequest
from serve.schemas.oip import InferRequest
from serve.schemas.prevalence import PrevalenceOfIds, PrevalenceOfTexts, PrevalenceOfTime
from serve.schemas.refusal import example_of
from serve.schemas.tei import PredictRequest

CLASSIFY, FEEDBACK, PREVALENCE = "/v1/classify", "/v1/feedback", "/v1/prevalence"
PREDICT, INFER = "/predict", "/v2/models/tiny/infer"
PATHS = {
    ClassifyText: CLASSIFY,
    ClassifyTexts: CLASSIFY,
    PrevalenceOfIds: PREVALENCE,
    PrevalenceOfTexts: PREVALENCE,
    PrevalenceOfTime: PREVALENCE,
    FeedbackRequest: FEEDBACK,
    PredictRequest: PREDICT,
    InferRequest: INFER,
}
GRIEVANCE = '"They promised a call back within a day. That was two weeks ago."'
MOMENT = "2026-01-01T00:00:00Z"
WAYS = "`ids` or `texts` or `since` and `until`"
VISIBLE = "expected a string with at least one visible character"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("refusal")) as world:
        yield world


def tensor(**changes):
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["slow"]} | changes]}


def told(answer):
    """Return what each part of the body is told, by where it is; of a protocol of its own, from its sentence."""
    found = answer.json()
    if "error" in found:
        _, *parts = found["error"].split("; /")
        return {f"/{place}": detail for place, _, detail in (part.partition(": ") for part in parts)}
    return {error["pointer"]: error["detail"] for error in found["errors"]}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (
            CLASSIFY,
            {"text": "slow", "texts": ["slow"]},
            {"": "expected `text` or `texts`, got `text` and `texts`: ask for each in a request of its own"},
        ),
        (
            CLASSIFY,
            {"txt": "slow"},
            {
                "": "expected `text` or `texts`, got none of them: send an object such as "
                f'{{"text": {GRIEVANCE}, "explain": true}}'
            },
        ),
        (
            CLASSIFY,
            ["slow"],
            {"": f'got an array, expected an object such as {{"text": {GRIEVANCE}, "explain": true}}'},
        ),
        (CLASSIFY, {"text": ["slow"]}, {"/text": f"got an array, expected a string such as {GRIEVANCE}"}),
        (
            CLASSIFY,
            {"texts": None},
            {"/texts": f'got null, expected an array such as [{GRIEVANCE}, "All fine, thank you!"]'},
        ),
        (CLASSIFY, {"texts": [3, " "]}, {"/texts/0": f"got a number, {VISIBLE}", "/texts/1": None}),
        (CLASSIFY, {"text": " "}, {"/text": f"got a string of nothing visible, {VISIBLE}"}),
        (CLASSIFY, {"text": "slow", "evidence": 1}, {"/evidence": "got a number, expected true or false"}),
        (
            CLASSIFY,
            {"text": "slow", CANARY: 1},
            {
                "": "got a member that is not known here, expected none but `text`, `evidence`, `explain`: "
                "check its spelling"
            },
        ),
        (
            FEEDBACK,
            {"id": "x"},
            {"/labels": 'is missing, expected a value such as ["delivery", "promise gap"]'},
        ),
        (FEEDBACK, {"id": "x", "labels": [True]}, {"/labels/0": 'got a boolean, expected a string such as "delivery"'}),
        (FEEDBACK, {"id": "", "labels": []}, {"/id": "got 0 characters, expected at least 1"}),
        (FEEDBACK, {"id": "x", "labels": [], "comment": "x" * 2001}, {"/comment": None}),
        (FEEDBACK, {"id": "x", "labels": ["policy"] * 11}, {"/labels": "got 11 items, expected at most 10"}),
        (
            FEEDBACK,
            {"id": "x", "labels": ["policy", "none"]},
            {
                "/labels/1": "got a string that names no gap, expected a name that /v1/gaps lists, or `none` and "
                "nothing beside it"
            },
        ),
        (
            PREVALENCE,
            {},
            {
                "": f"expected {WAYS}, got none of them: send an object such as "
                '{"ids": ["019aa7c1f0d47b0a9c3e5d1f2b4a6c8e"], "confidence": 0.9}'
            },
        ),
        (
            PREVALENCE,
            {"ids": ["x"], "since": MOMENT},
            {"": f"expected {WAYS}, got `ids` and `since`: ask for each in a request of its own"},
        ),
        (
            PREVALENCE,
            {"since": MOMENT},
            {"/until": 'is missing, expected a value such as "2026-02-01T00:00:00Z"'},
        ),
        (
            PREVALENCE,
            {"since": 1, "until": CANARY},
            {
                "/since": f'got a number, expected a string such as "{MOMENT}"',
                "/until": 'got a string that is no moment, expected one such as "2026-02-01T00:00:00Z"',
            },
        ),
        (
            PREVALENCE,
            {"since": "2026-01-01T00:00:00", "until": MOMENT},
            {"/since": f'got a moment without its zone, expected one such as "{MOMENT}": Z is UTC'},
        ),
        (PREVALENCE, {"ids": ["x"], "confidence": 2}, {"/confidence": "got a larger number, expected at most 0.999"}),
        (PREVALENCE, {"ids": ["x"], "confidence": 0}, {"/confidence": "got a smaller number, expected at least 0.5"}),
        (PREVALENCE, {"ids": ["x"], "confidence": "1"}, {"/confidence": "got a string, expected a number such as 0.9"}),
        (
            PREDICT,
            {"inputs": ["slow", "fine"]},
            {
                "/inputs": "got an array of 2 items, expected an array of one text; to read several, send them such as "
                '[["one"], ["another"]]'
            },
        ),
        (PREDICT, {"inputs": [["slow"], None]}, {"/inputs/1": None}),
        (PREDICT, {"inputs": [["slow"], [3]]}, {"/inputs/1/0": f"got a number, {VISIBLE}"}),
        (
            PREDICT,
            {"inputs": "slow", "truncation_direction": CANARY},
            {"/truncation_direction": "got a string, expected the word 'Left', 'Right', 'left' or 'right'"},
        ),
        (INFER, tensor(datatype="FP32"), {"/inputs/0/datatype": "got a string, expected the word 'BYTES'"}),
        (INFER, tensor(shape=[2]), {"/inputs/0/shape": "got another number of texts than data has, expected [1]"}),
        (INFER, tensor(shape=[1.5]), {"/inputs/0/shape/0": "got a number, expected a whole number such as 2"}),
        (INFER, tensor(shape=[0], data=[]), {"/inputs/0/data": "expected 1 to 512 texts, got 0"}),
        (INFER, {"inputs": [{}]}, {f"/inputs/0/{name}": None for name in ("name", "shape", "datatype", "data")}),
        (INFER, tensor() | {"parameters": []}, {"/parameters": "got an array, expected an object"}),
    ],
)
def test_each_part_is_told_what_was_got_and_what_was_expected(world, path, body, expected):
    answer = world.post(path, body)
    assert answer.status_code == 422
    found = told(answer)
    assert list(found) == list(expected)
    assert {place: detail and found[place] for place, detail in expected.items()} == expected
    assert CANARY not in answer.text


VALUES = [None, True, 0, -1, 1.5, 1e300, 10**30, "", CANARY, [], [[]], [CANARY], {}, {CANARY: CANARY}]


def wrong_bodies(example):
    """Put every kind of value at every place of an example, and leave each member out."""
    yield from VALUES
    for name in example:
        yield {key: value for key, value in example.items() if key != name}
        yield from ({**example, name: value} for value in VALUES)
        yield from ({**example, name: [value]} for value in VALUES)
    yield from ({**example, CANARY: value} for value in VALUES)
    for tensor in example.get("inputs", [])[:1]:
        for name in tensor if isinstance(tensor, dict) else ():
            yield from ({**example, "inputs": [{**tensor, name: value}]} for value in VALUES)


@pytest.mark.parametrize("model", PATHS)
def test_no_body_is_answered_in_the_words_of_the_library_or_of_the_client(world, model):
    n_refused = 0
    for body in wrong_bodies(example_of(model)):
        answer = world.send(PATHS[model], json.dumps(body).encode())
        assert answer.status_code < 500, body
        if answer.status_code == 422:
            n_refused += 1
            assert not re.search(r"Input|should|\bvalid|Field|instance of|None|True", answer.text), body
            assert "another value" not in answer.text, body  # a kind of error that has no words yet
            assert CANARY not in answer.text
    assert n_refused > 30


@pytest.mark.parametrize("model", PATHS)
def test_every_member_that_may_be_missing_is_shown_by_an_example_that_fits(model):
    example = example_of(model)
    check_body(model, example)
    assert {name for name, field in model.model_fields.items() if field.is_required()} <= set(example)
