"""`/predict` as text-embeddings-inference has it, `/v2` as the Open Inference Protocol has it."""

import math

import pytest
from service_world import SlowEngine, fake_world

from gapnlp.taxonomy import LABELS


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("aliases")) as world:
        yield world


def proba(world, text):
    return world.service.model.classifier.predict([text])[0].proba_by_label


# text-embeddings-inference


@pytest.mark.parametrize("inputs", ["slow promised", ["slow promised"]])
def test_one_text_gets_one_list_with_the_highest_score_first(world, inputs):
    answer = world.post("/predict", {"inputs": inputs})
    assert answer.status_code == 200
    found = answer.json()
    assert {one["label"]: one["score"] for one in found} == proba(world, "slow promised")
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    assert all(list(one) == ["score", "label"] for one in found)


def test_several_texts_get_a_list_of_lists(world):
    found = world.post("/predict", {"inputs": [["slow"], ["fine"]], "truncate": None, "parameters": {"x": 1}}).json()
    assert [{one["label"]: one["score"] for one in scores} for scores in found] == [
        proba(world, "slow"),
        proba(world, "fine"),
    ]
    assert len(world.post("/predict", {"inputs": [["slow"]]}).json()) == 1


def test_raw_scores_are_log_odds(world):
    found = world.post("/predict", {"inputs": "slow", "raw_scores": True}).json()
    for one in found:
        p = proba(world, "slow")[one["label"]]
        assert one["score"] == pytest.approx(math.log(p / (1 - p)))


def test_a_long_text_is_refused_or_cut_at_either_end(world):
    long = "slow " * 3999 + "fine " * 4000
    answer = world.post("/predict", {"inputs": long})
    assert answer.status_code == 413
    assert answer.json() == {
        "error": "shorten it, or set truncate; /inputs: got 39,995 characters, expected at most 20,000",
        "error_type": "Validation",
    }
    right = world.post("/predict", {"inputs": long, "truncate": True})
    left = world.post("/predict", {"inputs": long, "truncate": True, "truncation_direction": "Left"})
    assert {one["label"]: one["score"] for one in right.json()} == proba(world, long[:20_000])
    assert {one["label"]: one["score"] for one in left.json()} == proba(world, long[-20_000:])
    assert right.json() != left.json()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"inputs": None}, 422),
        ({"inputs": []}, 422),
        ({"inputs": [[]]}, 422),
        ({"inputs": ["a", "b"]}, 422),
        ({"inputs": [["a", "b"]]}, 422),
        ({"inputs": [["a"], "b"]}, 422),
        ({"inputs": [[3]]}, 422),
        ({"inputs": ""}, 422),
        ({"inputs": "a", "raw_scores": "yes"}, 422),
        ({"inputs": [["a"]] * 513}, 413),
    ],
)
def test_errors_have_the_shape_of_text_embeddings_inference(world, body, status):
    answer = world.post("/predict", body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error", "error_type"]
    assert answer.json()["error_type"] == "Validation"


def test_a_batch_that_is_too_large_is_told_in_its_words(world):
    assert (
        world.post("/predict", {"inputs": [["a"]] * 513}).json()["error"].startswith("batch size 513 > maximum allowed")
    )


def test_its_other_kinds_of_errors(tmp_path):
    engine = SlowEngine()
    with fake_world(tmp_path, engine=engine, timeout_seconds=0.1, require_keys=True) as world:
        assert world.post("/predict", {"inputs": "slow"}).json()["error_type"] == "Validation"
        header = {"authorization": f"Bearer {world.key('classify')}"}
        late = world.post("/predict", {"inputs": "slow"}, headers=header)
        engine.may_run.set()
        assert (late.status_code, late.json()["error_type"]) == (503, "Unhealthy")


# Open Inference Protocol


def infer(world, *texts, path="/v2/models/tiny/infer", shape=None, data=None, **more):
    tensor = {"name": "text", "shape": shape or [len(texts)], "datatype": "BYTES", "data": data or list(texts)}
    return world.post(path, {"inputs": [tensor], **more})


@pytest.mark.parametrize("path", ["/v2/models/tiny/infer", "/v2/models/tiny/versions/1.0/infer"])
def test_both_outputs(world, path):
    answer = infer(world, "slow promised", "fine", path=path, id="42", parameters={"x": 1})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["model_name"], found["model_version"], found["id"]) == ("tiny", "1.0", "42")
    probabilities, labels = found["outputs"]
    assert (probabilities["name"], probabilities["shape"], probabilities["datatype"]) == (
        "probabilities",
        [2, 5],
        "FP64",
    )
    expected = [proba(world, text)[label] for text in ("slow promised", "fine") for label in LABELS]
    assert probabilities["data"] == expected
    assert labels == {"name": "labels", "shape": [2], "datatype": "BYTES", "data": ["delivery;communication", ""]}


def test_an_id_comes_back_only_where_one_was_sent(world):
    assert "id" not in infer(world, "slow").json()


def test_outputs_may_be_chosen(world):
    found = infer(world, "slow", outputs=[{"name": "labels"}]).json()
    assert [output["name"] for output in found["outputs"]] == ["labels"]


def test_a_column_of_texts_is_taken_too(world):
    found = infer(world, shape=[2, 1], data=[["slow"], ["fine"]]).json()
    assert found["outputs"][1]["data"][1] == ""
    assert infer(world, shape=[2, 1], data=["slow", "fine"]).json()["outputs"] == found["outputs"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"shape": [2]}, 422),
        ({"shape": [-1]}, 422),
        ({"shape": []}, 422),
        ({"shape": [0], "data": []}, 422),
        ({"datatype": "FP32"}, 422),
        ({"name": "image"}, 422),
        ({"data": [3]}, 422),
        ({"data": [""]}, 422),
        ({"data": None}, 422),
        ({"data": ["x" * 20_001]}, 413),
        ({"shape": [513], "data": ["x"] * 513}, 413),
    ],
)
def test_errors_have_the_shape_of_the_protocol(world, change, status):
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["slow"]} | change
    answer = world.post("/v2/models/tiny/infer", {"inputs": [tensor]})
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("inputs", [[], None, "x", [1], [{}], [{"name": "text"}] * 2])
def test_inputs_that_are_none(world, inputs):
    answer = world.post("/v2/models/tiny/infer", {"inputs": inputs})
    assert answer.status_code == 422
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    "path", ["/v2/models/other/infer", "/v2/models/tiny/versions/2/infer", "/v2/models/tiny@1.0/infer"]
)
def test_another_model_is_not_here(world, path):
    answer = infer(world, "slow", path=path)
    assert (answer.status_code, answer.json()) == (404, {"error": "there is no model of this name and version"})


def test_metadata_tell_the_labels_in_the_order_of_the_probabilities(world):
    for path in ("/v2/models/tiny", "/v2/models/tiny/versions/1.0"):
        found = world.get(path).json()
        assert (found["name"], found["versions"], found["platform"]) == ("tiny", ["1.0"], "gapnlp")
        assert found["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        probabilities, labels = found["outputs"]
        assert (probabilities["datatype"], probabilities["shape"]) == ("FP64", [-1, 5])
        assert probabilities["parameters"]["labels"] == list(LABELS)
        assert (labels["datatype"], labels["shape"]) == ("BYTES", [-1])
    assert world.get("/v2/models/other").status_code == 404


def test_health_and_server(world):
    assert world.get("/v2/health/live").json() == {"live": True}
    assert world.get("/v2/health/ready").json() == {"ready": True}
    assert world.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
    assert world.get("/v2/models/tiny/versions/1.0/ready").status_code == 200
    assert world.get("/v2/models/other/ready").status_code == 404
    found = world.get("/v2").json()
    assert found["name"] == "gapnlp"
    assert found["extensions"] == []
