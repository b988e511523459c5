"""Who may do what, and how often: API keys with scopes, and rate limits."""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import TTLCache

from serve.problem import FORBIDDEN, RATE_LIMITED, UNAUTHORIZED, ProblemError, retry_after
from serve.settings import parse_rate

if TYPE_CHECKING:
    from starlette.requests import Request

    from serve.settings import Settings
    from serve.store.rows import KeyRow

SCOPES = ("classify", "prevalence", "feedback", "metrics")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="gapnlp"'}
REMEMBERED_SECONDS = 5  # how long a revoked key may still work
_REMEMBERED_KEYS = 4096
_LONGEST_TOKEN = 200  # characters; the keys handed out have 84
_IPV6_NETWORK = 64  # bits that one customer of a provider has to himself


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes:
        id: `key:` and the key's id, or `address:` and the address: what limits and Idempotency-Keys count by.
    """

    id: str


class MovingWindow:
    """Count what each caller did in the last while, to the request.

    In plain memory and one thread on purpose: what the library `limits` does for this (a thread every 10 ms to clear
    up) took a tenth of the service's time under load.
    """

    def __init__(self, amount: int, seconds: float, *, most_callers: int = 10_000) -> None:
        """Set the limit.

        Args:
            amount: Requests that a caller may send in any `seconds`.
            seconds: Length of the window.
            most_callers: Whose requests are counted; those not seen for longest are forgotten first.
        """
        self._amount = amount
        self._seconds = seconds
        self._most_callers = most_callers
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def hit(self, caller: str) -> float:
        """Count a request of a caller; return 0, or in how many seconds it may come where it is one too many."""
        now = time.monotonic()
        times = self._times.get(caller)
        if times is None:
            times = self._times[caller] = deque()
            if len(self._times) > self._most_callers:
                self._times.popitem(last=False)
        else:
            self._times.move_to_end(caller)
        while times and times[0] <= now - self._seconds:
            times.popleft()
        if len(times) >= self._amount:
            return times[0] + self._seconds - now
        times.append(now)
        return 0


class Gate:
    """Let requests in that carry a key with the right scope and come no faster than agreed."""

    def __init__(self, settings: Settings, *, find: Callable[[str], Awaitable[KeyRow | None]]) -> None:
        """Take the rules from the settings.

        Args:
            settings: Whether keys are needed, and the rate limit.
            find: Looks up the key in force that a client sent whole.
        """
        self._rate = settings.rate_limit
        self._window = MovingWindow(*parse_rate(settings.rate_limit))
        self._needs_keys = settings.needs_keys
        self._find = find
        self._known: TTLCache[bytes, KeyRow | None] = TTLCache(_REMEMBERED_KEYS, REMEMBERED_SECONDS)

    async def admit(self, request: Request, scope: str) -> Caller:
        """Return who sent a request that may be served.

        Args:
            request: What came.
            scope: One of `SCOPES`, which its key must have.

        Raises:
            ProblemError: No key, an unknown one, one without the scope, or too many requests.
        """
        if not self._needs_keys:
            return self._count(Caller(_address_of(request)))
        key = await self._key_of(request)
        if key is None:
            self._count(Caller(_address_of(request)))  # so that nobody can try keys for long
            raise ProblemError(
                UNAUTHORIZED, "send a key in force as  Authorization: Bearer KEY  or  X-API-Key: KEY", headers=CHALLENGE
            )
        caller = self._count(Caller(f"key:{key.id}"))
        if scope not in key.scopes:
            raise ProblemError(FORBIDDEN, f"this needs a key with the scope {scope!r}")
        return caller

    def _count(self, caller: Caller) -> Caller:
        seconds = self._window.hit(caller.id)
        if seconds:
            raise ProblemError(RATE_LIMITED, f"the limit is {self._rate}", headers=retry_after(seconds))
        return caller

    async def _key_of(self, request: Request) -> KeyRow | None:
        token = _token_of(request)
        if not token or len(token) > _LONGEST_TOKEN:
            return None
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        try:
            return self._known[digest]
        except KeyError:
            key = self._known[digest] = await self._find(token)
            return key


def _token_of(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.headers.get("x-api-key", "")


def _address_of(request: Request) -> str:
    """Return what tells callers without keys apart: an IPv4 address, or the /64 of an IPv6 one."""
    host = request.client.host if request.client else "unknown"
    if ":" not in host:
        return f"address:{host}"
    try:
        return f"address:{ipaddress.ip_network((host.partition('%')[0], _IPV6_NETWORK), strict=False)}"
    except ValueError:
        return f"address:{host}"
