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
# Each attribute of `doc._`, with its value before the component ran.
EXTENSIONS: dict[str, Any] = {
    "gap_primary": None,
    "gap_labels": (),
    "gap_review": False,
    "gap_truncated": False,
    "gap_error": "",
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
        for attribute, default in EXTENSIONS.items():
            if not Doc.has_extension(attribute):
                Doc.set_extension(attribute, default=default)
        self._load()

    @property
    def classifier(self) -> GapClassifier:
        """The model; loaded anew in another process, since an engine's threads do not survive a fork."""
        if self._classifier is None or self._pid != os.getpid():
            return self._load()
        return self._classifier

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
    doc._.gap_labels = prediction.labels
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
