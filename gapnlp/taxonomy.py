"""The five service gaps: ids, the names used elsewhere, definitions, causes, questions and remedies.

The wording lives in `gaps.toml`; importing this module does not read it.

Source of the model: Parasuraman, Zeithaml and Berry (1985), Journal of Marketing 49(4).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from gapnlp.errors import UnknownGapError

LABELS: tuple[str, ...] = ("knowledge", "policy", "delivery", "communication", "customer")
"""The gaps' ids in the order of every array's columns."""

NONE = "none"
"""The outcome of a text that carries no label."""

_SEPARATORS = re.compile(r"[\s_\-\u2010-\u2015\u2212]+")
_LEADING = re.compile(r"^(?:the )?(?:gap (?=between ))?")
_NUMBERED = re.compile(r"(?:gap ?)?(?:#|no\.? ?|number )?([1-9][0-9]*)")
_LONGEST_NAME = 120  # characters of an unknown name that are compared and shown


@dataclass(frozen=True, slots=True)
class Gap:
    """One gap of the model.

    Attributes:
        id: The label, as in `LABELS`.
        number: Its number in the model, 1 to 5.
        name: The name to display.
        names: Every name in use, the displayed one first.
        definition: What differs from what.
        causes: Typical causes, one sentence each.
        questions: What to ask inside the company, one sentence each.
        remedies: What closes the gap, one sentence each.
    """

    id: str
    number: int
    name: str
    names: tuple[str, ...]
    definition: str
    causes: tuple[str, ...]
    questions: tuple[str, ...]
    remedies: tuple[str, ...]


@dataclass(frozen=True)
class Taxonomy:
    """The gaps in the order of `LABELS`.

    Attributes:
        version: Changes whenever the wording does.
        source: Where the model comes from.
        about: How the gaps hang together.
        gaps: All five.
    """

    version: str
    source: str
    about: str
    gaps: tuple[Gap, ...]

    def __getitem__(self, name: str) -> Gap:
        """Return the gap that `name` (an id, a number or any name in use) means."""
        return self.gaps[LABELS.index(self.resolve(name))]

    def resolve(self, name: str) -> str:
        """Return the id of the gap that `name` means; see `resolve_gap`."""
        if not isinstance(name, str):
            raise UnknownGapError(f"got {name!r} as a gap's name, but expected text such as 'delivery'")
        folded = _fold(name)
        numbered = _NUMBERED.fullmatch(folded)
        found = self._ids.get(numbered[1] if numbered else folded)
        if found is None:
            raise UnknownGapError(_refusal(name, self._nearest(folded)))
        return found

    @cached_property
    def _ids(self) -> dict[str, str]:
        """Map each folded name, with and without the word "gap" after it, to its gap's id."""
        ids = {}
        for gap in self.gaps:
            for name in (gap.id, *gap.names):
                ids[_fold(name)] = ids[f"{_fold(name)} gap"] = gap.id
            ids[str(gap.number)] = gap.id
        for name, gap_id in list(ids.items()):
            ids.setdefault(name.removesuffix(" gap"), gap_id)
        return ids

    def _nearest(self, folded: str) -> list[str]:
        """Return the names in use that look most like `folded`, the nearest first, one per gap."""
        from difflib import get_close_matches

        shown = {_fold(name): name for gap in self.gaps for name in (gap.id, *gap.names)}
        per_gap: dict[str, str] = {}
        for match in get_close_matches(folded[:_LONGEST_NAME], shown, n=6, cutoff=0.6):
            per_gap.setdefault(self._ids[match], shown[match])
        return list(per_gap.values())[:3]


@cache
def load_taxonomy() -> Taxonomy:
    """Read `gaps.toml`, once."""
    import tomllib
    from pathlib import Path

    data = tomllib.loads(Path(__file__).with_name("gaps.toml").read_text(encoding="utf-8"))
    return Taxonomy(**data | {"gaps": tuple(_to_gap(table) for table in data["gaps"])})


def resolve_gap(name: str) -> str:
    """Return the id of the gap that a name means.

    Accepts the id, every name in `gaps.toml`, and the number (`3`, `gap 3`, `Gap-3`, `gap #3`). Case, and
    which dashes, underscores or white space stand between the words, do not count.

    Raises:
        UnknownGapError: If it is no name of a gap; the message offers the nearest ones.
    """
    return load_taxonomy().resolve(name)


def _to_gap(table: dict[str, Any]) -> Gap:
    """Build a gap from its table, whose keys are the attributes' names."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    return Gap(**values)


def _fold(name: str) -> str:
    """Fold away what does not tell two names apart."""
    folded = _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", name).casefold()).strip(" \"'“”.")
    return _LEADING.sub("", folded)


def _refusal(name: str, nearest: list[str]) -> str:
    """Say what was got and what would do."""
    got = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    if nearest:
        hint = "did you mean " + " or ".join(f"'{suggestion}'" for suggestion in nearest) + "?"
    else:
        hint = f"expected {', '.join(LABELS)}, a number from 1 to {len(LABELS)}, or another of their names"
    return f"{got!r} is no name of a gap: {hint} (`gapnlp gaps` lists them all)"
