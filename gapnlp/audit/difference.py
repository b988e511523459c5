"""The difference estimate: the share among the rows read, corrected by the scores of the rows not read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

PRIOR_ROWS = 4.0  # the score is trusted as if so many more rows of the rarer outcome had shown it to say nothing


class Difference(NamedTuple):
    """Estimated shares of one stratum, and how the rows' information compares with plain reading.

    Attributes:
        share: *Shape:* (k,).
        design_effect: Variance against that of the read rows' share alone; below 1 where the scores help.
            *Shape:* (k,).
    """

    share: FloatArray
    design_effect: FloatArray


def difference_estimate(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    archive_mean: npt.ArrayLike,
    n_texts: int,
    power: npt.ArrayLike | None = None,
) -> Difference:
    """Correct the share of labels among the rows read by what the scores say of the rows not read.

    The prediction-powered estimate of a mean, label mean + λ · (score mean of all texts - score mean of the
    rows read), by Angelopoulos et al. (2023, "Prediction-powered inference"); λ from the rows themselves is the
    power tuning of Angelopoulos, Duchi & Zrnic (2023, "PPI++"). Each row has a λ of its own, fitted without
    it (cross-fitting; Zrnic & Candès 2024, "Cross-prediction-powered inference"): λᵢ multiplies
    F - (n/N) f̄ - (1 - n/N) fᵢ, whose mean over all texts that may stand at i's place is 0, so that the estimate
    is unbiased at any n, and is the count itself once all N texts are read.

    Args:
        labels: True where the gap was found. *Shape:* (n, k), n at least 1.
        scores: The model's probability of the same rows. *Shape:* (n, k).
        archive_mean: Mean probability of all texts of the stratum. *Shape:* (k,).
        n_texts: Texts in the stratum, N.
        power: λ; None fits it. *Shape:* () or (k,).
    """
    y, f = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    mean = np.asarray(archive_mean, dtype=np.float64)
    lam = _fit_power(y, f) if power is None else np.broadcast_to(np.asarray(power, dtype=np.float64), y.shape)
    read = len(y) / n_texts
    share = y.mean(axis=0) + (lam * (mean - read * f.mean(axis=0) - (1 - read) * f)).mean(axis=0)
    variance = y.var(axis=0)
    varies = variance > 0
    effect = np.where(varies, (y - lam * (f - mean)).var(axis=0) / np.where(varies, variance, 1.0), 1.0)
    n_rare = _n_rare(y.sum(axis=0), n_rows=len(y))
    return Difference(share, (n_rare * effect + PRIOR_ROWS) / (n_rare + PRIOR_ROWS))


def effective_rows(n_rows: int, n_texts: int) -> float:
    """Rows drawn with replacement that would know as much as `n_rows` of `n_texts` drawn without."""
    return np.inf if n_rows >= n_texts else n_rows * (n_texts - 1) / (n_texts - n_rows)


def _fit_power(y: FloatArray, f: FloatArray) -> FloatArray:
    """Fit λ for each row on all the others: their regression of label on score, never below 0.

    It is shrunk towards 0, plain reading, where the others hold few rows of the rarer outcome: there the
    regression would follow chance. *Shapes:* (n, k) in and out.
    """
    n_others = max(len(y) - 1, 1)
    sum_y, sum_f = y.sum(axis=0) - y, f.sum(axis=0) - f
    covariance = ((y * f).sum(axis=0) - y * f) / n_others - sum_y * sum_f / n_others**2
    variance = ((f * f).sum(axis=0) - f * f) / n_others - (sum_f / n_others) ** 2
    varies = variance > 1e-12
    slope = np.where(varies, np.maximum(covariance, 0.0) / np.where(varies, variance, 1.0), 0.0)
    n_rare = _n_rare(sum_y, n_rows=n_others)
    return np.asarray(slope * n_rare / (n_rare + PRIOR_ROWS))


def _n_rare(n_positive: FloatArray, *, n_rows: int) -> FloatArray:
    """Count the rows of the rarer outcome."""
    return np.maximum(np.minimum(n_positive, n_rows - n_positive), 0.0)
