"""The JSON of helpdesks: a value at a place, of the kind that was expected."""

from __future__ import annotations

import json
import re
from typing import Any

from serve.connectors.base import Webhook
from serve.connectors.errors import PayloadError

_TICKET = re.compile(r"(?!\.+\Z)[A-Za-z0-9_.:-]{1,100}\Z")


def read_body(webhook: Webhook) -> dict[str, Any]:
    """Return the JSON object that is the body of a webhook.

    Raises:
        PayloadError: It is something else.
    """
    try:
        body = json.loads(webhook.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise PayloadError("expected a JSON object as the body of the webhook")
    return body


def to_body(document: dict[str, Any]) -> bytes:
    """Return the body of a webhook that says something."""
    return json.dumps(document).encode()


def at(document: Any, path: str) -> Any:
    """Return what lies at a path of keys joined by dots; a number is a place in a list. None where nothing lies."""
    for key in path.split("."):
        if isinstance(document, dict):
            document = document.get(key)
        elif isinstance(document, list) and key.lstrip("-").isdigit() and -len(document) <= int(key) < len(document):
            document = document[int(key)]
        else:
            return None
    return document


def text_at(document: Any, path: str) -> str:
    """Return the string or number at a path as a string; empty where there is none."""
    found = at(document, path)
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""


def rows_at(document: Any, path: str) -> list[dict[str, Any]]:
    """Return the objects in the list at a path; empty where there is none."""
    found = at(document, path)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def words_at(document: Any, path: str) -> frozenset[str]:
    """Return the strings in the list at a path.

    Raises:
        PayloadError: There is no list: tags that cannot be read must not be taken for none.
    """
    found = at(document, path)
    if not isinstance(found, list):
        raise PayloadError(f"expected a list of tags at {path!r} in the helpdesk's answer")
    return frozenset(word for word in found if isinstance(word, str))


def check_ticket(value: str) -> str:
    """Return a ticket's id that may be put into a path.

    Raises:
        PayloadError: It is empty, or has other characters than ids have.
    """
    if not _TICKET.match(value):
        raise PayloadError("expected the id of a ticket: letters, digits and the characters _ . : -")
    return value
