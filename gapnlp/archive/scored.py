"""What the model said of one text, in the short form that is kept on disk and in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from gapnlp.records import Evidence, Prediction
from gapnlp.taxonomy import LABELS

_REVIEW, _TRUNCATED, _RETRY = 1, 2, 4


class Scored(NamedTuple):
    """A prediction, and whether its error is one that may pass.

    Attributes:
        prediction: What the model said.
        retry: True where the model itself failed, rather than the text; it is asked again when a job resumes.
    """

    prediction: Prediction
    retry: bool = False


def to_json_bytes(items: Sequence[Scored]) -> bytes:
    """Write results as a JSON list; numbers come back exactly as they were."""
    return json.dumps([_record(item) for item in items], separators=(",", ":")).encode("ascii")


def from_json_bytes(content: bytes, *, model: str) -> list[Scored]:
    """Read what `to_json_bytes` wrote.

    Args:
        content: The JSON list.
        model: `name@version`, which is the same for all results of a job.
    """
    return [_scored(record, model) for record in json.loads(content)]


def _record(item: Scored) -> list[Any]:
    found = item.prediction
    flags = _REVIEW * found.review + _TRUNCATED * found.truncated + _RETRY * item.retry
    labels = [LABELS.index(label) for label in found.labels]
    evidence = [[LABELS.index(passage.label), passage.start, passage.end] for passage in found.evidence]
    return [flags, labels, list(found.proba), evidence, found.error]


def _scored(record: list[Any], model: str) -> Scored:
    flags, labels, proba, evidence, error = record
    prediction = Prediction(
        labels=tuple(LABELS[column] for column in labels),
        proba=tuple(proba),
        evidence=tuple(Evidence(LABELS[column], start, end) for column, start, end in evidence),
        review=bool(flags & _REVIEW),
        truncated=bool(flags & _TRUNCATED),
        model=model,
        error=error,
    )
    return Scored(prediction, retry=bool(flags & _RETRY))


def failed(error: str, *, model: str, retry: bool = False) -> Scored:
    """Return the result of a text that got no labels."""
    prediction = Prediction((), (0.0,) * len(LABELS), (), review=True, truncated=False, model=model, error=error)
    return Scored(prediction, retry=retry)
