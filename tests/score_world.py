"""Simulated archives whose truth is known: skewed scores of texts with and without a gap."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gapnlp.prevalence.estimate import Moments, moments
from gapnlp.prevalence.gap_score import GapScore


def likelihood(rng, n, carries):
    """Likelihood ratios of a classifier that is right more often than not, f1 / f0 of two normal densities."""
    x = rng.standard_normal(n) + 1.8 * carries
    return np.exp(1.8 * x - 1.8**2 / 2)


@dataclass(frozen=True)
class World:
    """Draws texts with a known share of one gap, scored by a scale measured on validation rows."""

    level: float = 0.1
    n_pos: int = 80
    n_neg: int = 745

    def texts(self, rng, *, share, n):
        ratio = likelihood(rng, n, rng.random(n) < share)
        return (ratio - 1) / (1 + self.level * (ratio - 1))

    def score(self, rng, label="delivery"):
        """Measure the ends of the scale on validation rows, drawn anew."""
        without, with_gap = self.texts(rng, share=0, n=self.n_neg), self.texts(rng, share=1, n=self.n_pos)
        ends = {"m0": without.mean(), "m1": with_gap.mean()}
        ends |= {"var_m0": without.var(ddof=1) / self.n_neg, "var_m1": with_gap.var(ddof=1) / self.n_pos}
        prior = self.n_pos / (self.n_pos + self.n_neg)
        counts = {"n_pos": self.n_pos, "n_neg": self.n_neg}
        return GapScore(label=label, slope=1.0, intercept=0.0, prior=prior, q=self.level, **ends, **counts)

    def groups(self, rng, *, shares, sizes) -> Moments:
        """Sum up the scores of groups with these shares. *Shapes:* (n_groups,)."""
        h = np.concatenate([self.texts(rng, share=s, n=n) for s, n in zip(shares, sizes, strict=True)])
        return moments(h[:, None], np.repeat(np.arange(len(sizes)), sizes), n_groups=len(sizes))


def shifted(score: GapScore, *, by: float) -> GapScore:
    """Move the whole scale: an error of validation that all groups share."""
    return replace(score, m0=score.m0 + by, m1=score.m1 + by)


def side_by_side(*columns: Moments) -> Moments:
    """Lay groups' sums of several gaps next to each other."""
    return Moments(columns[0].n, np.hstack([c.mean for c in columns]), np.hstack([c.var for c in columns]))
