"""`Idempotency-Key`: a request that is sent again is answered again, and done once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from serve.problem import INVALID, KEY_REUSED, RUNNING, ProblemError, retry_after
from serve.routes.answer import JSON
from serve.service import Service, service_of
from serve.store import Finished, Mismatch, Running, Started, StoredPrediction, StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from serve.security import Caller

HEADER = "Idempotency-Key"
LONGEST_KEY = 255  # characters
PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": (
        "A word of your own for this request, such as `ticket-4711-comment-2`. Sent again with the same body, it gets "
        "the same answer and nothing is done twice; with another body it is refused. Kept for 24 hours, unless the "
        "operator says otherwise."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]+$"},
}
_RETRY_SECONDS = 1
_SECRET = secrets.token_bytes(32)  # of this process: asking the system for chance every time takes longer
_counter = itertools.count()


@dataclass(frozen=True, slots=True)
class Done:
    """What a route has worked out.

    Attributes:
        body: The answer, in JSON.
        rows: Predictions to be kept.
        save: Writes what else is to be kept, inside a transaction; None for nothing.
        status: Of the answer.
    """

    body: bytes
    rows: Sequence[StoredPrediction] = ()
    save: Callable[[Connection], object] | None = None
    status: int = 200

    @property
    def answer(self) -> Response:
        """What the client gets."""
        return Response(self.body, status_code=self.status, media_type=JSON)


def new_id() -> str:
    """Return an id that nobody can guess; later ones sort after earlier ones, so that indexes stay dense."""
    word = hashlib.blake2b(str(next(_counter)).encode(), key=_SECRET, digest_size=10)
    return f"{time.time_ns() // 1_000_000:012x}{word.hexdigest()}"


async def answer_once(
    request: Request, work: Callable[[], Awaitable[Done]], *, caller: Caller, body: bytes
) -> Response:
    """Do the work of a request and keep what it says, once for every Idempotency-Key.

    What is to be kept and the answer are committed together, before the answer goes out.

    Args:
        request: May carry an Idempotency-Key.
        work: What is to be done.
        caller: Whose key it is.
        body: Of the request: a key belongs to one body.

    Raises:
        ProblemError: The key is being worked on, or belongs to another body; or what `work` raises.
        StoreError: What is to be kept cannot be.
    """
    service = service_of(request)
    key = request.headers.get(HEADER)
    if key is None:
        done = await work()
        if done.rows:
            await service.writer.add_predictions(done.rows)
        if done.save:
            await service.writer.run(done.save)
        return done.answer
    claim = _Key(service, checked_key(key), scope=f"{caller.id} {request.url.path}")
    return await claim.answer(work, body=body)


def checked_key(key: str) -> str:
    """Return a key that can be used.

    Raises:
        ProblemError: It is too long, or has characters that no header should have.
    """
    if not 1 <= len(key) <= LONGEST_KEY or not all("!" <= char <= "~" for char in key):
        raise ProblemError(INVALID, f"{HEADER}: expected 1 to {LONGEST_KEY} visible ASCII characters")
    return key


class _Key:
    """One Idempotency-Key of one caller on one path."""

    def __init__(self, service: Service, key: str, *, scope: str) -> None:
        self._service = service
        self._key = key
        self._scope = scope

    async def answer(self, work: Callable[[], Awaitable[Done]], *, body: bytes) -> Response:
        """Answer as before, or do the work and remember its answer."""
        claim = await self._begin(hashlib.sha256(body).hexdigest())
        if isinstance(claim, Finished):
            return Response(claim.body, status_code=claim.status, media_type=claim.content_type)
        if isinstance(claim, Mismatch):
            raise ProblemError(KEY_REUSED, "it was used with another body: take a new key for a new request")
        if isinstance(claim, Running):
            raise _running()
        try:
            done = await work()
            await self._service.writer.run(lambda conn: self._finish(conn, done, token=claim.token))
        except BaseException:
            with contextlib.suppress(StoreError):  # its lease ends by itself
                await asyncio.shield(self._abandon(claim.token))
            raise
        return done.answer

    async def _begin(self, body_hash: str) -> Started | Finished | Running | Mismatch:
        now, hours = datetime.now(UTC), self._service.settings.idempotency_hours
        return await self._service.writer.run(
            lambda conn: self._service.store.idempotency.begin(
                conn, self._key, scope=self._scope, body_hash=body_hash, now=now, keep_hours=hours
            )
        )

    def _finish(self, conn: Connection, done: Done, *, token: str) -> None:
        self._service.store.predictions.add(conn, done.rows)
        if done.save:
            done.save(conn)
        is_kept = self._service.store.idempotency.finish(
            conn,
            self._key,
            scope=self._scope,
            token=token,
            status=done.status,
            body=done.body,
            content_type=JSON,
        )
        if not is_kept:  # we were so slow that another took over: what it does counts
            raise _running()

    async def _abandon(self, token: str) -> None:
        await self._service.writer.run(
            lambda conn: self._service.store.idempotency.abandon(conn, self._key, scope=self._scope, token=token)
        )


def _running() -> ProblemError:
    return ProblemError(
        RUNNING, "a request with this key is being worked on: ask again", headers=retry_after(_RETRY_SECONDS)
    )
