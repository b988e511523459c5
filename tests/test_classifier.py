"""Texts in, predictions out: the same in any company, in windows, with evidence, without torch or a network."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest

import gapnlp
from gapnlp.calibration import sigmoid
from gapnlp.classifier import GapClassifier
from gapnlp.encoding import MAX_CHARACTERS
from gapnlp.errors import InputError, ModelNotFoundError
from gapnlp.model_dir import load_model_dir
from gapnlp.taxonomy import LABELS

TOLERANCE = 1e-5
GRIEVANCE = "Four hours on the tarmac and nobody told us why."
# Each word is one piece, so that a window's tokens, read as a text of their own, are the same tokens.
LONG_TEXT = "the " * 300 + GRIEVANCE


def logits_of(classifier, texts):
    return np.stack([reading.logits for reading in classifier.read(texts)])


@pytest.fixture(scope="module")
def together(classifier, real_texts):
    return logits_of(classifier, real_texts)


@pytest.fixture(scope="module")
def predictions(classifier, real_texts):
    return classifier.predict(real_texts)


def test_a_text_alone_scores_as_in_company(classifier, real_texts, together):
    alone = np.concatenate([logits_of(classifier, [text]) for text in real_texts])
    np.testing.assert_allclose(alone, together, atol=TOLERANCE)
    assert np.ptp(together, axis=0).min() > 0.01, "the texts differ, or the comparison says nothing"


def test_neither_order_nor_neighbours_change_a_score(classifier, real_texts, together):
    order = list(range(len(real_texts)))
    random.Random(1).shuffle(order)
    shuffled = logits_of(classifier, [real_texts[index] for index in order])
    np.testing.assert_allclose(shuffled, together[order], atol=TOLERANCE)
    crowded = logits_of(classifier, [*real_texts[:10], *[LONG_TEXT] * 3, *["ok"] * 50])
    np.testing.assert_allclose(crowded[:10], together[:10], atol=TOLERANCE)


@pytest.fixture(scope="module")
def exact_classifier(model_dir):
    """The light engine without the rounding that some processors do faster."""
    return GapClassifier.load(model_dir, engine="openvino-f32")


def test_the_light_engine_agrees_with_torch(model_dir, real_texts, exact_classifier):
    reference = GapClassifier.load(model_dir, engine="torch")
    np.testing.assert_allclose(logits_of(reference, real_texts), logits_of(exact_classifier, real_texts), atol=1e-4)
    pairs = zip(reference.predict(real_texts), exact_classifier.predict(real_texts), strict=True)
    assert all(a.labels == b.labels for a, b in pairs)


def test_the_default_engine_stays_near_the_exact_one(real_texts, together, exact_classifier):
    np.testing.assert_allclose(together, logits_of(exact_classifier, real_texts), atol=0.1)


def test_the_fingerprint_tells_models_engines_and_precisions_apart(model_dir, classifier, exact_classifier, model_copy):
    same = GapClassifier.load(model_copy)
    assert same.fingerprint == classifier.fingerprint
    assert exact_classifier.fingerprint.endswith("openvino-f32")
    onnx = GapClassifier.load(model_dir, engine="onnx")
    assert len({exact_classifier.fingerprint, onnx.fingerprint, classifier.fingerprint + "?"}) == 3


def test_progress_is_told_as_texts_are_read_bad_ones_and_long_ones_included(classifier, real_texts):
    told = []
    texts = [*real_texts[:10], None, real_texts[0] + " and so on" * 200]
    classifier.predict(texts, on_texts=told.append)
    assert sum(told) == 12
    assert len(told) > 3


def test_probabilities_and_labels_are_those_of_the_calibration(model_dir, together, predictions):
    decision = load_model_dir(model_dir).decision
    calibration = decision.calibration
    expected = sigmoid(together * np.array(calibration.slope) + np.array(calibration.intercept))
    np.testing.assert_allclose([p.proba for p in predictions], expected, atol=TOLERANCE)
    for prediction in predictions:
        given = {label for j, label in enumerate(LABELS) if prediction.proba[j] >= calibration.thresholds[j]}
        assert set(prediction.labels) == given
        by_label = [prediction.proba_by_label[label] for label in prediction.labels]
        assert by_label == sorted(by_label, reverse=True)
        assert prediction.model == "tiny@1.0"
    assert len({prediction.labels for prediction in predictions}) > 2


def test_predict_proba_gives_the_same_numbers(classifier, real_texts, predictions):
    proba = classifier.predict_proba(real_texts)
    assert proba.shape == (60, 5)
    np.testing.assert_array_equal(proba, [prediction.proba for prediction in predictions])
    assert classifier.predict_proba([]).shape == (0, 5)
    assert classifier.predict([]) == []


# Long texts


def test_a_long_text_is_read_in_windows_that_cover_it(classifier):
    (reading,) = classifier.read([LONG_TEXT])
    covered = [offsets for window in reading.windows for offsets in window.offsets]
    assert len(reading.windows) > 4
    assert max(len(window.offsets) for window in reading.windows) == 62  # 64 less [CLS] and [SEP]
    assert {index for start, end in covered for index in range(start, end)} >= {
        index for index, char in enumerate(LONG_TEXT) if not char.isspace()
    }
    np.testing.assert_array_equal(reading.logits, np.max([window.logits for window in reading.windows], axis=0))


def test_a_grievance_at_the_far_end_counts_as_if_it_stood_alone(classifier):
    (reading,) = classifier.read([LONG_TEXT])
    last = reading.windows[-1]
    assert last.offsets[-1][1] == len(LONG_TEXT)
    own = LONG_TEXT[last.offsets[0][0] :]
    assert GRIEVANCE in own
    np.testing.assert_allclose(last.logits, logits_of(classifier, [own])[0], atol=TOLERANCE)
    filler = logits_of(classifier, [LONG_TEXT.removesuffix(GRIEVANCE)])[0]
    np.testing.assert_allclose(reading.logits, np.maximum(filler, reading.logits), atol=TOLERANCE)
    assert (reading.logits > filler + 1e-3).any(), "the end changes the text's scores"


def test_evidence_may_lie_in_any_window(classifier):
    (reading,) = classifier.read([LONG_TEXT])
    for j, label in enumerate(LABELS):
        loudest = max(reading.windows, key=lambda window, j=j: window.logits[j])
        (found,) = reading.evidence([label], threshold=0.5)
        assert loudest.offsets[0][0] <= found.start < found.end <= loudest.offsets[-1][1]


def test_only_what_is_longer_than_the_limit_is_truncated(classifier):
    text = "the " * (MAX_CHARACTERS // 4)
    whole, cut = classifier.predict([text, text + GRIEVANCE])
    assert (whole.truncated, cut.truncated) == (False, True)
    np.testing.assert_allclose(cut.proba, whole.proba, atol=TOLERANCE)
    assert max(e.end for e in cut.evidence) <= MAX_CHARACTERS if cut.evidence else True
    assert not any(p.truncated for p in classifier.predict([LONG_TEXT, "ok"]))


# Bad rows


def test_bad_rows_get_an_error_and_the_others_their_labels(classifier, real_texts, predictions):
    rows = [None, real_texts[30], 3, "", "  ", real_texts[40], "\ud800", "\u200b", float("nan")]
    found = classifier.predict(rows)
    assert [bool(p.error) for p in found] == [True, False, True, True, True, False, False, True, True]
    assert found[0].error == "got no text (an empty cell), but expected at least one visible character"
    assert "an empty text" in found[3].error
    assert "white space alone" in found[4].error
    for index in (0, 2, 3, 4, 7, 8):
        assert found[index].labels == found[index].evidence == ()
        assert found[index].proba == (0.0,) * 5
        assert found[index].review is True
    for index, original in ((1, 30), (5, 40)):
        assert found[index].labels == predictions[original].labels
        np.testing.assert_allclose(found[index].proba, predictions[original].proba, atol=TOLERANCE)


def test_a_lone_surrogate_inside_a_text_shifts_no_evidence(classifier):
    clean, broken = classifier.predict([GRIEVANCE + " \ufffd " + GRIEVANCE, GRIEVANCE + " \ud800 " + GRIEVANCE])
    assert broken.evidence == clean.evidence
    assert broken.error == ""


@pytest.mark.parametrize("bad", [None, 3, "", "  "])
def test_predict_proba_names_the_position_of_a_bad_text(classifier, bad):
    with pytest.raises(InputError, match=r"^text 2: got "):
        classifier.predict_proba(["a", "b", bad, "c"])


# Evidence


def test_evidence_lies_in_the_text_on_word_boundaries_one_per_label(real_texts, predictions):
    n_found = 0
    for text, prediction in zip(real_texts, predictions, strict=True):
        assert tuple(e.label for e in prediction.evidence) == prediction.labels
        for evidence in prediction.evidence:
            start, end = evidence.start, evidence.end
            assert 0 <= start < end <= len(text)
            assert not (start and text[start - 1].isalnum() and text[start].isalnum())
            assert not (end < len(text) and text[end - 1].isalnum() and text[end].isalnum())
            n_found += 1
    assert n_found > 30


@pytest.mark.parametrize("text", ["🤬🤬 no crème brûlée 🤬", "İstanbul'da kötü", "naïve", "e\u0301te\u0301 ﬁn"])
def test_evidence_counts_characters_as_python_does(classifier, text):
    (reading,) = classifier.read([text])
    for start, end in reading.windows[0].offsets:
        assert 0 <= start < end <= len(text)
    for evidence in reading.evidence(LABELS, threshold=0.0):
        assert text[evidence.start : evidence.end].strip()


def test_evidence_can_be_left_out(classifier, real_texts, predictions):
    for with_it, without in zip(predictions, classifier.predict(real_texts, evidence=False), strict=True):
        assert without.evidence == ()
        assert without.labels == with_it.labels


# Loading


def test_load_is_the_front_door(model_dir, monkeypatch, tmp_path):
    assert gapnlp.load(model_dir, n_threads=1).name == "tiny@1.0"
    monkeypatch.setenv("GAPNLP_MODEL", str(model_dir))
    assert gapnlp.load().name == "tiny@1.0"
    with pytest.raises(ModelNotFoundError):
        gapnlp.load(tmp_path / "absent")


def test_classifying_needs_neither_torch_nor_a_network(model_dir):
    program = """
import json, socket, sys

def refuse(*args, **kwargs):
    raise OSError("no network")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import gapnlp, gapnlp.classifier
at_import = sorted(name for name in sys.modules if "." not in name)
(prediction,) = gapnlp.load(sys.argv[1]).predict([sys.argv[2]])
loaded = sorted(name for name in sys.modules if "." not in name)
print(json.dumps([at_import, loaded, prediction.proba]))
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    command = [sys.executable, "-W", "error", "-c", program, model_dir, GRIEVANCE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    at_import, loaded, proba = json.loads(done.stdout)
    heavy = {"torch", "transformers", "spacy", "sklearn", "pandas", "onnx", "datasets", "pydantic"}
    assert not heavy & set(loaded)
    assert not {"openvino", "tokenizers"} & set(at_import), "loading a model imports them, not `import gapnlp`"
    np.testing.assert_allclose(proba, GapClassifier.load(model_dir).predict([GRIEVANCE])[0].proba, atol=TOLERANCE)


def test_transformers_reads_the_folder_as_it_is(model_dir, exact_classifier, real_texts, capfd):
    from transformers import pipeline

    short = [text for text in real_texts if len(exact_classifier.read([text])[0].windows) == 1]
    assert len(short) > 10
    capfd.readouterr()
    read = pipeline("text-classification", str(model_dir), top_k=None, device="cpu")
    found = [{item["label"]: item["score"] for item in scores} for scores in read(short)]
    said = capfd.readouterr().err
    for word in ("LOAD REPORT", "MISSING", "UNEXPECTED", "newly initialized", "not used"):
        assert word not in said
    assert set(found[0]) == set(LABELS)
    scores = [[row[label] for label in LABELS] for row in found]
    np.testing.assert_allclose(scores, sigmoid(logits_of(exact_classifier, short)), atol=1e-4)
    assert read.model.config.architectures == [type(read.model).__name__]
    assert read.tokenizer.model_max_length == 64


def test_a_bare_string_is_refused_instead_of_read_letter_by_letter(classifier):
    with pytest.raises(InputError, match="expected a list"):
        classifier.predict("slow")
