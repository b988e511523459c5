"""Splits that have not seen each other's texts."""

import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from gapnlp.errors import ConfigError
from training.cli.corpus import app
from training.corpus import Example, count_labels, read_examples
from training.split import group_examples, split_examples

WORDS = ["parcel", "ticket", "waiter", "broker", "router", "nurse", "meter", "cinema", "dentist", "mortgage"]
WORDS += ["ferry", "suitcase", "invoice", "garden"]
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}


def example(row_id, text, *labels, **fields):
    return Example(id=row_id, text=text, labels=labels, **fields)


def corpus(n=200):
    """Rows of which each has a near-duplicate twin, every tenth pair with the rare gap."""
    rows = []
    for n_pair in range(n // 2):
        a, b, c = (WORDS[n_pair // 14**k % 14] for k in range(3))
        label = "knowledge" if n_pair % 10 == 0 else ("delivery", "policy")[n_pair % 2]
        text = f"{a} {n_pair * 7919} {b} {n_pair * 104729} {c}{n_pair}"
        rows += [example(f"{n_pair}a", text, label), example(f"{n_pair}b", text + "!", label)]
    return rows


def test_near_duplicates_share_a_group_and_others_do_not():
    groups = group_examples(
        [
            example("a", "The parcel came three days late and wet"),
            example("b", "I never liked the colours of the new app"),
            example("c", "the parcel came three days late, and wet!"),
        ]
    )
    assert groups == [0, 1, 0]


def test_the_threshold_decides():
    rows = [example("a", "parcel late again on monday"), example("b", "parcel late again, driver rude")]
    assert group_examples(rows, threshold=0.2) == [0, 0]
    assert group_examples(rows, threshold=0.9) == [0, 1]


def test_contrast_neighbours_are_held_to_a_lower_threshold_than_others():
    pair = [
        "Bag was over at the desk, agent charged me though the rules allow it",
        "Bag was over at the desk, the rules allow no gram more, zero tolerance",
    ]
    fillers = [f"{word} {word[::-1]}" for word in WORDS[:4]]

    def groups(*, subset, between):
        texts = [pair[0], *fillers[:between], pair[1]]
        numbers = group_examples([example(str(n), text, subset=subset) for n, text in enumerate(texts)], threshold=0.8)
        return numbers[0] == numbers[-1]

    assert groups(subset="contrast", between=2)
    assert not groups(subset="contrast", between=3)  # too far apart to be a pair
    assert not groups(subset="archive", between=0)


def test_a_given_group_holds_together_whatever_the_texts():
    rows = [example("a", "parcel", group="x"), example("b", "dentist"), example("c", "ferry", group="x")]
    assert group_examples(rows) == [0, 1, 0]


def test_links_chain():
    texts = ["parcel late on monday morning", "parcel late on monday", "late on monday"]
    assert group_examples([example(t, t) for t in texts], threshold=0.5) == [0, 0, 0]


def test_splits_keep_every_row_once_and_twins_together():
    rows = corpus()
    parts = split_examples(rows, shares=SHARES)
    assert Counter(e.id for part in parts.values() for e in part) == {e.id: 1 for e in rows}
    for part in parts.values():
        assert set(Counter(e.id[:-1] for e in part).values()) == {2}
        assert [e.id for e in part] == [e.id for e in rows if e in part]  # the file's order stays


def test_shares_hold_for_the_rows_and_for_the_rare_gap():
    rows = corpus()
    parts = split_examples(rows, shares=SHARES)
    for name, share in SHARES.items():
        assert len(parts[name]) == pytest.approx(share * len(rows), abs=4)
        assert count_labels(parts[name])["knowledge"] == pytest.approx(share * 20, abs=1.01)


def test_the_seed_decides_and_nothing_else():
    rows = corpus()
    assert split_examples(rows, shares=SHARES, seed=1) == split_examples(rows, shares=SHARES, seed=1)
    assert split_examples(rows, shares=SHARES, seed=1) != split_examples(rows, shares=SHARES, seed=2)


@pytest.mark.parametrize("shares", [{"train": 0.7, "test": 0.2}, {"train": 1.2, "test": -0.2}, {}])
def test_shares_that_do_not_add_up_are_refused(shares):
    with pytest.raises(ConfigError, match="add up to 1"):
        split_examples(corpus(20), shares=shares)


def test_split_command_writes_three_files_without_shared_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"id": e.id, "text": e.text, "labels": list(e.labels)}) + "\n" for e in corpus()),
        encoding="utf-8",
    )
    done = CliRunner().invoke(app, ["split", str(path), "-o", str(tmp_path / "out"), "--test", "0.3"])
    assert done.exit_code == 0, done.exception
    parts = {name: read_examples(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == 200
    assert len(parts["test"]) == pytest.approx(60, abs=4)
    assert f"train: {len(parts['train'])} rows (knowledge " in done.stderr

    nothing_left = CliRunner().invoke(app, ["split", str(path), "-o", str(tmp_path), "--test", "0.95"])
    assert isinstance(nothing_left.exception, ConfigError)
