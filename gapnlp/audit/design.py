"""Which rows to read: all alike, or more of those whose score leaves a rare gap in doubt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapnlp.audit.interval import stratified_interval
from gapnlp.errors import ConfigError, CorpusError
from gapnlp.prevalence.gap_score import at_likeliest_share
from gapnlp.taxonomy import LABELS

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

MAX_STRATA = 32
MIN_PER_STRATUM = 2
_ROWS_PER_STRATUM = 25
_FLOORS = np.linspace(0.1, 1.0, 10)  # parts of the rows that are spread evenly, whatever the scores say
_N_HALVINGS = 60
_DECIMALS = 6  # what flat files keep of a probability


@dataclass(frozen=True, slots=True)
class Design:
    """How rows are drawn.

    Attributes:
        gap: The gap whose score parts the archive into strata; empty for a simple random draw.
        cuts: Scores at which a new stratum begins, rising; empty for a simple random draw.
        n_rows: Rows drawn from each stratum.
    """

    gap: str
    cuts: tuple[float, ...]
    n_rows: tuple[int, ...]

    def stratum(self, proba: npt.ArrayLike) -> IntArray:
        """Tell the stratum of every text. *Shapes:* (n_texts, 5) in, (n_texts,) out."""
        f = np.asarray(proba, dtype=np.float64)
        if not self.gap:
            return np.zeros(len(f), dtype=np.int64)
        return np.asarray(np.searchsorted(self.cuts, gap_score(f, self.gap), side="right"), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Draw:
    """The rows that chance chose.

    Attributes:
        design: How they were drawn.
        rows: Index in the archive of each, in the random order in which to read them. *Shape:* (n,).
        n_double: So many of them, the first ones, are for a second reader too.
    """

    design: Design
    rows: IntArray
    n_double: int


def choose_design(
    proba: npt.ArrayLike,
    n_rows: int,
    *,
    gap: str = "",
    confidence: float = 0.95,
    priors: npt.ArrayLike | None = None,
) -> Design:
    """Choose how to draw: evenly, or for one gap so that its interval becomes as narrow as its scores allow.

    Strata by the cumulated standard deviation that the scores foretell, after Dalenius & Hodges (1959, "Minimum
    variance stratification"). The rows go where the foretold standard deviation is (Neyman 1934), but at least
    a tenth are spread evenly: the scores may be wrong, and texts with low ones must be read as well. How many
    more than a tenth is what makes the foretold interval narrowest.

    Args:
        proba: The model's calibrated probabilities of all texts, 0-1. *Shape:* (n_texts, 5).
        n_rows: Rows to read, from 1 to n_texts.
        gap: A gap's id; empty for a simple random draw.
        confidence: Of the interval to be narrow.
        priors: Shares at which the probabilities were calibrated, as `ValidationScores.priors` has them: where the
            gap is rarer in the archive, or more common, they foretell the wrong rows until that is put right. None
            takes them at their word. *Shape:* (5,).

    Raises:
        ConfigError: `n_rows` is out of its range.
    """
    f = checked_proba(proba)
    if not 1 <= n_rows <= len(f):
        raise ConfigError(f"rows to read: got {n_rows:,}, expected 1 to {len(f):,}, the texts of the archive")
    if not gap:
        return Design("", (), (n_rows,))
    score = gap_score(f, gap)
    chance = foretold_chance(f, gap, priors=priors)
    cuts = _cut(score, chance, n_strata=int(np.clip(n_rows // _ROWS_PER_STRATUM, 1, MAX_STRATA)))
    stratum = np.searchsorted(cuts, score, side="right")
    n_texts = np.bincount(stratum, minlength=len(cuts) + 1)
    share = np.bincount(stratum, weights=chance, minlength=len(cuts) + 1) / n_texts
    allocation = _allocate(share, n_texts, n_rows=n_rows, confidence=confidence)
    return Design(gap, tuple(cuts.tolist()), tuple(allocation.tolist()))


def draw_rows(proba: npt.ArrayLike, design: Design, *, seed: int, double: float = 0.0) -> Draw:
    """Draw the rows of a design, in a random order.

    A simple random draw of more rows with the same seed begins with the same rows, so that an audit can grow.

    Args:
        proba: As for `choose_design`. *Shape:* (n_texts, 5).
        design: How to draw.
        seed: The same seed draws the same rows.
        double: Part of the rows that a second reader reads too, 0-1.

    Raises:
        ConfigError: `double` is out of its range.
    """
    if not 0 <= double <= 1:
        raise ConfigError(f"part for two readers: got {double}, expected 0 to 1")
    stratum = design.stratum(checked_proba(proba))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(stratum))
    if not design.gap:
        rows = order[: design.n_rows[0]]
    else:
        of_order = stratum[order]
        drawn = [order[of_order == number][:n_rows] for number, n_rows in enumerate(design.n_rows)]
        rows = rng.permutation(np.concatenate(drawn))
    return Draw(design, rows.astype(np.int64), n_double=round(double * len(rows)))


def fingerprint(proba: npt.ArrayLike) -> str:
    """Tell a classified archive from every other: a SHA-256 over its probabilities, in their order.

    Six decimals count, so that a CSV file and a Parquet file of the same rows have the same one.
    *Shape:* (n_texts, 5).
    """
    numbers = np.rint(np.asarray(proba, dtype=np.float64) * 10**_DECIMALS).astype("<i4")
    return hashlib.sha256(np.ascontiguousarray(numbers).tobytes()).hexdigest()


def gap_score(proba: FloatArray, gap: str) -> FloatArray:
    """Return one gap's probabilities as a flat file keeps them. *Shapes:* (n_texts, 5) in, (n_texts,) out."""
    return np.asarray(np.round(proba[:, LABELS.index(gap)], _DECIMALS))


def foretold_chance(proba: FloatArray, gap: str, *, priors: npt.ArrayLike | None) -> FloatArray:
    """Return the chance that each text has the gap; see `choose_design`. *Shapes:* (n_texts, 5) in, (n_texts,) out."""
    score = gap_score(proba, gap)
    if priors is None:
        return score
    return at_likeliest_share(score, float(np.asarray(priors, dtype=np.float64)[LABELS.index(gap)]))


def checked_proba(proba: npt.ArrayLike) -> FloatArray:
    """Return probabilities as an array of shape (n_texts, 5), n_texts at least 1.

    Raises:
        CorpusError: Another shape, or values outside 0-1.
    """
    f = np.asarray(proba, dtype=np.float64)
    if f.ndim != 2 or f.shape[1] != len(LABELS) or not len(f):
        raise CorpusError(f"audit: got probabilities of shape {f.shape}, expected (n, {len(LABELS)}) with n at least 1")
    if not ((f >= 0) & (f <= 1)).all():
        raise CorpusError("audit: expected every probability in 0-1, got others: leave out the rows with a gap_error")
    return f


def spread(share: FloatArray, n_texts: IntArray, *, n_rows: int, evenly: float) -> IntArray:
    """Share rows out among strata by foretold standard deviation, a part of them evenly. *Shapes:* (n_strata,)."""
    wanted = n_texts * np.sqrt(share * (1 - share))
    part = wanted / wanted.sum() if wanted.any() else n_texts / n_texts.sum()
    part = (1 - evenly) * part + evenly * n_texts / n_texts.sum()
    least = np.minimum(n_texts, MIN_PER_STRATUM)
    low, high = 0.0, float(n_texts.max() / part.min())
    for _ in range(_N_HALVINGS):  # raise all alike until the rows are used up, within what each stratum can take
        level = (low + high) / 2
        low, high = (level, high) if np.clip(level * part, least, n_texts).sum() < n_rows else (low, level)
    exact = np.clip(high * part, least, n_texts)
    rows = np.floor(exact).astype(np.int64)
    most_cut = np.argsort(rows - exact, kind="stable")
    rows[most_cut[: max(n_rows - int(rows.sum()), 0)]] += 1
    return np.asarray(np.minimum(rows, n_texts))


def _allocate(share: FloatArray, n_texts: IntArray, *, n_rows: int, confidence: float) -> IntArray:
    """Choose the part that is spread evenly so that the foretold interval is narrowest."""
    allocations = np.array([spread(share, n_texts, n_rows=n_rows, evenly=float(evenly)) for evenly in _FLOORS])
    widths = foretold_half_width(share, n_texts, rows=allocations, confidence=confidence)
    return np.asarray(allocations[int(np.argmin(widths))])


def foretold_half_width(share: FloatArray, n_texts: IntArray, *, rows: IntArray, confidence: float) -> FloatArray:
    """Half the width of the interval if the strata's shares are what their scores say.

    *Shapes:* (n_strata,), (n_strata,), (..., n_strata) in, (...) out.
    """
    rest = np.maximum(n_texts - rows, 0)
    n_effective = np.where(rest > 0, rows * (n_texts - 1) / np.maximum(rest, 1), np.inf)
    shares = np.broadcast_to(share, rows.shape)
    low, high = stratified_interval(shares, n_effective, weight=n_texts / n_texts.sum(), confidence=confidence)
    return np.asarray((high - low) / 2)


def _cut(score: FloatArray, chance: FloatArray, *, n_strata: int) -> FloatArray:
    """Cut the scores so that each stratum holds as much foretold standard deviation; ties stay together."""
    order = np.argsort(score, kind="stable")
    rising = score[order]
    cumulated = np.cumsum(np.sqrt(chance * (1 - chance))[order])
    wanted = cumulated[-1] * np.arange(1, n_strata) / n_strata
    places = np.searchsorted(cumulated, wanted)
    cuts = np.unique(rising[np.minimum(places, len(rising) - 1)])
    return np.asarray(cuts[cuts > rising[0]])
