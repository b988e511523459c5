"""`gapnlp corpus`: check labelled rows, split them, join labels to their texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapnlp.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections import Counter

    from training.corpus import Example
    from training.join import Joined

app = typer.Typer(no_args_is_help=True, help="Check, split and join labelled rows.")

DataFiles = Annotated[list[Path], typer.Argument(metavar="DATA...", help="JSONL, CSV, TSV (also .gz) or Parquet.")]
TextColumn = Annotated[str, typer.Option(help="Column of the text.")]
LabelsColumn = Annotated[str, typer.Option(help="Column of the labels: a list, or joined by ';'.")]
BlankIsNone = Annotated[bool, typer.Option("--blank-is-none", help="A blank label cell means: no gap.")]


@app.command()
def check(
    data: DataFiles,
    *,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Held-out rows (columns text, labels) that DATA must not repeat."),
    ] = None,
    text_column: TextColumn = "text",
    labels_column: LabelsColumn = "labels",
    blank_is_none: BlankIsNone = False,
    floor: Annotated[int, typer.Option(min=0, help="Refuse fewer rows than this of any gap.")] = 0,
) -> None:
    """Check labelled rows as training would: labels, texts, evidence, duplicates, contradictions, leakage.

    Example:  gapnlp corpus check mine.csv --text-column comment --against data/test.jsonl
    """
    from training.corpus import check_examples, check_floor, check_leakage, count_labels, read_examples

    rows = read_examples(data, text_column=text_column, labels_column=labels_column, blank_is_none=blank_is_none)
    kept = check_examples(rows)
    if against:
        check_leakage(kept, read_examples(against))
    check_floor(kept, floor=floor)
    typer.echo(f"{len(kept)} rows are fit for training: {_counts(count_labels(kept))}", err=True)


@app.command()
def split(
    data: DataFiles,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the three files.")],
    validation: Annotated[float, typer.Option(min=0, max=1, help="Share held out to choose and calibrate.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share held out to judge.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Breaks ties; the same seed gives the same splits.")] = 0,
    text_column: TextColumn = "text",
    labels_column: LabelsColumn = "labels",
    blank_is_none: BlankIsNone = False,
) -> None:
    """Split labelled rows into train, validation and test so that near-duplicates stay together.

    Example:  gapnlp corpus split mine.csv --text-column comment -o splits/
    """
    from training.corpus import check_examples, read_examples, write_examples
    from training.split import split_examples

    if validation + test >= 1:
        raise ConfigError(f"got --validation {validation} and --test {test}, which leaves no rows to train on")
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    rows = read_examples(data, text_column=text_column, labels_column=labels_column, blank_is_none=blank_is_none)
    parts = split_examples(
        check_examples(rows), shares={name: share for name, share in shares.items() if share}, seed=seed
    )
    for name, part in parts.items():
        write_examples(part, output / f"{name}.jsonl")
        typer.echo(_split_line(name, part), err=True)


@app.command()
def join(
    labels: Annotated[Path, typer.Argument(help="Labels keyed by hash, such as data/public/labels.jsonl.")],
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Copies of the sources, with the texts.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="JSONL of labelled rows.")],
    text_column: TextColumn = "text",
    split: Annotated[str, typer.Option(help="Which label rows: train, dev or all. Never train on dev.")] = "train",
) -> None:
    """Join labels that ship without their texts to any copy of the texts.

    Example:  gapnlp corpus join data/public/labels.jsonl my-copy.csv --text-column comment -o public.jsonl
    """
    from training.join import join_labels, write_joined

    joined = join_labels(labels, sources, text_column=text_column, split=None if split == "all" else split)
    typer.echo("\n".join(_join_lines(joined)), err=True)
    if not joined.rows:
        raise InputError(
            f"no text of {', '.join(map(str, sources))} is one of the labelled ones "
            f"({sum(joined.wanted.values())}); is {text_column!r} the column of the untouched text?"
        )
    write_joined(joined, output)


def _counts(counts: Counter[str]) -> str:
    from gapnlp.taxonomy import LABELS, NONE

    return ", ".join(f"{label} {counts[label]}" for label in (*LABELS, NONE))


def _split_line(name: str, part: list[Example]) -> str:
    from training.corpus import count_labels

    return f"{name}: {len(part)} rows ({_counts(count_labels(part))})"


def _join_lines(joined: Joined) -> list[str]:
    n_wanted = sum(joined.wanted.values())
    lines = [f"{len(joined.rows)} of {n_wanted} labelled texts found"]
    lines += [f"  {source}: {joined.found.get(source, 0)} of {n}" for source, n in sorted(joined.wanted.items())]
    if joined.n_evidence_dropped:
        lines.append(f"{joined.n_evidence_dropped} evidence passages could not be placed in the text as found")
    lines.append(f"{joined.n_unlabelled} rows of the copies have no label here")
    return lines
