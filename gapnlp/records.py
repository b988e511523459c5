"""The frozen results that classifying hands out."""

from __future__ import annotations

from dataclasses import dataclass

from gapnlp.taxonomy import LABELS, NONE


@dataclass(frozen=True, slots=True)
class Evidence:
    """The passage of a text that speaks for one label.

    Attributes:
        label: The gap's id.
        start: Offset of the first character in the text, as `str` counts characters.
        end: Offset after the last character.
    """

    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one text.

    Attributes:
        labels: The gaps found, the primary first; empty when there is no grievance.
        proba: Calibrated probability per gap in the order of `LABELS`, each 0-1; all zero where `error` is set.
        evidence: One passage per label at the most, in the order of `labels`.
        review: True where the decision falls below the precision the model promises: a person should look.
        truncated: True where the text was longer than the model reads, and its end was left out.
        model: `name@version` of the model.
        error: Empty, or why this text has no labels.
    """

    labels: tuple[str, ...]
    proba: tuple[float, ...]
    evidence: tuple[Evidence, ...]
    review: bool
    truncated: bool
    model: str
    error: str = ""

    @property
    def primary(self) -> str:
        """The gap that carries the most weight, or `none`."""
        return self.labels[0] if self.labels else NONE

    @property
    def proba_by_label(self) -> dict[str, float]:
        """Probability per gap id."""
        return dict(zip(LABELS, self.proba, strict=True))


@dataclass(frozen=True, slots=True)
class PrevalenceEstimate:
    """How much of a population of texts points to one gap.

    Attributes:
        label: The gap's id.
        n_texts: Texts in the population.
        counted: Share of them that the classifier gave the label, 0-1: biased, shown for comparison alone.
        prevalence: The estimate, 0-1.
        low: Lower end of the interval, 0-1.
        high: Upper end of the interval, 0-1.
        confidence: How often intervals made this way hold the true share, 0-1.
        method: How it was estimated: `adjusted`, `audited`, `probabilistic` or `model-based`.
        notes: What the interval rests on and what speaks against it, a plain sentence each.
    """

    label: str
    n_texts: int
    counted: float
    prevalence: float
    low: float
    high: float
    confidence: float
    method: str
    notes: tuple[str, ...] = ()
