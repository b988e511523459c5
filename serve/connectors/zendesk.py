"""Zendesk: signed webhooks of events or triggers; tags by the add-only call with a safe update.

Signatures: developer.zendesk.com/documentation/webhooks/verifying. Tags, and what `safe_update` does:
developer.zendesk.com/api-reference/ticketing/ticket-management/tags.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, StringConstraints, field_validator

from serve.connectors.base import ConnectorConfig, Event, Secret, Tags, Turn, Webhook
from serve.connectors.client import HelpdeskClient
from serve.connectors.document import at, check_ticket, read_body, rows_at, text_at, to_body, words_at
from serve.connectors.errors import PayloadError, SignatureError
from serve.connectors.signature import check_age, is_same, parse_time

# Signs the tests of webhooks that are not active yet. It is printed in Zendesk's manual: anybody can sign with it.
TEST_SECRET = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="  # noqa: S105  no secret of ours
PAGE_SIZE = 100
MAX_PAGES = 5  # of comments, the newest first: older ones were read when they came
_SIGNATURE = "x-zendesk-webhook-signature"
_TIMESTAMP = "x-zendesk-webhook-signature-timestamp"
_INVOCATION = "x-zendesk-webhook-invocation-id"
_EVENT = "zen:event-type:ticket."
_SUBJECT = re.compile(r"zen:ticket:(\d{1,20})")
_DIGITS = re.compile(r"\d{1,20}")


class ZendeskConfig(ConnectorConfig):
    """What the file says of a Zendesk."""

    kind: Literal["zendesk"] = "zendesk"
    email: Annotated[str, StringConstraints(pattern=r"^[^@\s:]+@[^@\s:]+$")] = Field(
        description="Of the agent whose API token it is."
    )
    api_token: Secret = Field(alias="api_token_env", description="Of the Zendesk API.")

    @field_validator("webhook_secret", mode="after")
    @classmethod
    def _is_no_test_secret(cls, value: SecretStr) -> SecretStr:
        if is_same(value.get_secret_value(), TEST_SECRET):
            raise ValueError(
                "this is the secret that Zendesk's manual prints for tests, and anybody can sign with it: reveal the "
                "webhook's own signing secret in the Admin Center"
            )
        return value


class Zendesk:
    """One Zendesk."""

    def __init__(self, name: str, config: ZendeskConfig) -> None:
        self.name = name
        self.config = config
        self._client = HelpdeskClient(
            config.base_url, auth=(f"{config.email}/token", config.api_token.get_secret_value())
        )

    def check_signature(self, webhook: Webhook, *, now: datetime) -> None:
        """Check `base64(HMAC-SHA256(timestamp + body))`; see `Connector`."""
        timestamp = webhook.headers.get(_TIMESTAMP, "")
        got = webhook.headers.get(_SIGNATURE, "")
        if not is_same(got, sign(self.config.webhook_secret.get_secret_value(), timestamp, webhook.body)):
            if is_same(got, sign(TEST_SECRET, timestamp, webhook.body)):
                raise SignatureError("signed with Zendesk's secret for tests: make the webhook active first")
            raise SignatureError("the signature is not that of this webhook's signing secret")
        check_age(parse_time(timestamp), now)

    def make_test(self, ticket: str | None, *, now: datetime) -> Webhook:
        """Sign the body of a trigger, or an event that Zendesk does not have; see `Connector`."""
        body = to_body({"ticket_id": ticket} if ticket else {"type": "zen:event-type:test"})
        timestamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        signature = sign(self.config.webhook_secret.get_secret_value(), timestamp, body)
        invocation = f"test-{secrets.token_hex(8)}"
        return Webhook({_SIGNATURE: signature, _TIMESTAMP: timestamp, _INVOCATION: invocation}, body)

    def read_event(self, webhook: Webhook) -> Event | None:
        """Read an event, or the body of a trigger that names a ticket; see `Connector`."""
        body = read_body(webhook)
        kind = text_at(body, "type")
        if kind.startswith("zen:event-type:"):
            return _read_ticket_event(body, kind)
        ticket = text_at(body, "ticket_id") or text_at(body, "ticket.id")
        # A trigger's body may be the same for different events, so it is the call that has the id.
        invocation = webhook.headers.get(_INVOCATION, "")[:200]
        return Event(ticket=_check_id(ticket), delivery_id=invocation or None)

    async def read_turns(self, ticket: str) -> list[Turn]:
        """Return the public comments of end users; see `Connector`."""
        shown = await self._client.send("GET", _path(ticket))
        comments, roles = await self._read_comments(ticket)
        newest_first = [
            Turn(text_at(comment, "body"))
            for comment in comments
            if comment.get("public") is True and roles.get(text_at(comment, "author_id")) == "end-user"
        ]
        turns = newest_first[::-1]
        if turns and comments and turns[0].body == text_at(comments[-1], "body"):
            turns[0] = Turn(turns[0].body, subject=text_at(shown, "ticket.subject"))
        return turns

    async def read_tags(self, ticket: str) -> Tags:
        """Return the ticket's tags and when it was changed last; see `Connector`."""
        shown = await self._client.send("GET", _path(ticket))
        return Tags(words_at(shown, "ticket.tags"), text_at(shown, "ticket.updated_at"))

    async def add_tags(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Add tags by PUT, which leaves the others; see `Connector`."""
        await self._client.send("PUT", _path(ticket, "/tags"), json=_safe(names, before))

    async def remove_tags(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Remove tags by DELETE, which leaves the others; see `Connector`."""
        await self._client.send("DELETE", _path(ticket, "/tags"), json=_safe(names, before))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _read_comments(self, ticket: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Return the comments, the newest first, and the role of each author."""
        comments: list[dict[str, Any]] = []
        roles: dict[str, str] = {}
        params: dict[str, str | int] = {"include": "users", "sort": "-created_at", "page[size]": PAGE_SIZE}
        for _ in range(MAX_PAGES):
            page = await self._client.send("GET", _path(ticket, "/comments"), params=params)
            comments += rows_at(page, "comments")
            roles |= {text_at(user, "id"): text_at(user, "role") for user in rows_at(page, "users")}
            cursor = text_at(page, "meta.after_cursor")
            if at(page, "meta.has_more") is not True or not cursor:
                break
            params = params | {"page[after]": cursor}
        return comments, roles


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return Zendesk's signature of a webhook."""
    message = timestamp.encode("utf-8", "surrogatepass") + body
    return base64.b64encode(hmac.digest(secret.encode(), message, hashlib.sha256)).decode()


def _read_ticket_event(body: dict[str, Any], kind: str) -> Event | None:
    """Read an event that Zendesk itself describes: a new ticket, or a new comment of a customer."""
    what = kind.removeprefix(_EVENT)
    if what not in {"created", "comment_added"}:
        return None
    found = _SUBJECT.fullmatch(text_at(body, "subject"))
    ticket = _check_id(text_at(body, "detail.id") or (found[1] if found else ""))
    turn: Turn | None = None
    if what == "created":
        # An agent may open a ticket for somebody: then the ticket itself says who wrote what.
        if text_at(body, "detail.submitter_id") == text_at(body, "detail.requester_id") != "":
            turn = Turn(text_at(body, "detail.description"), subject=text_at(body, "detail.subject"))
    elif at(body, "event.comment.author.is_staff") is not False:
        return None
    else:
        turn = Turn(text_at(body, "event.comment.body"))
    return Event(
        ticket=ticket,
        delivery_id=text_at(body, "id")[:200] or None,
        turn=turn if turn and turn.body.strip() else None,
    )


def _safe(names: Collection[str], before: Tags) -> dict[str, Any]:
    """Return a body with which Zendesk changes nothing unless the ticket is still as it was read."""
    return {"tags": sorted(names), "updated_stamp": before.version, "safe_update": "true"}


def _path(ticket: str, rest: str = "") -> str:
    return f"/api/v2/tickets/{_check_id(ticket)}{rest}"


def _check_id(value: str) -> str:
    if not _DIGITS.fullmatch(value):
        raise PayloadError("expected the number of a ticket in the webhook, as ticket_id or detail.id")
    return check_ticket(value)
