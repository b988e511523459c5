"""The spaCy component: `nlp.add_pipe("gapnlp")`.

spaCy finds it through the entry-point group `spacy_factories`, so a pipeline needs no import of gapnlp.
What a `Doc` carries afterwards:

- `doc.cats`: the calibrated probability of each gap, 0 to 1. `none` has no entry: it is the absence of all.
- `doc.spans["gapnlp"]`: the evidence, at most one span per gap found, labelled by it, in whole tokens.
- `doc._.gap_primary`: a gap's id or `none`; None before the component ran.
- `doc._.gap_labels`: the ids of the gaps found, the primary first; a tuple.
- `doc._.gap_review`, `doc._.gap_truncated`: see `gapnlp.records.Prediction`.
- `doc._.gap_error`: empty, or why the text has no labels; its `doc.cats` are then all zero. (A lone surrogate
  never comes this far: spaCy's own tokenizer refuses it.)

spaCy imports this module whenever it makes a pipeline, so nothing heavy is imported here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from gapnlp.errors import MissingExtraError

try:
    from spacy.language import Language
    from spacy.tokens import Doc
    from spacy.util import minibatch
except ModuleNotFoundError as exc:
    raise MissingExtraError("spacy", "spacy") from exc

if TYPE_CHECKING:
    from gapnlp.classifier import GapClassifier
    from gapnlp.records import Prediction

SPANS_KEY = "gapnlp"
_LABELS_KEY = "gapnlp_labels"
# Engines that a worker inherited over a fork: freeing one would wait for ever for threads that stayed behind.
_INHERITED: list[GapClassifier] = []


def read_labels(doc: Doc) -> tuple[str, ...]:
    """Return what `doc._.gap_labels` gives: a tuple, though a stored document may come back with a list."""
    return tuple(doc.user_data.get(_LABELS_KEY, ()))


# Each attribute of `doc._`, as `Doc.set_extension` takes it; defaults hold before the component ran.
EXTENSIONS: dict[str, dict[str, Any]] = {
    "gap_primary": {"default": None},
    "gap_labels": {"getter": read_labels},
    "gap_review": {"default": False},
    "gap_truncated": {"default": False},
    "gap_error": {"default": ""},
}


class GapComponent:
    """A pipeline component that writes what the model says of a text onto its `Doc`.

    Saving a pipeline saves the model's path in its config and nothing else; loading it loads the model again.

    Attributes:
        name: The component's name in its pipeline.
        model: Path of the model directory, or None for the shipped model.
        threads: Threads the engine may use; None for all cores.
    """

    def __init__(self, name: str, *, model: str | None = None, threads: int | None = None) -> None:
        self.name = name
        self.model = model
        self.threads = threads
        for attribute, settings in EXTENSIONS.items():
            if not Doc.has_extension(attribute):
                Doc.set_extension(attribute, **settings)
        self._load()

    @property
    def classifier(self) -> GapClassifier:
        """The model; loaded anew in a worker process, since an engine's threads do not survive a fork."""
        if self._classifier is not None and self._pid == os.getpid():
            return self._classifier
        if self._classifier is not None:
            _INHERITED.append(self._classifier)
        return self._load()

    def __call__(self, doc: Doc) -> Doc:
        """Annotate one document in place and return it."""
        self._annotate([doc])
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Annotate a stream of documents, one batch at a time, and keep its order."""
        for docs in minibatch(stream, size=batch_size):
            self._annotate(docs)
            yield from docs

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_classifier": None}

    def _load(self) -> GapClassifier:
        from gapnlp.classifier import GapClassifier

        self._classifier: GapClassifier | None = GapClassifier.load(self.model, n_threads=self.threads)
        self._pid = os.getpid()
        return self._classifier

    def _annotate(self, docs: list[Doc]) -> None:
        predictions = self.classifier.predict([doc.text for doc in docs])
        for doc, prediction in zip(docs, predictions, strict=True):
            _write(doc, prediction)


def _write(doc: Doc, prediction: Prediction) -> None:
    doc.cats.update(prediction.proba_by_label)
    doc.spans[SPANS_KEY] = [
        doc.char_span(passage.start, passage.end, label=passage.label, alignment_mode="expand")
        for passage in prediction.evidence
    ]
    doc._.gap_primary = prediction.primary
    doc.user_data[_LABELS_KEY] = prediction.labels
    doc._.gap_review = prediction.review
    doc._.gap_truncated = prediction.truncated
    doc._.gap_error = prediction.error


def create_gapnlp(nlp: Language, name: str, model: str | None, threads: int | None) -> GapComponent:
    """Make the component for a pipeline; spaCy calls this.

    Args:
        nlp: The pipeline.
        name: The component's name in it.
        model: A model directory; None for the shipped model.
        threads: Threads the engine may use; None for all cores.

    Raises:
        ModelNotFoundError: There is no model at `model`.
        UnsafeModelError: The directory's files are not those of its manifest, or may run code.
    """
    del nlp  # spaCy passes it by name
    return GapComponent(name, model=model, threads=threads)


Language.factory(
    "gapnlp",
    default_config={"model": None, "threads": None},
    assigns=["doc.cats", "doc.spans", *(f"doc._.{attribute}" for attribute in EXTENSIONS)],
    func=create_gapnlp,
)
