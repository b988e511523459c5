"""What groups, time and the data themselves have to say, a sentence each."""

from __future__ import annotations

from collections.abc import Sequence

from gapnlp.prevalence.alert import MIN_PERIODS, Alert
from gapnlp.prevalence.comparison import Difference
from gapnlp.prevalence.segment import SegmentEstimate, Segments
from gapnlp.prevalence.trend import Slope
from gapnlp.records import PrevalenceEstimate
from gapnlp.report.content import GroupAlert, Quality
from gapnlp.report.words import SEVERAL, is_doubted, joined, name_of, points, share
from gapnlp.taxonomy import LABELS

MAX_FINDINGS = 8  # a list that nobody reads to its end finds nothing
N_GAPS = len(LABELS)
AUDITED = "How the model errs on texts like these is known from those of them that were read, for {names}."
NOT_AUDITED = (
    "For {names}, the texts that were read cannot tell how the model errs on texts like these: the figures rest on "
    "its errors being those it was checked for, and may lie apart from the audited ones. Compare them with each other."
)
DOUBTED = (
    "The doubts about the whole hold here too: for the {names}, these texts are unlike those that the classifier was "
    "checked on, and the figures may be off. Compare them with each other, with care."
)


def part_warnings(estimates: Sequence[PrevalenceEstimate], *, from_audit: Sequence[str] = ()) -> tuple[str, ...]:
    """Say what holds for the parts of an archive because of what is known of the whole.

    Args:
        estimates: Of the whole.
        from_audit: The gaps for which the audit tells how the model errs.
    """
    if any(estimate.method == "audited" for estimate in estimates):
        others = [label for label in LABELS if label not in from_audit]
        told = [AUDITED.format(names=_gap_names(from_audit))] if from_audit else []
        return (*told, *([NOT_AUDITED.format(names=_gap_names(others))] if others else []))
    doubted = [name_of(estimate.label) for estimate in estimates if is_doubted(estimate)]
    return (DOUBTED.format(names=joined(doubted)),) if doubted else ()


def _gap_names(labels: Sequence[str]) -> str:
    return "every gap" if len(labels) == N_GAPS else f"the {joined([name_of(label) for label in labels])}"


def difference_findings(differences: Sequence[Difference], *, column: str) -> list[str]:
    """Say which groups truly differ from the rest, the largest differences first."""
    held = sorted((item for item in differences if item.significant), key=lambda item: -abs(item.difference))
    if not differences:
        return [f"Groups of {column} were not compared: fewer than two have enough texts."]
    if not held:
        none = f"No group of {column} differs from the rest beyond chance: of {len(differences):,} differences tried, "
        return [f"{none}none holds. Do not read the figures by {column} as a ranking."]
    found = [_difference(item) for item in held[:MAX_FINDINGS]]
    if len(held) > MAX_FINDINGS:
        rest = held[MAX_FINDINGS:]
        found.append(f"{len(rest):,} more differences hold, the largest of them {points(rest[0].difference)} points.")
    return found


def doubtful_groups(estimates: Sequence[SegmentEstimate]) -> list[str]:
    """Say which groups' figures cannot be relied on, because their texts are of another kind."""
    named = _doubted(estimates)
    told = (
        "Not compared, because these texts are unlike those that the classifier was checked on, and their figures may "
        f"be far off: {named}. Have a sample of them read."
    )
    return [told] if named else []


def doubtful_periods(levels: Sequence[SegmentEstimate], *, unit: str) -> list[str]:
    """Say in which periods a change may be one of the texts rather than of the gaps."""
    named = _doubted(levels)
    told = (
        f"In these {unit}s the texts are unlike those that the classifier was checked on, and what looks like a change "
        f"of the gap may be one of the kind of text: {named}. Have a sample of them read."
    )
    return [told] if named else []


def _doubted(estimates: Sequence[SegmentEstimate]) -> str:
    """Name the groups with a doubtful figure, and the gaps that it is of; nothing where all is well."""
    doubted: dict[str, list[str]] = {item.group: [] for item in estimates}  # in the order that they are shown in
    for item in estimates:
        if is_doubted(item.estimate):
            doubted[item.group].append(item.estimate.label)
    return _some([f"{group}: {joined(labels)}" for group, labels in doubted.items() if labels], by="; ")


def _difference(item: Difference) -> str:
    more = "more" if item.difference > 0 else "less"
    return (
        f"{item.group}: the {name_of(item.label)} is {points(item.difference)} points {more} frequent than elsewhere "
        f"({_between(item.low, item.high, up=item.difference > 0)})."
    )


def alert_sentence(item: Alert, *, unit: str) -> str:
    """Say what changed, when and by how much."""
    way = "higher" if item.change > 0 else "lower"
    size = f"{points(item.change)} points {way}"
    span = _between(item.low, item.high, up=item.change > 0)
    if item.lasting:
        return f"The {name_of(item.label)} has been {size} since {item.period} than before ({span})."
    return f"The {name_of(item.label)} stands out in {item.period}: {size} than in the other {unit}s ({span})."


def group_alert_sentence(item: GroupAlert, *, unit: str) -> str:
    """Say what changed in one group."""
    return f"{item.group}: {_lower(alert_sentence(item.alert, unit=unit))}"


def time_findings(
    alerts: Sequence[Alert], slopes: Sequence[Slope | None], *, unit: str, n_shown: int, level: float
) -> list[str]:
    """Say what changed over time.

    Args:
        alerts: Of all gaps.
        slopes: One per gap.
        unit: Of the periods.
        n_shown: Periods with enough texts.
        level: p-value from which a slope is named; it is called firm where it holds for all gaps together.
    """
    found = [alert_sentence(alert, unit=unit) for alert in alerts]
    # A line says nothing that an alert of the same gap has not said better.
    told = {alert.label for alert in alerts}
    found += [
        _slope(slope, unit=unit, firm=slope.p_value <= level / N_GAPS)
        for slope in slopes
        if slope is not None and slope.label not in told and slope.p_value <= level
    ]
    if found:
        return found
    if n_shown < 4:
        return [f"Too few {unit}s have enough texts to tell a trend: {n_shown}, at least 4 are needed."]
    if n_shown < MIN_PERIODS:
        return [f"No gap rises or falls steadily beyond chance over these {n_shown} {unit}s."]
    return [f"No gap changed beyond chance and the usual ups and downs of these {n_shown} {unit}s."]


def _slope(item: Slope, *, unit: str, firm: bool) -> str:
    span = _between(item.low, item.high, up=item.per_period > 0)
    size = f"by about {points(item.per_period)} points a {unit} ({span})"
    if firm:
        return f"The {name_of(item.label)} {'rises' if item.per_period > 0 else 'falls'} {size}."
    way = "rise" if item.per_period > 0 else "fall"
    return f"The {name_of(item.label)} seems to {way} {size}; with {N_GAPS} gaps looked at, it may yet be chance."


def _between(low: float, high: float, *, up: bool) -> str:
    """Write an interval of a difference in the direction that it is told in."""
    ends = (low, high) if up else (-high, -low)
    signed = [f"{'-' if end < 0 and points(end) != '0.0' else ''}{points(end)}" for end in ends]
    return f"between {signed[0]} and {signed[1]}"


def split_notes(segments: Segments, *, n_differences: int, rate: float, min_texts: int) -> list[str]:
    """Say how the figures of groups were made, and what is not shown."""
    n_lent = sum(not segment.direct for segment in segments.estimates)
    notes = [SEVERAL] if segments.estimates else []
    if n_lent:
        notes.append(
            f"{n_lent:,} of these {len(segments.estimates):,} figures are marked model-based: the group has too few "
            "texts to answer alone, so the figure is drawn towards the mean of all groups."
        )
    if segments.merged:
        notes.append(
            f"Groups with fewer than {min_texts} texts are put together: {_some(segments.merged)}. "
            "A few texts say little, and may point to single customers."
        )
    if segments.left_out:
        notes.append(
            f"Not shown, with fewer than {min_texts} texts even together: {_some(segments.left_out)} "
            f"({segments.n_left_out:,} texts)."
        )
    if n_differences:
        notes.append(
            f"{n_differences:,} differences were tried. Those named hold although so many were tried: of such claims, "
            f"at most {100 * rate:g} in 100 are expected to be false."
        )
    return notes


def time_notes(
    timeline_unit: str, *, n_undated: int, n_thin: int, min_texts: int, rate: float, n_shown: int
) -> list[str]:
    """Say what the line rests on, and how often an alert is false."""
    notes = []
    if n_undated:
        notes.append(f"{n_undated:,} texts have no date: they count in the whole, and are left out here.")
    if n_thin:
        notes.append(f"{n_thin:,} {timeline_unit}s with fewer than {min_texts} texts have no figure.")
    if n_shown >= MIN_PERIODS:
        by_chance = 1 - (1 - rate) ** N_GAPS
        notes.append(
            f"Alerts are rarely false: where nothing changes, at most {100 * rate:g} in 100 gaps show one, which is "
            f"{100 * by_chance:.0f} in 100 reports on all {N_GAPS} gaps."
        )
    else:
        notes.append(
            f"Alerts for sudden changes need {MIN_PERIODS} {timeline_unit}s with at least {min_texts} texts each; "
            f"there are {n_shown}."
        )
    notes.append(
        f"A steady rise or fall is called one where chance makes one as steep in at most {100 * rate:g} in 100 "
        f"reports; it is said to seem so where chance does it in at most {100 * rate:g} in 100 gaps."
    )
    notes.append(
        "What an alert cannot tell: a new form, a new language or a new kind of customer, which the classifier may "
        "read differently."
    )
    return notes


def quality_notes(quality: Quality, *, n_undated: int | None) -> tuple[str, ...]:
    """Say how sound the data are."""
    n_texts = quality.n_rows - quality.n_failed
    notes = []
    if quality.n_failed:
        notes.append(
            f"{quality.n_failed:,} of {quality.n_rows:,} rows ({share(quality.n_failed / quality.n_rows)}) have no "
            "labels and are in no figure."
        )
    else:
        notes.append(f"All {quality.n_rows:,} rows have labels.")
    if quality.n_review:
        notes.append(
            f"{quality.n_review:,} texts ({share(quality.n_review / n_texts)}) are flagged for review: the model is "
            "not sure enough of their labels to act on a single one unread. The shares allow for such errors."
        )
    if quality.n_truncated:
        notes.append(
            f"{quality.n_truncated:,} texts ({share(quality.n_truncated / n_texts)}) are longer than the model reads; "
            "it did not see their ends."
        )
    if quality.n_duplicates:
        notes.append(
            f"{quality.n_duplicates:,} texts ({share(quality.n_duplicates / n_texts)}) equal one before them. Each "
            "counts; if they are copies rather than customers, remove them and report again."
        )
    else:
        notes.append("No text is there twice.")
    if n_undated:
        notes.append(f"{n_undated:,} texts ({share(n_undated / n_texts)}) have no date.")
    return tuple(notes)


def group_alert_notes(n_searched: int, *, n_groups: int, unit: str, rate: float) -> list[str]:
    """Say which groups were searched for changes over time."""
    if not n_searched:
        return [f"No group has {MIN_PERIODS} {unit}s with enough texts, so none was searched for changes over time."]
    which = "All groups" if n_searched == n_groups else f"The {n_searched:,} largest of {n_groups:,} groups"
    often = f"at most {100 * rate:g} in 100 gaps show an alert in any group"
    return [f"{which} were searched for changes over time. Where nothing changes, {often}."]


def _some(names: Sequence[str], *, n_shown: int = 8, by: str = "") -> str:
    rest = len(names) - n_shown
    shown = [*names[:n_shown], *([f"{rest:,} more"] if rest > 0 else [])]
    return by.join(shown) if by else joined(shown)


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
