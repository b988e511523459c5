"""What proves that a webhook comes from the helpdesk: secrets compared in constant time, and its age."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

from serve.connectors.errors import SignatureError

WINDOW = timedelta(minutes=5)
_MILLISECONDS = 1e11  # a count since 1970 above this is of milliseconds: as seconds it would be the year 5138


def is_same(got: str, expected: str) -> bool:
    """Compare two secrets in a time that tells nothing of either, their lengths included."""
    return hmac.compare_digest(_digest(got), _digest(expected))


def check_age(sent_at: datetime, now: datetime, *, oldest: timedelta = WINDOW) -> None:
    """Refuse what was sent too long ago, or in the future.

    Raises:
        SignatureError: Older than `oldest`, or more than five minutes ahead of our clock.
    """
    if now - sent_at > oldest:
        raise SignatureError(
            f"the webhook is older than {int(oldest.total_seconds() // 60)} minutes: it may be a copy sent again"
        )
    if sent_at - now > WINDOW:
        raise SignatureError("the webhook says it was sent in the future: check the clock of this machine")


def parse_time(value: Any) -> datetime:
    """Read a time: ISO 8601, or a count of seconds or milliseconds since 1970. Without a zone it is UTC.

    Raises:
        SignatureError: It is neither.
    """
    try:
        if isinstance(value, str) and not value.strip().isdigit():
            found = datetime.fromisoformat(value.strip())
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        seconds = float(value)
        return datetime.fromtimestamp(seconds / 1000 if seconds > _MILLISECONDS else seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise SignatureError("the webhook does not say when it was sent, or not so that it can be read") from None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
