"""Texts to time with: a user's own file, or made-up ones as long as real comments are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CORPUS = Path(__file__).parent.parent / "data" / "train.jsonl"
# Words of real comments from 18 public sources: quantiles from the shortest to the longest.
SHARES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
WORDS = (4, 6, 8, 15, 26, 95, 221, 283, 370, 400)
SHORT = 130  # characters
SHORT_WORDS = 20
CHUNK = 5000  # texts made at a time


def read_texts(path: Path, *, n_texts: int, seed: int = 0) -> list[str]:
    """Draw texts from a JSON Lines file (`.gz` too) with a column `text`."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    order = np.random.default_rng(seed).permutation(len(texts))
    return [texts[index] for index in order[:n_texts]]


def short_texts() -> list[str]:
    """Return the different texts of the corpus that are a sentence or two."""
    with CORPUS.open(encoding="utf-8") as file:
        return list(dict.fromkeys(text for line in file if len(text := json.loads(line)["text"]) <= SHORT))


def distinct_texts(n_texts: int) -> Iterator[str]:
    """Yield made-up short texts, no two alike: a number of seven digits ends each. Few are in memory at a time."""
    for start in range(0, n_texts, CHUNK):
        texts = make_texts(CHUNK, seed=start, most_words=SHORT_WORDS)
        for number, text in enumerate(texts[: n_texts - start], start):
            yield f"{text} {number:07}"


def make_texts(n_texts: int, *, seed: int = 0, most_words: int = 400) -> list[str]:
    """Make texts of whole sentences from the corpus, as many words long as real comments are, up to `most_words`."""
    rng = np.random.default_rng(seed)
    with CORPUS.open(encoding="utf-8") as file:
        pool = [json.loads(line)["text"].split() for line in file]
    lengths = np.minimum(np.interp(rng.random(n_texts), SHARES, WORDS).astype(int), most_words)
    texts = []
    for length in lengths:
        words: list[str] = []
        while len(words) < length:
            words += pool[rng.integers(len(pool))]
        texts.append(" ".join(words[: max(1, length)]))
    return texts
