"""What a report says: figures, and the sentences that a manager reads, in the order of reading.

Every format of a report is written from these records alone. Shares are 0-1, differences of shares -1 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from gapnlp.prevalence.alert import Alert
from gapnlp.prevalence.comparison import Difference
from gapnlp.prevalence.segment import Segments
from gapnlp.prevalence.trend import Trend
from gapnlp.records import PrevalenceEstimate
from gapnlp.taxonomy import Gap


@dataclass(frozen=True, slots=True)
class Answer:
    """Which gap to close first, and how sure that is.

    Attributes:
        label: The gap's id; empty where no gap can be named.
        headline: The answer in one line.
        reasons: Why this one, a sentence each.
        certainty: How sure, in one or two sentences.
        separated: True where the data separate the first gap from the second.
        caveats: What the answer leaves open, a sentence each.
    """

    label: str
    headline: str
    reasons: tuple[str, ...]
    certainty: str
    separated: bool
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quotation:
    """What a customer wrote, short enough to read.

    Attributes:
        label: The gap that it speaks for.
        text: The text, or the part around the evidence with `…` where something was left out; personal data
            masked where that was asked for.
        start: First character of the evidence in `text`; equal to `end` where there is none.
        end: The one after its last character.
        probability: The model's, of this gap, 0-1.
        place: File and row, such as `labelled.csv, row 17`; the first row below the header is row 1.
        groups: What the row has in the columns of the splits and in the date column, such as `Kelby Quay`.
    """

    label: str
    text: str
    start: int
    end: int
    probability: float
    place: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GapSection:
    """All that is said of one gap.

    Attributes:
        rank: 1 for the gap with the highest estimate.
        gap: Name, definition, likely causes, questions to ask, what closes it.
        estimate: How much of the archive points to it.
        summary: The estimate in one sentence.
        quotations: The most telling ones first; at most five, may be none.
    """

    rank: int
    gap: Gap
    estimate: PrevalenceEstimate
    summary: str
    quotations: tuple[Quotation, ...]


@dataclass(frozen=True, slots=True)
class GroupAlert:
    """A change of a gap's share in one group of a split.

    Attributes:
        group: The group's name.
        alert: When, which way and how much.
    """

    group: str
    alert: Alert


@dataclass(frozen=True, slots=True)
class Split:
    """The archive by the values of one column.

    Attributes:
        column: The column's name.
        groups: Names of all groups with texts, the largest first, the small ones included.
        n_texts: Texts in each of them.
        segments: Estimates per gap and group; the largest group first, small ones put together or left out.
        differences: Each group against all others together, for every gap; those marked `significant` hold
            although many were tried.
        alerts: Changes over time within single groups; empty without a timeline.
        findings: The differences that hold, and the alerts, a sentence each; one that says so where there is none.
        notes: What the estimates rest on, how they were made and what was left out, a sentence each.
    """

    column: str
    groups: tuple[str, ...]
    n_texts: tuple[int, ...]
    segments: Segments
    differences: tuple[Difference, ...]
    alerts: tuple[GroupAlert, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The archive over time.

    Attributes:
        column: The column with the dates.
        unit: `day`, `week`, `month`, `quarter` or `year`.
        periods: Names of all periods from the first to the last, those without texts included: `2026-03-14`,
            `2026-W11`, `2026-03`, `2026-Q1`, `2026`.
        n_texts: Texts in each period.
        n_undated: Texts without a date; they count in the whole and are left out here.
        trends: Levels, changes and slope per gap; periods with too few texts have no level.
        alerts: Changes that neither chance nor the usual wobble explains.
        findings: Alerts and slopes, a sentence each; one that says so where there is none.
        notes: What the estimates rest on, and the rate of false alarms, a sentence each.
    """

    column: str
    unit: str
    periods: tuple[str, ...]
    n_texts: tuple[int, ...]
    n_undated: int
    trends: tuple[Trend, ...]
    alerts: tuple[Alert, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that the report was made from.

    Attributes:
        name: Its name, without the folder: reports travel further than folders.
        n_rows: Rows in it.
    """

    name: str
    n_rows: int


@dataclass(frozen=True, slots=True)
class Quality:
    """How sound the data are.

    Attributes:
        n_rows: Rows in all files.
        n_failed: Rows without labels; `gap_error` says why. They are in no estimate.
        n_truncated: Texts longer than the model reads.
        n_review: Texts that a person should look at.
        n_duplicates: Texts that equal one before them; they count like any other.
        failures: The most frequent reasons why rows failed, each with its number of rows.
        notes: All of this in words, a sentence each.
    """

    n_rows: int
    n_failed: int
    n_truncated: int
    n_review: int
    n_duplicates: int
    failures: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Method:
    """The appendix: how the figures were made, in plain words.

    Attributes:
        model: `name@version`.
        paragraphs: Title and text of each paragraph.
        references: Where the methods come from, one publication each.
    """

    model: str
    paragraphs: tuple[tuple[str, str], ...]
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportContent:
    """All that a report says.

    Attributes:
        title: Of the report.
        created: The day it was made, as in `2026-07-01`.
        sources: The files it was made from.
        n_texts: Texts that the estimates rest on: the rows that did not fail.
        confidence: Of the intervals, 0-1.
        masked: True where personal data in quotations are masked.
        answer: Which gap to close first.
        estimates: One per gap, in the order of `LABELS`.
        none: Texts without any gap; its label is `none`.
        notes: What the estimates of the whole archive rest on, and what speaks against them, a sentence each; those
            of a single gap name it. The notes of every estimate are here, none twice.
        gaps: A section per gap, the highest estimate first.
        splits: By segment, in the order asked for; may be none.
        timeline: Over time, or None where that was not asked for.
        quality: How sound the data are.
        method: The appendix.
    """

    title: str
    created: str
    sources: tuple[SourceFile, ...]
    n_texts: int
    confidence: float
    masked: bool
    answer: Answer
    estimates: tuple[PrevalenceEstimate, ...]
    none: PrevalenceEstimate
    notes: tuple[str, ...]
    gaps: tuple[GapSection, ...]
    splits: tuple[Split, ...]
    timeline: Timeline | None
    quality: Quality
    method: Method
