"""Excerpts of texts: further texts for a teacher to speak on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from zlib import crc32

import numpy as np

LONGEST = 3  # sentences
FEWEST_WORDS = 4

_END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def draw_excerpts(texts: Sequence[str], *, n: int, seed: int) -> list[str]:
    """Draw up to `n` different excerpts of one to three sentences from every text of several sentences.

    A short comment is the hardest to read, and archives are full of them; cut out of long ones, they cost little.

    Args:
        texts: Whole texts.
        n: Excerpts per text, at the most.
        seed: Of the places; those in one text do not hang on the others.
    """
    drawn: dict[str, None] = {}
    for text in texts:
        rng = np.random.default_rng([seed, crc32(text.encode("utf-8", "surrogatepass"))])
        sentences = _END_OF_SENTENCE.split(text.strip())
        for _ in range(n if len(sentences) > 1 else 0):
            length = int(rng.integers(1, min(LONGEST, len(sentences) - 1) + 1))
            first = int(rng.integers(0, len(sentences) - length + 1))
            excerpt = " ".join(sentences[first : first + length])
            if len(excerpt.split()) >= FEWEST_WORDS:
                drawn[excerpt] = None
    return list(drawn)
