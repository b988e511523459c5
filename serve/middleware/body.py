"""Bodies: unpacked as they come, counted after that, stopped at the limit."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from serve.problem import MALFORMED, MEDIA, SLOW_CLIENT, TOO_LARGE, ProblemError, problem_answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_GZIP = 16 + zlib.MAX_WBITS
_METHODS = frozenset({"POST", "PUT", "PATCH"})
_ENCODINGS = "gzip, deflate"
_STEP = 2**20  # bytes that are unpacked at once: more would hold up everybody else


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may be.

    Attributes:
        max_bytes: Packed and unpacked.
        seconds: In which the whole of it must have come.
    """

    max_bytes: int
    seconds: float


class BodyMiddleware:
    """Hand bodies on without their Content-Encoding, and no more of them than may be.

    What is wrong with a body is raised as a `ProblemError` in the route that reads it. Who has hung up before their
    turn came is not served at all, so that those who still wait need not wait for it.
    """

    def __init__(self, app: ASGIApp, *, limits: BodyLimits, by_path: Mapping[str, BodyLimits]) -> None:
        """Wrap an app.

        Args:
            app: What reads the bodies.
            limits: Of most bodies.
            by_path: Of those that are sent to these paths.
        """
        self.app = app
        self._limits = limits
        self._by_path = by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] not in _METHODS:
            await self.app(scope, receive, send)
            return
        try:
            body = self._body_of(scope, receive)
            await asyncio.sleep(0)  # the loop looks at its sockets: an end that has come already is seen
            is_there = await body.begin()
        except ProblemError as problem:
            await problem_answer(scope, problem)(scope, receive, send)
            return
        if is_there:
            await self.app(scope, body.receive, send)

    def _body_of(self, scope: Scope, receive: Receive) -> _Body:
        headers = Headers(scope=scope)
        limits = self._by_path.get(scope["path"], self._limits)
        unpacker = find_unpacker(headers.get("content-encoding", ""), max_bytes=limits.max_bytes)
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limits.max_bytes:
            raise too_large(limits.max_bytes)
        return _Body(receive, unpacker=unpacker, limits=limits)


class _Body:
    """One body on its way in."""

    def __init__(self, receive: Receive, *, unpacker: Unpacker | None, limits: BodyLimits) -> None:
        self._receive = receive
        self._unpacker = unpacker
        self._more = True
        self._left = limits.max_bytes
        self._limits = limits
        self._ends_at = asyncio.get_running_loop().time() + limits.seconds
        self._first: Message | None = None
        self._is_read = False

    async def begin(self) -> bool:
        """Wait for the first message; return False where it is that the client has hung up."""
        self._first = await self._in_time()
        return bool(self._first["type"] != "http.disconnect")

    async def receive(self) -> Message:
        """Return the next message of the client; only after `begin`."""
        if self._is_read:
            return await self._receive()
        chunk = b""
        if self._unpacker is None or not self._unpacker.holds_more:
            message, self._first = self._first or await self._in_time(), None
            if message["type"] != "http.request":
                return message
            chunk, self._more = message.get("body", b""), message.get("more_body", False)
            self._left -= len(chunk)
            if self._left < 0:
                raise too_large(self._limits.max_bytes)
            if self._unpacker is None:
                self._is_read = not self._more
                return message
        piece = self._unpacker.unpack(chunk, not self._more)
        more = self._more or self._unpacker.holds_more
        self._is_read = not more
        return {"type": "http.request", "body": piece, "more_body": more}

    async def _in_time(self) -> Message:
        try:
            async with asyncio.timeout_at(self._ends_at):
                return await self._receive()
        except TimeoutError:
            raise ProblemError(SLOW_CLIENT, f"the whole body must come within {self._limits.seconds:g} s") from None


def find_unpacker(encoding: str, *, max_bytes: int) -> Unpacker | None:
    """Return what unpacks a body, or None where nothing is packed.

    Raises:
        ProblemError: The encoding is unknown.
    """
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return None
    if name not in {"gzip", "x-gzip", "deflate"}:
        raise ProblemError(
            MEDIA, f"expected no Content-Encoding, or one of {_ENCODINGS}", headers={"Accept-Encoding": _ENCODINGS}
        )
    return Unpacker(name, max_bytes=max_bytes)


class Unpacker:
    """Unpack gzip, or deflate with its wrapper or, as some clients send it, without; a step at a time.

    Attributes:
        holds_more: There is more to come of what was put in, before the next chunk.
    """

    def __init__(self, name: str, *, max_bytes: int) -> None:
        self.holds_more = False
        self._zlib = None if name == "deflate" else zlib.decompressobj(_GZIP)
        self._max_bytes = max_bytes
        self._left = max_bytes

    def unpack(self, chunk: bytes, is_last: bool) -> bytes:
        """Put a chunk in, and take the next piece out.

        Args:
            chunk: Of the packed body; empty while `holds_more`.
            is_last: Whether it is the last chunk.

        Raises:
            ProblemError: The body is larger than may be, or damaged.
        """
        if chunk and self._zlib is None:
            # RFC 1950: the low four bits of the first byte are 8; of a bare deflate block they practically never are.
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS if chunk[0] & 15 == 8 else -zlib.MAX_WBITS)
        if self._zlib is None:
            return b""
        most = min(self._left + 1, _STEP)
        try:
            unpacked = self._zlib.decompress(self._zlib.unconsumed_tail + chunk, most)
        except zlib.error:
            raise ProblemError(MALFORMED, "the body is not packed as its Content-Encoding says") from None
        self._left -= len(unpacked)
        if self._left < 0:
            raise too_large(self._max_bytes)
        self.holds_more = len(unpacked) == most and not self._zlib.eof
        if self._zlib.unused_data or (is_last and not self.holds_more and not self._zlib.eof):
            raise ProblemError(MALFORMED, "the packed body is cut short, or something follows it")
        return unpacked


def too_large(max_bytes: int) -> ProblemError:
    """Return the problem of a body over the limit."""
    return ProblemError(TOO_LARGE, f"the body, unpacked, may have {max_bytes:,} bytes")
