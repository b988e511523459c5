import importlib
import pickle
import subprocess
import sys

import pytest
import spacy
from spacy.tokens import Doc, DocBin

from gapnlp.classifier import GapClassifier
from gapnlp.errors import MissingExtraError
from gapnlp.interop import spacy as module
from gapnlp.taxonomy import LABELS

TEXTS = ["The kitchen slow slow slow.", "Lovely crew today, thank you.", "slow promised"]


@pytest.fixture
def nlp(loads):
    nlp = spacy.blank("en")
    nlp.add_pipe("gapnlp")
    return nlp


def test_a_doc_carries_what_the_classifier_says(nlp):
    doc = nlp("The slow slow")
    (expected,) = GapClassifier.load().predict([doc.text])
    assert expected.labels == ("delivery",)
    assert doc.cats == expected.proba_by_label
    assert list(doc.cats) == list(LABELS)
    assert doc._.gap_primary == "delivery"
    assert doc._.gap_labels == ("delivery",)
    assert doc._.gap_review is expected.review
    assert doc._.gap_truncated is False
    assert doc._.gap_error == ""
    assert [(span.text, span.label_) for span in doc.spans["gapnlp"]] == [("slow slow", "delivery")]


def test_review_and_none_are_told(nlp):
    unsure, none = nlp("the slow"), nlp("Lovely crew")
    assert unsure._.gap_review is True
    assert none._.gap_review is False
    assert none._.gap_primary == "none"
    assert none._.gap_labels == ()
    assert len(none.spans["gapnlp"]) == 0


def test_evidence_is_widened_to_whole_spacy_tokens(nlp):
    doc = nlp("slow slow slow.later")  # three tokens to spaCy; the classifier's tokenizer cuts at the stop
    (passage,) = GapClassifier.load().predict([doc.text])[0].evidence
    assert doc.text[passage.start : passage.end] == "slow slow slow"
    assert [span.text for span in doc.spans["gapnlp"]] == ["slow slow slow.later"]


def test_overlapping_evidence_keeps_both_spans_primary_first(nlp):
    doc = nlp("slow promised")
    assert [(span.text, span.label_) for span in doc.spans["gapnlp"]] == [
        ("slow promised", "delivery"),
        ("slow promised", "communication"),
    ]


def test_pipe_gives_what_single_calls_give_in_order(nlp):
    texts = [*TEXTS, ""] * 5
    piped = list(nlp.pipe(texts, batch_size=3))
    assert [doc.text for doc in piped] == texts
    for doc in piped:
        alone = nlp(doc.text)
        assert doc.cats == alone.cats
        assert doc._.gap_labels == alone._.gap_labels
        assert [(s.start, s.end, s.label_) for s in doc.spans["gapnlp"]] == [
            (s.start, s.end, s.label_) for s in alone.spans["gapnlp"]
        ]


def test_pipe_classifies_batches_not_single_texts(nlp, monkeypatch):
    sizes = []
    predict = GapClassifier.predict

    def counting(self, texts):
        sizes.append(len(texts))
        return predict(self, texts)

    monkeypatch.setattr(GapClassifier, "predict", counting)
    list(nlp.pipe(["slow"] * 10, batch_size=4))
    assert sizes == [4, 4, 2]


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_a_text_without_words_gets_zeros_and_the_reason(nlp, text):
    doc = nlp(text)
    assert doc.cats == dict.fromkeys(LABELS, 0.0)
    assert doc._.gap_primary == "none"
    assert doc._.gap_error
    assert len(doc.spans["gapnlp"]) == 0


def test_other_cats_stay(nlp):
    doc = nlp.make_doc("slow")
    doc.cats["urgent"] = 0.25
    doc = nlp(doc)
    assert doc.cats["urgent"] == 0.25
    assert len(doc.cats) == 6


def test_a_pipeline_is_saved_and_loaded_by_the_models_path(loads, tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("gapnlp", config={"model": "my/model", "threads": 2})
    nlp.to_disk(tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    assert loads == [("my/model", 2), ("my/model", 2)]
    assert again(TEXTS[0]).cats == nlp(TEXTS[0]).cats
    assert spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())(TEXTS[0]).cats == nlp(TEXTS[0]).cats


def test_docs_keep_their_gaps_when_they_are_stored(nlp):
    fresh = nlp("slow promised")
    stored = DocBin(docs=[fresh], store_user_data=True).to_bytes()
    (from_bin,) = DocBin().from_bytes(stored).get_docs(nlp.vocab)
    for doc in (from_bin, Doc(nlp.vocab).from_bytes(fresh.to_bytes())):
        assert doc._.gap_labels == ("delivery", "communication")
        assert doc._.gap_review is fresh._.gap_review
        assert doc.cats == pytest.approx(fresh.cats)
        assert [span.label_ for span in doc.spans["gapnlp"]] == ["delivery", "communication"]


def test_another_process_loads_its_own_model(nlp, loads):
    component = nlp.get_pipe("gapnlp")
    nlp("slow")
    assert len(loads) == 1
    inherited = component.classifier
    component._pid = -1  # as after a fork
    nlp("slow")
    nlp("slow")
    assert len(loads) == 2
    assert component.classifier is not inherited
    assert inherited in module._INHERITED  # freeing a forked engine would hang


def test_a_pickled_pipeline_leaves_the_engine_behind(nlp, loads):
    again = pickle.loads(pickle.dumps(nlp.get_pipe("gapnlp")))
    assert len(loads) == 1
    assert again(nlp.make_doc("slow"))._.gap_primary == "delivery"
    assert len(loads) == 2


def test_a_doc_before_the_component_has_no_answer(nlp):
    doc = nlp.make_doc("slow")
    assert doc._.gap_primary is None
    assert doc._.gap_labels == ()


def test_the_pipeline_knows_what_is_assigned(nlp):
    assert "doc._.gap_primary" in nlp.get_pipe_meta("gapnlp").assigns
    assert nlp.analyze_pipes()["problems"] == {"gapnlp": []}


def test_spacy_finds_the_component_without_an_import_of_gapnlp(tmp_path):
    program = (
        "import sys, spacy\n"
        "nlp = spacy.blank('en')\n"
        "print(sorted({'openvino', 'tokenizers', 'torch'} & set(sys.modules)))\n"
        "try:\n"
        "    nlp.add_pipe('gapnlp', config={'model': 'absent'})\n"
        "except Exception as exc:\n"
        "    print(type(exc).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.split("\n")[1:] == ["ModelNotFoundError", ""], done.stderr
    assert "openvino" not in done.stdout


def test_without_spacy_the_message_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "gapnlp.interop.spacy", raising=False)
    for name in ("spacy", "spacy.language"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"'spacy'.*pip install 'gapnlp\[spacy\]'"):
        importlib.import_module("gapnlp.interop.spacy")


def test_two_pipelines_can_live_side_by_side(loads):
    first, second = spacy.blank("en"), spacy.blank("de")
    for nlp in (first, second):
        nlp.add_pipe("gapnlp", name="gaps")
    assert first("slow")._.gap_primary == second("slow")._.gap_primary == "delivery"
