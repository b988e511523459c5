"""What is said of a body that does not fit: what was got and what was expected, and nothing of what was sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from serve.problem import INVALID, FieldError, ProblemError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

MAX_ERRORS = 20  # of one body that are told
_JSON_TYPES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}
_NO_MOMENT = "got a string that is no moment, expected one{such_as}"
# By pydantic's name of the error. What is put in: what pydantic expected, under its names; `got`, the JSON type;
# `n`, the length; `such_as`, an example of ours.
_DETAILS = {
    "missing": "is missing, expected a value{such_as}",
    "string_type": "got {got}, expected a string{such_as}",
    "bool_type": "got {got}, expected true or false",
    "int_type": "got {got}, expected a whole number{such_as}",
    "float_type": "got {got}, expected a number{such_as}",
    "list_type": "got {got}, expected an array{such_as}",
    "dict_type": "got {got}, expected an object{such_as}",
    "model_type": "got {got}, expected an object{such_as}",
    "string_too_short": "got {n:,} characters, expected at least {min_length:,}",
    "string_too_long": "got {n:,} characters, expected at most {max_length:,}",
    "too_short": "got {n:,} items, expected at least {min_length:,}",
    "too_long": "got {n:,} items, expected at most {max_length:,}",
    "greater_than_equal": "got a smaller number, expected at least {ge}",
    "less_than_equal": "got a larger number, expected at most {le}",
    "literal_error": "got {got}, expected the word {expected}",
    "timezone_aware": "got a moment without its zone, expected one{such_as}: Z is UTC",
    "datetime_parsing": _NO_MOMENT,
    "datetime_from_date_parsing": _NO_MOMENT,
    "datetime_object_invalid": _NO_MOMENT,
}


def invalid(errors: Sequence[FieldError], *, n_parts: int | None = None) -> ProblemError:
    """Return the problem of a body that does not fit.

    Args:
        errors: What is wrong with which part of it.
        n_parts: How many parts are wrong, where `errors` are not all of them.
    """
    n_parts = n_parts or len(errors)
    parts = "1 part of the body is" if n_parts == 1 else f"{n_parts} parts of the body are"
    return ProblemError(INVALID, f"{parts} not what was expected", errors=errors[:MAX_ERRORS])


def json_type(value: object) -> str:
    """Return the type of what was read from JSON, with its article."""
    return _JSON_TYPES[type(value)]


def example_of(model: type[BaseModel]) -> Any:
    """Return a body that fits a model, from its schema."""
    extra: Any = model.model_config["json_schema_extra"]
    return extra["examples"][0]


def told(error: ErrorDetails, *, model: type[BaseModel]) -> FieldError:
    """Tell an error of pydantic without anything the client sent: the name of an unknown member is the client's."""
    place, got = error["loc"], error["input"]
    if error["type"] == "extra_forbidden":
        known = ", ".join(f"`{name}`" for name in model.model_fields)
        return FieldError(
            _pointer(place[:-1]), f"got a member that is not known here, expected none but {known}: check its spelling"
        )
    detail = _DETAILS.get(error["type"], "got {got}, expected another value{such_as}")
    values = {"got": json_type(got), "n": len(got) if isinstance(got, str | list) else 0}
    return FieldError(
        _pointer(place), detail.format(**error.get("ctx", {}), **values, such_as=_such_as(place, model=model))
    )


def _pointer(place: Sequence[str | int]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in place)


def _such_as(place: Sequence[str | int], *, model: type[BaseModel]) -> str:
    """Return what the model's example has at a place, in words; nothing where it has none."""
    found = example_of(model)
    for part in place:
        try:
            found = found[0 if isinstance(part, int) else part]
        except (KeyError, IndexError):
            return ""
    return f" such as {json.dumps(found, ensure_ascii=False)}"
