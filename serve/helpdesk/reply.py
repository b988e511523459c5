"""What somebody wrote in a mail, without the mail it answers and without the signature.

Where a quoted mail begins is found by quotequail, line by line; lines that are too long to begin one are kept from it,
so that hostile text takes no more time than any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import quotequail

MAX_LINES = 300  # in which a quoted mail must begin to be found
LONGEST_INTRO = 160  # characters of a line such as "On Monday, somebody wrote:"
MAX_MAILS = 10  # that are quoted in one another
_MOST_AFTER_DASHES = 15  # lines of a signature
_MOST_AFTER_CLOSING = 6
_FROM = ("from:", "von:", "de:", "van:", "da:", "från:")
_OTHER_HEADERS = (
    "sent:", "date:", "to:", "cc:", "subject:", "gesendet:", "datum:", "an:", "betreff:", "envoyé:", "envoyé :", "à:",
    "à :", "objet:", "objet :", "enviado:", "para:", "asunto:", "verzonden:", "aan:", "onderwerp:",
)  # fmt: skip
_FOOTERS = ("sent from my ", "sent from outlook", "get outlook for ", "sent via ", "von meinem ", "envoyé de mon ")
_CLOSINGS = frozenset({
    "best", "best regards", "best wishes", "cheers", "kind regards", "kindest regards", "many thanks", "regards",
    "sincerely", "sincerely yours", "thank you", "thanks", "thanks and regards", "warm regards", "with kind regards",
    "yours faithfully", "yours sincerely", "yours truly", "mit freundlichen grüßen", "viele grüße", "cordialement",
    "saludos", "un saludo", "met vriendelijke groet",
})  # fmt: skip


def strip_reply(text: str) -> str:
    """Return the text without quoted mails, quoted lines and the signature at its end; empty where nothing is left."""
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    for _ in range(MAX_MAILS):
        start = _find_mail(lines)
        if start is None:
            break
        lines = [*lines[:start], *_after_quote(lines[start:])]
    lines = [line for line in lines if not line.lstrip().startswith(">")]
    return "\n".join(lines[: _find_signature(lines)]).strip()


def _find_mail(lines: Sequence[str]) -> int | None:
    """Return the line at which a mail begins that is quoted, or None."""
    shown = [line if len(line) <= LONGEST_INTRO else "." for line in lines[:MAX_LINES]]
    # The limit counts as found, so it lies behind the last line.
    parts = quotequail.quote("\n".join(shown), limit=len(shown) + 1, quote_intro_line=True)
    found = [parts[0][1].count("\n") + bool(parts[0][1])] if len(parts) > 1 else []
    found += [n for n in range(len(shown)) if _is_header(shown[n : n + 5])]
    return min(found, default=None)


def _is_header(lines: Sequence[str]) -> bool:
    """Tell whether a mail's header begins here: who it is from, and two more of its fields in the next lines."""
    if not lines[0].lstrip("*").lower().startswith(_FROM):
        return False
    return sum(line.lstrip("*").lower().startswith(_OTHER_HEADERS) for line in lines[1:]) >= 2


def _after_quote(lines: Sequence[str]) -> list[str]:
    """Return what was written below a quoted mail; nothing where its lines are not marked, so that none can tell."""
    following = [n for n, line in enumerate(lines[1:4], start=1) if line.startswith(">")]
    if not following:
        return []
    return [line for line in lines[following[0] :] if not line.startswith(">")]


def _find_signature(lines: Sequence[str]) -> int:
    """Return the line at which the signature begins; the number of lines where there is none."""
    n_after = [0] * (len(lines) + 1)  # lines with something in them, from each line on
    for n in range(len(lines) - 1, -1, -1):
        n_after[n] = n_after[n + 1] + bool(lines[n])
    for n, (here, after) in enumerate(pairwise(n_after)):
        if here == n_after[0]:
            continue  # something must stand before it
        line = lines[n].strip().lower()
        if line in {"--", "__", "—"} and after <= _MOST_AFTER_DASHES:
            return n
        if line.startswith(_FOOTERS) and len(line) <= LONGEST_INTRO and after <= _MOST_AFTER_CLOSING:
            return n
        if line.rstrip(",.! ") in _CLOSINGS and after <= _MOST_AFTER_CLOSING:
            return n
    return len(lines)
