"""`POST /v1/prevalence`: how much of a population of texts points to each gap."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gapnlp.prevalence import estimate_prevalence
from gapnlp.prevalence.gap_score import ValidationScores
from gapnlp.records import PrevalenceEstimate
from gapnlp.taxonomy import LABELS
from serve.inference.live import LoadedModel
from serve.problem import (
    INVALID,
    LONG_TEXT,
    NO_PREDICTIONS,
    NO_VALIDATION,
    OTHER_MODEL,
    QUEUE_FULL,
    TIMED_OUT,
    TOO_MANY,
    UNKNOWN_ID,
    FieldError,
    ProblemError,
)
from serve.routes.answer import json_answer, read_body
from serve.routes.document import KEYED, STORED, WITH_BODY, LeanRoute, documented
from serve.routes.reading import read_texts
from serve.schemas.body import check_one_of, parse_json
from serve.schemas.prevalence import PrevalenceAnswer, PrevalenceOfIds, PrevalenceOfTexts, PrevalenceOfTime
from serve.schemas.refusal import MAX_ERRORS
from serve.schemas.text import check_count, check_texts, refuse_texts
from serve.service import Service, service_of
from serve.store import StoredPrediction

_Body = PrevalenceOfIds | PrevalenceOfTexts | PrevalenceOfTime
_BODIES: tuple[type[_Body], ...] = (PrevalenceOfIds, PrevalenceOfTexts, PrevalenceOfTime)
MOST_STORED = 100_000  # predictions in one estimate
_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
router = APIRouter(route_class=LeanRoute)


@dataclass(frozen=True, slots=True)
class _Population:
    """The predictions that an estimate is of.

    Attributes:
        proba: Probabilities. *Shape:* (n_texts, 5).
        labels: Decisions, one tuple per text.
        n_unread: Texts that could not be read.
    """

    proba: Sequence[tuple[float, ...]]
    labels: Sequence[tuple[str, ...]]
    n_unread: int = 0


@router.post(
    "/v1/prevalence",
    summary="Estimate how much of a population points to each gap",
    tags=["gaps"],
    **documented(
        answer=PrevalenceAnswer,
        requests=_BODIES,
        problems=[
            *WITH_BODY,
            *KEYED,
            *(INVALID, LONG_TEXT, TOO_MANY, UNKNOWN_ID, NO_PREDICTIONS, OTHER_MODEL, NO_VALIDATION),
            *(QUEUE_FULL, TIMED_OUT),
            *STORED,
        ],
    ),
)
async def prevalence(request: Request) -> Response:
    """Estimate shares with intervals: counting the model's labels is biased, this is not.

    Of stored predictions, by `ids` or by the time they were made (`since`, `until`), or of `texts`, which are read
    for this and not kept. Predictions of another model than the one that serves now are refused.
    """
    service = service_of(request)
    await service.gate.admit(request, "prevalence")
    asked = check_one_of(_BODIES, parse_json(await read_body(request)))
    model = service.model
    if model.validation is None:
        raise ProblemError(NO_VALIDATION, "it was packed without the scores of its validation rows")
    population = await _population(request, asked, model=model)
    estimates = await asyncio.to_thread(_estimate, population, validation=model.validation, confidence=asked.confidence)
    return json_answer(_document(estimates, population, model=model))


async def _population(request: Request, asked: _Body, *, model: LoadedModel) -> _Population:
    service = service_of(request)
    if isinstance(asked, PrevalenceOfTexts):
        return await _read(request, asked)
    if isinstance(asked, PrevalenceOfIds):
        rows = await _with_ids(service, asked.ids)
    else:
        rows = await _in_time(service, since=asked.since, until=asked.until)
    _refuse_others(rows, model=model)
    return _Population([row.proba for row in rows], [row.labels for row in rows])


async def _read(request: Request, asked: PrevalenceOfTexts) -> _Population:
    settings = service_of(request).settings
    check_count(asked.texts, most=settings.max_texts)
    flaws = check_texts(asked.texts, longest=settings.max_characters)
    refuse_texts(flaws, longest=settings.max_characters, pointer="/texts/{}")
    texts = [text for text, flaw in zip(asked.texts, flaws, strict=True) if flaw is None]
    predictions = await read_texts(request, texts)
    return _Population([p.proba for p in predictions], [p.labels for p in predictions], len(flaws) - len(texts))


async def _with_ids(service: Service, ids: Sequence[str]) -> list[StoredPrediction]:
    rows = await service.writer.read(lambda conn: service.store.predictions.get(conn, ids), is_long=True)
    known = {row.id for row in rows}
    unknown = [index for index, id_ in enumerate(ids) if id_ not in known]
    if unknown:
        errors = [FieldError(f"/ids/{index}", "no stored prediction has this id") for index in unknown[:MAX_ERRORS]]
        raise ProblemError(UNKNOWN_ID, f"{len(unknown):,} of {len(ids):,} ids are unknown", errors=errors)
    return rows


async def _in_time(service: Service, *, since: datetime, until: datetime) -> list[StoredPrediction]:
    start, end = _utc(since), _utc(until)
    rows = await service.writer.read(
        lambda conn: service.store.predictions.between(conn, since=start, until=end, limit=MOST_STORED + 1),
        is_long=True,
    )
    if not rows:
        raise ProblemError(NO_PREDICTIONS, "none was made from `since` on and before `until`")
    if len(rows) > MOST_STORED:
        raise ProblemError(TOO_MANY, f"there are more than {MOST_STORED:,} predictions: ask for a shorter time")
    return rows


def _utc(moment: datetime) -> datetime:
    """Return a moment in UTC; one that a calendar of UTC does not reach becomes its first or last."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return _FIRST if moment.year == 1 else _LAST


def _refuse_others(rows: Sequence[StoredPrediction], *, model: LoadedModel) -> None:
    """Refuse predictions whose scores the validation rows of this model say nothing about."""
    others = [row for row in rows if row.fingerprint != model.classifier.fingerprint]
    if others:
        names = ", ".join(sorted(Counter(row.model for row in others)))
        last = max(row.created_at for row in others).isoformat(timespec="seconds")
        raise ProblemError(
            OTHER_MODEL,
            f"{len(others):,} of {len(rows):,} predictions come from {names}, in other files or on another engine than "
            f"what serves now; the last of them is of {last}: leave them out, or classify their texts anew",
        )


def _estimate(population: _Population, *, validation: ValidationScores, confidence: float) -> list[PrevalenceEstimate]:
    decided = np.array([[label in labels for label in LABELS] for labels in population.labels], dtype=bool)
    return estimate_prevalence(np.array(population.proba), decided, validation, confidence=confidence)


def _document(
    estimates: Sequence[PrevalenceEstimate], population: _Population, *, model: LoadedModel
) -> dict[str, object]:
    names = ("label", "counted", "prevalence", "low", "high", "notes")
    return {
        "model": model.classifier.name,
        "n_texts": estimates[0].n_texts,
        "n_unread": population.n_unread,
        "confidence": estimates[0].confidence,
        "method": estimates[0].method,
        "estimates": [{name: getattr(estimate, name) for name in names} for estimate in estimates],
    }
