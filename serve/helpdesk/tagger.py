"""One delivery: read what the customer wrote, tell the gaps, tag the ticket.

What was read for good is known by its prediction, which has the ticket and the text in its id and is stored when all
is done. So a webhook that our own tags set off finds nothing new, and a tag that somebody took away is not put back.
What is about to be written is noted before, so that a crash leaves no tag that `undo` does not know.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import structlog

from serve.connectors import Connector, Event, HelpdeskError, Tags
from serve.helpdesk.conversation import Text, to_texts
from serve.store.rows import Delivery, Origin, StoredPrediction, Tagging

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gapnlp.records import Prediction
    from serve.store import AsyncWriter, Store

_log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """What became of a delivery."""

    TAGGED = "tagged"
    UNTAGGED = "untagged"
    """There was no gap, or the ticket carried the tags already."""
    KNOWN = "known"
    """What the customer wrote had been read before, or there was nothing."""
    DRY_RUN = "dry_run"


@dataclass(frozen=True, slots=True)
class Done:
    """A delivery that is out of the queue.

    Attributes:
        outcome: What became of it.
        predictions: What was found in the texts that were not known.
    """

    outcome: Outcome
    predictions: Sequence[Prediction] = ()


class Reader(Protocol):
    """What reads texts; see `serve.inference.Batcher`."""

    async def classify(self, texts: Sequence[str], *, timeout: float) -> list[Prediction]:
        """Read texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingRules:
    """How texts are read and kept.

    Attributes:
        max_characters: Of one text; the rest is left out, and the prediction says so.
        timeout: Seconds that the model may take.
        keep_text: Whether customers' texts are stored with their predictions.
    """

    max_characters: int
    timeout: float
    keep_text: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found in a ticket.

    Attributes:
        texts: What the customer wrote that was not known.
        predictions: One for each.
        tags: What they ask for.
        fingerprint: Of the model that read the texts.
    """

    texts: Sequence[Text]
    predictions: Sequence[Prediction]
    tags: tuple[str, ...]
    fingerprint: str


class Tagger:
    """Do deliveries."""

    def __init__(
        self,
        connectors: Mapping[str, Connector],
        *,
        store: Store,
        writer: AsyncWriter,
        reader: Reader,
        fingerprint: Callable[[], str],
        rules: ReadingRules,
    ) -> None:
        """Prepare.

        Args:
            connectors: By name.
            store: Where deliveries, predictions and taggings are.
            writer: The way into it.
            reader: Reads texts.
            fingerprint: Says which model reads now.
            rules: How texts are read and kept.
        """
        self._connectors = connectors
        self._store = store
        self._writer = writer
        self._reader = reader
        self._fingerprint = fingerprint
        self._rules = rules

    async def handle(self, delivery: Delivery) -> Done:
        """Do one claimed delivery and take it out of the queue.

        Raises:
            HelpdeskError: The helpdesk could not be read or written.
            GapnlpError: The model or the store failed. The delivery stays claimed; it can be done again.
        """
        connector = self._connectors.get(delivery.connector)
        if connector is None:
            raise HelpdeskError(f"the settings have no helpdesk {delivery.connector!r} any more")
        turn = Event.turn_of(delivery.payload)
        turns = [turn] if turn else await connector.read_turns(delivery.ticket)
        texts = await asyncio.to_thread(to_texts, turns, max_characters=self._rules.max_characters)
        texts = await self._leave_out_known(texts, delivery)
        if not texts:
            await self._writer.run(lambda conn: self._store.deliveries.done(conn, delivery.id))
            return Done(Outcome.KNOWN)
        fingerprint = self._fingerprint()  # of the model that the texts come to, whichever serves when all is done
        predictions = await self._reader.classify([text.words for text in texts], timeout=self._rules.timeout)
        reading = Reading(texts, predictions, decide(connector, predictions), fingerprint)
        if connector.config.dry_run:
            _log.info("would tag", connector=connector.name, ticket=delivery.ticket, tags=list(reading.tags))
            await self._finish(delivery, reading, None)
            return Done(Outcome.DRY_RUN, predictions)
        tagging = await self._tag(connector, delivery, reading.tags)
        await self._finish(delivery, reading, tagging)
        return Done(Outcome.TAGGED if tagging else Outcome.UNTAGGED, predictions)

    async def _leave_out_known(self, texts: Sequence[Text], delivery: Delivery) -> list[Text]:
        ids = {text.digest: prediction_id(delivery, text) for text in texts}
        known = await self._writer.read(lambda conn: self._store.predictions.get(conn, list(ids.values())))
        done = {row.id for row in known}
        return [text for text in texts if ids[text.digest] not in done]

    async def _tag(self, connector: Connector, delivery: Delivery, wanted: Collection[str]) -> Tagging | None:
        """Add the tags that the ticket does not carry; return what was noted of it, None where nothing was added."""
        if not wanted and delivery.n_attempts <= 1:
            return None
        before = await connector.read_tags(delivery.ticket)
        missing = [tag for tag in wanted if tag not in before.names]
        # An earlier attempt may have been cut short after its tags were written: they are ours though they are there.
        if not missing and delivery.n_attempts <= 1:
            return None
        now = datetime.now(UTC)
        tagging = await self._writer.run(lambda conn: self._intend(conn, delivery, missing, now))
        if tagging is not None:
            await self._add(connector, tagging, before=before, is_new=tagging.intended_at == now)
        return tagging

    def _intend(self, conn: Connection, delivery: Delivery, tags: Sequence[str], now: datetime) -> Tagging | None:
        """Note tags, with those that an earlier attempt has noted; return None where there are none of either."""
        tagging = self._store.taggings.intend(
            conn, connector=delivery.connector, ticket=delivery.ticket, tags=tags, delivery_id=delivery.id, now=now
        )
        if not tagging.tags:
            self._store.taggings.undone(conn, tagging.id, now=now)
            return None
        return tagging

    async def _add(self, connector: Connector, tagging: Tagging, *, before: Tags, is_new: bool) -> None:
        try:
            await connector.add_tags(tagging.ticket, tagging.tags, before=before)
        except HelpdeskError as exc:
            if is_new and not exc.may_have_worked:
                # Nothing was written: what the ticket carries at the next try may be somebody else's.
                now = datetime.now(UTC)
                await self._writer.run(lambda conn: self._store.taggings.undone(conn, tagging.id, now=now))
            raise

    async def _finish(self, delivery: Delivery, reading: Reading, tagging: Tagging | None) -> None:
        """Keep what was found, and take the delivery out of the queue, all at once."""
        now = datetime.now(UTC)
        rows = [
            self._to_row(delivery, text, prediction, fingerprint=reading.fingerprint, now=now)
            for text, prediction in zip(reading.texts, reading.predictions, strict=True)
            if not prediction.error
        ]

        def write(conn: Connection) -> None:
            there = {row.id for row in self._store.predictions.get(conn, [row.id for row in rows])}
            self._store.predictions.add(conn, [row for row in rows if row.id not in there])
            if tagging:
                self._store.taggings.confirm(conn, tagging.id, now=now)
            self._store.deliveries.done(conn, delivery.id)

        await self._writer.run(write)

    def _to_row(
        self, delivery: Delivery, text: Text, prediction: Prediction, *, fingerprint: str, now: datetime
    ) -> StoredPrediction:
        origin = Origin(
            id=prediction_id(delivery, text),
            created_at=now,
            text_hash=text.digest,
            text=text.words if self._rules.keep_text else None,
            source=delivery.connector,
            fingerprint=fingerprint,
        )
        return StoredPrediction.of(replace(prediction, truncated=prediction.truncated or text.is_cut), origin)


def decide(connector: Connector, predictions: Sequence[Prediction]) -> tuple[str, ...]:
    """Return the tags that predictions ask for: the gaps of all of them, and whether a person should look at one."""
    labels = {label for prediction in predictions for label in prediction.labels}
    review = any(prediction.review for prediction in predictions)
    return connector.config.tags_for(labels, review=review)


def prediction_id(delivery: Delivery, text: Text) -> str:
    """Return the id of what is found in a text on a ticket: 128 bits, the same whenever it comes again."""
    parts = "\0".join((delivery.connector, delivery.ticket, text.digest))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]
