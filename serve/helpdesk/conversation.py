"""The texts that a customer wrote, from the turns of a ticket."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gapnlp.text import hash_text
from serve.connectors import Turn
from serve.helpdesk.markup import html_to_text
from serve.helpdesk.reply import strip_reply

MAX_TURNS = 100  # of a ticket, the newest; older ones were read when they came
_REPLY = re.compile(r"(?:(?:re|fwd?|aw|wg|tr|rv|sv|antw)\s?:\s?)*+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Text:
    """What a customer wrote in one turn.

    Attributes:
        words: The text.
        digest: `gapnlp.text.hash_text` of it.
        is_cut: Whether its end was left out.
    """

    words: str
    digest: str
    is_cut: bool = False


def to_texts(turns: Sequence[Turn], *, max_characters: int) -> list[Text]:
    """Return the texts of the newest turns, each once, the oldest first; turns without a word are left out."""
    texts: dict[str, Text] = {}
    for turn in turns[-MAX_TURNS:]:
        words = _words_of(turn)
        if words and any(char.isalnum() for char in words):
            text = Text(words[:max_characters], hash_text(words), is_cut=len(words) > max_characters)
            texts.setdefault(text.digest, text)
    return list(texts.values())


def _words_of(turn: Turn) -> str:
    """Return what the customer wrote in a turn, under the title if it is not said again."""
    body = strip_reply(html_to_text(turn.body) if turn.is_html else turn.body)
    subject = html_to_text(turn.subject) if turn.is_html else turn.subject
    subject = " ".join(subject[_REPLY.match(subject).end() :].split()) if subject else ""  # type: ignore[union-attr]
    if not subject or body.lower().startswith(subject.lower().rstrip(".… ")):
        return body
    return f"{subject}\n\n{body}".strip()
