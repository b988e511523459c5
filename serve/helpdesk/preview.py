"""What would be done to a ticket, without doing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.connectors import Connector
from serve.helpdesk.conversation import Text, to_texts
from serve.helpdesk.tagger import decide

if TYPE_CHECKING:
    from gapnlp.records import Prediction


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be done to a ticket.

    Attributes:
        ticket: The helpdesk's id of it.
        texts: What the customer wrote, the oldest first.
        predictions: One for each.
        present: The tags that the ticket carries.
        wanted: The tags that the predictions ask for.
    """

    ticket: str
    texts: Sequence[Text]
    predictions: Sequence[Prediction]
    present: frozenset[str]
    wanted: tuple[str, ...]

    @property
    def added(self) -> tuple[str, ...]:
        """The tags that would be added."""
        return tuple(tag for tag in self.wanted if tag not in self.present)


async def preview_ticket(
    connector: Connector,
    ticket: str,
    *,
    predict: Callable[[Sequence[str]], Sequence[Prediction]],
    max_characters: int,
) -> Preview:
    """Read a ticket and tell its gaps; nothing is written anywhere.

    Args:
        connector: Whose ticket it is.
        ticket: The helpdesk's id of it.
        predict: Reads texts.
        max_characters: Of one text; the rest is left out, as the setting of this name has it.

    Raises:
        HelpdeskError: The ticket cannot be read.
    """
    texts = to_texts(await connector.read_turns(ticket), max_characters=max_characters)
    tags = await connector.read_tags(ticket)
    predictions = predict([text.words for text in texts]) if texts else []
    return Preview(ticket, texts, predictions, tags.names, decide(connector, predictions))
