"""Labels without text, joined to a copy of the source that the texts come from.

A label row holds the hash of a text (`gapnlp.text.hash_text`), where the text comes from, its labels, and its
evidence as offsets into the *folded* text (`gapnlp.text.fold_text`). Whoever has a copy of the source gets
labelled rows back; whoever has none learns nothing of what the customers wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import combining

from gapnlp.errors import InputError
from gapnlp.text import fold_text, hash_text, replace_surrogates
from training.table import Row, read_rows, require_column, write_rows

FIELDS = ("sha256", "source", "id", "split", "labels", "evidence")


@dataclass(frozen=True, slots=True)
class Joined:
    """What a join found.

    Attributes:
        rows: Label rows with their `text` as found, in the order of the label file; evidence fits that text.
        wanted: Source → number of its label rows.
        found: Source → number of them whose text was found.
        n_unlabelled: Rows of the copies that no label row speaks of.
        n_evidence_dropped: Passages left out because they could not be placed in the text as found.
    """

    rows: tuple[Row, ...]
    wanted: Mapping[str, int]
    found: Mapping[str, int]
    n_unlabelled: int
    n_evidence_dropped: int


def join_labels(
    labels: Path | str, sources: Iterable[Path | str], *, text_column: str = "text", split: str | None = None
) -> Joined:
    """Find the texts of a label file in copies of their sources.

    A copy may differ from the labelled text in white space and Unicode composition; the evidence is moved to
    where it stands in the copy.

    Args:
        labels: JSONL of label rows.
        sources: Files with a text column (CSV, TSV, JSONL, each also .gz; Parquet).
        text_column: Column of the text in all of the sources.
        split: Join the label rows of this split alone (`train`, `dev`); all of them if None.

    Raises:
        InputError: A file cannot be read, the label file lacks a field or has no row of that split.
        ColumnError: A source has no such column.
    """
    wanted = _read_labels(labels, split=split)
    texts, n_unlabelled = _find_texts(sources, text_column=text_column, hashes=wanted.keys())
    rows: list[Row] = []
    n_dropped = 0
    for digest, label_row in wanted.items():
        if digest in texts:
            evidence, n_lost = _place(label_row["evidence"], text=texts[digest])
            rows.append({"text": texts[digest], **label_row, "evidence": evidence})
            n_dropped += n_lost
    return Joined(
        rows=tuple(rows),
        wanted=Counter(row["source"] for row in wanted.values()),
        found=Counter(row["source"] for row in rows),
        n_unlabelled=n_unlabelled,
        n_evidence_dropped=n_dropped,
    )


def write_joined(joined: Joined, path: Path | str) -> None:
    """Write the joined rows as JSONL, which `training.corpus.read_examples` reads."""
    write_rows(({**row, "text": replace_surrogates(row["text"])} for row in joined.rows), path)


def folded_offsets(text: str) -> list[tuple[int, int]] | None:
    """Map each character of `fold_text(text)` to the characters of `text` that it stands for.

    Returns:
        (start, end) per folded character, or None where composition crosses what can be told apart here.
    """
    spans: list[tuple[int, int]] = []
    characters: list[str] = []
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and (combining(text[end]) or (text[start].isspace() and text[end].isspace())):
            end += 1
        piece = fold_text(text[start:end]) or " "
        characters.append(piece)
        spans += [(start, end)] * len(piece)
        start = end
    if characters and characters[0] == " ":
        characters, spans = characters[1:], spans[1:]
    if characters and characters[-1] == " ":
        characters, spans = characters[:-1], spans[:-1]
    return spans if "".join(characters) == fold_text(text) else None


def _read_labels(path: Path | str, *, split: str | None) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    splits = set()
    for number, row in read_rows(path):
        missing = [name for name in FIELDS if name not in row]
        if missing:
            raise InputError(f"{path}:{number}: no {', '.join(missing)}; expected label rows with {', '.join(FIELDS)}")
        splits.add(row["split"])
        if split in (None, row["split"]):
            rows[row["sha256"]] = row
    if not rows:
        raise InputError(f"{path}: no rows of split {split!r}; it has {', '.join(sorted(splits)) or 'no rows'}")
    return rows


def _find_texts(
    sources: Iterable[Path | str], *, text_column: str, hashes: Iterable[str]
) -> tuple[dict[str, str], int]:
    """Return hash → text as found (the first copy wins), and how many rows no hash speaks of."""
    hashes = set(hashes)
    texts: dict[str, str] = {}
    n_unlabelled = 0
    for source in sources:
        columns: set[str] = set()
        for _, row in read_rows(source):
            columns |= row.keys()
            text = row.get(text_column)
            digest = hash_text(text) if isinstance(text, str) else ""
            if digest in hashes:
                texts.setdefault(digest, str(text))
            else:
                n_unlabelled += 1
        require_column(text_column, columns=columns, path=source)
    return texts, n_unlabelled


def _place(evidence: Sequence[Row], *, text: str) -> tuple[list[Row], int]:
    """Move evidence from the folded text to the text as found; count what could not be placed."""
    folded = fold_text(text)
    offsets = [(n, n + 1) for n in range(len(text))] if text == folded else folded_offsets(text)
    placed: list[Row] = []
    for passage in evidence:
        start, end = passage["start"], passage["end"]
        if offsets is not None and 0 <= start < end <= len(offsets):
            placed.append({**passage, "start": offsets[start][0], "end": offsets[end - 1][1]})
    return placed, len(evidence) - len(placed)
