"""Texts in, predictions out."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gapnlp.encoding import EncodedText, TextEncoder
from gapnlp.engines import EngineName
from gapnlp.engines.batch import run_sequences
from gapnlp.errors import InputError
from gapnlp.model_dir import TOKENIZER, Decision, load_model_dir
from gapnlp.reading import Reading, WindowReading
from gapnlp.records import Prediction
from gapnlp.selective import confidence, needs_review
from gapnlp.taxonomy import LABELS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from gapnlp.engines.base import Engine
    from gapnlp.model_dir import ModelDir


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
        self.name = name
        self.fingerprint = f"{name} {digest} {engine.name}"
        self._engine = engine
        self._encoder = TextEncoder(tokenizer, max_length=max_length)
        self._decision = decision

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
        return self.predict_encoded(self.encode(texts), evidence=evidence, on_texts=on_texts)

    def encode(self, texts: Sequence[object]) -> list[EncodedText]:
        """Do the first half of `predict`, which needs no engine. *Shape:* (n_texts,) in and out."""
        return self._encoder.encode(texts)

    def predict_encoded(
        self,
        texts: Sequence[EncodedText],
        *,
        evidence: bool = True,
        on_texts: Callable[[int], object] | None = None,
    ) -> list[Prediction]:
        """Do the second half of `predict`: classify what `encode` returned. *Shape:* (n_texts,) in and out."""
        readable = [text for text in texts if not text.error]
        if on_texts and len(readable) < len(texts):
            on_texts(len(texts) - len(readable))
        found = iter(self._predict_readable(readable, evidence=evidence, on_texts=on_texts))
        return [self._failed(text.error) if text.error else next(found) for text in texts]

    def predict_proba(self, texts: Sequence[object]) -> npt.NDArray[np.float64]:
        """Return calibrated probabilities, each 0-1. *Shape:* (n_texts, 5).

        Raises:
            InputError: A text is empty or no text.
        """
        return self._decision.calibration.proba(_stack_logits(self.read(texts)))

    def decide(self, proba: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which labels the model gives at these probabilities. *Shape:* (n_texts, 5) in and out."""
        return self._decision.calibration.decide(np.asarray(proba, dtype=np.float64))

    def read(self, texts: Sequence[object]) -> list[Reading]:
        """Run the engine and decide nothing: logits and token logits of each text. *Shape:* (n_texts,) in and out.

        Raises:
            InputError: A text is empty or no text.
        """
        encoded = self.encode(texts)
        for index, text in enumerate(encoded):
            if text.error:
                raise InputError(f"text {index}: {text.error}")
        return self._read(encoded)

    def _read(self, texts: Sequence[EncodedText], *, on_texts: Callable[[int], object] | None = None) -> list[Reading]:
        owners = [index for index, text in enumerate(texts) for _ in text.windows]
        cuts = [window for text in texts for window in text.windows]
        n_first, n_last = self._encoder.n_first, self._encoder.n_last
        left = Counter(owners)
        read: dict[int, WindowReading] = {}
        sequences = [window.ids for window in cuts]
        for index, logits, token_logits in run_sequences(self._engine, sequences, pad_id=self._encoder.pad_id):
            inner = token_logits[n_first : len(token_logits) - n_last].copy()
            read[index] = WindowReading(logits, inner, cuts[index].offsets)
            left[owners[index]] -= 1
            if on_texts and not left[owners[index]]:
                on_texts(1)
        by_text: list[list[WindowReading]] = [[] for _ in texts]
        for index, owner in enumerate(owners):
            by_text[owner].append(read[index])
        return [Reading(text.text, found) for text, found in zip(texts, by_text, strict=True)]

    def _predict_readable(
        self, texts: Sequence[EncodedText], *, evidence: bool, on_texts: Callable[[int], object] | None
    ) -> list[Prediction]:
        readings = self._read(texts, on_texts=on_texts)
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
                    truncated=texts[row].truncated,
                    model=self.name,
                )
            )
        return predictions

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
