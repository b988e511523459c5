"""How the report writes figures and names: as plain as they can be, and no surer than they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gapnlp.prevalence.estimate import SHIFTED
from gapnlp.records import PrevalenceEstimate
from gapnlp.taxonomy import NONE, load_taxonomy

SEVERAL = "A text may point to several gaps, so the shares need not add up to 100%."
_SHIFT_SIGN = SHIFTED.partition("(p")[0]


def share(value: float, *, width: float = 1.0) -> str:
    """Write a share as a percentage, with as many digits as its interval's width bears."""
    decimals = 0 if width >= 0.02 else 1
    least = 0.5 * 10 ** -(decimals + 2)
    if 0 < value < least:
        return f"under {10**-decimals:g}%"
    if 1 - least < value < 1:
        return f"over {100 - 10**-decimals:g}%"
    return f"{100 * value:.{decimals}f}%"


def points(value: float) -> str:
    """Write a difference of shares in points of a hundred, without its sign."""
    size = abs(100 * value)
    return f"{size:.0f}" if size >= 9.95 else f"{size:.1f}"


def span(estimate: PrevalenceEstimate, *, by: str = "to") -> str:
    """Write an interval: `21% to 28%`."""
    width = estimate.high - estimate.low
    return f"{share(estimate.low, width=width)} {by} {share(estimate.high, width=width)}"


def about(estimate: PrevalenceEstimate) -> str:
    """Write an estimate with its interval: `about 24% (between 21% and 28%)`."""
    value = share(estimate.prevalence, width=estimate.high - estimate.low)
    return f"{value if value.startswith(('under', 'over')) else f'about {value}'} (between {span(estimate, by='and')})"


def joined(items: Sequence[str], *, by: str = "and") -> str:
    """Join words: `a, b and c`."""
    return f" {by} ".join(part for part in (", ".join(items[:-1]), items[-1]) if part)


def name_of(label: str) -> str:
    """Return a gap's name, such as `policy gap`."""
    return load_taxonomy()[label].name


def is_known(estimate: PrevalenceEstimate) -> bool:
    """Tell whether an estimate says anything: an interval from 0 to 1 does not."""
    return estimate.high - estimate.low < 1


def is_doubted(estimate: PrevalenceEstimate) -> bool:
    """Tell whether there are signs that the classifier errs here in other ways than on the rows it was checked on."""
    return any(note.startswith(_SHIFT_SIGN) for note in estimate.notes)


def gap_summary(estimate: PrevalenceEstimate) -> str:
    """Say one gap's estimate in a sentence."""
    if not is_known(estimate):
        return "How many texts point to it cannot be said: any share is possible."
    value = about(estimate)
    return f"{value[0].upper()}{value[1:]} of the {estimate.n_texts:,} texts point to it."


def collect_notes(estimates: Sequence[PrevalenceEstimate]) -> tuple[str, ...]:
    """Gather the notes of estimates, none twice; those of some gaps alone name them."""
    owners: dict[str, list[str]] = {}
    for estimate in estimates:
        for note in estimate.notes:
            owners.setdefault(note, []).append(estimate.label)
    n_all = len(estimates)
    return tuple(
        note if len(labels) == n_all else f"{joined([_short(label) for label in labels])}: {note}"
        for note, labels in owners.items()
    )


def _short(label: str) -> str:
    return "no gap" if label == NONE else label


def shared_notes(estimates: Iterable[PrevalenceEstimate]) -> tuple[str, ...]:
    """Return the notes that all estimates have; those of single ones stay with them."""
    found = [estimate.notes for estimate in estimates]
    return tuple(note for note in found[0] if all(note in notes for notes in found)) if found else ()
