"""`POST /v1/classify`: which gaps texts point to, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gapnlp.records import Prediction
from gapnlp.taxonomy import LABELS, load_taxonomy
from gapnlp.text import hash_text
from serve.problem import (
    INVALID,
    KEY_REUSED,
    QUEUE_FULL,
    RUNNING,
    TIMED_OUT,
)
from serve.routes.answer import json_bytes, read_body
from serve.routes.document import KEYED, STORED, WITH_BODY, LeanRoute, documented
from serve.routes.once import PARAMETER, Done, answer_once, new_id
from serve.routes.reading import read_texts
from serve.schemas.body import check_one_of, parse_json
from serve.schemas.classify import ClassifyAnswer, ClassifyText, ClassifyTexts
from serve.schemas.text import Flaw, check_count, check_texts, refuse_texts
from serve.service import Service, service_of
from serve.store import Origin, StoredPrediction

if TYPE_CHECKING:
    from serve.settings import Settings

SOURCE = "api"
_MANY_CHARACTERS = 50_000  # from here on hashing them takes the event loop too long
_BODIES: tuple[type[ClassifyText | ClassifyTexts], ...] = (ClassifyText, ClassifyTexts)

router = APIRouter(route_class=LeanRoute)


class _Read(NamedTuple):
    """A text that was read."""

    text: str
    prediction: Prediction
    id: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for.

    Attributes:
        texts: Whatever came as texts.
        flaws: What keeps each from being read.
        evidence: Whether to answer with passages.
        explain: Whether to answer with causes and remedies.
    """

    texts: Sequence[Any]
    flaws: Sequence[Flaw | None]
    evidence: bool
    explain: bool


@router.post(
    "/v1/classify",
    summary="Read texts as service gaps",
    tags=["gaps"],
    **documented(
        answer=ClassifyAnswer,
        requests=_BODIES,
        problems=[*WITH_BODY, *KEYED, INVALID, KEY_REUSED, RUNNING, QUEUE_FULL, TIMED_OUT, *STORED],
        parameters=[PARAMETER],
    ),
)
async def classify(request: Request) -> Response:
    """Say which gaps each text points to, how likely each is, and which words speak for it.

    Give either `text` or `texts`. Offsets of evidence count characters (Unicode code points) from 0. A text that
    cannot be read, or is too long, gets an `error` of its own and the others go on; where none can be read, the
    request is refused.
    """
    service = service_of(request)
    caller = await service.gate.admit(request, "classify")
    body = await read_body(request)
    asked = _asked(body, service)
    return await answer_once(request, partial(_work, request, asked), caller=caller, body=body)


def _asked(body: bytes, service: Service) -> Asked:
    asked = check_one_of(_BODIES, parse_json(body))
    texts, pointer = ([asked.text], "/text") if isinstance(asked, ClassifyText) else (asked.texts, "/texts/{}")
    check_count(texts, most=service.settings.max_texts)
    longest = service.settings.max_characters
    flaws = check_texts(texts, longest=longest)
    refuse_texts(flaws, longest=longest, pointer=pointer)
    return Asked(texts, flaws, asked.evidence, asked.explain)


async def _work(request: Request, asked: Asked) -> Done:
    service = service_of(request)
    model = service.model.classifier
    texts = [text for text, flaw in zip(asked.texts, asked.flaws, strict=True) if flaw is None]
    predictions = await read_texts(request, texts)
    service.metrics.unread(len(asked.flaws) - len(texts), SOURCE)
    keep = service.settings.store_predictions
    read = [
        _Read(text, prediction, new_id() if keep else None) for text, prediction in zip(texts, predictions, strict=True)
    ]
    results = _results(asked, read)
    body = json_bytes({"model": model.name, "results": results})
    if not keep:
        return Done(body)
    if sum(map(len, texts)) > _MANY_CHARACTERS:
        return Done(body, await asyncio.to_thread(_rows, read, service.settings, model.fingerprint))
    return Done(body, _rows(read, service.settings, model.fingerprint))


def _rows(read: Sequence[_Read], settings: Settings, fingerprint: str) -> list[StoredPrediction]:
    now = datetime.now(UTC)
    return [
        StoredPrediction.of(
            one.prediction,
            Origin(
                id=one.id,
                created_at=now,
                text_hash=hash_text(one.text),
                text=one.text if settings.store_text else None,
                source=SOURCE,
                fingerprint=fingerprint,
            ),
        )
        for one in read
        if one.id is not None
    ]


def _results(asked: Asked, read: Sequence[_Read]) -> list[dict[str, Any]]:
    """Return one result per text that came, those that were not read included."""
    rest = iter(read)
    results = []
    for index, flaw in enumerate(asked.flaws):
        result = _failed(flaw) if flaw else _result(next(rest), asked)
        results.append({"index": index, **result})
    return results


def _result(read: _Read, asked: Asked) -> dict[str, Any]:
    prediction = read.prediction
    passages = prediction.evidence if asked.evidence else ()
    result: dict[str, Any] = {
        "id": read.id,
        "primary": prediction.primary,
        "labels": prediction.labels,
        "probabilities": dict(zip(LABELS, prediction.proba, strict=True)),
        "evidence": [{"label": one.label, "start": one.start, "end": one.end} for one in passages],
        "review": prediction.review,
        "truncated": prediction.truncated,
        "error": None,
    }
    if asked.explain:
        result["gaps"] = [_cards()[label] for label in prediction.labels]
    return result


def _failed(flaw: Flaw) -> dict[str, Any]:
    return {
        "id": None,
        "primary": None,
        "labels": [],
        "probabilities": None,
        "evidence": [],
        "review": True,
        "truncated": False,
        "error": {"type": flaw.kind.urn, "detail": flaw.detail},
    }


@cache
def _cards() -> dict[str, dict[str, Any]]:
    names = ("id", "name", "definition", "causes", "questions", "remedies")
    return {gap.id: {name: getattr(gap, name) for name in names} for gap in load_taxonomy().gaps}
