"""From texts to results: each distinct text once, and a text the model fails on costs no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gapnlp.archive.cells import show
from gapnlp.archive.memory import Memory, text_key
from gapnlp.archive.scored import Scored, failed
from gapnlp.errors import GapnlpError, ModelError
from gapnlp.records import Prediction

GIVE_UP_AFTER = 100  # texts in a row, each alone, that the model fails on


class Classifier(Protocol):
    """What a job needs of a model: `GapClassifier` is one.

    Attributes:
        name: `name@version`.
        fingerprint: Differs whenever results may.
    """

    name: str
    fingerprint: str

    def predict(
        self, texts: Sequence[object], *, evidence: bool = True, on_texts: Callable[[int], object] | None = None
    ) -> list[Prediction]:
        """Return a prediction per text, with its `error` set where a text cannot be read.

        Args:
            texts: What customers wrote. *Shape:* (n_texts,).
            evidence: Whether to look for the passages that speak for the labels.
            on_texts: Called with a number of texts whenever so many more are read.
        """
        ...


class Scorer:
    """Score the texts of a job, chunk after chunk.

    Attributes:
        model: `name@version`.
        n_duplicates: Texts whose result was that of an equal text before.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.model = classifier.name
        self.n_duplicates = 0
        self._classifier = classifier
        self._memory = Memory(model=classifier.name)
        self._n_good = 0
        self._n_failed_in_a_row = 0

    def score(
        self,
        texts: Sequence[object],
        *,
        kept: Sequence[Scored | None] = (),
        on_texts: Callable[[int], object] | None = None,
    ) -> list[Scored]:
        """Score one chunk.

        Args:
            texts: What customers wrote. *Shape:* (n_texts,).
            kept: Results that an earlier run left, None where there is none. *Shape:* (n_texts,) or empty.
            on_texts: Called with a number of texts whenever so many more are read.

        Raises:
            ModelError: The model fails on every text.
        """
        found: list[Scored | None] = list(kept) or [None] * len(texts)
        self._n_good += sum(item is not None for item in found)
        keys = [text_key(text) for text in texts]
        known = self._recall(keys)
        remembered = set(known)
        known |= {key: item for key, item in zip(keys, found, strict=True) if key and item and key not in known}
        todo: dict[Any, int] = {}  # key of a text, or the place of what is no text → first place
        for place, key in enumerate(keys):
            if found[place] is None and key not in known:
                todo.setdefault(key or place, place)
        scored = self._run([texts[place] for place in todo.values()], on_texts=on_texts)
        self._check_any_good()
        new = dict(zip(todo, scored, strict=True))
        known |= {key: item for key, item in new.items() if isinstance(key, bytes)}
        for place, key in enumerate(keys):
            found[place] = found[place] or (known[key] if key else new[place])
        self._remember(keys, known, remembered=remembered)
        return [item for item in found if item is not None]

    def _recall(self, keys: Sequence[bytes | None]) -> dict[bytes, Scored]:
        known = ((key, self._memory.get(key)) for key in dict.fromkeys(keys) if key)
        return {key: item for key, item in known if item is not None}

    def _remember(self, keys: Sequence[bytes | None], known: dict[bytes, Scored], *, remembered: set[bytes]) -> None:
        """Keep the good results in the order of the texts, and count the texts that came again."""
        seen = remembered
        for key in keys:
            if key is None or known[key].prediction.error:
                continue
            if key in seen:
                self.n_duplicates += 1
                continue
            seen.add(key)
            self._memory.put(key, known[key])

    def _run(self, texts: Sequence[object], *, on_texts: Callable[[int], object] | None) -> list[Scored]:
        """Ask the model; where it fails, halve the texts until those it fails on stand alone."""
        if not texts:
            return []
        try:
            predictions = self._classifier.predict(texts, on_texts=on_texts)
        except GapnlpError:
            raise
        except Exception as exc:  # noqa: BLE001  whatever an engine raises must not cost the other rows
            if len(texts) == 1:
                return [self._fail(exc)]
        else:
            self._n_good += len(texts)
            self._n_failed_in_a_row = 0
            return [Scored(prediction) for prediction in predictions]
        middle = len(texts) // 2
        return self._run(texts[:middle], on_texts=on_texts) + self._run(texts[middle:], on_texts=on_texts)

    def _fail(self, exc: Exception) -> Scored:
        self._n_failed_in_a_row += 1
        self._last_error = exc
        if self._n_failed_in_a_row >= GIVE_UP_AFTER:
            self._give_up()
        return failed(f"the model failed on this text ({_reason(exc)})", model=self._classifier.name, retry=True)

    def _check_any_good(self) -> None:
        if self._n_failed_in_a_row and not self._n_good:
            self._give_up()

    def _give_up(self) -> None:
        n_texts = self._n_failed_in_a_row
        raise ModelError(
            f"the model {self._classifier.name} fails on every text ({_reason(self._last_error)}; {n_texts} in a row): "
            "free memory or mend what it names, then give the same command again"
        ) from self._last_error


def _reason(exc: Exception) -> str:
    return f"{type(exc).__name__}: {show(str(exc), width=120)}" if str(exc) else type(exc).__name__
