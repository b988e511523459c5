"""How far two readers agree, and what an estimate would be if the second were always right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gapnlp.metrics import krippendorff_alpha_nominal
from gapnlp.taxonomy import LABELS

if TYPE_CHECKING:
    from gapnlp.audit.sample import Audit


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two readers agree on one gap.

    Attributes:
        label: The gap's id.
        n_rows: Rows that both read.
        n_disputed: Rows that one gave the gap and the other did not.
        agreement: Share of rows with the same answer, 0-1.
        alpha: Krippendorff's alpha, at most 1, 0 is chance; NaN where neither ever gave the gap, or both always.
        down: Share of the archive that the estimate would lose if every dispute were settled as "no gap", 0-1.
        up: Share that it would gain if every dispute were settled as "gap", 0-1.
    """

    label: str
    n_rows: int
    n_disputed: int
    agreement: float
    alpha: float
    down: float
    up: float


def reader_agreement(audit: Audit) -> tuple[Agreement, ...]:
    """Compare the two readers on the rows that both read, per gap; empty where there are none.

    Disputes are carried over to the whole archive, each row with the weight of its draw. The bounds assume
    nothing of who is right (worst case, Manski 2003, "Partial identification of probability distributions",
    chapter 4); a correction such as that of Rogan & Gladen (1978) would need the readers' true error rates, which
    two readers cannot give.
    """
    if not len(audit.second_rows):
        return ()
    first, second = audit.labels[audit.second_rows], audit.second
    weight = 1 / audit.inclusion[audit.second_rows]
    weight = weight / weight.sum()
    alpha = krippendorff_alpha_nominal(first, second)
    same = first == second
    down, up = weight @ (first & ~second), weight @ (~first & second)
    return tuple(
        Agreement(
            label=label,
            n_rows=len(same),
            n_disputed=int((~same[:, j]).sum()),
            agreement=float(same[:, j].mean()),
            alpha=float(alpha[j]),
            down=float(down[j]),
            up=float(up[j]),
        )
        for j, label in enumerate(LABELS)
    )


def agreement_notes(agreement: Sequence[Agreement], share: npt.ArrayLike) -> list[tuple[str, ...]]:
    """Put the agreement into a sentence per gap, for an estimate; empty where one person read alone.

    Args:
        agreement: From `reader_agreement`.
        share: The estimates, 0-1. *Shape:* (5,).
    """
    if not agreement:
        return [()] * len(LABELS)
    estimates = np.asarray(share, dtype=np.float64)
    return [(_sentence(item, float(estimate)),) for item, estimate in zip(agreement, estimates, strict=True)]


def _sentence(item: Agreement, estimate: float) -> str:
    if not item.n_disputed:
        return f"Two readers agreed on all of the {item.n_rows:,} texts that both read."
    alpha = "" if math.isnan(item.alpha) else f" (Krippendorff's alpha {item.alpha:.2f})"
    low, high = max(estimate - item.down, 0.0), min(estimate + item.up, 1.0)
    return (
        f"Two readers disagreed on {item.n_disputed:,} of the {item.n_rows:,} texts that both read{alpha}: "
        f"settled one way or the other, the estimate would lie anywhere from {low:.1%} to {high:.1%}; "
        "the interval does not include this."
    )
