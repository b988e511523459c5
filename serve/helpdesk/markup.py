"""Text from the HTML of messages, without what they quote and without what is not shown."""

from __future__ import annotations

import re
from typing import Any

from gapnlp.text import replace_surrogates

_BLOCKS = frozenset({
    "address", "article", "aside", "br", "dd", "div", "dl", "dt", "fieldset", "figure", "footer", "form", "h1", "h2",
    "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table", "tr", "ul",
})  # fmt: skip
_HIDDEN = frozenset(["blockquote", "head", "noscript", "script", "style", "template", "textarea", "title"])
# How mail programs mark the mail that is answered, and signatures.
_HIDDEN_NAMES = frozenset({
    "gmail_attr", "gmail_quote", "gmail_signature", "moz-cite-prefix", "moz-signature", "ms-outlook-mobile-signature",
    "protonmail_quote", "yahoo_quoted", "zmail_extra",
})  # fmt: skip
_SPACE = re.compile(r"\s++")


def html_to_text(html: str) -> str:
    """Return what a reader of the HTML sees, a line for each block.

    Quoted mails, signatures that mail programs mark, scripts, styles and comments are left out, and so is what is
    nested 2,000 deep. Nothing is loaded, and the time is linear in the length, whatever the markup.
    """
    from lxml import etree

    # No network, no entities of its own: only what stands in the text is read.
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root = etree.fromstring(replace_surrogates(html).encode(), parser)
    except etree.XMLSyntaxError:  # there is nothing in it but comments or white space
        root = None
    if root is None:
        return ""
    pieces: list[str] = []
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        if element.tag in _BLOCKS:
            pieces.append("\n")
        if event == "end":
            pieces.append(_SPACE.sub(" ", element.tail or ""))
        elif _is_hidden(element):
            walk.skip_subtree()
        else:
            pieces.append(" " if element.tag in {"td", "th"} else "")
            pieces.append(_SPACE.sub(" ", element.text or ""))
    lines = (line.strip() for line in "".join(pieces).split("\n"))
    return "\n".join(line for line in lines if line)


def _is_hidden(element: Any) -> bool:
    names = {*element.attrib.get("class", "").split(), element.attrib.get("id", "")}
    return element.tag in _HIDDEN or not _HIDDEN_NAMES.isdisjoint(names)
