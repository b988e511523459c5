"""Webhooks signed by `X-Hub-Signature`: the name of a hash, and the HMAC of the body with it (W3C WebSub, 2018, 8).

The body itself says when it was sent, and is signed.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import SecretStr

from serve.connectors.base import Webhook
from serve.connectors.document import read_body, text_at
from serve.connectors.errors import PayloadError, SignatureError
from serve.connectors.signature import WINDOW, check_age, is_same, parse_time

_HEADER = "x-hub-signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSignature:
    """How a helpdesk signs.

    Attributes:
        secret: What both sides know.
        whose: The secret's owner, for messages.
        algorithm: The hash.
        times: Where the body says when it was sent; the first of these that it has.
        oldest: How long a webhook is taken.
    """

    secret: SecretStr
    whose: str
    algorithm: Literal["sha1", "sha256"]
    times: tuple[str, ...]
    oldest: timedelta = WINDOW

    def sign(self, body: bytes) -> Webhook:
        """Return a body with its signature."""
        return Webhook({_HEADER: self._of(body)}, body)

    def check(self, webhook: Webhook, *, now: datetime) -> None:
        """Refuse what was signed with another secret, or too long ago.

        Raises:
            SignatureError: With the reason.
        """
        if not is_same(webhook.headers.get(_HEADER, ""), self._of(webhook.body)):
            raise SignatureError(f"the signature is not that of this {self.whose}")
        try:
            body = read_body(webhook)
        except PayloadError as exc:
            raise SignatureError(str(exc)) from None
        sent_at = next((found for found in (text_at(body, place) for place in self.times) if found), "")
        check_age(parse_time(sent_at), now, oldest=self.oldest)

    def _of(self, body: bytes) -> str:
        digest = hmac.digest(self.secret.get_secret_value().encode(), body, self.algorithm)
        return f"{self.algorithm}={digest.hex()}"
