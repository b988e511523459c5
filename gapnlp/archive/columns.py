"""Which column holds the text, and which columns classifying adds."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from gapnlp.archive.cells import show
from gapnlp.errors import ColumnError, InputError
from gapnlp.records import Prediction
from gapnlp.taxonomy import LABELS

PROBA_COLUMNS = tuple(f"gap_{label}" for label in LABELS)
GAP_COLUMNS = (
    "gap_primary",
    "gap_labels",
    *PROBA_COLUMNS,
    "gap_evidence",
    "gap_review",
    "gap_truncated",
    "gap_error",
    "gap_model",
)
"""What `classify` adds after the input's columns, in this order."""

MAX_COLUMNS = 16_384  # as many as a sheet has; more are no table of comments

# Names that say "a customer's text" by themselves, lower case with `_` between words.
KNOWN_NAMES = frozenset(
    {
        "text",
        "texts",
        "comment",
        "comments",
        "comment_text",
        "customer_comment",
        "customer_comments",
        "review",
        "reviews",
        "review_text",
        "review_body",
        "message",
        "messages",
        "message_text",
        "feedback",
        "feedback_text",
        "customer_feedback",
        "body",
        "body_text",
        "complaint",
        "complaint_text",
        "complaints",
        "narrative",
        "complaint_narrative",
        "consumer_complaint_narrative",
        "verbatim",
        "verbatims",
        "remark",
        "remarks",
        "free_text",
        "freetext",
        "open_text",
        "description",
    }
)


def check_columns(names: Sequence[str], *, source: str) -> tuple[str, ...]:
    """Return the columns of a source if each has a name of its own.

    Raises:
        InputError: A name is empty, or stands twice, or there are too many.
    """
    if len(names) > MAX_COLUMNS:
        raise InputError(
            f"{source}: has {len(names):,} columns, expected at most {MAX_COLUMNS:,}; check its first line"
        )
    empty = [place for place, name in enumerate(names, start=1) if not name.strip()]
    if empty:
        raise InputError(f"{source}: column {empty[0]} has no name; give every column a name in the first row")
    twice = [name for name, n_times in Counter(names).items() if n_times > 1]
    if twice:
        raise InputError(f"{source}: the column {twice[0]!r} is there twice; rename one of them")
    return tuple(names)


def check_unlabelled(names: Sequence[str], *, source: str) -> None:
    """Refuse a source that has the columns which classifying would add.

    Raises:
        InputError: It has some of `GAP_COLUMNS`.
    """
    taken = [name for name in names if name in GAP_COLUMNS]
    if taken:
        raise InputError(
            f"{source}: it has columns that classifying adds ({', '.join(taken)}); classify the original "
            "file, or drop or rename these columns"
        )


def check_column(name: str, *, columns: Sequence[str], option: str, source: str) -> str:
    """Return `name` if it is one of the columns.

    Raises:
        ColumnError: It is not; the message names the nearest one and all there are.
    """
    if name in columns:
        return name
    folded = {_fold(column): column for column in columns}
    near = get_close_matches(_fold(name), folded, n=1, cutoff=0.6)
    hint = f" (did you mean {folded[near[0]]!r}?)" if near else ""
    listed = ", ".join(repr(column) for column in columns)
    raise ColumnError(f"{source}: {option} {name!r} is no column of it{hint}; its columns: {listed}")


def guess_text_column(samples: Sequence[Mapping[str, object]], *, columns: Sequence[str], source: str) -> str:
    """Find the text column where there is no doubt: the only column, or the only one with a known name.

    Args:
        samples: The first rows; a column whose values hold no letter is no text.
        columns: All columns.
        source: What the message calls the file.

    Raises:
        ColumnError: There is a doubt; the message shows each column with a sample.
    """
    known = [name for name in columns if _fold(name) in KNOWN_NAMES and _may_be_text(name, samples)]
    if len(columns) == 1 or len(known) == 1:
        return known[0] if known else columns[0]
    why = f"{len(known)} could be it" if known else "none has a name that tells"
    width = max(len(name) for name in columns)
    shown = "\n".join(f"  {name:<{width}}  {_sample(name, samples)}" for name in columns)
    raise ColumnError(
        f"{source}: cannot tell for certain which column holds the text ({why}). "
        "Its columns, each with a sample:\n"
        f"{shown}\nSay which one with  --text-column NAME"
    )


def gap_values(prediction: Prediction) -> dict[str, object]:
    """Lay a prediction out as the added columns, in their order.

    Where it has an error there are no labels and no probabilities.
    """
    failed = bool(prediction.error)
    proba = [None] * len(LABELS) if failed else list(prediction.proba)
    return {
        "gap_primary": None if failed else prediction.primary,
        "gap_labels": list(prediction.labels),
        **dict(zip(PROBA_COLUMNS, proba, strict=True)),
        "gap_evidence": {passage.label: [passage.start, passage.end] for passage in prediction.evidence},
        "gap_review": prediction.review,
        "gap_truncated": prediction.truncated,
        "gap_error": prediction.error,
        "gap_model": prediction.model,
    }


def flatten_gap_values(values: Mapping[str, object]) -> dict[str, object]:
    """Turn the added columns into plain cells: labels joined, six decimals, evidence as JSON."""
    flat = dict(values)
    labels = values["gap_labels"]
    flat["gap_labels"] = ";".join(labels) if isinstance(labels, list) else labels
    flat["gap_evidence"] = json.dumps(values["gap_evidence"])
    for column in PROBA_COLUMNS:
        value = values[column]
        flat[column] = round(value, 6) if isinstance(value, float) else value
    return flat


def _fold(name: str) -> str:
    return re.sub(r"[^0-9a-z]+", "_", name.casefold()).strip("_")


def _may_be_text(name: str, samples: Sequence[Mapping[str, object]]) -> bool:
    values = [sample[name] for sample in samples if sample.get(name) not in (None, "")]
    return not values or any(isinstance(value, str) and re.search(r"[^\W\d_]", value) for value in values)


def _sample(name: str, samples: Sequence[Mapping[str, object]]) -> str:
    values = (sample[name] for sample in samples if sample.get(name) not in (None, ""))
    return show(next(values, "")) or "(empty)"
