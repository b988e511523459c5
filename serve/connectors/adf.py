"""Text from Atlassian's document format (developer.atlassian.com/cloud/jira/platform/apis/document/structure)."""

from __future__ import annotations

from typing import Any

MAX_NODES = 50_000
_BLOCKS = frozenset({
    "caption", "codeBlock", "decisionItem", "expand", "heading", "listItem", "nestedExpand", "panel", "paragraph",
    "rule", "tableRow", "taskItem",
})  # fmt: skip
_QUOTES = frozenset({"blockquote"})
_SHOWN = ("text", "shortName", "url")


def adf_to_text(document: Any) -> str:
    """Return the text of a document, a line for each block; a string is returned as it is.

    Quotations are left out: they repeat what somebody else has said. Nodes past the first 50,000 are not read.
    """
    if isinstance(document, str):
        return document
    pieces: list[str] = []
    # A stack instead of recursion: documents may be nested deeper than Python allows calls to be.
    stack: list[Any] = [document]
    for _ in range(MAX_NODES):
        if not stack:
            break
        node = stack.pop()
        if isinstance(node, str):
            pieces.append(node)
        elif isinstance(node, dict) and node.get("type") not in _QUOTES:
            content = node.get("content")
            parts = content if isinstance(content, list) else []
            ends = ["\n"] if node.get("type") in _BLOCKS else []
            stack += [*ends, *reversed(parts), _own_text(node)]
    lines = (" ".join(line.split()) for line in "".join(pieces).split("\n"))
    return "\n".join(line for line in lines if line)


def _own_text(node: dict[str, Any]) -> str:
    """Return what a node says by itself: its text, or what stands for a mention, an emoji or a card."""
    kind = node.get("type")
    if kind == "text":
        return str(node.get("text", ""))
    if kind == "hardBreak":
        return "\n"
    if kind == "tableCell":
        return " "
    attributes = node.get("attrs")
    if kind in {"mention", "emoji", "inlineCard"} and isinstance(attributes, dict):
        return next((str(attributes[name]) for name in _SHOWN if attributes.get(name)), "")
    return ""
