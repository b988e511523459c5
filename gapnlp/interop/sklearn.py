"""The scikit-learn estimator: the trained model behind `fit`, `predict` and `transform`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt

from gapnlp.errors import InputError, MissingExtraError
from gapnlp.taxonomy import LABELS

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.validation import check_consistent_length, check_is_fitted
except ModuleNotFoundError as exc:
    raise MissingExtraError("scikit-learn", "sklearn") from exc

if TYPE_CHECKING:
    from pathlib import Path

    from gapnlp.classifier import GapClassifier


class GapEstimator(ClassifierMixin, BaseEstimator):
    """The gaps of texts as a multi-label classifier, or as five columns for the next step of a pipeline.

    The model is trained already: `fit` learns nothing from `X` and `y`. A pickle holds the parameters and no
    weights; the model is loaded again at the first use after unpickling.

    Args:
        model: A model directory; None for the shipped model.
        n_threads: Threads the engine may use; None for all cores.

    Attributes:
        classes_: The gaps' ids in the order of all columns. *Shape:* (5,).
    """

    def __init__(self, model: str | Path | None = None, n_threads: int | None = None) -> None:
        self.model = model
        self.n_threads = n_threads

    def fit(self, X: Iterable[object], y: object = None) -> Self:  # noqa: N803
        """Check the input and load the model.

        Args:
            X: Texts: a list, a one-dimensional array or a pandas Series.
            y: Ignored but for its length: whatever the pipeline around it wants to predict.

        Raises:
            InputError: `X` is not a sequence of texts.
            ModelNotFoundError: There is no model at `model`.
        """
        check_consistent_length(_as_texts(X), y)
        self._load()
        self.classes_ = np.array(LABELS)
        return self

    def predict_proba(self, X: Iterable[object]) -> npt.NDArray[np.float64]:  # noqa: N803
        """Give the calibrated probability of each gap, 0 to 1. *Shape:* (n_texts, 5).

        Raises:
            InputError: `X` is not a sequence of texts, or one of them cannot be read.
        """
        check_is_fitted(self, "classes_")
        return self._loaded().predict_proba(_as_texts(X))

    def predict(self, X: Iterable[object]) -> npt.NDArray[np.int64]:  # noqa: N803
        """Decide which gaps each text points to, 1 or 0; a row of zeros is `none`. *Shape:* (n_texts, 5).

        Raises:
            InputError: `X` is not a sequence of texts, or one of them cannot be read.
        """
        check_is_fitted(self, "classes_")
        predictions = self._loaded().predict(_as_texts(X), evidence=False)
        for i, prediction in enumerate(predictions):
            if prediction.error:
                raise InputError(f"text {i}: {prediction.error}")
        rows = [[label in prediction.labels for label in LABELS] for prediction in predictions]
        return np.array(rows, dtype=np.int64).reshape(-1, len(LABELS))

    def transform(self, X: Iterable[object]) -> npt.NDArray[np.float64]:  # noqa: N803
        """Give `predict_proba` as features. *Shape:* (n_texts, 5)."""
        return self.predict_proba(X)

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Name the columns of `transform`: `gap_knowledge` … `gap_customer`, as `gapnlp classify` does."""
        del input_features  # one column of texts comes in, whatever its name
        return np.array([f"gap_{label}" for label in LABELS], dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_classifier", None)
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.classifier_tags.multi_label = True
        return tags

    def _load(self) -> GapClassifier:
        from gapnlp.classifier import GapClassifier

        self._classifier = GapClassifier.load(self.model, n_threads=self.n_threads)
        return self._classifier

    def _loaded(self) -> GapClassifier:
        return self._classifier if hasattr(self, "_classifier") else self._load()


def _as_texts(X: Iterable[object]) -> list[object]:  # noqa: N803
    if isinstance(X, str | bytes):
        raise InputError(f"got one text, {X[:40]!r}, but expected a sequence: put it in a list, [text]")
    if getattr(X, "ndim", 1) != 1:
        shape = getattr(X, "shape", None)
        raise InputError(f"got an array of shape {shape}, but expected one column of texts, as X['text'] gives")
    # An array gives its own scalars when iterated; `tolist` gives plain str.
    return cast("list[object]", X.tolist()) if hasattr(X, "tolist") else list(X)
