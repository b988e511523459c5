"""How much of an archive each gap makes up, over all, by segment and over time: pure functions on arrays of scores."""

from gapnlp.prevalence.estimate import (
    Moments,
    counted_share,
    estimate_prevalence,
    fit_gap_scores,
    moments,
    probabilistic_count,
    score_texts,
    to_frame,
)
from gapnlp.prevalence.gap_score import GapScore, ValidationScores, sld

__all__ = [
    "GapScore",
    "Moments",
    "ValidationScores",
    "counted_share",
    "estimate_prevalence",
    "fit_gap_scores",
    "moments",
    "probabilistic_count",
    "score_texts",
    "sld",
    "to_frame",
]
