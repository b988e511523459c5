"""`/v1/prevalence`: estimates of what was stored, of texts, and refusals with their reasons."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from service_world import fake_world, shipped_world

from gapnlp.prevalence import estimate_prevalence
from gapnlp.taxonomy import LABELS

TEXTS = ["slow"] * 30 + ["promised"] * 10 + ["fine"] * 60


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("prevalence")) as world:
        yield world


@pytest.fixture(scope="module")
def ids(world):
    return [result["id"] for result in world.post("/v1/classify", {"texts": TEXTS}).json()["results"]]


def expected(world, texts, confidence=0.95):
    predictions = world.service.model.classifier.predict(texts)
    decided = np.array([[label in p.labels for label in LABELS] for p in predictions])
    proba = np.array([p.proba for p in predictions])
    return estimate_prevalence(proba, decided, world.service.model.validation, confidence=confidence)


def check(world, answer, texts, **kwargs):
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["n_texts"] == len(texts)
    assert found["model"] == "tiny@1.0"
    for estimate, wanted in zip(found["estimates"], expected(world, texts, **kwargs), strict=True):
        for name in ("counted", "prevalence", "low", "high"):
            assert estimate[name] == pytest.approx(getattr(wanted, name), abs=1e-9)
        assert (estimate["label"], estimate["notes"]) == (wanted.label, list(wanted.notes))
    return found


def test_stored_predictions_by_their_ids(world, ids):
    found = check(world, world.post("/v1/prevalence", {"ids": ids}), TEXTS)
    assert (found["confidence"], found["method"], found["n_unread"]) == (0.95, "adjusted", 0)
    assert found["estimates"][2]["counted"] == pytest.approx(0.4), "slow and promised"
    assert found["estimates"][2]["low"] < found["estimates"][2]["high"]


def test_an_id_counts_once(world, ids):
    check(world, world.post("/v1/prevalence", {"ids": ids[:40] + ids[:5]}), TEXTS[:40])


def test_texts_are_read_for_it_and_not_kept(world, ids):
    now = datetime.now(UTC)
    found = check(world, world.post("/v1/prevalence", {"texts": [*TEXTS, "", 3]}), TEXTS)
    assert found["n_unread"] == 2
    answer = world.post("/v1/prevalence", {"since": now.isoformat(), "until": (now + timedelta(hours=1)).isoformat()})
    assert answer.status_code == 404


def test_the_confidence_may_be_chosen(world, ids):
    narrow = check(world, world.post("/v1/prevalence", {"ids": ids, "confidence": 0.8}), TEXTS, confidence=0.8)
    wide = world.post("/v1/prevalence", {"ids": ids, "confidence": 0.99}).json()
    assert narrow["confidence"] == 0.8
    pairs = zip(narrow["estimates"], wide["estimates"], strict=True)
    assert all(a["high"] - a["low"] <= b["high"] - b["low"] for a, b in pairs)


def test_stored_predictions_by_time(tmp_path):
    with fake_world(tmp_path) as world:
        before = datetime.now(UTC)
        world.post("/v1/classify", {"texts": TEXTS})
        between = datetime.now(UTC)
        world.post("/v1/classify", {"texts": ["fine"] * 50})
        after = datetime.now(UTC) + timedelta(seconds=1)
        check(world, world.post("/v1/prevalence", {"since": str(before), "until": str(between)}), TEXTS)
        found = world.post("/v1/prevalence", {"since": before.isoformat(), "until": after.isoformat()}).json()
        assert found["n_texts"] == 150


def test_unknown_ids_are_named(world, ids):
    answer = world.post("/v1/prevalence", {"ids": [ids[0], "zebra", ids[1], "finch"]})
    assert answer.status_code == 404
    problem = answer.json()
    assert problem["type"] == "urn:gapnlp:problem:unknown-id"
    assert problem["detail"] == "2 of 4 ids are unknown"
    assert [error["pointer"] for error in problem["errors"]] == ["/ids/1", "/ids/3"]
    assert "zebra" not in answer.text


def test_predictions_of_another_model_are_refused_with_the_reason(tmp_path):
    with fake_world(tmp_path) as world:
        id_ = world.post("/v1/classify", {"text": "slow"}).json()["results"][0]["id"]
        store, writer = world.service.store, world.service.writer
        (row,) = world.run(writer.read(lambda conn: store.predictions.get(conn, [id_])))
        other = replace(row, id="other", model="elder@0.9", fingerprint="elder@0.9 abc openvino-bf16")
        world.run(writer.add_predictions([other]))
        for body in ({"ids": [id_, "other"]}, {"since": "2000-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}):
            answer = world.post("/v1/prevalence", body)
            assert answer.status_code == 409
            assert answer.json()["type"] == "urn:gapnlp:problem:other-model"
            assert "1 of 2 predictions come from elder@0.9" in answer.json()["detail"]
        assert world.post("/v1/prevalence", {"ids": [id_]}).status_code == 200


def test_a_model_without_validation_rows_cannot_estimate(tmp_path):
    with fake_world(tmp_path, validation=False) as world:
        answer = world.post("/v1/prevalence", {"texts": TEXTS})
        assert answer.status_code == 409
        assert answer.json()["type"] == "urn:gapnlp:problem:no-validation"


def test_more_predictions_than_can_be_held_are_refused(world, ids, monkeypatch):
    monkeypatch.setattr("serve.routes.prevalence.MOST_STORED", 10)
    answer = world.post("/v1/prevalence", {"since": "2000-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"ids": []}, "/ids"),
        ({"ids": "x"}, "/ids"),
        ({"ids": [3]}, "/ids/0"),
        ({"ids": ["x" * 65]}, "/ids/0"),
        ({"texts": []}, "/texts"),
        ({"texts": ["", None]}, "/texts/0"),
        ({"texts": ["a"] * 513}, "/texts"),
        ({"ids": ["x"], "texts": ["y"]}, ""),
        ({"since": "2026-01-01T00:00:00Z"}, "/until"),
        ({"since": "2026-01-01", "until": "2026-02-01T00:00:00"}, "/since"),
        ({"since": 1, "until": 2}, "/since"),
        ({"ids": ["x"], "confidence": 1.5}, "/confidence"),
        ({"ids": ["x"], "confidence": "0.9"}, "/confidence"),
    ],
)
def test_what_does_not_fit_is_told_where(world, body, pointer):
    answer = world.post("/v1/prevalence", body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("2030-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+14:00", "0001-01-02T00:00:00Z"),
        ("9999-12-31T00:00:00Z", "9999-12-31T23:59:59-12:00"),
    ],
)
def test_times_in_which_nothing_was_made(world, since, until):
    assert world.post("/v1/prevalence", {"since": since, "until": until}).status_code == 404


def test_the_shipped_model_estimates_too(tmp_path):
    with shipped_world(tmp_path) as world:
        text = "They promised a call back within a day. That was two weeks ago."
        found = world.post("/v1/prevalence", {"texts": [text] * 20}).json()
        shares = {estimate["label"]: estimate["prevalence"] for estimate in found["estimates"]}
        assert shares["communication"] > 0.5 > shares["knowledge"]
