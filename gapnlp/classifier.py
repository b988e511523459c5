"""Texts in, predictions out."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gapnlp.engines import EngineName
from gapnlp.engines.batch import run_sequences
from gapnlp.errors import InputError
from gapnlp.model_dir import TOKENIZER, Decision, load_model_dir
from gapnlp.reading import Reading, WindowReading
from gapnlp.records import Prediction
from gapnlp.selective import confidence, needs_review
from gapnlp.taxonomy import LABELS
from gapnlp.text import check_text, replace_surrogates, windows

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from gapnlp.engines.base import Engine
    from gapnlp.model_dir import ModelDir

MAX_CHARACTERS = 100_000
WINDOW_OVERLAP = 64


@dataclass(frozen=True, slots=True)
class _Window:
    """Some tokens of one text; offsets are characters of that text."""

    text: int
    ids: list[int]
    offsets: list[tuple[int, int]]


class _Serial:
    """An engine that says it is worth one batch at a time."""

    n_parallel = 1

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self.run = engine.run


class GapClassifier:
    """Read texts as service gaps.

    A text gets the same scores alone and in any company. One that is longer than a window is read in overlapping
    windows, and each gap keeps the highest logit of them: the text has the union of its grievances.

    Attributes:
        name: `name@version` of the model.
        fingerprint: Changes with anything that changes a score: the files of the model, the engine, its precision.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        decision: Decision,
        name: str,
        max_length: int = 256,
        digest: str = "",
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.name = name
        self.fingerprint = f"{name} {digest} {engine.name}"
        self._engine = engine
        self._tokenizer = tokenizer
        self._decision = decision
        self._first, self._last = _special_tokens(tokenizer)
        self._pad_id = tokenizer.token_to_id("[PAD]") or tokenizer.token_to_id("<pad>") or 0
        self._window_size = max_length - len(self._first) - len(self._last)
        self._overlap = min(WINDOW_OVERLAP, self._window_size // 4)

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        engine: EngineName = "openvino",
        n_threads: int | None = None,
    ) -> GapClassifier:
        """Load a model directory.

        Args:
            path: The directory; None for the shipped model.
            engine: `openvino` (CPU, in the faster precision of the machine), `openvino-bf16` or `openvino-f32` (the
                same on every machine), `onnx` (CPU, where OpenVINO does not run; needs the extra `onnx`) or `torch`
                (CUDA where it is there; needs the extra `train`).
            n_threads: Cores that the CPU engines may use; None for all.

        Raises:
            ModelNotFoundError: There is no model there.
            UnsafeModelError: Its files are not those of its manifest, or may run code.
            MissingExtraError: An engine whose library is not installed.
        """
        from tokenizers import Tokenizer

        model = load_model_dir(path)
        return cls(
            _open_engine(engine, model, n_threads=n_threads),
            Tokenizer.from_file(str(model.path / TOKENIZER)),
            decision=model.decision,
            name=model.name,
            max_length=model.manifest.max_length,
            digest=model.digest,
        )

    @property
    def n_parallel(self) -> int:
        """How many batches are worth running at once."""
        return self._engine.n_parallel

    def serial(self) -> GapClassifier:
        """Return the same classifier for callers with threads of their own: it runs its batches one by one."""
        clone = copy.copy(self)
        clone._engine = _Serial(self._engine)  # noqa: SLF001  another of us
        return clone

    def predict(
        self, texts: Sequence[object], *, evidence: bool = True, on_texts: Callable[[int], object] | None = None
    ) -> list[Prediction]:
        """Classify texts; one that cannot be read gets a prediction with its `error` set.

        Args:
            texts: What customers wrote. *Shape:* (n_texts,).
            evidence: Whether to look for the passages that speak for the labels.
            on_texts: Called with a number of texts whenever so many more are read.

        Raises:
            InputError: `texts` is a single string.
        """
        if isinstance(texts, str):
            raise InputError("got one text, expected a list of texts: put it in brackets, predict([text])")
        readable: dict[int, str] = {}
        errors: dict[int, str] = {}
        for index, text in enumerate(texts):
            try:
                readable[index] = check_text(text)
            except InputError as exc:
                errors[index] = str(exc)
        if on_texts and errors:
            on_texts(len(errors))
        predictions = self._predict_readable(list(readable.values()), evidence=evidence, on_texts=on_texts)
        found = dict(zip(readable, predictions, strict=True))
        return [found[index] if index in found else self._failed(errors[index]) for index in range(len(texts))]

    def predict_proba(self, texts: Sequence[object]) -> npt.NDArray[np.float64]:
        """Return calibrated probabilities, each 0-1. *Shape:* (n_texts, 5).

        Raises:
            InputError: A text is empty or no text.
        """
        readable = []
        for index, text in enumerate(texts):
            try:
                readable.append(check_text(text))
            except InputError as exc:
                raise InputError(f"text {index}: {exc}") from exc
        return self._decision.calibration.proba(_stack_logits(self.read(readable)))

    def read(self, texts: Sequence[str], *, on_texts: Callable[[int], object] | None = None) -> list[Reading]:
        """Run the engine and decide nothing: logits and token logits of each text.

        Args:
            texts: Texts that are not empty. *Shape:* (n_texts,).
            on_texts: Called with a number of texts whenever so many more are read.
        """
        cuts = self._cut(texts)
        sequences = [[*self._first, *window.ids, *self._last] for window in cuts]
        n_first, n_last = len(self._first), len(self._last)
        left = Counter(window.text for window in cuts)
        read: dict[int, WindowReading] = {}
        for index, logits, token_logits in run_sequences(self._engine, sequences, pad_id=self._pad_id):
            inner = token_logits[n_first : len(token_logits) - n_last].copy()
            read[index] = WindowReading(logits, inner, cuts[index].offsets)
            left[cuts[index].text] -= 1
            if on_texts and not left[cuts[index].text]:
                on_texts(1)
        by_text: list[list[WindowReading]] = [[] for _ in texts]
        for index, window in enumerate(cuts):
            by_text[window.text].append(read[index])
        return [Reading(text, windows) for text, windows in zip(texts, by_text, strict=True)]

    def _predict_readable(
        self, texts: Sequence[str], *, evidence: bool, on_texts: Callable[[int], object] | None
    ) -> list[Prediction]:
        readings = self.read(texts, on_texts=on_texts)
        calibration = self._decision.calibration
        proba = calibration.proba(_stack_logits(readings))
        decided = calibration.decide(proba)
        review = needs_review(confidence(proba, calibration.thresholds), self._decision.review_below)
        predictions = []
        for row, reading in enumerate(readings):
            labels = tuple(LABELS[j] for j in np.argsort(-proba[row], kind="stable") if decided[row, j])
            threshold = self._decision.evidence_threshold
            predictions.append(
                Prediction(
                    labels=labels,
                    proba=tuple(float(value) for value in proba[row]),
                    evidence=reading.evidence(labels, threshold=threshold) if evidence else (),
                    review=bool(review[row]),
                    truncated=len(reading.text) > MAX_CHARACTERS,
                    model=self.name,
                )
            )
        return predictions

    def _cut(self, texts: Sequence[str]) -> list[_Window]:
        clean = [replace_surrogates(text[:MAX_CHARACTERS]) for text in texts]
        cuts = []
        for index, encoding in enumerate(self._tokenizer.encode_batch(clean, add_special_tokens=False)):
            ids, offsets = encoding.ids, encoding.offsets
            for start, end in windows(len(ids), size=self._window_size, overlap=self._overlap):
                cuts.append(_Window(index, ids[start:end], offsets[start:end]))
        return cuts

    def _failed(self, error: str) -> Prediction:
        return Prediction((), (0.0,) * len(LABELS), (), review=True, truncated=False, model=self.name, error=error)


def _open_engine(name: EngineName, model: ModelDir, *, n_threads: int | None) -> Engine:
    """Import only what the engine needs."""
    if name == "torch":
        from gapnlp.engines.torch import TorchEngine

        return TorchEngine(model)
    if name == "onnx":
        from gapnlp.engines.onnx import OnnxEngine

        return OnnxEngine(model, n_threads=n_threads)
    from gapnlp.engines.openvino import PRECISIONS, OpenVinoEngine

    return OpenVinoEngine(model, n_threads=n_threads, precision=PRECISIONS.get(name.removeprefix("openvino-")))


def _stack_logits(readings: Sequence[Reading]) -> npt.NDArray[np.float64]:
    return np.array([reading.logits for reading in readings], dtype=np.float64).reshape(-1, len(LABELS))


def _special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids that stand before and after every text, told from how the tokenizer wraps one."""
    inner = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(whole) - len(inner) + 1):
        if whole[start : start + len(inner)] == inner:
            return whole[:start], whole[start + len(inner) :]
    return [], []
