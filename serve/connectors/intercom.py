"""Intercom: signed notifications of conversations; tags by id, added and removed one by one.

Signatures, and what a notification says: developers.intercom.com/docs/webhooks/webhook-notifications. Tags:
developers.intercom.com/docs/references/2.14/rest-api/api.intercom.io/conversations/attachtagtoconversation.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from serve.connectors.base import ConnectorConfig, Event, Secret, Tags, Turn, Webhook
from serve.connectors.client import HelpdeskClient
from serve.connectors.document import check_ticket, read_body, rows_at, text_at, to_body
from serve.connectors.errors import HelpdeskError, PayloadError
from serve.connectors.hub import HubSignature

API_VERSION = "2.14"
_STARTED = "conversation.user.created"
_REPLIED = "conversation.user.replied"
_CUSTOMERS = frozenset({"user", "lead", "contact"})


class IntercomConfig(ConnectorConfig):
    """What the file says of an Intercom workspace; the webhook secret is the app's client secret."""

    kind: Literal["intercom"] = "intercom"
    admin_id: Annotated[str, StringConstraints(pattern=r"^\d{1,20}$")] = Field(
        description="The teammate in whose name tags are added."
    )
    access_token: Secret = Field(alias="access_token_env", description="Of the app.")


class Intercom:
    """One Intercom workspace."""

    def __init__(self, name: str, config: IntercomConfig) -> None:
        self.name = name
        self.config = config
        self._admin = {"admin_id": config.admin_id}
        self._ids: dict[str, str] = {}
        headers = {
            "Authorization": f"Bearer {config.access_token.get_secret_value()}",
            "Intercom-Version": API_VERSION,
        }
        self._client = HelpdeskClient(config.base_url, headers=headers)
        self._signature = HubSignature(
            secret=config.webhook_secret,
            whose="app's client secret",
            algorithm="sha1",
            times=("first_sent_at", "created_at"),  # a retry keeps the time of the first sending
        )

    def check_signature(self, webhook: Webhook, *, now: datetime) -> None:
        """Check `sha1=` and HMAC-SHA1 of the body; the time is the signed one of the first sending."""
        self._signature.check(webhook, now=now)

    def make_test(self, ticket: str | None, *, now: datetime) -> Webhook:
        """Sign a reply whose words stand in the conversation alone, or a ping; see `Connector`."""
        about = {"topic": _REPLIED, "data": {"item": {"id": ticket}}} if ticket else {"topic": "ping"}
        id_, created_at = f"test-{secrets.token_hex(8)}", int(now.timestamp())
        return self._signature.sign(
            to_body({"type": "notification_event", "id": id_, "created_at": created_at, **about})
        )

    def read_event(self, webhook: Webhook) -> Event | None:
        """Read a conversation that a customer has begun or gone on with; see `Connector`."""
        body = read_body(webhook)
        topic = text_at(body, "topic")
        if topic not in {_STARTED, _REPLIED}:
            return None
        ticket = check_ticket(text_at(body, "data.item.id"))
        # A retry tells another number of attempts: its body is another, but its id is the same.
        delivery_id = text_at(body, "id")[:200] or hashlib.sha256(webhook.body).hexdigest()
        item = body["data"]["item"]
        turns = _opening(item) if topic == _STARTED else _replies(item)[-1:]
        return Event(ticket=ticket, delivery_id=delivery_id, turn=turns[0] if turns else None)

    async def read_turns(self, ticket: str) -> list[Turn]:
        """Return what the customer said in the conversation; Intercom tells the last 500 parts."""
        shown = await self._client.send("GET", _path(ticket))
        return [*_opening(shown), *_replies(shown)]

    async def read_tags(self, ticket: str) -> Tags:
        """Return the conversation's tags; see `Connector`."""
        shown = await self._client.send("GET", _path(ticket))
        if not isinstance(shown, dict) or "tags" not in shown:
            raise PayloadError("expected the tags of the conversation in Intercom's answer")
        tags = rows_at(shown, "tags.tags")
        # To Intercom, "VIP" and "vip" are the same tag; ours are in lower case.
        self._ids |= {text_at(tag, "name").lower(): text_at(tag, "id") for tag in tags}
        return Tags(frozenset(text_at(tag, "name").lower() for tag in tags))

    async def add_tags(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Add one tag after the other; tags that are not known in the workspace yet are made."""
        await self._change("POST", ticket, names)

    async def remove_tags(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Remove one tag after the other; see `Connector`."""
        await self._change("DELETE", ticket, names)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _change(self, method: Literal["POST", "DELETE"], ticket: str, names: Collection[str]) -> None:
        path = _path(ticket, "/tags")
        for n_done, name in enumerate(sorted(names)):
            try:
                id_ = await self._id_of(name)
                if method == "POST":
                    await self._client.send("POST", path, json={"id": id_, **self._admin})
                else:
                    await self._client.send("DELETE", f"{path}/{id_}", json=self._admin)
            except HelpdeskError as exc:
                exc.may_have_worked = exc.may_have_worked or n_done > 0
                raise

    async def _id_of(self, name: str) -> str:
        """Return the id of a tag; Intercom makes one for a new name and finds the one of a known name."""
        if not self._ids.get(name):
            made = await self._client.send("POST", "/tags", json={"name": name})
            if not text_at(made, "id"):
                raise HelpdeskError("POST /tags: expected the tag that was made, with its id")
            self._ids[name] = check_ticket(text_at(made, "id"))
        return self._ids[name]


def _opening(conversation: Any) -> list[Turn]:
    """Return what began the conversation, if that was the customer."""
    if text_at(conversation, "source.author.type") not in _CUSTOMERS:
        return []
    body, subject = text_at(conversation, "source.body"), text_at(conversation, "source.subject")
    return [Turn(body, is_html=True, subject=subject)] if body else []


def _replies(conversation: Any) -> list[Turn]:
    return [
        Turn(text_at(part, "body"), is_html=True)
        for part in rows_at(conversation, "conversation_parts.conversation_parts")
        if text_at(part, "author.type") in _CUSTOMERS and text_at(part, "body")
    ]


def _path(ticket: str, rest: str = "") -> str:
    return f"/conversations/{check_ticket(ticket)}{rest}"
