"""Freshdesk: webhooks of automation rules, with a shared secret; tags by read, merge and write.

Freshdesk signs nothing, so the rule sends a secret in a header. Its API replaces a ticket's tags as a whole
(developers.freshdesk.com/api/#update_ticket), so they are read just before they are written, and checked after.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from serve.connectors.base import ConnectorConfig, Event, Secret, Tags, Turn, Webhook
from serve.connectors.client import HelpdeskClient
from serve.connectors.document import at, check_ticket, read_body, rows_at, text_at, to_body, words_at
from serve.connectors.errors import ConflictError, PayloadError, SignatureError
from serve.connectors.signature import check_age, is_same, parse_time

HEADER = "x-gapnlp-secret"
_TEST = "gapnlp_test"  # true in the body of a test, which is about no ticket
PAGE_SIZE = 100
MAX_PAGES = 5  # of the conversation, the oldest first
_WRITTEN_BY_AGENTS = frozenset({"3", "10"})  # sources: a call, which an agent wrote down; an e-mail that an agent sent


class FreshdeskConfig(ConnectorConfig):
    """What the file says of a Freshdesk."""

    kind: Literal["freshdesk"] = "freshdesk"
    api_key: Secret = Field(alias="api_key_env", description="Of an agent's profile.")


class Freshdesk:
    """One Freshdesk."""

    def __init__(self, name: str, config: FreshdeskConfig) -> None:
        self.name = name
        self.config = config
        self._client = HelpdeskClient(config.base_url, auth=(config.api_key.get_secret_value(), "X"))

    def check_signature(self, webhook: Webhook, *, now: datetime) -> None:
        """Check the secret in the header or in the Basic authentication, and the time if it is told."""
        secret = self.config.webhook_secret.get_secret_value()
        sent = (webhook.headers.get(HEADER, ""), _basic_password(webhook.headers.get("authorization", "")))
        if not any([is_same(value, secret) for value in sent]):  # noqa: C419  both, so that the time tells nothing
            raise SignatureError(f"expected the shared secret in the header {HEADER}, or as a Basic password")
        try:
            timestamp = at(_fields(webhook), "timestamp")
        except PayloadError:
            timestamp = None  # said where the body is read
        if timestamp not in {None, ""}:
            check_age(parse_time(timestamp), now)

    def make_test(self, ticket: str | None, *, now: datetime) -> Webhook:
        """Put the secret beside a ticket, or beside a word that we alone say; see `Connector`."""
        body = to_body({"ticket_id": ticket} if ticket else {_TEST: True})
        return Webhook({HEADER: self.config.webhook_secret.get_secret_value()}, body)

    def read_event(self, webhook: Webhook) -> Event | None:
        """Read which ticket the rule was about; see `Connector`."""
        fields = _fields(webhook)
        if at(fields, _TEST) is True:
            return None
        # A rule may send the same body twice for different events, unless it also sends the time.
        is_unique = at(fields, "timestamp") not in {None, ""}
        delivery_id = hashlib.sha256(webhook.body).hexdigest() if is_unique else None
        return Event(ticket=_check_id(text_at(fields, "ticket_id")), delivery_id=delivery_id)

    async def read_turns(self, ticket: str) -> list[Turn]:
        """Return the description and the public replies of the customer; see `Connector`."""
        shown = await self._client.send("GET", _path(ticket))
        turns = []
        if text_at(shown, "source") not in _WRITTEN_BY_AGENTS:
            turns.append(Turn(text_at(shown, "description_text"), subject=text_at(shown, "subject")))
        for page in range(1, MAX_PAGES + 1):
            params: dict[str, str | int] = {"page": page, "per_page": PAGE_SIZE}
            rows = await self._client.send("GET", _path(ticket, "/conversations"), params=params)
            replies = rows_at({"rows": rows}, "rows")
            turns += [Turn(text_at(reply, "body_text")) for reply in replies if _is_customers(reply)]
            if len(replies) < PAGE_SIZE:
                break
        return turns

    async def read_tags(self, ticket: str) -> Tags:
        """Return the ticket's tags and when it was changed last; see `Connector`."""
        shown = await self._client.send("GET", _path(ticket))
        return Tags(words_at(shown, "tags"), text_at(shown, "updated_at"))

    async def add_tags(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Write what the ticket carries with ours added; see `Connector`."""
        await self._replace(ticket, before.names | set(names), before=before)

    async def remove_tags(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Write what the ticket carries without ours; see `Connector`."""
        await self._replace(ticket, before.names - set(names), before=before)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _replace(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Write all tags, if the ticket is still as it was when they were read.

        Between this look and the write lie milliseconds in which somebody else may write: Freshdesk has no way to
        rule that out.

        Raises:
            ConflictError: The ticket has changed, or the answer does not carry what was written.
        """
        now = await self.read_tags(ticket)
        if now != before:
            raise ConflictError("the ticket was changed while its tags were being worked out")
        answer = await self._client.send("PUT", _path(ticket), json={"tags": sorted(names)})
        if answer is not None and words_at(answer, "tags") != frozenset(names):
            error = ConflictError("the ticket's tags were changed at the same moment")
            error.may_have_worked = True
            raise error


def _fields(webhook: Webhook) -> dict[str, Any]:
    """Return what the rule sends: Freshdesk wraps it where the content is called simple."""
    body = read_body(webhook)
    wrapped = body.get("freshdesk_webhook")
    return wrapped if isinstance(wrapped, dict) else body


def _basic_password(header: str) -> str:
    scheme, _, packed = header.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(packed, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _is_customers(reply: dict[str, Any]) -> bool:
    return reply.get("incoming") is True and reply.get("private") is not True


def _path(ticket: str, rest: str = "") -> str:
    return f"/api/v2/tickets/{_check_id(ticket)}{rest}"


def _check_id(value: str) -> str:
    if not (value.isascii() and value.isdigit()):
        raise PayloadError("expected the number of a ticket as ticket_id")
    return check_ticket(value)
