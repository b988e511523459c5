"""`POST /predict`, for clients of Hugging Face's text-embeddings-inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from serve.schemas.common import check_body, check_texts, flaw_detail, invalid, parse_json
from serve.schemas.tei import PredictRequest, TeiAnswer, TeiError
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
        found = [text[cut] if isinstance(text, str) else text for text in found]
    flaws = check_texts(found, longest=longest)
    errors = [FieldError(f"/inputs/{i}", flaw_detail(flaw, longest=longest)) for i, flaw in enumerate(flaws) if flaw]
    if LONG_TEXT in flaws:
        raise ProblemError(LONG_TEXT, "shorten it, or set truncate", errors=errors)
    if errors:
        raise invalid(errors)
    return [str(text) for text in found]


def _is_batch(inputs: JsonValue) -> bool:
    return isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], list)


def _listed(inputs: JsonValue) -> list[Any]:
    """Return the texts of any of the three forms.

    Raises:
        ProblemError: It is none of them; a pair of texts among them, which this model does not read.
    """
    if isinstance(inputs, str):
        return [inputs]
    items: Sequence[Any] = inputs if isinstance(inputs, list) and _is_batch(inputs) else [inputs]
    errors = [
        FieldError(f"/inputs/{index}", "expected a list of one text; to read several, put each in a list of its own")
        for index, item in enumerate(items)
        if not (isinstance(item, list) and len(item) == 1)
    ]
    if errors:
        raise invalid(errors)
    return [item[0] for item in items]


def _scores(prediction: Prediction, *, raw: bool) -> list[dict[str, Any]]:
    pairs = sorted(zip(prediction.proba, LABELS, strict=True), reverse=True)
    return [{"score": _log_odds(score) if raw else score, "label": label} for score, label in pairs]


def _log_odds(proba: float) -> float:
    inside = min(max(proba, _NEAREST), 1 - _NEAREST)
    return math.log(inside / (1 - inside))
