"""Texts in, predictions out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from gapnlp.engines.batch import run_sequences
from gapnlp.errors import InputError
from gapnlp.evidence import best_passage, passage_characters
from gapnlp.model_dir import TOKENIZER, Decision, load_model_dir
from gapnlp.records import Evidence, Prediction
from gapnlp.selective import confidence
from gapnlp.taxonomy import LABELS
from gapnlp.text import check_text, replace_surrogates, windows

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from gapnlp.engines.base import Engine

MAX_CHARACTERS = 100_000
WINDOW_OVERLAP = 64


@dataclass(frozen=True, slots=True)
class _Window:
    """Tokens `start` to `end` of one text; offsets are characters of that text."""

    text: int
    ids: list[int]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the engine said of one window."""

    logits: npt.NDArray[np.float32]
    token_logits: npt.NDArray[np.float32]
    offsets: list[tuple[int, int]]


class GapClassifier:
    """Read texts as service gaps.

    A text gets the same scores alone and in any company. One that is longer than a window is read in overlapping
    windows, and each gap keeps the highest logit of them: the text has the union of its grievances.

    Attributes:
        name: `name@version` of the model.
    """

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, *, decision: Decision, name: str, max_length: int = 256
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.name = name
        self._engine = engine
        self._tokenizer = tokenizer
        self._decision = decision
        self._first, self._last = _special_tokens(tokenizer)
        self._pad_id = tokenizer.token_to_id("[PAD]") or tokenizer.token_to_id("<pad>") or 0
        self._window_size = max_length - len(self._first) - len(self._last)

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        engine: Literal["onnx", "torch"] = "onnx",
        n_threads: int | None = None,
    ) -> GapClassifier:
        """Load a model directory.

        Args:
            path: The directory; None for the shipped model.
            engine: `onnx` (CPU, no torch needed) or `torch` (CUDA where it is there; needs the extra `train`).
            n_threads: Threads of the ONNX engine; None for all cores.

        Raises:
            ModelNotFoundError: There is no model there.
            UnsafeModelError: Its files are not those of its manifest, or may run code.
            MissingExtraError: The torch engine without torch.
        """
        from tokenizers import Tokenizer

        model = load_model_dir(path)
        runner: Engine
        if engine == "torch":
            from gapnlp.engines.torch import TorchEngine

            runner = TorchEngine(model)
        else:
            from gapnlp.engines.onnx import OnnxEngine

            runner = OnnxEngine(model, n_threads=n_threads)
        return cls(
            runner,
            Tokenizer.from_file(str(model.path / TOKENIZER)),
            decision=model.decision,
            name=model.name,
            max_length=model.manifest.max_length,
        )

    def with_decision(self, **changes: Any) -> GapClassifier:
        """Return a classifier on the same engine with fields of its `Decision` changed, for fitting them."""
        other = copy.copy(self)
        other._decision = replace(self._decision, **changes)
        return other

    def predict(self, texts: Sequence[object], *, evidence: bool = True) -> list[Prediction]:
        """Classify texts; one that cannot be read gets a prediction with its `error` set.

        Args:
            texts: What customers wrote. *Shape:* (n_texts,).
            evidence: Whether to look for the passages that speak for the labels.
        """
        readable: dict[int, str] = {}
        errors: dict[int, str] = {}
        for index, text in enumerate(texts):
            try:
                readable[index] = check_text(text)
            except InputError as exc:
                errors[index] = str(exc)
        found = dict(zip(readable, self._predict_readable(list(readable.values()), evidence=evidence), strict=True))
        return [found[index] if index in found else self._failed(errors[index]) for index in range(len(texts))]

    def predict_proba(self, texts: Sequence[object]) -> npt.NDArray[np.float64]:
        """Return calibrated probabilities, each 0–1. *Shape:* (n_texts, 5).

        Raises:
            InputError: A text is empty or no text.
        """
        readable = []
        for index, text in enumerate(texts):
            try:
                readable.append(check_text(text))
            except InputError as exc:
                raise InputError(f"text {index}: {exc}") from exc
        return self._decision.calibration.proba(self.logits(readable))

    def logits(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the text head's raw logits, pooled over windows. *Shape:* (n_texts, 5)."""
        pooled = [_pool(readings) for readings in self._read(texts)]
        return np.array(pooled, dtype=np.float64).reshape(-1, len(LABELS))

    def evidence(self, texts: Sequence[str], labels: Sequence[Sequence[str]]) -> list[tuple[Evidence, ...]]:
        """Return the passage for each of the given labels, whether the model gives that label or not.

        Args:
            texts: The texts. *Shape:* (n_texts,).
            labels: For each text, the gaps to look for.
        """
        pairs = zip(texts, labels, self._read(texts), strict=True)
        return [self._find_evidence(text, wanted, readings) for text, wanted, readings in pairs]

    def _predict_readable(self, texts: Sequence[str], *, evidence: bool) -> list[Prediction]:
        if not texts:
            return []
        readings = self._read(texts)
        calibration = self._decision.calibration
        proba = calibration.proba(np.array([_pool(reading) for reading in readings], dtype=np.float64))
        decided = calibration.decide(proba)
        sure = confidence(proba, calibration.thresholds)
        predictions = []
        for row, text in enumerate(texts):
            labels = tuple(LABELS[j] for j in np.argsort(-proba[row], kind="stable") if decided[row, j])
            predictions.append(
                Prediction(
                    labels=labels,
                    proba=tuple(float(value) for value in proba[row]),
                    evidence=self._find_evidence(text, labels, readings[row]) if evidence else (),
                    review=bool(sure[row] < self._decision.review_below),
                    truncated=len(text) > MAX_CHARACTERS,
                    model=self.name,
                )
            )
        return predictions

    def _read(self, texts: Sequence[str]) -> list[list[_Reading]]:
        cuts = self._cut(texts)
        sequences = [[*self._first, *window.ids, *self._last] for window in cuts]
        readings: list[_Reading | None] = [None] * len(cuts)
        n_first, n_last = len(self._first), len(self._last)
        for index, logits, token_logits in run_sequences(self._engine, sequences, pad_id=self._pad_id):
            inner = token_logits[n_first : len(token_logits) - n_last]
            readings[index] = _Reading(logits, inner.copy(), cuts[index].offsets)
        by_text: list[list[_Reading]] = [[] for _ in texts]
        for window, reading in zip(cuts, readings, strict=True):
            if reading is not None:
                by_text[window.text].append(reading)
        return by_text

    def _cut(self, texts: Sequence[str]) -> list[_Window]:
        clean = [replace_surrogates(text[:MAX_CHARACTERS]) for text in texts]
        cuts = []
        for index, encoding in enumerate(self._tokenizer.encode_batch(clean, add_special_tokens=False)):
            ids, offsets = encoding.ids, encoding.offsets
            for start, end in windows(len(ids), size=self._window_size, overlap=WINDOW_OVERLAP) or [(0, 0)]:
                cuts.append(_Window(index, ids[start:end], offsets[start:end]))
        return cuts

    def _find_evidence(self, text: str, labels: Sequence[str], readings: Sequence[_Reading]) -> tuple[Evidence, ...]:
        found = []
        for label in labels:
            column = LABELS.index(label)
            reading = max(readings, key=lambda reading: float(reading.logits[column]))
            if reading.offsets:
                scores = 1 / (1 + np.exp(-reading.token_logits[:, column].astype(np.float64)))
                passage = best_passage(scores, threshold=self._decision.evidence_threshold)
                found.append(Evidence(label, *passage_characters(text, reading.offsets, passage=passage)))
        return tuple(found)

    def _failed(self, error: str) -> Prediction:
        return Prediction((), (0.0,) * len(LABELS), (), review=True, truncated=False, model=self.name, error=error)


def _pool(readings: Sequence[_Reading]) -> npt.NDArray[np.float32]:
    pooled: npt.NDArray[np.float32] = np.max([reading.logits for reading in readings], axis=0)
    return pooled


def _special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids that stand before and after every text, told from how the tokenizer wraps one."""
    inner = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(whole) - len(inner) + 1):
        if whole[start : start + len(inner)] == inner:
            return whole[:start], whole[start + len(inner) :]
    return [], []
