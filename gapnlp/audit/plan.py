"""How many rows to read for an interval of a wanted width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapnlp.audit.design import MIN_PER_STRATUM, checked_proba, choose_design, foretold_chance, foretold_half_width
from gapnlp.audit.difference import PRIOR_ROWS, effective_rows
from gapnlp.errors import ConfigError
from gapnlp.intervals import wilson_interval
from gapnlp.taxonomy import LABELS

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GapPlan:
    """What one gap needs.

    Attributes:
        label: The gap's id.
        share: Share of the archive that the scores foretell, 0-1.
        n_rows: Rows to read, with the scores' help.
        n_plain: Rows to read if the scores are left out of it.
    """

    label: str
    share: float
    n_rows: int
    n_plain: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rows to read.

    Attributes:
        n_texts: Texts in the archive.
        half_width: The interval is to be the estimate ± this, 0-1.
        confidence: Of the interval, 0-1.
        gap: The one gap it is for; empty for all.
        gaps: What each gap needs: all five, or the one.
    """

    n_texts: int
    half_width: float
    confidence: float
    gap: str
    gaps: tuple[GapPlan, ...]

    @property
    def n_rows(self) -> int:
        """Rows to read: enough for the gap that needs most."""
        return max(item.n_rows for item in self.gaps)

    @property
    def n_plain(self) -> int:
        """Rows to read if the scores are left out of it."""
        return max(item.n_plain for item in self.gaps)


def plan_audit(
    proba: npt.ArrayLike,
    *,
    half_width: float,
    gap: str = "",
    confidence: float = 0.95,
    priors: npt.ArrayLike | None = None,
) -> Plan:
    """Work out how many rows to read, if the scores are as good as they claim.

    If they are worse, the interval comes out wider than planned, up to that of plain reading or somewhat
    more for a draw for one gap; it holds all the same.

    Args:
        proba: The model's calibrated probabilities of all texts, 0-1. *Shape:* (n_texts, 5).
        half_width: The interval is to be the estimate ± this, 0-0.5.
        gap: A gap's id, to draw for it alone; empty to draw at random for all.
        confidence: Between 0 and 1, both excluded.
        priors: As for `choose_design`. *Shape:* (5,).

    Raises:
        ConfigError: `half_width` or `confidence` is out of its range.
    """
    f = checked_proba(proba)
    if not 0 < half_width < 0.5:
        raise ConfigError(f"width: got ±{half_width:g} as a share, expected more than 0 and less than 0.5")
    gaps = [gap] if gap else LABELS
    aims = _Aims(half_width, confidence, priors)
    plans = tuple(_plan_gap(f, label, alone=bool(gap), aims=aims) for label in gaps)
    return Plan(len(f), half_width, confidence, gap, plans)


@dataclass(frozen=True, slots=True)
class _Aims:
    """What is asked of a plan, and what it knows of the probabilities."""

    half_width: float
    confidence: float
    priors: npt.ArrayLike | None


def _plan_gap(f: FloatArray, label: str, *, alone: bool, aims: _Aims) -> GapPlan:
    chance = foretold_chance(f, label, priors=aims.priors)
    share, n_texts, confidence = float(chance.mean()), len(chance), aims.confidence

    def plain(n_rows: int) -> float:
        return _half_width(share, effective_rows(n_rows, n_texts), confidence=confidence)

    def random(n_rows: int) -> float:
        effect = foretold_effect(chance, n_rows=n_rows)
        return _half_width(share, effective_rows(n_rows, n_texts) / effect, confidence=confidence)

    def stratified(n_rows: int) -> float:
        return _stratified_half_width(f, label, chance, n_rows=n_rows, aims=aims)

    n_plain = _smallest(plain, aims.half_width, n_texts=n_texts)
    n_rows = _smallest(stratified if alone else random, aims.half_width, n_texts=n_texts)
    return GapPlan(label, share, n_rows, n_plain)


def foretold_effect(score: FloatArray, *, n_rows: int) -> float:
    """Design effect to expect of a random draw if the score is calibrated, up to 1; see `difference_estimate`.

    A calibrated score explains Var(score) of the labels' variance p (1 - p). *Shape:* (n_texts,).
    """
    share = float(score.mean())
    total = share * (1 - share)
    explained = float(score.var()) / total if total > 0 else 0.0
    n_rare = n_rows * min(share, 1 - share)
    trust = n_rare / (n_rare + PRIOR_ROWS)
    effect = 1 - explained * (1 - (1 - trust) ** 2)
    return trust * effect + (1 - trust)


def _stratified_half_width(f: FloatArray, label: str, chance: FloatArray, *, n_rows: int, aims: _Aims) -> float:
    design = choose_design(f, n_rows, gap=label, confidence=aims.confidence, priors=aims.priors)
    stratum = design.stratum(f)
    n_texts = np.bincount(stratum, minlength=len(design.n_rows))
    share = np.bincount(stratum, weights=chance, minlength=len(design.n_rows)) / n_texts
    return float(foretold_half_width(share, n_texts, rows=np.asarray(design.n_rows), confidence=aims.confidence))


def _half_width(share: float, n_effective: float, *, confidence: float) -> float:
    if np.isinf(n_effective):
        return 0.0
    low, high = wilson_interval(share, n_effective, confidence=confidence)
    return float(high - low) / 2


def _smallest(width_of: Callable[[int], float], half_width: float, *, n_texts: int) -> int:
    """Find by halving how many rows give the width; all of them always do."""
    low, high = min(MIN_PER_STRATUM, n_texts), n_texts
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if width_of(middle) <= half_width else (middle + 1, high)
    return high
