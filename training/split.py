"""Split labelled rows so that no split has seen another's texts."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from gapnlp.errors import ConfigError, MissingExtraError
from training.corpus import Example, count_labels

NEAR = 0.4
"""Cosine of character n-grams from which two texts count as near-duplicates."""

CONTRAST_NEAR = 0.12
"""The same for neighbours of the subset `contrast`: pairs close in topic, written apart on purpose."""

CONTRAST_REACH = 3  # contrast rows at most this far apart in the file may be a pair
BLOCK = 512  # rows compared at a time with all others: bounds memory


def split_examples(
    examples: Sequence[Example],
    *,
    shares: Mapping[str, float],
    seed: int = 0,
    threshold: float = NEAR,
) -> dict[str, list[Example]]:
    """Split rows by shares, near-duplicates and contrast pairs together, rare labels spread first.

    Groups are dealt out label by label, the rarest first, each to the split that still lacks the most rows of
    that label (iterative stratification: Sechidis, Tsoumakas, Vlahavas 2011, "On the Stratification of
    Multi-label Data", ECML PKDD, here over groups instead of rows). The same rows, shares and seed
    give the same splits.

    Args:
        examples: Rows in the order of their file.
        shares: Name of the split → its share of the rows, each 0 to 1, together 1.
        seed: Breaks ties.
        threshold: Cosine from which texts stay together, 0 to 1; see `group_examples`.

    Raises:
        ConfigError: The shares do not add up to 1.
    """
    if min(shares.values(), default=0) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise ConfigError(f"got shares {dict(shares)}, expected positive shares that add up to 1")
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(group_examples(examples, threshold=threshold)):
        members[group].append(row)
    parts = _deal([[examples[row] for row in rows] for rows in members.values()], shares=shares, seed=seed)
    part_of = {row: part for rows, part in zip(members.values(), parts, strict=True) for row in rows}
    return {name: [e for row, e in enumerate(examples) if part_of[row] == name] for name in shares}


def group_examples(
    examples: Sequence[Example], *, threshold: float = NEAR, contrast_threshold: float = CONTRAST_NEAR
) -> list[int]:
    """Number the rows so that those which belong together share a number, that of their first row.

    Together belong rows with the same `group`, texts whose TF-IDF vectors of character 3- to 5-grams have at
    least the cosine `threshold`, and rows of the subset `contrast` at most 3 apart with `contrast_threshold`;
    and whatever these links connect.

    Args:
        examples: Rows in the order of their file.
        threshold: Cosine, 0 to 1.
        contrast_threshold: Cosine, 0 to 1.
    """
    groups = _Groups(len(examples))
    first: dict[str, int] = {}
    for row, example in enumerate(examples):
        if example.group:
            groups.join(row, first.setdefault(example.group, row))
    for left, right, cosine in near_pairs([e.text for e in examples], threshold=min(threshold, contrast_threshold)):
        pair = right - left <= CONTRAST_REACH and examples[left].subset == examples[right].subset == "contrast"
        if cosine >= (contrast_threshold if pair else threshold):
            groups.join(left, right)
    return [groups.root(row) for row in range(len(examples))]


class _Groups:
    """Connected components, each known by its lowest row."""

    def __init__(self, n_rows: int) -> None:
        self.parents = list(range(n_rows))

    def root(self, row: int) -> int:
        while self.parents[row] != row:
            self.parents[row] = self.parents[self.parents[row]]
            row = self.parents[row]
        return row

    def join(self, left: int, right: int) -> None:
        low, high = sorted((self.root(left), self.root(right)))
        self.parents[high] = low


def near_pairs(texts: Sequence[str], *, threshold: float) -> list[tuple[int, int, float]]:
    """Return (row, later row, cosine) for every pair of texts at or above the threshold."""
    if len(texts) < 2:
        return []
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as exc:
        raise MissingExtraError("scikit-learn", "train") from exc
    vectors: Any = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True).fit_transform(texts)
    pairs: list[tuple[int, int, float]] = []
    for start in range(0, len(texts), BLOCK):
        cosines = (vectors[start : start + BLOCK] @ vectors.T).tocoo()
        near = cosines.data >= threshold
        for row, other, cosine in zip(cosines.row[near], cosines.col[near], cosines.data[near], strict=True):
            if start + row < other:
                pairs.append((int(start + row), int(other), float(cosine)))
    return sorted(pairs)


def _deal(groups: Sequence[Sequence[Example]], *, shares: Mapping[str, float], seed: int) -> list[str]:
    """Choose a split for each group."""
    counts = [count_labels(group) for group in groups]
    totals = sum(counts, start=Counter[str]())
    n_rows = sum(len(group) for group in groups)
    wanted = {name: {label: share * n for label, n in totals.items()} for name, share in shares.items()}
    room = {name: share * n_rows for name, share in shares.items()}
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)  # noqa: S311 (no secret hangs on it)
    order.sort(key=lambda g: -len(groups[g]))  # the large ones while there is room
    parts: dict[int, str] = {}
    for label in sorted(totals, key=lambda label: (totals[label], label)):
        for g in order:
            if g in parts or not counts[g][label]:
                continue
            name = max(shares, key=lambda name: (wanted[name][label], room[name]))
            parts[g] = name
            room[name] -= len(groups[g])
            for other, n in counts[g].items():
                wanted[name][other] -= n
    return [parts[g] for g in range(len(groups))]
