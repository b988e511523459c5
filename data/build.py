"""Make the corpus files of this folder from authored comments, and the label file from labelled public rows.

    python data/build.py corpus AUTHORED.jsonl               writes train.jsonl, validation.jsonl, test.jsonl
    python data/build.py more MORE.jsonl                     writes train-more.jsonl, rows that only ever train
    python data/build.py public TRAIN.jsonl.gz DEV.jsonl.gz  writes public/labels.jsonl

An authored row has `id`, `text`, `gaps` (primary first), `evidence` (label to [start, end]), `sector` in free
wording, `channel` and `set`; a public row has `sha256`, `source`, `id`, `text`, `gaps` and `evidence`. Which
authored rows are held out stands in split.toml, how their sectors fold in sectors.toml. `-o FOLDER` writes
somewhere else.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gapnlp.errors import CorpusError
from gapnlp.text import fold_text, hash_text
from training.corpus import Example, check_examples, read_examples, to_row
from training.split import NEAR, group_examples, near_pairs
from training.table import Row, read_rows, write_rows

HERE = Path(__file__).parent
SPLITS = ("train", "validation", "test")

app = typer.Typer(no_args_is_help=True, add_completion=False)
Folder = Annotated[Path, typer.Option("-o", help="Folder to write into.")]


@app.command()
def corpus(authored: Path, *, output: Folder = HERE) -> None:
    """Write the three splits of the authored corpus."""
    plan = tomllib.loads((HERE / "split.toml").read_text(encoding="utf-8"))
    examples = check_examples(fold_sectors(read_examples(authored, labels_column="gaps")))
    examples = name_groups(examples, linked=plan["linked"])
    for name, part in part_examples(examples, plan=plan).items():
        write_rows(map(corpus_row, part), output / f"{name}.jsonl")
        typer.echo(f"{name}: {len(part)} rows", err=True)


@app.command()
def more(authored: Path, *, output: Folder = HERE) -> None:
    """Write rows that were authored after the splits were fixed: they train, if no held-out row is near."""
    examples = check_examples(fold_sectors(read_examples(authored, labels_column="gaps")))
    held_out = [e for name in SPLITS[1:] for e in read_examples(HERE / f"{name}.jsonl")]
    check_apart(examples, held_out)
    examples = name_groups(examples, linked=())
    write_rows(map(corpus_row, examples), output / "train-more.jsonl")
    typer.echo(f"train-more: {len(examples)} rows", err=True)


@app.command()
def public(train: Path, dev: Path, *, output: Folder = HERE / "public") -> None:
    """Write the labels of the public rows, keyed by the hash of their text, without the text."""
    rows = [*label_rows(train, split="train"), *label_rows(dev, split="dev")]
    write_rows(rows, output / "labels.jsonl")
    typer.echo(f"{len(rows)} label rows", err=True)


def fold_sectors(examples: Sequence[Example]) -> list[Example]:
    """Replace each sector's free wording by its name in sectors.toml.

    Raises:
        CorpusError: Some sectors stand nowhere in sectors.toml.
    """
    sectors = tomllib.loads((HERE / "sectors.toml").read_text(encoding="utf-8"))
    name_of = {wording: name for name, sector in sectors.items() for wording in (name, *sector["variants"])}
    unknown = sorted({e.sector for e in examples} - name_of.keys())
    if unknown:
        raise CorpusError(f"sectors.toml does not fold {', '.join(map(repr, unknown))}: add each to one of its lists")
    return [replace(e, sector=name_of[e.sector]) for e in examples]


def name_groups(examples: Sequence[Example], *, linked: Sequence[Sequence[str]]) -> list[Example]:
    """Give every row the id of the first row that it belongs together with as its `group`."""
    by_hand = {row_id: ids[0] for ids in linked for row_id in ids}
    roots = group_examples([replace(e, group=by_hand.get(e.id, "")) for e in examples])
    return [replace(e, group=examples[root].id) for e, root in zip(examples, roots, strict=True)]


def part_examples(examples: Sequence[Example], *, plan: dict[str, list[str]]) -> dict[str, list[Example]]:
    """Deal rows to the splits that split.toml names.

    Raises:
        CorpusError: A group would stand in two splits, or a held-out row is not there.
    """
    part_of = {row_id: name for name in SPLITS[1:] for row_id in plan[name]}
    missing = sorted(part_of.keys() - {e.id for e in examples})
    if missing:
        raise CorpusError(f"{len(missing)} rows that split.toml holds out are not there, {missing[0]} first")
    parts: dict[str, list[Example]] = {name: [] for name in SPLITS}
    homes: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        name = part_of.get(example.id, "train")
        parts[name].append(example)
        homes[example.group].add(name)
    straddling = sorted(group for group, names in homes.items() if len(names) > 1)
    if straddling:
        raise CorpusError(f"groups stand in two splits: {', '.join(straddling)}; move their rows in split.toml")
    return parts


def check_apart(examples: Sequence[Example], held_out: Sequence[Example]) -> None:
    """Refuse rows whose text is near to a held-out one.

    Raises:
        CorpusError: At least one is.
    """
    both = [*examples, *held_out]
    pairs = near_pairs([e.text for e in both], threshold=NEAR)
    near = sorted({both[row].id for row, other, _ in pairs if row < len(examples) <= other})
    if near:
        raise CorpusError(f"near to held-out rows: {', '.join(near)}; leave them out")


def corpus_row(example: Example) -> Row:
    """Turn an example into a row of the authored corpus, which has no source but this one."""
    return {name: value for name, value in to_row(example).items() if name != "source"}


def label_rows(path: Path, *, split: str) -> Iterator[Row]:
    """Yield the public rows' labels without their texts.

    Raises:
        CorpusError: A row's hash is not that of its text, or its text is not folded: offsets would not fit.
    """
    for number, row in read_rows(path):
        if hash_text(row["text"]) != row["sha256"] or fold_text(row["text"]) != row["text"]:
            raise CorpusError(f"{path}:{number}: the text is not folded, or its hash is another's")
        spans = [{"label": label, "start": start, "end": end} for label, (start, end) in row["evidence"].items()]
        readers = {name: row[name] for name in ("reader_1", "reader_2") if name in row}
        kept = {name: row[name] for name in ("sha256", "source", "id")}
        yield {**kept, "split": split, "labels": row["gaps"], "evidence": spans, **readers}


if __name__ == "__main__":
    app()
