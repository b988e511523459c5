"""The shipped corpus, its labels of public rows, and the sample archive: what they promise, they keep."""

import csv
import datetime as dt
import importlib.util
import json
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from gapnlp.errors import CorpusError
from gapnlp.taxonomy import LABELS
from training.corpus import check_examples, check_floor, check_leakage, codebook_version, read_examples
from training.split import NEAR, group_examples, near_pairs
from training.table import read_rows

DATA = Path(__file__).parent.parent / "data"
SPLITS = ("train", "validation", "test")


def load_script(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def corpus():
    return {name: read_examples(DATA / f"{name}.jsonl") for name in SPLITS}


@pytest.fixture(scope="module")
def more():
    return read_examples(DATA / "train-more.jsonl")


@pytest.fixture(scope="module")
def sample():
    with (DATA / "sample" / "harbourline-2026.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def authored(corpus, tmp_path):
    """The corpus in the shape it was authored in."""
    rows = sorted((e for part in corpus.values() for e in part), key=lambda e: e.id)
    return write_authored(rows, tmp_path / "authored.jsonl")


@pytest.fixture
def authored_more(more, tmp_path):
    """The rows added later, in the shape they were authored in."""
    return write_authored(more, tmp_path / "more.jsonl")


def write_authored(rows, path):
    with path.open("w", encoding="utf-8") as out:
        for e in rows:
            shape = {"id": e.id, "set": e.subset, "sector": e.sector, "channel": e.channel, "text": e.text}
            out.write(json.dumps({**shape, "gaps": e.labels, "evidence": e.evidence}) + "\n")
    return path


def append_echo(held, path):
    """Add a row that all but repeats a held-out one."""
    row = {"id": "z-new", "text": held.text + " again", "gaps": held.labels, "sector": held.sector}
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")


def test_every_row_stands_in_one_split_and_passes_the_checks(corpus, more):
    rows = [*(e for part in corpus.values() for e in part), *more]
    assert len(rows) == len({e.id for e in rows}) == 7199
    n_sets = {"c": 3, "d": 2, "e": 2, "f": 1, "g": 1, "h": 8, "k": 7}
    assert {e.id[:4] for e in more} == {
        f"{letter}{n:02d}-" for letter, last in n_sets.items() for n in range(1, last + 1)
    }
    assert {e.id[0] for part in corpus.values() for e in part} == {"a", "b"}
    assert check_examples(rows) == rows
    assert all(set(e.evidence) == set(e.labels) for e in rows)
    check_floor(corpus["train"], floor=300)
    check_floor(corpus["test"], floor=50)
    check_leakage(corpus["train"] + more, corpus["validation"] + corpus["test"])
    check_leakage(corpus["validation"], corpus["test"])


def test_no_near_duplicate_or_contrast_pair_straddles(corpus):
    part_of = {e.id: name for name, part in corpus.items() for e in part}
    rows = sorted((e for part in corpus.values() for e in part), key=lambda e: e.id)  # the authored order
    groups = group_examples(rows)
    homes = {(group, part_of[e.id]) for group, e in zip(groups, rows, strict=True)}
    assert Counter(Counter(group for group, _ in homes).values()).keys() == {1}
    assert {e.group for e in rows} == {rows[group].id for group in groups}


def test_no_row_added_later_is_near_to_a_held_out_one(corpus, more):
    rows = sorted([*(e for part in corpus.values() for e in part), *more], key=lambda e: e.id)
    later = {e.id for e in more}
    held = {e.id for name in ("validation", "test") for e in corpus[name]}
    pairs = [{rows[a].id, rows[b].id} for a, b, _ in near_pairs([e.text for e in rows], threshold=NEAR)]
    assert [pair for pair in pairs if pair & later and pair & held] == []
    near_train = {row_id for pair in pairs if pair - later for row_id in pair & later}
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert f"{len(near_train)} of them are near to a row of `train.jsonl`" in readme
    groups = group_examples(rows)  # follows links through other rows, too
    closed = {group for group, e in zip(groups, rows, strict=True) if e.id in held}
    assert {e.id for group, e in zip(groups, rows, strict=True) if group in closed} & later == set()


def test_the_split_is_the_one_fixed_by_id(corpus):
    plan = tomllib.loads((DATA / "split.toml").read_text(encoding="utf-8"))
    assert {e.id for e in corpus["test"]} == set(plan["test"])
    assert {e.id for e in corpus["validation"]} == set(plan["validation"])


def test_building_again_gives_the_same_bytes(authored, tmp_path):
    build = load_script(DATA / "build.py")
    build.corpus(authored, output=tmp_path)
    for name in SPLITS:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (DATA / f"{name}.jsonl").read_bytes()


def test_building_refuses_a_new_row_that_leaks_into_the_test_split(authored, corpus, tmp_path):
    build = load_script(DATA / "build.py")
    held = next(e for e in corpus["test"] if len(e.text) > 200)
    append_echo(held, authored)
    with pytest.raises(CorpusError, match=f"stand in two splits: {held.group};"):
        build.corpus(authored, output=tmp_path)


def test_building_the_rows_added_later_again_gives_the_same_bytes(authored_more, tmp_path):
    build = load_script(DATA / "build.py")
    build.more(authored_more, output=tmp_path)
    assert (tmp_path / "train-more.jsonl").read_bytes() == (DATA / "train-more.jsonl").read_bytes()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_building_refuses_a_row_added_later_that_is_near_to_a_held_out_one(authored_more, corpus, split, tmp_path):
    build = load_script(DATA / "build.py")
    append_echo(next(e for e in corpus[split] if len(e.text) > 200), authored_more)
    with pytest.raises(CorpusError, match="near to held-out rows: z-new; leave them out"):
        build.more(authored_more, output=tmp_path)
    assert not (tmp_path / "train-more.jsonl").exists()


def test_building_refuses_a_sector_that_folds_to_nothing(corpus, more):
    build = load_script(DATA / "build.py")
    sectors = tomllib.loads((DATA / "sectors.toml").read_text(encoding="utf-8"))
    assert {e.sector for part in (*corpus.values(), more) for e in part} == sectors.keys()
    assert len(sectors) == 32
    variants = sum(len(sector["variants"]) for sector in sectors.values())
    assert f"({variants} variants)" in (DATA / "README.md").read_text(encoding="utf-8")
    with pytest.raises(CorpusError, match="does not fold ''"):
        build.fold_sectors([corpus["train"][0].__class__(id="a", text="b", labels=())])


def test_public_labels_are_built_without_text(tmp_path):
    build = load_script(DATA / "build.py")
    text = "They lost it."
    row = {"id": "r1", "source": "s", "text": text, "gaps": ["delivery"], "evidence": {"delivery": [5, 12]}}
    paths = []
    for name, extra in (("train", {}), ("dev", {"reader_1": ["delivery"], "reader_2": []})):
        paths.append(tmp_path / f"{name}.jsonl")
        digest = build.hash_text(text)
        paths[-1].write_text(json.dumps({**row, **extra, "sha256": digest}), encoding="utf-8")
    build.public(*paths, output=tmp_path)
    lines = (tmp_path / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    expected = {"sha256": digest, "source": "s", "id": "r1", "split": "train", "labels": ["delivery"]}
    expected["evidence"] = [{"label": "delivery", "start": 5, "end": 12}]
    assert json.loads(lines[0]) == expected
    assert json.loads(lines[1]) == {**expected, "split": "dev", "reader_1": ["delivery"], "reader_2": []}

    paths[0].write_text(json.dumps({**row, "sha256": "0" * 64}), encoding="utf-8")
    with pytest.raises(CorpusError, match="its hash is another's"):
        build.public(*paths, output=tmp_path)


def test_public_labels_hold_no_text():
    fields = {"sha256", "source", "id", "split", "labels", "evidence"}
    rows = [row for _, row in read_rows(DATA / "public" / "labels.jsonl")]
    assert Counter(row["split"] for row in rows) == {"train": 6767, "dev": 825}
    assert len({row["sha256"] for row in rows}) == len(rows)
    for row in rows:
        assert row.keys() == (fields if row["split"] == "train" else fields | {"reader_1", "reader_2"})
        assert len(row["sha256"]) == 64
        assert set(row["labels"]) <= set(LABELS)
        assert [span.keys() for span in row["evidence"]] == [{"label", "start", "end"}] * len(row["labels"])


def test_public_readme_counts_are_those_of_the_labels():
    rows = [row for _, row in read_rows(DATA / "public" / "labels.jsonl")]
    counted = Counter((row["source"], row["split"]) for row in rows)
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (DATA / "public" / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and line.count("|") == 7
    ]
    stated = {
        (name.strip("`"), split): int(n)
        for name, train, dev, *_ in table
        for split, n in (("train", train), ("dev", dev))
        if n
    }
    assert stated == counted


@pytest.mark.slow
def test_the_folder_loads_with_datasets(corpus, more, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(DATA), cache_dir=str(tmp_path))
    splits = {**corpus, "train": corpus["train"] + more}
    assert {name: list(part["id"]) for name, part in loaded.items()} == {
        k: [e.id for e in v] for k, v in splits.items()
    }
    names = loaded["train"].features["labels"].feature
    assert names.names == list(LABELS)
    for name, part in splits.items():
        assert [tuple(names.int2str(row)) for row in loaded[name]["labels"]] == [e.labels for e in part]
    for name in ("train", "test"):
        spans = loaded[name]["evidence"][-1]
        assert {s["label"]: (s["start"], s["end"]) for s in spans} == splits[name][-1].evidence


def test_datasheet_counts_are_those_of_the_corpus(corpus, more):
    text = (DATA / "README.md").read_text(encoding="utf-8")
    files = {**corpus, "train-more": more}
    assert f"{sum(map(len, files.values())):,} customers' comments" in text
    for name, part in files.items():
        counts = Counter(label for e in part for label in e.labels or ("none",))
        several = sum(len(e.labels) > 1 for e in part)
        contrast = sum(e.subset == "contrast" for e in part)
        cells = [len(part), *(counts[label] for label in (*LABELS, "none")), several, contrast]
        assert f"| `{name}.jsonl` | {' | '.join(f'{n:,}' for n in cells)} |" in text


def test_the_codebook_has_a_version():
    assert codebook_version(DATA / "codebook.md") == "1.0"


def test_the_sample_is_made_from_test_rows_alone(corpus, sample):
    assert len({row["comment"] for row in sample}) == len(sample) == 500
    assert {row["comment"] for row in sample} <= {e.text for e in corpus["test"]}
    assert [row["comment_id"] for row in sample] == [f"HL-{n:04d}" for n in range(1, 501)]
    days = [dt.date.fromisoformat(row["date"]) for row in sample]
    assert days == sorted(days)
    assert dt.date(2026, 1, 1) <= days[0] <= days[-1] <= dt.date(2026, 6, 30)
    assert list(sample[0]) == ["comment_id", "date", "branch", "product", "channel", "comment"]
    assert len({row["branch"] for row in sample}) == 8
    assert any("\n" in row["comment"] for row in sample)


def test_making_the_sample_again_gives_the_same_bytes(tmp_path):
    make = load_script(DATA / "sample" / "make.py")
    make.make(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (DATA / "sample" / "harbourline-2026.csv").read_bytes()


def test_the_planted_pattern_is_in_the_sample(corpus, sample):
    labels = {e.text: e.labels for e in corpus["test"]}

    def share(label, rows):
        return sum(label in labels[row["comment"]] for row in rows) / len(rows)

    there = [row for row in sample if row["branch"] == "Kelby Quay"]
    elsewhere = [row for row in sample if row["branch"] != "Kelby Quay"]
    assert share("policy", there) > 2 * share("policy", elsewhere)
    first = [row for row in sample if row["date"] < "2026-04"]
    last = [row for row in sample if row["date"] >= "2026-04"]
    assert share("delivery", last) > 1.5 * share("delivery", first)
    readme = (DATA / "sample" / "README.md").read_text(encoding="utf-8")
    assert f"{share('policy', there):.0%}".replace("%", " %") + f" of its {len(there)} comments" in readme


def test_the_reader_of_the_sample_knows_the_labels_of_the_corpus(tmp_path, corpus, sample):
    path = tmp_path / "audit.csv"
    header = ["row", "text", *LABELS, "read"]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([header, *([n, row["comment"], *[""] * 6] for n, row in enumerate(sample))])
    load_script(DATA / "sample" / "read.py").read(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file))
    labels = {e.text: e.labels for e in corpus["test"]}
    assert {row["read"] for row in found} == {"x"}
    assert [{gap for gap in LABELS if row[gap]} for row in found] == [set(labels[row["text"]]) for row in found]
