"""The texts that speak most plainly for each gap: a bounded choice while an archive is read, the best at the end."""

from __future__ import annotations

import heapq
import json
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from gapnlp.report.content import Quotation
from gapnlp.taxonomy import LABELS
from gapnlp.text import mask_personal_data, replace_surrogates

N_SHOWN = 4  # per gap
SHORT, LONG = 45, 260  # characters between which a quotation is neither a scrap nor a page
MAX_CHARS = 320  # a longer text is quoted around its evidence
_N_KEPT = 160  # candidates per gap
_N_REMEMBERED = 20_000  # texts per gap
_MAX_TEXT = 20_000  # characters; a longer text is no quotation
_ALIKE = 0.4  # share of word pairs in common from which two quotations say the same
_SAME_GROUP = 0.04  # what a second quotation of the same group gives up
_LETTERS = re.compile(r"[^\W\d_]+")
_SPACE = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"[.!?…]['\")\]]*\s")


class Candidate(NamedTuple):
    """A text that may be quoted.

    Attributes:
        score: How telling it is; the higher the better.
        order: Number of its row among all rows: of two alike, the first is kept.
        key: Its words without numbers: what tells it from others.
        text: The text.
        evidence: First character of the evidence and the one after its last; equal where there is none.
        probability: Of the gap, 0-1.
        place: File and row.
        groups: What the row has in the columns of the splits.
    """

    score: float
    order: int
    key: str
    text: str
    evidence: tuple[int, int]
    probability: float
    place: str
    groups: tuple[str, ...]


@dataclass(slots=True)
class _Heap:
    """The best candidates of one gap; of texts that differ in numbers alone, one."""

    items: list[Candidate] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)

    def is_new(self, text: str) -> bool:
        """Tell whether a text comes for the first time: canned ones come by the thousand."""
        if hash(text) in self.seen:
            return False
        if len(self.seen) >= _N_REMEMBERED:
            self.seen.clear()
        self.seen.add(hash(text))
        return True

    def offer(self, candidate: Candidate) -> None:
        if candidate.key in self.keys:
            return
        self.keys.add(candidate.key)
        # Later rows lose ties, so that the choice does not depend on how the file is cut into batches.
        heapq.heappush(self.items, candidate._replace(order=-candidate.order))
        if len(self.items) > _N_KEPT:
            self.keys.remove(heapq.heappop(self.items).key)

    @property
    def floor(self) -> float:
        """Score that a candidate must exceed to be kept."""
        return self.items[0].score if len(self.items) >= _N_KEPT else 0.0


class Quotations:
    """Candidates for quotations, gathered while an archive is read."""

    def __init__(self) -> None:
        self._heaps = [_Heap() for _ in LABELS]

    def wanted(self, gap: int, *, probability: float, primary: bool) -> bool:
        """Tell, before its text is looked at, whether a text may be good enough.

        Args:
            gap: The gap's place in `LABELS`.
            probability: Of the gap, 0-1.
            primary: Whether it is the text's first gap.
        """
        return _merit(probability, primary=primary) > self._heaps[gap].floor

    def offer(
        self,
        gap: int,
        text: str,
        *,
        probability: float,
        primary: bool,
        evidence: str,
        order: int,
        place: str,
        groups: tuple[str, ...],
    ) -> None:
        """Keep a text if it is among the best.

        Args:
            gap: The gap's place in `LABELS`.
            text: What the customer wrote.
            probability: Of the gap, 0-1.
            primary: Whether it is the text's first gap.
            evidence: JSON: label → offsets of the passage.
            order: Number of the row among all rows.
            place: File and row.
            groups: What the row has in the columns of the splits.
        """
        if len(text) > _MAX_TEXT or not self._heaps[gap].is_new(text):
            return
        score = _merit(probability, primary=primary) - _length_penalty(len(text.strip()))
        if score <= self._heaps[gap].floor:
            return
        key = " ".join(_LETTERS.findall(text.lower()))[:2000]
        span = _span(evidence, label=LABELS[gap], n_chars=len(text))
        if not key or key in self._heaps[gap].keys:
            return
        self._heaps[gap].offer(Candidate(score, order, key, text, span, probability, place, groups))

    def choose(self, gap: int, *, mask: bool, taken: set[str], n_shown: int = N_SHOWN) -> tuple[Quotation, ...]:
        """Choose the best that differ from each other, from several groups where there are.

        Args:
            gap: The gap's place in `LABELS`.
            mask: Mask personal data.
            taken: Keys of texts quoted already, for other gaps; those chosen here are added.
            n_shown: How many at the most.
        """
        left = [item for item in sorted(self._heaps[gap].items, reverse=True) if item.key not in taken]
        chosen: list[Candidate] = []
        while left and len(chosen) < n_shown:
            seen = {group for item in chosen for group in item.groups}
            best = max(left, key=lambda item: item.score - _SAME_GROUP * len(seen.intersection(item.groups)))
            chosen.append(best)
            left = [item for item in left if item is not best and not _alike(item.key, best.key)]
        taken.update(item.key for item in chosen)
        return tuple(_quotation(item, label=LABELS[gap], mask=mask) for item in chosen)


def excerpt(text: str, start: int, end: int) -> tuple[str, int, int]:
    """Cut a long text to the part around its evidence, at whole sentences or words, on one line.

    Args:
        text: What the customer wrote.
        start: First character of the evidence.
        end: The one after its last.

    Returns:
        The part, with `…` where something was left out, and the evidence's place in it.
    """
    if len(text.strip()) <= MAX_CHARS:
        return _on_one_line(text, start, end, before="", after="")
    end = min(end, start + MAX_CHARS)
    spare = max(MAX_CHARS - (end - start), 0)
    first = _first_character(text, max(start - spare // 2, 0), start)
    last = _last_character(text, end, min(end + spare - (start - first), len(text)))
    before = "… " if text[:first].strip() else ""
    after = " …" if text[last:].strip() else ""
    return _on_one_line(text[first:last], start - first, end - first, before=before, after=after)


def masked(text: str, start: int, end: int) -> tuple[str, int, int]:
    """Mask personal data; a passage grows to hold the whole of what was masked at its ends.

    Args:
        text: What the customer wrote.
        start: First character of the passage.
        end: The one after its last.

    Returns:
        The masked text, and the passage's place in it.
    """
    whole = mask_personal_data(text)
    if whole == text:
        return text, start, end
    if start == end:
        return whole, 0, 0
    while start > 0 and not whole.startswith(mask_personal_data(text[:start])):
        start = max(text.rfind(" ", 0, start), 0)
    while end < len(text) and not whole.startswith(mask_personal_data(text[:end])):
        end = text.find(" ", end + 1) if " " in text[end + 1 :] else len(text)
    return whole, len(mask_personal_data(text[:start])), len(mask_personal_data(text[:end]))


def _merit(probability: float, *, primary: bool) -> float:
    # Among probabilities near 1 the last digits say nothing; length and variety should decide.
    return round(min(probability, 0.95), 2) + 0.15 * primary


def _length_penalty(n_chars: int) -> float:
    if n_chars < SHORT:
        return 0.3 * (1 - n_chars / SHORT) + 0.05
    return 0.0 if n_chars <= LONG else 0.05 + 0.15 * min((n_chars - LONG) / 1000, 1.0)


def _span(evidence: str, *, label: str, n_chars: int) -> tuple[int, int]:
    try:
        start, end = json.loads(evidence or "{}")[label]
    except (ValueError, KeyError, TypeError):
        return 0, 0
    whole = isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= n_chars
    return (start, end) if whole else (0, 0)


def _alike(one: str, other: str) -> bool:
    a, b = _pairs(one), _pairs(other)
    return len(a & b) > _ALIKE * min(len(a), len(b))


def _pairs(key: str) -> set[tuple[str, str]]:
    words = ["", *key.split(), ""]
    return set(pairwise(words))


def _quotation(item: Candidate, *, label: str, mask: bool) -> Quotation:
    text, (start, end) = replace_surrogates(item.text), item.evidence
    if mask:
        text, start, end = masked(text, start, end)
    text, start, end = excerpt(text, start, end)
    return Quotation(label, text, start, end, item.probability, item.place, item.groups)


def _first_character(text: str, lowest: int, start: int) -> int:
    """Find where to begin: after the first end of a sentence in the range, else at a word."""
    if lowest == 0:
        return 0
    found = _SENTENCE_END.search(text, lowest, start) or _SPACE.search(text, lowest, start)
    return found.end() if found else start


def _last_character(text: str, end: int, highest: int) -> int:
    """Find where to stop: after the last end of a sentence in the range, else at a word."""
    if highest == len(text):
        return highest
    ends = [found.end() for found in _SENTENCE_END.finditer(text, end, highest)]
    spaces = [found.start() for found in _SPACE.finditer(text, end, highest)]
    return (ends or spaces or [end])[-1]


def _on_one_line(text: str, start: int, end: int, *, before: str, after: str) -> tuple[str, int, int]:
    """Fold white space, keeping track of the passage."""
    head, passage, tail = (_SPACE.sub(" ", part) for part in (text[:start], text[start:end], text[end:]))
    head = before + head.lstrip()
    if not passage:
        return before + _SPACE.sub(" ", text).strip() + after, 0, 0
    lead = len(passage) - len(passage.lstrip())
    bare = passage.strip()
    whole = f"{head}{passage}{tail.rstrip()}".rstrip() + after
    begin = len(head) + lead
    return whole, begin, begin + len(bare)
