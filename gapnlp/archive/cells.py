"""One value as a cell: plain text for flat formats, JSON for nested values, harmless in a spreadsheet."""

from __future__ import annotations

import base64
import datetime
import json
import math
import re
from decimal import Decimal

_NUMBER = re.compile(r"[+-]?(\d[\d,.]*|\.\d+)(e[+-]?\d+)?%?", re.IGNORECASE)
_STARTERS = ("=", "+", "-", "@", "\t", "\r")


def make_safe(text: str) -> str:
    """Put `'` before a text that a spreadsheet would run as a formula; a plain number stays.

    Source: OWASP, "CSV Injection".
    """
    if not text.startswith(("\t", "\r")) and not text.lstrip().startswith(_STARTERS):
        return text
    return text if _NUMBER.fullmatch(text.strip(" ")) else f"'{text}"


def to_text(value: object) -> str:
    """Write a value as the text of a flat cell; None is empty, lists and objects are JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict, tuple)):
        return to_json(value)
    if isinstance(value, float):
        return repr(value)
    return str(_plain(value))


def to_json(value: object) -> str:
    """Write a value as strict JSON: a number that is not finite becomes null."""
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=_plain)


def show(value: object, *, width: int = 60) -> str:
    """Shorten a value for a message: one line, with nothing in it that could steer a terminal."""
    text = " ".join(to_text(value).split())
    text = "".join(char if char.isprintable() else "?" for char in text[: width + 1])
    return text if len(text) <= width else text[: width - 1] + "…"


def escape_surrogates(text: str) -> str:
    """Write lone surrogates, which UTF-8 cannot hold, as their backslash escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _plain(value: object) -> object:
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Decimal):
        return str(value)
    return str(value)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
