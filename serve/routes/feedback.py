"""`POST /v1/feedback`: what a person says of a prediction."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gapnlp.errors import UnknownGapError
from gapnlp.taxonomy import LABELS, NONE, resolve_gap
from serve.problem import INVALID, KEY_REUSED, RUNNING, UNKNOWN_ID, FieldError, ProblemError
from serve.routes.answer import json_bytes, read_body
from serve.routes.document import KEYED, STORED, WITH_BODY, LeanRoute, documented
from serve.routes.once import PARAMETER, Done, answer_once, new_id
from serve.schemas.body import check_body, parse_json
from serve.schemas.feedback import FeedbackAnswer, FeedbackRequest
from serve.schemas.refusal import invalid
from serve.service import service_of
from serve.store import Feedback, UnknownIdError

router = APIRouter(route_class=LeanRoute)
_CREATED = 201
_NO_GAP = "got a string that names no gap, expected a name that /v1/gaps lists, or `none` and nothing beside it"


@router.post(
    "/v1/feedback",
    summary="Say what a text really points to",
    tags=["gaps"],
    **documented(
        answer=FeedbackAnswer,
        status=_CREATED,
        requests=[FeedbackRequest],
        problems=[*WITH_BODY, *KEYED, INVALID, UNKNOWN_ID, KEY_REUSED, RUNNING, *STORED],
        parameters=[PARAMETER],
    ),
)
async def feedback(request: Request) -> Response:
    """Keep what a person says of a stored prediction; a prediction may have several."""
    service = service_of(request)
    caller = await service.gate.admit(request, "feedback")
    body = await read_body(request)
    asked = check_body(FeedbackRequest, parse_json(body))
    kept = Feedback(
        id=new_id(),
        prediction_id=asked.id,
        created_at=datetime.now(UTC),
        labels=resolve_labels(asked.labels),
        author=asked.author,
        comment=asked.comment,
    )

    async def work() -> Done:
        answer = {"id": kept.id, "prediction": kept.prediction_id, "labels": kept.labels}
        return Done(json_bytes(answer), save=lambda conn: service.store.feedback.add(conn, kept), status=_CREATED)

    try:
        return await answer_once(request, work, caller=caller, body=body)
    except UnknownIdError:
        detail = "it was not stored, or is older than the retention time"
        raise ProblemError(
            UNKNOWN_ID, detail, errors=[FieldError("/id", "expected an id that /v1/classify has answered with")]
        ) from None


def resolve_labels(names: list[str]) -> tuple[str, ...]:
    """Return the gaps that names mean, each once, in the order of `LABELS`.

    Raises:
        ProblemError: A name is no gap's, or `none` stands among gaps.
    """
    if [name.strip().lower() for name in names] == [NONE]:
        return ()
    found, errors = set(), []
    for index, name in enumerate(names):
        try:
            found.add(resolve_gap(name))
        except UnknownGapError:
            errors.append(FieldError(f"/labels/{index}", _NO_GAP))
    if errors:
        raise invalid(errors)
    return tuple(label for label in LABELS if label in found)
