"""`/v1/feedback` and `/v1/gaps`."""

from dataclasses import asdict

import orjson
import pytest
from service_world import fake_world

from gapnlp.taxonomy import load_taxonomy


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("feedback")) as world:
        yield world


@pytest.fixture(scope="module")
def id_(world):
    return world.post("/v1/classify", {"text": "slow"}).json()["results"][0]["id"]


def kept(world, feedback_id):
    words = world.run(world.service.writer.read(lambda conn: list(world.service.store.feedback.last_words(conn))))
    (row,) = [word.feedback for word in words if word.feedback.id == feedback_id]
    return row


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["policy"], ("policy",)),
        (["Promise gap", "3"], ("delivery", "communication")),
        (["the listening-gap", "knowledge"], ("knowledge",)),
        ([], ()),
        (["none"], ()),
        ([" None "], ()),
    ],
)
def test_what_a_person_says_is_kept(world, id_, labels, expected):
    answer = world.post("/v1/feedback", {"id": id_, "labels": labels, "author": "ada", "comment": "So it is."})
    assert answer.status_code == 201
    found = answer.json()
    assert (found["prediction"], found["labels"]) == (id_, list(expected))
    row = kept(world, found["id"])
    assert (row.prediction_id, row.labels, row.author, row.comment) == (id_, expected, "ada", "So it is.")


def test_author_and_comment_may_be_left_out(world, id_):
    row = kept(world, world.post("/v1/feedback", {"id": id_, "labels": []}).json()["id"])
    assert (row.author, row.comment) == (None, None)


def test_an_unknown_prediction_is_refused(world):
    answer = world.post("/v1/feedback", {"id": "zebra", "labels": []})
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:gapnlp:problem:unknown-id"
    assert "zebra" not in answer.text


def test_with_a_key_too_an_unknown_prediction_is_refused_and_the_key_free_again(world, id_):
    body = orjson.dumps({"id": "zebra", "labels": []})
    assert world.send("/v1/feedback", body, idempotency_key="z").status_code == 404
    body = orjson.dumps({"id": id_, "labels": []})
    assert world.send("/v1/feedback", body, idempotency_key="z").status_code == 201


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"labels": ["deliverry"]}, "/labels/0"),
        ({"labels": ["policy", "none"]}, "/labels/1"),
        ({"labels": ["x" * 121]}, "/labels/0"),
        ({"labels": ["policy"] * 11}, "/labels"),
        ({"labels": "policy"}, "/labels"),
        ({"labels": None}, "/labels"),
        ({"author": "x" * 201}, "/author"),
        ({"comment": "x" * 2001}, "/comment"),
        ({"id": 3}, "/id"),
        ({"id": ""}, "/id"),
        ({"zebra": 1}, ""),
    ],
)
def test_what_does_not_fit_is_told_where(world, id_, change, pointer):
    answer = world.post("/v1/feedback", {"id": id_, "labels": []} | change)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert "zebra" not in answer.text
    assert "deliverry" not in answer.text


def test_the_gaps_are_those_of_the_taxonomy(world):
    assert world.get("/v1/gaps").json() == orjson.loads(orjson.dumps(asdict(load_taxonomy())))
