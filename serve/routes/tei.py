"""`POST /predict`, for clients of Hugging Face's text-embeddings-inference."""

from __future__ import annotations

import math
from typing import Any

from fastapi import APIRouter
from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response

from gapnlp.records import Prediction
from gapnlp.taxonomy import LABELS
from serve.problem import INVALID, LONG_TEXT, QUEUE_FULL, TIMED_OUT, TOO_MANY, FieldError, ProblemError
from serve.routes.answer import json_answer, read_body
from serve.routes.document import KEYED, STORED, WITH_BODY, LeanRoute, documented
from serve.routes.reading import read_texts
from serve.schemas.body import check_body, parse_json
from serve.schemas.refusal import MAX_ERRORS, invalid, json_type
from serve.schemas.tei import PredictRequest, TeiAnswer, TeiError
from serve.schemas.text import check_texts
from serve.service import service_of
from serve.settings import Settings

_NEAREST = 1e-12  # how near a probability may come to 0 or 1 before its log-odds are taken
router = APIRouter(route_class=LeanRoute)


@router.post(
    "/predict",
    summary="Read texts, as text-embeddings-inference does",
    tags=["other protocols"],
    **documented(
        answer=TeiAnswer,
        requests=[PredictRequest],
        problems=[*WITH_BODY, *KEYED, INVALID, LONG_TEXT, TOO_MANY, QUEUE_FULL, TIMED_OUT, *STORED],
        error=TeiError,
    ),
)
async def predict(request: Request) -> Response:
    """Answer as text-embeddings-inference answers for a classifier; nothing is kept.

    `inputs` is a text, a list of one text, or a list of such lists. Scores are calibrated probabilities, each gap's
    by itself: they do not add up to 1. `raw_scores` are their log-odds.
    """
    settings = service_of(request).settings
    await service_of(request).gate.admit(request, "classify")
    asked = check_body(PredictRequest, parse_json(await read_body(request)))
    texts = _texts(asked, settings)
    predictions = await read_texts(request, texts)
    scores = [_scores(prediction, raw=asked.raw_scores) for prediction in predictions]
    return json_answer(scores if _is_batch(asked.inputs) else scores[0])


def _texts(asked: PredictRequest, settings: Settings) -> list[str]:
    found = _listed(asked.inputs)
    if len(found) > settings.max_texts:
        raise ProblemError(TOO_MANY, f"batch size {len(found):,} > maximum allowed batch size {settings.max_texts:,}")
    longest = settings.max_characters
    if asked.truncate:
        keep_end = asked.truncation_direction.lower() == "left"
        cut = slice(-longest, None) if keep_end else slice(longest)
        found = {place: text[cut] if isinstance(text, str) else text for place, text in found.items()}
    texts = list(found.values())
    pairs = zip(found, check_texts(texts, longest=longest), strict=True)
    flaws = {place: flaw for place, flaw in pairs if flaw}
    errors = [FieldError(place, flaw.detail) for place, flaw in flaws.items()]
    if any(flaw.kind is LONG_TEXT for flaw in flaws.values()):
        raise ProblemError(LONG_TEXT, "shorten it, or set truncate", errors=errors[:MAX_ERRORS])
    if errors:
        raise invalid(errors)
    return texts


def _is_batch(inputs: JsonValue) -> bool:
    return isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], list)


def _listed(inputs: JsonValue) -> dict[str, Any]:
    """Return the texts of any of the three forms, by JSON pointers to them.

    Raises:
        ProblemError: It is none of them; a pair of texts among them, which this model does not read.
    """
    if isinstance(inputs, str):
        return {"/inputs": inputs}
    items: dict[str, Any] = {"/inputs": inputs}
    if isinstance(inputs, list) and _is_batch(inputs):
        items = {f"/inputs/{index}": item for index, item in enumerate(inputs)}
    errors = [FieldError(place, _unlike(item)) for place, item in items.items() if not _is_alone(item)]
    if errors:
        raise invalid(errors)
    return {f"{place}/0": item[0] for place, item in items.items()}


def _is_alone(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 1


def _unlike(item: Any) -> str:
    got = f"an array of {len(item):,} items" if isinstance(item, list) else json_type(item)
    return f'got {got}, expected an array of one text; to read several, send them such as [["one"], ["another"]]'


def _scores(prediction: Prediction, *, raw: bool) -> list[dict[str, Any]]:
    pairs = sorted(zip(prediction.proba, LABELS, strict=True), reverse=True)
    return [{"score": _log_odds(score) if raw else score, "label": label} for score, label in pairs]


def _log_odds(proba: float) -> float:
    inside = min(max(proba, _NEAREST), 1 - _NEAREST)
    return math.log(inside / (1 - inside))
