"""Calls to a helpdesk: to its own host alone, over TLS, with limits on time and size, and every failure told apart."""

from __future__ import annotations

import ipaddress
import json
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from serve.connectors.cause import explain
from serve.connectors.errors import (
    BusyError,
    ConflictError,
    DeniedError,
    HelpdeskError,
    PayloadError,
    RefusedError,
    UnknownTicketError,
    UnreachableError,
)

TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 10_000_000
LONGEST_WAIT = 86_400.0  # seconds; a helpdesk that asks for more is asked again after a day
# Asked to wait without a word on how long.
_USUAL_WAIT = 60.0


class HelpdeskClient:
    """Send requests to one helpdesk and read the JSON it answers with.

    Redirects are not followed: with the request they would carry our credentials to another host.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            base_url: What `check_base_url` accepts.
            headers: Sent with every request.
            auth: User and password, where the helpdesk asks for Basic authentication.
            timeout: Seconds to connect, and again for each part of the answer.
        """
        self._where = urlsplit(base_url).netloc
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers={"Accept": "application/json", **(headers or {})},
            auth=auth,
            timeout=timeout,
            follow_redirects=False,
            trust_env=not is_loopback(base_url),  # a proxy of the environment cannot reach this machine's loopback
        )

    async def send(
        self, method: str, path: str, *, params: Mapping[str, str | int] | None = None, json: Any = None
    ) -> Any:
        """Send a request and return the JSON of the answer; None where it has no body, or none that can be read.

        A change that the helpdesk says it has made is made, even if what it says of it cannot be read.

        Args:
            method: The HTTP method.
            path: Under the base URL, already quoted.
            params: The query.
            json: The body.

        Raises:
            HelpdeskError: The kind says what to do next.
        """
        what = f"{method} {path.partition('?')[0]}"
        try:
            async with self._client.stream(method, path, params=params, json=json) as response:
                _check_status(response, what)
                return _parse(await _read(response, what), what)
        except PayloadError as exc:
            if method == "GET":
                raise UnreachableError(str(exc)) from None
            return None  # the change was made, whatever the answer looks like
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            # Nothing was sent, so nothing can have been changed.
            raise BusyError(f"{what}: {explain(exc, self._where)}", retry_after=0) from None
        except httpx.HTTPError as exc:
            raise UnreachableError(f"{what}: {explain(exc, self._where)}") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def check_base_url(url: str) -> str:
    """Return the URL without a slash at its end.

    Raises:
        ValueError: It is not https (http only to this machine), or has a user, a query or a fragment, or is no address.
    """
    parts = urlsplit(url)
    try:
        httpx.URL(url)
    except httpx.InvalidURL as exc:
        raise ValueError(f"expected an address: {exc}") from None
    if parts.username or parts.password or parts.query or parts.fragment or not parts.hostname:
        raise ValueError("expected an address such as https://example.zendesk.com, without a user and a query")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(url)):
        raise ValueError("expected an address that begins with https://")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Tell whether a URL leads to this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_status(response: httpx.Response, what: str) -> None:
    """Raise what a status means; return where it is a success."""
    status = response.status_code
    said = f"{what}: the helpdesk answered {status}"
    if status < 300:
        return
    if status == 429:
        raise BusyError(said, retry_after=_retry_after(response.headers))
    if status >= 500 or status == 408:
        waits = status == 503 and "retry-after" in response.headers
        raise UnreachableError(said, retry_after=_retry_after(response.headers) if waits else 0.0)
    raise _final_error(status, said)


def _final_error(status: int, said: str) -> HelpdeskError:
    if status == 409:
        return ConflictError(f"{said}: the ticket was changed meanwhile")
    if status in {404, 410}:
        return UnknownTicketError(f"{said}: it has no such ticket")
    if status in {401, 403}:
        return DeniedError(f"{said}: check the credentials, and what they allow")
    if status < 400:
        return RefusedError(f"{said}, a redirect, which is not followed: correct base_url")
    return RefusedError(said)


def _retry_after(headers: httpx.Headers) -> float:
    """Return the seconds to wait: `Retry-After` (RFC 9110, 10.2.3), or the time of `X-RateLimit-Reset`."""
    value = headers.get("retry-after", "").strip()
    reset = headers.get("x-ratelimit-reset", "").strip()
    try:
        if value:
            seconds = float(value) if value[0].isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
        else:
            seconds = float(reset) - time.time()
    except ValueError:
        return _USUAL_WAIT
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else _USUAL_WAIT


async def _read(response: httpx.Response, what: str) -> bytes:
    parts, n_bytes = [], 0
    async for part in response.aiter_bytes():
        n_bytes += len(part)
        if n_bytes > MAX_ANSWER_BYTES:
            raise PayloadError(f"{what}: the answer is larger than {MAX_ANSWER_BYTES:,} bytes")
        parts.append(part)
    return b"".join(parts)


def _parse(body: bytes, what: str) -> Any:
    if not body.strip():
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise PayloadError(f"{what}: the answer is not JSON: check base_url") from None
