import importlib
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from gapnlp.classifier import GapClassifier
from gapnlp.errors import InputError, MissingExtraError, ModelNotFoundError
from gapnlp.interop.sklearn import GapEstimator
from gapnlp.taxonomy import LABELS

TEXTS = ["the slow slow", "thank you", "slow promised"] * 4
GOLD = np.array([[0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 1, 0]] * 4)


@pytest.fixture
def estimator(loads):
    return GapEstimator().fit(TEXTS)


def test_fit_loads_the_model_it_was_told(loads):
    estimator = GapEstimator(model="my/model", n_threads=2)
    assert loads == []
    assert estimator.fit(TEXTS) is estimator
    estimator.predict(TEXTS)
    assert loads == [("my/model", 2)]
    assert estimator.classes_.tolist() == list(LABELS)
    assert is_classifier(estimator)


def test_proba_are_the_classifiers_own(estimator):
    proba = estimator.predict_proba(TEXTS)
    assert proba.shape == (12, 5)
    np.testing.assert_array_equal(proba, GapClassifier.load().predict_proba(TEXTS))
    np.testing.assert_array_equal(estimator.transform(TEXTS), proba)


def test_predict_follows_the_models_thresholds(estimator):
    np.testing.assert_array_equal(estimator.predict(TEXTS), GOLD)
    assert estimator.predict_proba(["the slow slow slow"])[0, 0] > 0.5
    assert estimator.predict(["the slow slow slow"])[0, 0] == 0
    assert estimator.score(TEXTS, GOLD) == 1.0


@pytest.mark.parametrize(
    "kind",
    [list, tuple, np.array, lambda t: np.array(t, dtype=object), pd.Series, lambda t: pd.Series(t, index=t)],
)
def test_any_column_of_texts_will_do(estimator, kind):
    np.testing.assert_array_equal(estimator.predict(kind(TEXTS)), GOLD)


def test_no_texts_give_no_rows(estimator):
    assert estimator.predict([]).shape == (0, 5)
    assert estimator.predict_proba([]).shape == (0, 5)


@pytest.mark.parametrize("method", ["fit", "predict", "predict_proba", "transform"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("slow service", r"got one text, 'slow service'.*\[text\]"),
        (pd.DataFrame({"text": TEXTS}), r"shape \(12, 1\).*one column"),
        (np.array([TEXTS]), r"shape \(1, 12\).*one column"),
    ],
)
def test_what_is_no_column_of_texts_is_refused(estimator, method, wrong, message):
    with pytest.raises(InputError, match=message):
        getattr(estimator, method)(wrong)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
@pytest.mark.parametrize("bad", [None, float("nan"), "  "])
def test_a_bad_text_is_named_by_its_position(estimator, method, bad):
    with pytest.raises(InputError, match=r"^text 1: "):
        getattr(estimator, method)(["slow", bad])


def test_lengths_must_agree(estimator):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator.fit(TEXTS, GOLD[:3])


def test_before_fit_nothing_is_predicted(loads):
    for method in ("predict", "predict_proba", "transform"):
        with pytest.raises(NotFittedError):
            getattr(GapEstimator(), method)(TEXTS)
    assert loads == []


def test_a_model_that_is_not_there_is_refused_by_fit(tmp_path):
    with pytest.raises(ModelNotFoundError):
        GapEstimator(model=tmp_path / "absent").fit(TEXTS)


def test_parameters_are_got_set_and_cloned(loads):
    estimator = GapEstimator(model="a", n_threads=1).fit(TEXTS)
    assert estimator.get_params() == {"model": "a", "n_threads": 1}
    copy = clone(estimator).set_params(model="b")
    assert copy.get_params() == {"model": "b", "n_threads": 1}
    assert not hasattr(copy, "classes_")
    copy.fit(TEXTS)
    assert loads == [("a", 1), ("b", 1)]


def test_a_pickle_holds_no_engine_and_still_predicts(estimator, loads):
    stored = pickle.dumps(estimator)
    assert len(stored) < 1_000
    again = pickle.loads(stored)
    assert len(loads) == 1
    np.testing.assert_array_equal(again.predict(TEXTS), GOLD)
    assert len(loads) == 2
    np.testing.assert_array_equal(estimator.predict(TEXTS), GOLD)
    assert len(loads) == 2


@pytest.mark.parametrize("y", [None, GOLD])
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_cross_validation_gives_the_same_rows(estimator, y, method):
    out = cross_val_predict(GapEstimator(), TEXTS, y, cv=3, method=method)
    np.testing.assert_allclose(out, getattr(estimator, method)(TEXTS))


def test_it_ends_a_pipeline(loads):
    pipeline = Pipeline([("strip", FunctionTransformer(np.char.strip)), ("gaps", GapEstimator())])
    np.testing.assert_array_equal(pipeline.fit(np.array(TEXTS)).predict(np.array(TEXTS)), GOLD)


def test_its_probabilities_feed_the_next_step(loads):
    late = GOLD[:, 2]
    pipeline = make_pipeline(GapEstimator(), LogisticRegression(C=100)).fit(TEXTS, late)
    assert pipeline.score(TEXTS, late) == 1.0
    assert pipeline[:-1].get_feature_names_out().tolist() == [f"gap_{label}" for label in LABELS]


def test_it_reads_one_column_of_a_table(loads):
    table = pd.DataFrame({"comment": TEXTS, "stars": range(12)})
    columns = ColumnTransformer([("gaps", GapEstimator(), "comment"), ("rest", "passthrough", ["stars"])])
    out = columns.fit_transform(table)
    assert out.shape == (12, 6)
    assert columns.get_feature_names_out().tolist()[2] == "gaps__gap_delivery"


def test_without_scikit_learn_the_message_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "gapnlp.interop.sklearn")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(MissingExtraError, match=r"'scikit-learn'.*pip install 'gapnlp\[sklearn\]'"):
        importlib.import_module("gapnlp.interop.sklearn")
