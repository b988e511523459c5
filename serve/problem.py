"""Errors as answers: problems of RFC 9457, and the shapes of the two protocols that have their own.

An answer says what was expected, never what was sent: no input, no path of the machine, no trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

from gapnlp.errors import GapnlpError

if TYPE_CHECKING:
    from starlette.types import Scope

MEDIA_TYPE = "application/problem+json"
URN = "urn:gapnlp:problem:"
TEI_PATH = "/predict"
OIP_PATH = "/v2"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem.

    Attributes:
        slug: Ends its `type`, so that programs can tell kinds of one status apart.
        status: HTTP status.
        title: What it is, the same for every such problem.
    """

    slug: str
    status: int
    title: str

    @property
    def urn(self) -> str:
        """The `type` of the problem."""
        return URN + self.slug


MALFORMED = Kind("malformed", 400, "The request cannot be read")
UNAUTHORIZED = Kind("unauthorized", 401, "An API key is needed")
FORBIDDEN = Kind("forbidden", 403, "The API key does not allow this")
NOT_FOUND = Kind("not-found", 404, "There is nothing here")
UNKNOWN_ID = Kind("unknown-id", 404, "No stored prediction has this id")
NO_PREDICTIONS = Kind("no-predictions", 404, "There are no predictions to estimate from")
NO_METHOD = Kind("method-not-allowed", 405, "The method is not allowed here")
SLOW_CLIENT = Kind("slow-client", 408, "The body did not arrive in time")
RUNNING = Kind("running", 409, "The same request is still running")
OTHER_MODEL = Kind("other-model", 409, "The predictions come from another model")
NO_VALIDATION = Kind("no-validation", 409, "The model cannot estimate prevalence")
TOO_LARGE = Kind("too-large", 413, "The request is too large")
TOO_MANY = Kind("too-many", 413, "There are too many texts")
MEDIA = Kind("media-type", 415, "The body is of another kind than expected")
INVALID = Kind("invalid", 422, "The request is not what was expected")
KEY_REUSED = Kind("key-reused", 422, "The Idempotency-Key belongs to another request")
RATE_LIMITED = Kind("rate-limited", 429, "Too many requests")
QUEUE_FULL = Kind("queue-full", 429, "Too many texts are waiting")
BUSY = Kind("busy", 429, "Too many archives are being labelled")
INTERNAL = Kind("internal", 500, "The service failed")
UNAVAILABLE = Kind("unavailable", 503, "The service cannot answer now")
TIMED_OUT = Kind("timed-out", 503, "The texts were not read in time")

UNREADABLE_TEXT = Kind("unreadable-text", 422, "This is no text that can be read")
LONG_TEXT = Kind("long-text", 413, "This text is too long")


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one part of a body.

    Attributes:
        pointer: Where, as a JSON pointer (RFC 6901).
        detail: What was expected.
    """

    pointer: str
    detail: str


class ProblemError(GapnlpError):
    """A request that is answered with a problem."""

    def __init__(
        self, kind: Kind, detail: str, *, errors: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header that says when to try again."""
    return {"Retry-After": str(max(1, round(seconds)))}


def problem_answer(scope: Scope, problem: ProblemError) -> Response:
    """Write a problem in the words of the protocol that the path belongs to."""
    path = scope["path"]
    if path == TEI_PATH:
        return _answer(problem, _tei_error(problem), media_type="application/json")
    if path == OIP_PATH or path.startswith(f"{OIP_PATH}/"):
        return _answer(problem, {"error": _in_one(problem)}, media_type="application/json")
    return _answer(problem, _document(problem, request_id=request_id_of(scope)), media_type=MEDIA_TYPE)


def status_problem(status: int, headers: Mapping[str, str] | None = None) -> ProblemError:
    """Return the problem for a status that the framework answers with by itself."""
    kinds = {kind.status: kind for kind in (MALFORMED, NOT_FOUND, NO_METHOD, TOO_LARGE, INTERNAL)}
    details = {404: "no such path: see /openapi.json", 405: "use one of the methods that the header Allow names"}
    phrase = HTTPStatus(status).phrase
    kind = kinds.get(status) or Kind(phrase.lower().replace(" ", "-"), status, phrase)
    return ProblemError(kind, details.get(status, phrase), headers=headers)


def request_id_of(scope: Scope) -> str | None:
    """Return the id that the request was given, if any."""
    found: str | None = (scope.get("state") or {}).get("request_id")
    return found


def _answer(problem: ProblemError, document: dict[str, Any], *, media_type: str) -> Response:
    body = orjson.dumps(document)
    return Response(body, status_code=problem.kind.status, headers=problem.headers, media_type=media_type)


def _document(problem: ProblemError, *, request_id: str | None) -> dict[str, Any]:
    kind = problem.kind
    document: dict[str, Any] = {"type": kind.urn, "title": kind.title, "status": kind.status, "detail": problem.detail}
    if request_id:
        document["instance"] = request_id
    if problem.errors:
        document["errors"] = [{"pointer": error.pointer, "detail": error.detail} for error in problem.errors]
    return document


def _tei_error(problem: ProblemError) -> dict[str, str]:
    """Return what text-embeddings-inference answers with (its `ErrorResponse`)."""
    names = {429: "Overloaded", 500: "Backend", 503: "Unhealthy"}
    return {"error": _in_one(problem), "error_type": names.get(problem.kind.status, "Validation")}


def _in_one(problem: ProblemError) -> str:
    parts = [f"{error.pointer}: {error.detail}" if error.pointer else error.detail for error in problem.errors]
    return "; ".join([problem.detail, *parts])
