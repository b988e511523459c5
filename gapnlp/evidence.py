"""From a score per token to the one passage that speaks for a gap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def best_passage(scores: npt.NDArray[np.floating], *, threshold: float) -> tuple[int, int]:
    """Return the run of tokens whose scores exceed the threshold by the largest sum.

    The maximum-sum segment of `scores - threshold` (Bentley, 1984, "Programming Pearls: Algorithm Design Techniques"),
    found in linear time. Where no token exceeds the threshold it is the highest one alone.

    Args:
        scores: Probability per token that it belongs to the evidence, 0-1. *Shape:* (n_tokens,), n_tokens ≥ 1.
        threshold: Probability from which a token speaks for the passage, 0-1.

    Returns:
        First token and the one after the last.
    """
    sums = np.concatenate(([0.0], np.cumsum(np.asarray(scores, dtype=np.float64) - threshold)))
    lowest = np.minimum.accumulate(sums[:-1])
    end = int(np.argmax(sums[1:] - lowest)) + 1
    start = int(np.flatnonzero(sums[:end] == lowest[end - 1])[-1])
    return start, end


def passage_characters(text: str, offsets: Sequence[tuple[int, int]], *, passage: tuple[int, int]) -> tuple[int, int]:
    """Return the characters that a run of tokens covers, widened to whole words.

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
    return start, end
