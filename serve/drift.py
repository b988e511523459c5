"""How far the mix of labels has moved from the one that the model was validated on.

A *mix* is how the outcomes of some texts divide up: a text counts once for each of its labels, or once for `none`,
and the parts add up to 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gapnlp.taxonomy import LABELS, NONE

FloatArray = npt.NDArray[np.float64]

OUTCOMES: tuple[str, ...] = (*LABELS, NONE)
"""What a text can come out as, in the order of every mix."""

WINDOW = 2_000  # texts; chance alone then moves the mix by about 0.02
FEWEST = 200  # texts; chance alone moves the mix of fewer by more than 0.05


def mix_of(decided: npt.ArrayLike) -> FloatArray:
    """Return the mix of labelled texts. *Shape:* (6,), in the order of `OUTCOMES`, adding up to 1.

    Args:
        decided: True where a text has the label. *Shape:* (n_texts, 5), n_texts at least 1.
    """
    labels = np.asarray(decided, dtype=bool)
    return _normalised(np.append(labels.sum(axis=0), (~labels.any(axis=1)).sum()))


def total_variation(mix: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Return the part of one mix, 0-1, that would have to move to make it the other.

    Half the sum of the absolute differences: Levin, Peres & Wilmer (2009, "Markov Chains and Mixing Times",
    proposition 4.2).

    Args:
        mix: Adds up to 1. *Shape:* (6,).
        reference: Adds up to 1. *Shape:* (6,).
    """
    return float(np.abs(np.asarray(mix) - np.asarray(reference)).sum() / 2)


class RollingMix:
    """The outcomes of the texts read last.

    Args:
        window: How many texts are looked back on.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self._texts: deque[tuple[str, ...]] = deque(maxlen=window)
        self._counts = dict.fromkeys(OUTCOMES, 0)

    def add(self, labels: Sequence[str]) -> None:
        """Take in one text's labels; none of them means `none`."""
        outcomes = tuple(labels) or (NONE,)
        if len(self._texts) == self._texts.maxlen:
            for outcome in self._texts[0]:  # the next append pushes this one out
                self._counts[outcome] -= 1
        self._texts.append(outcomes)
        for outcome in outcomes:
            self._counts[outcome] += 1

    def __len__(self) -> int:
        """Return how many texts it holds."""
        return len(self._texts)

    def clear(self) -> None:
        """Forget all texts: another model labels from now on."""
        self._texts.clear()
        self._counts = dict.fromkeys(OUTCOMES, 0)

    def share(self, outcome: str) -> float:
        """Return the share of the texts with an outcome, 0-1; NaN while there are too few to say."""
        n_texts = len(self)
        return self._counts[outcome] / n_texts if n_texts >= FEWEST else float("nan")

    def drift(self, reference: npt.ArrayLike) -> float:
        """Return the total variation from a reference mix, 0-1; NaN while there are too few texts to say.

        Args:
            reference: Adds up to 1. *Shape:* (6,).
        """
        if len(self) < FEWEST:
            return float("nan")
        return total_variation(_normalised(np.array(list(self._counts.values()))), reference)


def _normalised(counts: npt.NDArray[np.int64]) -> FloatArray:
    return np.asarray(counts / counts.sum(), dtype=np.float64)
