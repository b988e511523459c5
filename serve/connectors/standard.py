"""Any other helpdesk: webhooks by the Standard Webhooks specification, and a mapping in the settings.

The specification: github.com/standard-webhooks/standard-webhooks. Places in a document are paths of keys joined by
dots, such as `data.message.body`.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from serve.connectors.base import ConnectorConfig, Event, Secret, Tags, Turn, Webhook
from serve.connectors.client import HelpdeskClient
from serve.connectors.document import check_ticket, read_body, rows_at, text_at, to_body, words_at
from serve.connectors.errors import HelpdeskError, SignatureError

_Path = Annotated[str, StringConstraints(pattern=r"^[^.\s]+(\.[^.\s]+)*$")]
_Words = tuple[Annotated[str, StringConstraints(min_length=1)], ...]
_ID = "webhook-id"
_TAGS, _TAG, _TICKET = "{tags}", "{tag}", "{ticket}"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class WebhookMap(_Part):
    """Where a webhook says what."""

    ticket: _Path = Field(description="The ticket's id.")
    event: _Path | None = Field(None, description="The kind of event.")
    events: _Words = Field((), description="The kinds to act on; none for all.")
    text: _Path | None = Field(None, description="What the customer wrote; none to read it from the ticket.")
    html: bool = Field(False, description="Whether that is HTML.")
    author: _Path | None = Field(None, description="Who wrote it.")
    customers: _Words = Field((), description="What stands there for customers.")


class TurnMap(_Part):
    """Where the ticket says what the customer wrote."""

    list: _Path = Field(description="The list of messages, the oldest first.")
    text: _Path = Field(description="The text, in a message.")
    html: bool = Field(False, description="Whether that is HTML.")
    author: _Path | None = Field(None, description="Who wrote it, in a message.")
    customers: _Words = Field((), description="What stands there for customers.")


class ReadMap(_Part):
    """How a ticket is read."""

    path: str = Field(description="With {ticket} for its id.")
    tags: _Path = Field(description="The list of its tags, as strings.")
    version: _Path | None = Field(None, description="What changes whenever the ticket does.")
    text: _Path | None = Field(None, description="What the customer wrote first.")
    html: bool = Field(False, description="Whether that is HTML.")
    turns: TurnMap | None = Field(None, description="What was written after that.")


class CallMap(_Part):
    """A call that adds or removes tags and leaves the others."""

    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    path: str = Field(description="With {ticket}, and {tag} where each tag has a call of its own.")
    body: dict[str, Any] | None = Field(None, description='"{tags}" stands for the list, {tag} for one of them.')

    @property
    def is_per_tag(self) -> bool:
        """Whether each tag has a call of its own."""
        return _TAG in self.path or _TAG in str(self.body)

    @model_validator(mode="after")
    def _names_tags(self) -> CallMap:
        if not self.is_per_tag and _TAGS not in str(self.body):
            raise ValueError('expected "{tags}" in the body, or {tag} in the body or the path')
        if _TICKET not in self.path and _TICKET not in str(self.body):
            raise ValueError("expected {ticket} in the path or the body")
        return self


class StandardConfig(ConnectorConfig):
    """What the file says of any other helpdesk."""

    kind: Literal["standard"] = "standard"
    api_token: Secret = Field(alias="api_token_env", description="Of its API.")
    auth_header: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$")] = "Authorization"
    auth_value: str = Field("Bearer {token}", description="With {token} for the API token.")
    webhook: WebhookMap
    read: ReadMap
    add: CallMap
    remove: CallMap

    @field_validator("webhook_secret", mode="after")
    @classmethod
    def _can_sign(cls, value: SecretStr) -> SecretStr:
        try:
            Verifier(value.get_secret_value())
        except Exception:  # noqa: BLE001  the library raises whatever base64 does, and its own
            raise ValueError("expected a secret of Standard Webhooks: whsec_ and base64") from None
        return value


class Standard:
    """One helpdesk that signs by Standard Webhooks."""

    def __init__(self, name: str, config: StandardConfig) -> None:
        self.name = name
        self.config = config
        self._verifier = Verifier(config.webhook_secret.get_secret_value())
        value = config.auth_value.replace("{token}", config.api_token.get_secret_value())
        self._client = HelpdeskClient(config.base_url, headers={config.auth_header: value})

    def check_signature(self, webhook: Webhook, *, now: datetime) -> None:
        """Let the specification's own library check id, time (five minutes by its clock) and body."""
        try:
            self._verifier.verify(webhook.body, dict(webhook.headers), json_parse=False)
        except WebhookVerificationError as exc:
            raise SignatureError(str(exc)) from None
        except ValueError:  # it trips over headers that are no base64, and bodies that are no UTF-8
            raise SignatureError("the signature cannot be read") from None

    def make_test(self, ticket: str | None, *, now: datetime) -> Webhook:
        """Sign what the mapping reads as a customer's event, or as nobody's; see `Connector`."""
        where = self.config.webhook
        said = {where.event: where.events[:1], where.author: where.customers[:1]}
        body: dict[str, Any] = {}
        for place, words in {**said, where.ticket: (ticket,) if ticket else ()}.items():
            if place and words:
                _put(body, place, words[0] if ticket else "test")
        id_ = f"test-{secrets.token_hex(8)}"
        signature = self._verifier.sign(id_, now, to_body(body).decode())
        headers = {_ID: id_, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
        return Webhook(headers, to_body(body))

    def read_event(self, webhook: Webhook) -> Event | None:
        """Read what the mapping points to; see `Connector`."""
        body, where = read_body(webhook), self.config.webhook
        if where.event and where.events and text_at(body, where.event) not in where.events:
            return None
        if not _is_customers(body, where):
            return None
        text = text_at(body, where.text) if where.text else ""
        return Event(
            ticket=check_ticket(text_at(body, where.ticket)),
            delivery_id=webhook.headers.get(_ID, "")[:200] or None,
            turn=Turn(text, is_html=where.html) if text.strip() else None,
        )

    async def read_turns(self, ticket: str) -> list[Turn]:
        """Return what the mapping points to; see `Connector`."""
        shown, where = await self._read(ticket), self.config.read
        turns = [Turn(text_at(shown, where.text), is_html=where.html)] if where.text else []
        if where.turns:
            rows = [row for row in rows_at(shown, where.turns.list) if _is_customers(row, where.turns)]
            turns += [Turn(text_at(row, where.turns.text), is_html=where.turns.html) for row in rows]
        return turns

    async def read_tags(self, ticket: str) -> Tags:
        """Return the tags that the mapping points to; see `Connector`."""
        shown, where = await self._read(ticket), self.config.read
        return Tags(words_at(shown, where.tags), text_at(shown, where.version) if where.version else "")

    async def add_tags(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Make the call, or the calls, of `add`; see `Connector`."""
        await self._call(self.config.add, ticket, names)

    async def remove_tags(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Make the call, or the calls, of `remove`; see `Connector`."""
        await self._call(self.config.remove, ticket, names)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _read(self, ticket: str) -> Any:
        return await self._client.send("GET", self.config.read.path.replace(_TICKET, check_ticket(ticket)))

    async def _call(self, call: CallMap, ticket: str, names: Collection[str]) -> None:
        groups = [[name] for name in sorted(names)] if call.is_per_tag else [sorted(names)]
        for n_done, group in enumerate(groups):
            words = {_TICKET: check_ticket(ticket), _TAG: group[0]}
            body = _fill(call.body, words, tags=group) if call.body is not None else None
            try:
                await self._client.send(call.method, _fill(call.path, words, tags=group), json=body)
            except HelpdeskError as exc:
                exc.may_have_worked = exc.may_have_worked or n_done > 0
                raise


def _is_customers(document: Any, where: WebhookMap | TurnMap) -> bool:
    return where.author is None or not where.customers or text_at(document, where.author) in where.customers


def _put(document: dict[str, Any], path: str, word: str) -> None:
    """Put a word where `at` finds it."""
    *keys, last = path.split(".")
    for key in keys:
        inner = document.get(key)
        document[key] = document = inner if isinstance(inner, dict) else {}
    document[last] = word


def _fill(template: Any, words: Mapping[str, str], *, tags: list[str]) -> Any:
    """Put values in the places of a template."""
    if template == _TAGS:
        return tags
    if isinstance(template, str):
        for place, word in words.items():
            template = template.replace(place, word)
        return template
    if isinstance(template, dict):
        return {key: _fill(value, words, tags=tags) for key, value in template.items()}
    if isinstance(template, list):
        return [_fill(value, words, tags=tags) for value in template]
    return template
