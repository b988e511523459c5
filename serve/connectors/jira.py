"""Jira Service Management: signed webhooks of new requests and comments; gaps become labels.

Signatures, ids and retries: developer.atlassian.com/cloud/jira/platform/webhooks. Labels:
developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues, "Edit issue".
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from serve.connectors.adf import adf_to_text
from serve.connectors.base import ConnectorConfig, Event, Secret, Tags, Turn, Webhook
from serve.connectors.client import HelpdeskClient
from serve.connectors.document import at, check_ticket, read_body, rows_at, text_at, to_body, words_at
from serve.connectors.hub import HubSignature

# Jira signs the time of the event, not that of the sending, and tries up to five times, 5 to 15 minutes apart.
OLDEST = timedelta(hours=2)
PAGE_SIZE = 100
MAX_PAGES = 5  # of comments, the newest first
_CREATED = "jira:issue_created"
_EVENTS = frozenset({_CREATED, "comment_created"})


class JiraConfig(ConnectorConfig):
    """What the file says of a Jira site."""

    kind: Literal["jira"] = "jira"
    email: Annotated[str, StringConstraints(pattern=r"^[^@\s:]+@[^@\s:]+$")] = Field(
        description="Of the account whose API token it is."
    )
    api_token: Secret = Field(alias="api_token_env", description="Of that account.")


class Jira:
    """One Jira site."""

    def __init__(self, name: str, config: JiraConfig) -> None:
        self.name = name
        self.config = config
        self._client = HelpdeskClient(config.base_url, auth=(config.email, config.api_token.get_secret_value()))
        self._signature = HubSignature(
            secret=config.webhook_secret,
            whose="webhook's secret",
            algorithm="sha256",
            times=("timestamp",),
            oldest=OLDEST,
        )

    def check_signature(self, webhook: Webhook, *, now: datetime) -> None:
        """Check `sha256=` and HMAC-SHA256 of the body; the time is the signed one of the event."""
        self._signature.check(webhook, now=now)

    def make_test(self, ticket: str | None, *, now: datetime) -> Webhook:
        """Sign the event that a request is new, or one that Jira does not have; see `Connector`."""
        about = {"webhookEvent": _CREATED, "issue": {"key": ticket}} if ticket else {"webhookEvent": "test"}
        return self._signature.sign(to_body({"timestamp": int(now.timestamp() * 1000), **about}))

    def read_event(self, webhook: Webhook) -> Event | None:
        """Read which request is new or has a new comment; who wrote what is read from Jira; see `Connector`."""
        body = read_body(webhook)
        if text_at(body, "webhookEvent") not in _EVENTS or text_at(body, "comment.author.accountType") == "app":
            return None
        # The id that Jira sends stands in a header that is not signed; the body is, and has the time in it.
        delivery_id = hashlib.sha256(webhook.body).hexdigest()
        return Event(ticket=check_ticket(text_at(body, "issue.key")), delivery_id=delivery_id)

    async def read_turns(self, ticket: str) -> list[Turn]:
        """Return the description and the public comments, as far as the customer wrote them; see `Connector`."""
        params = {"fields": "summary,description,creator,reporter"}
        issue = await self._client.send("GET", _path(ticket), params=params)
        reporter = text_at(issue, "fields.reporter.accountId")
        turns = [
            Turn(adf_to_text(comment.get("body")))
            for comment in await self._read_comments(ticket)
            if comment.get("jsdPublic") is not False and _is_customers(comment, reporter)
        ]
        if reporter and text_at(issue, "fields.creator.accountId") == reporter:
            text, summary = adf_to_text(at(issue, "fields.description")), text_at(issue, "fields.summary")
            turns.insert(0, Turn(text, subject=summary))
        return turns

    async def read_tags(self, ticket: str) -> Tags:
        """Return the issue's labels and when it was changed last; see `Connector`."""
        issue = await self._client.send("GET", _path(ticket), params={"fields": "labels,updated"})
        return Tags(words_at(issue, "fields.labels"), text_at(issue, "fields.updated"))

    async def add_tags(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Add labels by the verb that leaves the others; see `Connector`."""
        await self._edit(ticket, [{"add": name} for name in sorted(names)])

    async def remove_tags(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Remove labels by the verb that leaves the others; see `Connector`."""
        await self._edit(ticket, [{"remove": name} for name in sorted(names)])

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _edit(self, ticket: str, verbs: list[dict[str, str]]) -> None:
        await self._client.send("PUT", _path(ticket), json={"update": {"labels": verbs}})

    async def _read_comments(self, ticket: str) -> list[dict[str, Any]]:
        """Return the newest comments, the oldest of them first."""
        comments: list[dict[str, Any]] = []
        for _ in range(MAX_PAGES):
            params: dict[str, str | int] = {
                "orderBy": "-created",
                "startAt": len(comments),
                "maxResults": PAGE_SIZE,
            }
            page = await self._client.send("GET", _path(ticket, "/comment"), params=params)
            found = rows_at(page, "comments")
            comments += found
            total = at(page, "total")
            if not found or not isinstance(total, int) or len(comments) >= total:
                break
        return comments[::-1]


def _is_customers(comment: dict[str, Any], reporter: str) -> bool:
    """Tell whether a customer wrote a comment: somebody of the portal, or who raised the request."""
    author = text_at(comment, "author.accountId")
    return text_at(comment, "author.accountType") == "customer" or (author != "" and author == reporter)


def _path(ticket: str, rest: str = "") -> str:
    return f"/rest/api/3/issue/{check_ticket(ticket)}{rest}"
