"""The rows of the store as frozen values. Times are aware; ids are strings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from gapnlp.records import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a stored prediction says beside the prediction.

    Attributes:
        id: Unique among all predictions.
        created_at: When it was made.
        text_hash: What `gapnlp.text.hash_text` says of the text.
        text: The customer's text, or None where it is not to be kept.
        source: `api`, or the name of a connector.
        fingerprint: Of the model's files.
    """

    id: str
    created_at: datetime
    text_hash: str
    text: str | None
    source: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPrediction(Origin):
    """One prediction, as it was answered.

    Attributes:
        labels: The gaps found, the primary first; empty for `none`.
        proba: Calibrated probability per gap in the order of `LABELS`, five numbers of 0-1.
        evidence: (label, start, end) per passage, in characters of the text.
        review: Whether a person should look.
        truncated: Whether the end of the text was left out.
        model: `name@version`.
    """

    labels: tuple[str, ...]
    proba: tuple[float, ...]
    evidence: tuple[tuple[str, int, int], ...]
    review: bool
    truncated: bool
    model: str

    @classmethod
    def of(cls, prediction: Prediction, origin: Origin) -> Self:
        """Join what the model said with where the text came from."""
        return cls(
            id=origin.id,
            created_at=origin.created_at,
            text_hash=origin.text_hash,
            text=origin.text,
            source=origin.source,
            fingerprint=origin.fingerprint,
            labels=prediction.labels,
            proba=prediction.proba,
            evidence=tuple((item.label, item.start, item.end) for item in prediction.evidence),
            review=prediction.review,
            truncated=prediction.truncated,
            model=prediction.model,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a person says of a prediction.

    Attributes:
        id: Unique among all feedback.
        prediction_id: The prediction it is about.
        created_at: When it was given.
        labels: The gaps that are right; empty for `none`.
        author: Who says so, where known.
        comment: Why, where told.
    """

    id: str
    prediction_id: str
    created_at: datetime
    labels: tuple[str, ...]
    author: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class LastWord:
    """The feedback that holds for a prediction, and the text that it was about.

    Attributes:
        text_hash: See `gapnlp.text.hash_text`.
        text: What the customer wrote, where it was kept.
        source: `api`, or the name of a connector.
    """

    feedback: Feedback
    text_hash: str
    text: str | None
    source: str


@dataclass(frozen=True, slots=True)
class Started:
    """The key is new, or its owner has died: the caller does the work, and finishes or abandons it.

    Attributes:
        token: Proves to `finish` and `abandon` that the claim is still the caller's.
    """

    token: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The work was done before: give the same answer.

    Attributes:
        status: HTTP status of the answer.
        body: Its bytes.
        content_type: Its media type.
    """

    status: int
    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Running:
    """Somebody else does the work at this moment."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The key was used before, with another body."""


Claim = Started | Finished | Running | Mismatch
"""What `idempotency.begin` answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """An API key, without its secret.

    Attributes:
        id: The part of the key that may be shown.
        name: Whose key it is, for people.
        scopes: What it allows.
        created_at: When it was made.
        revoked_at: When it was revoked; None while in force.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One delivery of a helpdesk's webhook.

    Attributes:
        id: Ours, unique among all deliveries.
        connector: The helpdesk's name in the settings.
        delivery_id: What the helpdesk calls this delivery; the same id is the same delivery.
        ticket: The helpdesk's id of the ticket.
        payload: The body as it came; emptied once the delivery is done, because it holds the customer's text.
        received_at: When it came.
        n_attempts: How often it was claimed, this time included.
    """

    id: str
    connector: str
    delivery_id: str
    ticket: str
    payload: bytes
    received_at: datetime
    n_attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagging:
    """Tags that were, or may have been, written to a ticket.

    Attributes:
        id: Ours, unique among all taggings.
        connector: The helpdesk's name in the settings.
        ticket: The helpdesk's id of the ticket.
        tags: What is written.
        delivery_id: `Delivery.id` of what it was written for.
        intended_at: When it was about to be written.
        confirmed_at: When the helpdesk had taken it; None where that is not known.
        undone_at: When it was taken back.
    """

    id: str
    connector: str
    ticket: str
    tags: tuple[str, ...]
    delivery_id: str
    intended_at: datetime
    confirmed_at: datetime | None = None
    undone_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows were deleted for their age.

    Feedback that went together with its prediction is not counted.
    """

    predictions: int = 0
    feedback: int = 0
    deliveries: int = 0
    taggings: int = 0
    idempotency: int = 0
