"""The answer to the one question that a report is read for: which gap to close first, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gapnlp.records import PrevalenceEstimate
from gapnlp.report.content import Answer
from gapnlp.report.words import about, is_doubted, is_known, joined, name_of
from gapnlp.taxonomy import load_taxonomy

FEELING = "customer"  # the gap that the company cannot close itself
RARE = 0.01  # a gap that is rarer than this for certain is nothing to begin with

UNLIKE = "Have a sample read before you choose: these texts are unlike those that the classifier was checked on."
UNLIKE_WHY = (
    "But the scores of these texts cannot be explained by more or fewer of the kinds of text that the classifier was "
    "checked on: it meets other texts here, and the true shares may lie outside the ranges."
)
FEW_TEXTS = 100  # fewer hardly show that the classifier errs otherwise on them
COST = (
    "How often customers name a gap is not what it costs: weigh the shares with the money, the customers and the "
    "effort at stake."
)


def write_answer(
    estimates: Sequence[PrevalenceEstimate], *, n_checked: int, n_read: int | None, caveats: Iterable[str] = ()
) -> Answer:
    """Say which gap to close first, why, and how sure that is.

    The gap with the highest estimate comes first. Two gaps are told apart only where their intervals do not meet.

    Args:
        estimates: One per gap.
        n_checked: Texts that the classifier was checked on.
        n_read: Texts that were read for an audit; None without one.
        caveats: What else is open.
    """
    closable = sorted(
        (estimate for estimate in estimates if estimate.label != FEELING and is_known(estimate)),
        key=lambda estimate: -estimate.prevalence,
    )
    feeling = next(estimate for estimate in estimates if estimate.label == FEELING)
    notes = [*_about_customer(feeling, closable), *_unknown(estimates), COST, *caveats]
    if not closable:
        headline = "These data do not say which gap to close first."
        return Answer("", headline, (), "No gap's share can be estimated from them.", False, tuple(notes))
    first, *rest = closable
    sure = _certainty(estimates, confidence=first.confidence, n_checked=n_checked, n_read=n_read)
    if first.high < RARE:
        headline = "No gap is frequent enough to begin with."
        reason = f"The most frequent one is the {name_of(first.label)}: {about(first)} of the texts point to it."
        return Answer("", headline, (reason,), sure, False, tuple(notes))
    rivals = [estimate for estimate in rest if estimate.high >= first.low]
    if any(map(is_doubted, (first, *rivals))):
        return Answer("", UNLIKE, _as_it_stands(first, rest), sure, False, tuple(notes))
    reasons = (_first_reason(first), *_second_reason(first, rest, rivals))
    return Answer(first.label, _headline(first, rivals), reasons, sure, not rivals, tuple(notes))


def _headline(first: PrevalenceEstimate, rivals: Sequence[PrevalenceEstimate]) -> str:
    if not rivals:
        return f"Close the {name_of(first.label)} first."
    if len(rivals) == 1:
        return (
            f"Close the {name_of(first.label)} or the {name_of(rivals[0].label)} first: "
            "the data do not separate the two."
        )
    others = joined([f"the {name_of(rival.label)}" for rival in rivals])
    return f"Begin with the {name_of(first.label)}, but the data do not separate it from {others}."


def _as_it_stands(first: PrevalenceEstimate, rest: Sequence[PrevalenceEstimate]) -> tuple[str, ...]:
    order = f"As the figures stand, the {name_of(first.label)} would come first, with {about(first)}"
    next_one = f"; next would be the {name_of(rest[0].label)}, with {about(rest[0])}" if rest else ""
    return f"{order}{next_one}.", UNLIKE_WHY


def _first_reason(first: PrevalenceEstimate) -> str:
    definition = load_taxonomy()[first.label].definition
    value = about(first)
    return (
        f"{value[0].upper()}{value[1:]} of the {first.n_texts:,} texts point to the {name_of(first.label)}. "
        f"That is where {definition[0].lower()}{definition[1:]}"
    )


def _second_reason(
    first: PrevalenceEstimate, rest: Sequence[PrevalenceEstimate], rivals: Sequence[PrevalenceEstimate]
) -> Iterable[str]:
    if rivals:
        named = joined([f"the {name_of(rival.label)}, {about(rival)}" for rival in rivals], by="and of")
        intervals = "The two intervals overlap" if len(rivals) == 1 else "Their intervals overlap with the first"
        yield f"Compare the share of {named}. {intervals}, so another sample could turn the order round."
    elif rest:
        yield (
            f"No other gap that the company can close itself comes near: next is the {name_of(rest[0].label)} with "
            f"{about(rest[0])}."
        )


def _certainty(
    estimates: Sequence[PrevalenceEstimate], *, confidence: float, n_checked: int, n_read: int | None
) -> str:
    often = f"{100 * confidence:g} times in 100"
    if n_read is not None:
        return (
            f"The ranges are made so that they hold the true share {often}. They rest on {n_read:,} texts that were "
            "read, and hold however the classifier errs."
        )
    doubted = [name_of(estimate.label) for estimate in estimates if is_doubted(estimate)]
    text = (
        f"The ranges are made so that they hold the true share {often}, on one condition: the classifier makes the "
        f"same kinds of errors on your texts as on the {n_checked:,} texts that it was checked on."
    )
    if doubted:
        text += (
            f" For the {joined(doubted)} there are signs that it does not. Ranges that hold all the same come from a "
            "sample read by people: gapnlp audit plan says how many texts, and gapnlp report --audit uses them."
        )
    elif estimates[0].n_texts < FEW_TEXTS:
        text += (
            f" {estimates[0].n_texts:,} texts are too few to show whether it does. The surest answer is to read them "
            "all: gapnlp audit draw, and then gapnlp report --audit."
        )
    return text


def _about_customer(feeling: PrevalenceEstimate, closable: Sequence[PrevalenceEstimate]) -> Iterable[str]:
    if is_known(feeling) and closable and feeling.prevalence > closable[0].prevalence:
        yield (
            f"More texts, {about(feeling)}, point to the {name_of(FEELING)}: customers expected something that nobody "
            "had told them to expect. The company cannot close that gap directly. Closing the other four narrows it, "
            "and so does explaining the service at the first contact."
        )


def _unknown(estimates: Sequence[PrevalenceEstimate]) -> Iterable[str]:
    names = [name_of(estimate.label) for estimate in estimates if not is_known(estimate)]
    if names:
        yield f"The {joined(names)} could not be ranked: its share cannot be estimated from these data."
