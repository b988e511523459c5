"""What a text may be, and several of them: for OpenAPI, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import WithJsonSchema

from gapnlp.errors import InputError
from gapnlp.text import check_text
from serve.problem import LONG_TEXT, UNREADABLE_TEXT, FieldError, Kind, ProblemError
from serve.schemas.refusal import MAX_ERRORS, invalid, json_type

# At least one character that is neither white space nor a control or format character (Unicode 15, Cc and Cf):
# what `gapnlp.text.check_text` asks for.
VISIBLE = (
    "[^\\s\\u0000-\\u001f\\u007f-\\u00a0\\u00ad\\u0600-\\u0605\\u061c\\u06dd\\u070f\\u0890\\u0891\\u08e2\\u180e"
    "\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u2064\\u2066-\\u206f\\ufeff\\ufff9-\\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    "\U000e0020-\U000e007f]"
)
# The names of two settings: the OpenAPI document has the numbers that they stand for, see `serve.routes.openapi`.
LONGEST = "max_characters"
MOST = "max_texts"
TEXT_SCHEMA: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": LONGEST,
    "pattern": VISIBLE,
    "description": "What a customer wrote: at least one visible character.",
}
TEXTS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {},
    "contains": TEXT_SCHEMA,
    "minItems": 1,
    "maxItems": MOST,
    "description": (
        "What customers wrote. An item that is no text that can be read, or is too long, gets an error of its own "
        "and the others go on; at least one must be readable."
    ),
}
Text = Annotated[str, WithJsonSchema(TEXT_SCHEMA)]
Texts = Annotated[list[Any], WithJsonSchema(TEXTS_SCHEMA)]


@dataclass(frozen=True, slots=True)
class Flaw:
    """What keeps a text from being read.

    Attributes:
        kind: `UNREADABLE_TEXT` or `LONG_TEXT`.
        detail: What was got, and what was expected; nothing of the text.
    """

    kind: Kind
    detail: str


def check_count(texts: Sequence[object], *, most: int, pointer: str = "/texts") -> None:
    """Refuse no texts, and too many.

    Raises:
        ProblemError: There are none, or more than `most`.
    """
    if not 1 <= len(texts) <= most:
        raise invalid([FieldError(pointer, f"expected 1 to {most:,} texts, got {len(texts):,}")])


def check_texts(texts: Sequence[object], *, longest: int) -> list[Flaw | None]:
    """Say of each text what keeps it from being read, or None.

    Args:
        texts: Whatever JSON had in the place of texts.
        longest: Characters that a text may have.
    """
    return [_flaw(text, longest=longest) for text in texts]


def refuse_texts(flaws: Sequence[Flaw | None], *, longest: int, pointer: str) -> None:
    """Refuse a request of which no text can be read.

    Args:
        flaws: What `check_texts` found.
        longest: Characters that a text may have.
        pointer: Where the texts are; `{}` stands for the index.

    Raises:
        ProblemError: None of the texts can be read.
    """
    if None in flaws:
        return
    errors = [FieldError(pointer.format(i), flaw.detail) for i, flaw in enumerate(flaws) if flaw]
    if all(flaw.kind is LONG_TEXT for flaw in flaws if flaw):
        raise ProblemError(LONG_TEXT, f"a text may have {longest:,} characters: shorten it", errors=errors[:MAX_ERRORS])
    raise invalid(errors)


def _flaw(text: object, *, longest: int) -> Flaw | None:
    if isinstance(text, str) and len(text) > longest:
        return Flaw(LONG_TEXT, f"got {len(text):,} characters, expected at most {longest:,}")
    try:
        check_text(text)
    except InputError:
        got = "a string of nothing visible" if isinstance(text, str) else json_type(text)
        return Flaw(UNREADABLE_TEXT, f"got {got}, expected a string with at least one visible character")
    return None
