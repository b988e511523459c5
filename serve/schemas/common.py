"""What several schemas share: how a body is read, what a text may be, and the shape of a problem."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import jiter
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, WithJsonSchema

from gapnlp.errors import InputError
from gapnlp.taxonomy import LABELS, NONE
from gapnlp.text import check_text
from serve.problem import INVALID, LONG_TEXT, MALFORMED, UNREADABLE_TEXT, FieldError, Kind, ProblemError

M = TypeVar("M", bound=BaseModel)

REQUEST = ConfigDict(strict=True, extra="forbid", frozen=True)
MAX_ERRORS = 20  # of one body that are told
# At least one character that is neither white space nor a control or format character (Unicode 15, Cc and Cf):
# what `gapnlp.text.check_text` asks for.
VISIBLE = (
    "[^\\s\\u0000-\\u001f\\u007f-\\u00a0\\u00ad\\u0600-\\u0605\\u061c\\u06dd\\u070f\\u0890\\u0891\\u08e2\\u180e"
    "\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u2064\\u2066-\\u206f\\ufeff\\ufff9-\\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    "\U000e0020-\U000e007f]"
)
_PLACE = re.compile(r"at line \d+ column \d+$")

Label = Annotated[str, WithJsonSchema({"type": "string", "enum": list(LABELS)})]
Outcome = Annotated[str, WithJsonSchema({"type": "string", "enum": [*LABELS, NONE]})]
Share = Annotated[float, Field(ge=0, le=1)]
TEXT_SCHEMA: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 20_000,
    "pattern": VISIBLE,
    "description": "What a customer wrote: at least one visible character.",
}
TEXTS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {},
    "contains": TEXT_SCHEMA,
    "minItems": 1,
    "maxItems": 512,
    "description": (
        "What customers wrote. An item that is no text that can be read, or is too long, gets an error of its own "
        "and the others go on; at least one must be readable."
    ),
}
Text = Annotated[str, WithJsonSchema(TEXT_SCHEMA)]
Texts = Annotated[list[Any], WithJsonSchema(TEXTS_SCHEMA)]


class ProblemDetail(BaseModel):
    """What is wrong with one part of the body."""

    pointer: str = Field(description="Where in the body, as a JSON pointer (RFC 6901).")
    detail: str = Field(description="What was expected.")


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 writes it. It never repeats what was sent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:gapnlp:problem:invalid",
                    "title": "The request is not what was expected",
                    "status": 422,
                    "detail": "1 part of the body is not what was expected",
                    "instance": "6f1c2a8e5b7d4c0f9a3e2d1b0c8f7a6e",
                    "errors": [{"pointer": "/evidence", "detail": "Input should be a valid boolean"}],
                }
            ]
        }
    )

    type: str = Field(description="Tells kinds of problems apart; `urn:gapnlp:problem:` and a word.")
    title: str = Field(description="What it is, the same for every problem of this type.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was expected, and what to do.")
    instance: str = Field("", description="The id of the request, as in the header X-Request-ID.")
    errors: list[ProblemDetail] = Field([], description="What is wrong with which part of the body.")


def parse_json(body: bytes) -> JsonValue:
    """Read JSON: UTF-8 alone, no key twice, no NaN, no lone surrogate, nested 200 deep at the most.

    Raises:
        ProblemError: It is none; the detail says where, and holds nothing of it.
    """
    try:
        found: JsonValue = jiter.from_json(
            body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="none", float_mode="float"
        )
    except ValueError as exc:
        place = _PLACE.search(str(exc))
        what = "an object has the same key twice" if "duplicate key" in str(exc) else "the body is no JSON in UTF-8"
        raise ProblemError(MALFORMED, f"{what} ({place[0]})" if place else what) from None
    return found


def check_body(model: type[M], found: JsonValue) -> M:
    """Return the body as an instance of `model`.

    Raises:
        ProblemError: It does not fit.
    """
    try:
        return model.model_validate(found)
    except ValidationError as exc:
        raise invalid([_told(error) for error in exc.errors(include_url=False, include_context=False)]) from None


def check_count(texts: Sequence[object], *, most: int, pointer: str = "/texts") -> None:
    """Refuse no texts, and too many.

    Raises:
        ProblemError: There are none, or more than `most`.
    """
    if not 1 <= len(texts) <= most:
        raise invalid([FieldError(pointer, f"expected 1 to {most:,} texts, got {len(texts):,}")])


def check_texts(texts: Sequence[object], *, longest: int) -> list[Kind | None]:
    """Say of each text what keeps it from being read, or None."""
    return [_flaw(text, longest=longest) for text in texts]


def refuse_texts(flaws: Sequence[Kind | None], *, longest: int, pointer: str) -> None:
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
    errors = [FieldError(pointer.format(i), flaw_detail(flaw, longest=longest)) for i, flaw in enumerate(flaws) if flaw]
    if all(flaw is LONG_TEXT for flaw in flaws):
        raise ProblemError(LONG_TEXT, f"a text may have {longest:,} characters", errors=errors[:MAX_ERRORS])
    raise invalid(errors)


def flaw_detail(flaw: Kind, *, longest: int) -> str:
    """Say what was expected of a text."""
    if flaw is LONG_TEXT:
        return f"expected at most {longest:,} characters"
    return "expected a string with at least one visible character"


def invalid(errors: Sequence[FieldError]) -> ProblemError:
    """Return the problem of a body that does not fit."""
    parts = "1 part of the body is" if len(errors) == 1 else f"{len(errors)} parts of the body are"
    return ProblemError(INVALID, f"{parts} not what was expected", errors=errors[:MAX_ERRORS])


def _flaw(text: object, *, longest: int) -> Kind | None:
    if isinstance(text, str) and len(text) > longest:
        return LONG_TEXT
    try:
        check_text(text)
    except InputError:
        return UNREADABLE_TEXT
    return None


def _told(error: Any) -> FieldError:
    """Tell an error of pydantic without anything the client sent: the name of an unknown member is the client's."""
    place, detail = error["loc"], error["msg"]
    if error["type"] == "extra_forbidden":
        place, detail = place[:-1], "has a member that is not known here"
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in place)
    return FieldError(pointer, detail)
