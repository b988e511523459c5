"""What every helpdesk has in common: the protocol, the settings, and the few values that pass between."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationInfo

from gapnlp.taxonomy import LABELS
from serve.connectors.client import check_base_url

REVIEW = "review"


def _read_secret(value: Any, info: ValidationInfo) -> SecretStr:
    """Take a secret from the environment variable that the file names."""
    environ: Mapping[str, str] = (info.context or {})["environ"]
    if not isinstance(value, str) or not value:
        raise ValueError("expected the name of an environment variable")
    if not environ.get(value):
        raise ValueError(f"the environment variable {value} is not set: put the secret there, not into this file")
    return SecretStr(environ[value])


Secret = Annotated[SecretStr, BeforeValidator(_read_secret)]
"""A secret; the file holds the name of the environment variable that has it."""
BaseUrl = Annotated[str, AfterValidator(check_base_url)]


class ConnectorConfig(BaseModel):
    """What the file says of one helpdesk; secrets come from the environment variables it names."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: BaseUrl = Field(description="Where its API is.")
    webhook_secret: Secret = Field(alias="webhook_secret_env", description="Signs its webhooks.")
    tag_prefix: str = Field("gap_", pattern=r"^[a-z][a-z0-9_-]{0,19}$", description="Every tag of ours begins with it.")
    review_tag: bool = Field(True, description="Also tag what a person should look at.")
    dry_run: bool = Field(False, description="Decide and record, but write nothing to the helpdesk.")

    def tags_for(self, labels: Collection[str], *, review: bool) -> tuple[str, ...]:
        """Return the tags for gaps, in the order of the taxonomy, and the one for review."""
        tags = [f"{self.tag_prefix}{label}" for label in LABELS if label in labels]
        if review and self.review_tag:
            tags.append(f"{self.tag_prefix}{REVIEW}")
        return tuple(tags)


@dataclass(frozen=True, slots=True)
class Webhook:
    """What came to the address of a helpdesk.

    Attributes:
        headers: Their names in lower case.
        body: The very bytes that were signed.
    """

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing that a customer wrote.

    Attributes:
        body: The text or HTML, as the helpdesk keeps it.
        is_html: Whether it is HTML.
        subject: The ticket's title, with its first turn.
    """

    body: str
    is_html: bool = False
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a webhook asks for.

    Attributes:
        ticket: The helpdesk's id of the ticket; safe as a part of a path.
        delivery_id: The same for the same event, however often it is sent; None where that cannot be told.
        turn: What the customer wrote, where the webhook says so; None to read it from the ticket.
    """

    ticket: str
    delivery_id: str | None
    turn: Turn | None = None

    def to_payload(self) -> bytes:
        """Write what must be kept until the delivery is done; no more of the customer than is needed."""
        turn = self.turn and {"body": self.turn.body, "is_html": self.turn.is_html, "subject": self.turn.subject}
        return json.dumps({"ticket": self.ticket, "turn": turn}).encode()

    @staticmethod
    def turn_of(payload: bytes) -> Turn | None:
        """Read back the turn that `to_payload` wrote."""
        turn = json.loads(payload)["turn"]
        return Turn(**turn) if turn else None


@dataclass(frozen=True, slots=True)
class Tags:
    """What a ticket carries at one moment.

    Attributes:
        names: Its tags.
        version: Tells whether the ticket has changed since; empty where the helpdesk has no such thing.
    """

    names: frozenset[str]
    version: str = ""


class Connector(Protocol):
    """One helpdesk. Tags are only ever added, and of them only those we added are removed.

    Attributes:
        name: Its name in the settings.
        config: What the settings say.
    """

    name: str

    @property
    def config(self) -> ConnectorConfig:
        """What the settings say."""

    def check_signature(self, webhook: Webhook, *, now: datetime) -> None:
        """Refuse what the helpdesk has not sent, and what it sent too long ago.

        Raises:
            SignatureError: With the reason.
        """

    def make_test(self, ticket: str | None, *, now: datetime) -> Webhook:
        """Return a webhook as the helpdesk would send it, for a person to test the way to the service.

        Args:
            ticket: Which ticket it is to be about; None for a webhook about no ticket, on which nothing is done.
            now: When it is to have been sent.
        """

    def read_event(self, webhook: Webhook) -> Event | None:
        """Return what a webhook asks for; None where it is about nothing that a customer wrote.

        Raises:
            PayloadError: It is not what this helpdesk sends.
        """

    async def read_turns(self, ticket: str) -> list[Turn]:
        """Return what the customer wrote, the oldest first, without agents, notes and machines.

        Raises:
            HelpdeskError: The kind says what to do next.
        """

    async def read_tags(self, ticket: str) -> Tags:
        """Return the tags that a ticket carries now.

        Raises:
            HelpdeskError: The kind says what to do next.
        """

    async def add_tags(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Add tags to those that are there; tags that are there already do no harm.

        Args:
            ticket: Which.
            names: What to add.
            before: What `read_tags` has returned: where the ticket has changed since, nothing is written.

        Raises:
            ConflictError: The ticket has changed since.
            HelpdeskError: The kind says what to do next.
        """

    async def remove_tags(self, ticket: str, names: Collection[str], *, before: Tags) -> None:
        """Take tags away and leave all others; see `add_tags`.

        Raises:
            ConflictError: The ticket has changed since.
            HelpdeskError: The kind says what to do next.
        """

    async def close(self) -> None:
        """Close the connections."""
