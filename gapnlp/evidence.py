"""From a score per token to the one passage that speaks for a gap."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# From the first character that may begin a passage to the last that may end one.
_INNER = re.compile(r"""[\w"'\u201c\u2018(\[£$€#@](?:.*[^\s,:;(\[-])?""", re.DOTALL)


def best_passage(scores: npt.NDArray[np.floating], *, threshold: float) -> tuple[int, int]:
    """Return the run of tokens whose scores exceed a share of the highest one by the largest sum.

    The maximum-sum segment of `scores - threshold * scores.max()` (Bentley, 1984, "Programming Pearls: Algorithm
    Design Techniques"), found in linear time. The share is of the text's own highest score, since a label that is
    said quietly has quiet evidence.

    Args:
        scores: Probability per token that it belongs to the evidence, 0-1. *Shape:* (n_tokens,), n_tokens ≥ 1.
        threshold: Share of the highest score from which a token speaks for the passage, 0-1.

    Returns:
        First token and the one after the last.
    """
    values = np.asarray(scores, dtype=np.float64)
    sums = np.concatenate(([0.0], np.cumsum(values - threshold * values.max())))
    lowest = np.minimum.accumulate(sums[:-1])
    end = int(np.argmax(sums[1:] - lowest)) + 1
    start = int(np.flatnonzero(sums[:end] == lowest[end - 1])[-1])
    return start, end


def passage_characters(text: str, offsets: Sequence[tuple[int, int]], *, passage: tuple[int, int]) -> tuple[int, int]:
    """Return the characters that a run of tokens covers: whole words, without the blanks and marks around them.

    Args:
        text: The text that was tokenised.
        offsets: First character of each token and the one after its last.
        passage: First token and the one after the last.
    """
    start, end = offsets[passage[0]][0], offsets[passage[1] - 1][1]
    while start > 0 and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    while 0 < end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
        end += 1
    inner = _INNER.search(text, start, end)
    return inner.span() if inner else (start, end)
