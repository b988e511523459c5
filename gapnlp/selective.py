"""Know when to ask a person: how sure a decision is, and below which sureness a person reviews it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gapnlp.errors import ConfigError, CorpusError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

REVIEW_ALL = 1.0  # no confidence reaches it: every text is reviewed
_SHARES_KEPT = np.arange(10, 101) / 100  # of all texts, in the order in which `fit_review_cutoff` tries them
_MAX_CONFIDENCE = math.nextafter(REVIEW_ALL, 0)


def confidence(proba: npt.ArrayLike, thresholds: npt.ArrayLike) -> FloatArray:
    """Estimate the probability that the decision on a whole text is right in all five gaps.

    The product over gaps of the probability of the decision taken: p where the gap is given, 1 - p where it
    is not. With calibrated probabilities, and gaps independent given the text, this is the probability of an
    exact match. A product was chosen over the least sure gap because doubts add up: a text with three gaps in
    doubt deserves review before one with a single gap in the same doubt. A gap given at 0.3 because F1
    favours that threshold counts as the 30 % bet it is. Dependence between gaps bends the scale, not what it
    is for: `fit_review_cutoff` reads the precision at each level off held-out rows.

    Args:
        proba: Calibrated probabilities, 0-1. *Shape:* (n, k).
        thresholds: Smallest probability at which a gap is given. *Shape:* (k,).

    Returns:
        Confidence in [0, 1), 1 excluded so that `REVIEW_ALL` holds for every text. *Shape:* (n,).
    """
    values = np.asarray(proba, dtype=np.float64)
    taken = np.where(values >= np.asarray(thresholds, dtype=np.float64), values, 1 - values)
    return np.asarray(np.minimum(taken.prod(axis=1), _MAX_CONFIDENCE))


def needs_review(confidences: npt.ArrayLike, cutoff: float) -> BoolArray:
    """Mark the texts whose confidence lies below the cutoff. *Shapes:* (n,) in and out."""
    review: BoolArray = np.asarray(confidences, dtype=np.float64) < cutoff
    return review


def fit_review_cutoff(
    confidences: npt.ArrayLike, correct: npt.ArrayLike, *, precision: float, level: float = 0.95
) -> float:
    """Find the smallest cutoff above which decisions keep the promised precision, on new texts too.

    The guarantee is that of Geifman & El-Yaniv (2017, "Selective classification for deep neural networks",
    section 3): a cutoff passes when the exact binomial lower bound of the precision at or above it reaches
    the promise. They bisect and share the error out over all looks. This walks from the surest tenth of the
    texts downwards, one percent at a time, and stops at the first cutoff that does not pass: tests in an
    order fixed beforehand need no sharing out (fixed-sequence testing: Angelopoulos et al. 2021, "Learn
    then test"), so that far fewer texts are flagged for the same promise. It holds with probability `level`
    for texts like these, although the cutoff was chosen on the rows that judge it.

    Args:
        confidences: From `confidence`, for rows that neither the network nor the calibration was fitted on
            (or cross-fitted). *Shape:* (n,), each in [0, 1).
        correct: True where the decision was right. What right means is the caller's promise. *Shape:* (n,).
        precision: Promised share of right decisions among those not reviewed, in (0, 1).
        level: Probability with which the promise holds, in (0, 1).

    Returns:
        The cutoff; rows at or above it need no review. `REVIEW_ALL` where the promise cannot be met.

    Raises:
        CorpusError: Arrays that do not fit together, or confidences outside [0, 1).
        ConfigError: `precision` or `level` is outside (0, 1).
    """
    scores, right = _checked(confidences, correct)
    for name, value in (("precision", precision), ("level", level)):
        if not 0 < value < 1:
            raise ConfigError(f"{name}: got {value}, expected a share between 0 and 1, both excluded")
    cutoffs, n_kept, n_right = _by_cutoff(scores, right)
    best = REVIEW_ALL
    for i in np.unique(np.searchsorted(n_kept, _SHARES_KEPT * len(scores))) if len(scores) else ():
        if _binomial_tail(int(n_right[i]), n=int(n_kept[i]), share=precision) > 1 - level:
            break
        best = float(cutoffs[i])
    return best


def _by_cutoff(scores: FloatArray, right: BoolArray) -> tuple[FloatArray, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each distinct confidence, falling, the rows at or above it and the right ones among them."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last = np.flatnonzero(np.diff(falling, append=-1.0))  # the last of each run of equal confidences
    return falling[last], last + 1, np.cumsum(right[order], dtype=np.int64)[last]


def _binomial_tail(n_right: int, *, n: int, share: float) -> float:
    """P(X ≥ n_right), X binomial; at most alpha where the Clopper-Pearson lower bound at alpha is ≥ share."""
    return math.fsum(_binomial_terms(n_right, n=n, share=share))


def _binomial_terms(n_right: int, *, n: int, share: float) -> Iterator[float]:
    for k in range(n_right, n + 1):
        ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        yield math.exp(ways + k * math.log(share) + (n - k) * math.log1p(-share))


def _checked(confidences: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Return both as arrays of one length, the confidences in [0, 1)."""
    scores, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.bool_)
    if scores.ndim != 1 or scores.shape != right.shape:
        raise CorpusError(f"review cutoff: got shapes {scores.shape} and {right.shape}, expected (n,) twice")
    if not ((scores >= 0) & (scores < REVIEW_ALL)).all():
        raise CorpusError("review cutoff: expected every confidence in [0, 1), as `confidence` gives them")
    return scores, right
