"""The model in `models/`: what it must say, and that it is what its card says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gapnlp
from gapnlp.classifier import GapClassifier
from gapnlp.model_dir import load_model_dir
from training.card import write_card
from training.corpus import read_examples

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "models" / "gapnlp-en"

CUSTOMERS = [
    ("You promised far more than you deliver, it was all talk.", "communication"),
    ("The staff had no idea what they were doing, clearly nobody ever trained them.", "delivery"),
    (
        "Bought the knives off the TV advert that showed them going through steel. They won't cut a tomato.",
        "communication",
    ),
    (
        (
            "You keep going on about fast and cheap. We regulars want more choice and better food, "
            "has anyone there ever asked us?"
        ),
        "knowledge",
    ),
    (
        "Sometimes reception lets it ring twenty times, sometimes three. They told me there is no rule about it.",
        "policy",
    ),
    ("My order took 25 minutes, the kitchen could not keep up.", "delivery"),
    (
        (
            "The lad at the pump did everything he is meant to, hello, windscreen, offered the car wash. "
            "I just don't like being sold to, it never feels right."
        ),
        "customer",
    ),
    (
        "I thought the tour included lunch. Reading it again, it never said so, my own fault, still a bit let down.",
        "customer",
    ),
    ("No refunds after 14 days, even though it never worked.", "policy"),
    ("Nobody told us the pool would be closed until we were standing in front of it.", "communication"),
    ("Lovely crew today, thank you.", "none"),
    ("Where do I change my delivery address?", "none"),
]


@pytest.fixture(scope="module")
def classifier():
    return gapnlp.load()


@pytest.mark.parametrize(("text", "primary"), CUSTOMERS)
def test_the_least_that_must_hold(classifier, text, primary):
    assert classifier.predict([text])[0].primary == primary


def test_no_customer_of_this_test_is_in_the_corpus():
    corpus = {e.text for name in ("train", "train-more") for e in read_examples(ROOT / "data" / f"{name}.jsonl")}
    assert not corpus & {text for text, _ in CUSTOMERS}


def test_explain_says_the_primary_gap():
    command = [sys.executable, "-m", "gapnlp", "explain", "--json", CUSTOMERS[9][0]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    answer = json.loads(done.stdout)
    assert answer["primary"] == "communication"
    assert answer["gaps"][0]["remedies"]


@pytest.mark.slow
def test_the_light_engine_gives_the_labels_of_torch():
    pytest.importorskip("torch")
    texts = [example.text for example in read_examples(ROOT / "data" / "test.jsonl")][:400]
    reference = GapClassifier.load(MODEL, engine="torch").predict(texts, evidence=False)
    for engine, least in (("openvino-f32", 0.995), ("openvino", 0.99)):
        light = GapClassifier.load(MODEL, engine=engine).predict(texts, evidence=False)
        assert np.mean([a.labels == b.labels for a, b in zip(light, reference, strict=True)]) >= least, engine


def test_a_text_scores_the_same_alone_and_in_any_batch(classifier):
    texts = [example.text for example in read_examples(ROOT / "data" / "test.jsonl")][:64]
    together = classifier.predict_proba(texts)
    backwards = classifier.predict_proba(texts[::-1])[::-1]
    alone = np.concatenate([classifier.predict_proba([text]) for text in texts])
    assert np.abs(together - alone).max() <= 1e-5
    assert np.abs(together - backwards).max() <= 1e-5


def test_the_model_fits_the_repository():
    assert sum(file.stat().st_size for file in MODEL.iterdir()) <= 75e6


def test_the_card_says_what_was_measured_and_nothing_else():
    model = load_model_dir(MODEL)
    evaluation = json.loads((MODEL / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["weights"] == model.manifest.files["model.safetensors"]
    before = (MODEL / "README.md").read_text(encoding="utf-8")
    write_card(model)
    assert (MODEL / "README.md").read_text(encoding="utf-8") == before
    assert set(evaluation["sets"]) >= {"test", "public-dev"}


def test_what_was_measured_on_the_test_split_can_be_measured_again(classifier):
    examples = read_examples(ROOT / "data" / "test.jsonl")
    predicted = [set(p.labels) for p in classifier.predict([e.text for e in examples], evidence=False)]
    share = np.mean([found == set(e.labels) for found, e in zip(predicted, examples, strict=True)])
    evaluation = json.loads((MODEL / "evaluation.json").read_text(encoding="utf-8"))
    assert share == pytest.approx(evaluation["sets"]["test"]["scores"]["exact_match"]["value"], abs=0.005)
