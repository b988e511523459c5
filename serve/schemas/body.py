"""Bodies: read as JSON, and checked against a model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from typing import TypeVar

import jiter
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from serve.problem import MALFORMED, FieldError, ProblemError
from serve.schemas.refusal import MAX_ERRORS, example_of, invalid, told

M = TypeVar("M", bound=BaseModel)

REQUEST = ConfigDict(strict=True, extra="forbid", frozen=True)
_PLACE = re.compile(r"at line \d+ column \d+$")


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
        errors = exc.errors(include_url=False)
        raise invalid([told(error, model=model) for error in errors[:MAX_ERRORS]], n_parts=len(errors)) from None


def check_one_of(models: Sequence[type[M]], found: JsonValue) -> M:
    """Return the body as an instance of that model of several whose required members it has.

    Args:
        models: No two share a required member.
        found: The body.

    Raises:
        ProblemError: It has the members of none of them, or of several; or it does not fit the one.
    """
    if not isinstance(found, dict):
        return check_body(models[0], found)
    asked = [model for model in models if not found.keys().isdisjoint(_required(model))]
    if len(asked) == 1:
        return check_body(asked[0], found)
    expected = " or ".join(_listed(_required(model)) for model in models)
    if asked:
        got = _listed([name for model in asked for name in _required(model) if name in found])
        raise invalid([FieldError("", f"expected {expected}, got {got}: ask for each in a request of its own")])
    example = json.dumps(example_of(models[0]), ensure_ascii=False)
    raise invalid([FieldError("", f"expected {expected}, got none of them: send an object such as {example}")])


@cache
def _required(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(name for name, field in model.model_fields.items() if field.is_required())


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)
