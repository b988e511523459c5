"""What an engine said of one text, before anything is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapnlp.calibration import sigmoid
from gapnlp.evidence import best_passage, passage_characters
from gapnlp.records import Evidence
from gapnlp.taxonomy import LABELS


@dataclass(frozen=True, slots=True)
class WindowReading:
    """One window of a text.

    Attributes:
        logits: Text head. *Shape:* (5,).
        token_logits: Evidence head, special tokens left out. *Shape:* (n_tokens, 5).
        offsets: First character of each token in the text, and the one after its last.
    """

    logits: npt.NDArray[np.float32]
    token_logits: npt.NDArray[np.float32]
    offsets: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Reading:
    """One text, window by window.

    Attributes:
        text: The text.
        windows: Its windows, at least one.
    """

    text: str
    windows: Sequence[WindowReading]

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """The highest logit of the windows per gap: a text has the union of its grievances. *Shape:* (5,)."""
        pooled: npt.NDArray[np.float32] = np.max([window.logits for window in self.windows], axis=0)
        return pooled

    def evidence(self, labels: Sequence[str], *, threshold: float) -> tuple[Evidence, ...]:
        """Return the passage that speaks for each label, from the window that speaks loudest for it.

        Args:
            labels: Ids of gaps.
            threshold: Share of the highest score from which a token speaks for the passage, 0-1.
        """
        found = []
        for label in labels:
            column = LABELS.index(label)
            window = max(self.windows, key=lambda window: float(window.logits[column]))
            if len(window.offsets):
                passage = best_passage(sigmoid(window.token_logits[:, column]), threshold=threshold)
                found.append(Evidence(label, *passage_characters(self.text, window.offsets, passage=passage)))
        return tuple(found)
