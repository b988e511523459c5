"""Labels without text, joined to copies of the texts."""

import csv
import gzip
import json
import unicodedata

import pytest
from typer.testing import CliRunner

from gapnlp.errors import ColumnError, InputError
from gapnlp.text import fold_text, hash_text
from training.cli.corpus import app
from training.corpus import check_examples, read_examples
from training.join import folded_offsets, join_labels, write_joined

TEXTS = {
    "r1": ("forum", "train", "The café was shut, and nobody told us.", "delivery", "café was shut"),
    "r2": ("forum", "train", "No refunds after 14 days.", "policy", "No refunds"),
    "r3": ("survey", "train", "They lost it.", "delivery", "lost it."),
    "d1": ("survey", "dev", "Too slow.", "delivery", "slow"),
}


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for row_id, (source, split, text, label, passage) in TEXTS.items():
            start = text.index(passage)
            spans = [{"label": label, "start": start, "end": start + len(passage)}]
            row = {
                "sha256": hash_text(text),
                "source": source,
                "id": row_id,
                "split": split,
                "labels": [label],
            }
            out.write(json.dumps({**row, "evidence": spans}) + "\n")
    return path


def copy_of(tmp_path, *texts, column="text", name="copy.csv"):
    path = tmp_path / name
    with path.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([["row", column], *enumerate(texts)])
    return path


def test_rows_are_hydrated_and_the_rest_counted_by_source(tmp_path, labels):
    source = copy_of(tmp_path, TEXTS["r3"][2], "unknown", TEXTS["r1"][2])
    joined = join_labels(labels, [source], split="train")
    assert [row["id"] for row in joined.rows] == ["r1", "r3"]
    assert joined.rows[1]["text"] == "They lost it."
    assert joined.wanted == {"forum": 2, "survey": 1}
    assert joined.found == {"forum": 1, "survey": 1}
    assert joined.n_unlabelled == 1
    assert joined.n_evidence_dropped == 0


def test_without_a_split_all_rows_are_joined(tmp_path, labels):
    source = copy_of(tmp_path, *(text for _, _, text, *_ in TEXTS.values()))
    assert len(join_labels(labels, [source]).rows) == 4
    assert [row["id"] for row in join_labels(labels, [source], split="dev").rows] == ["d1"]


def test_a_text_in_two_copies_is_joined_once(tmp_path, labels):
    sources = [copy_of(tmp_path, TEXTS["r2"][2], name=f"{n}.csv") for n in "ab"]
    assert len(join_labels(labels, sources).rows) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda text: f"\n  {text}\t",
        lambda text: text.replace(" ", " \n "),
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: unicodedata.normalize("NFD", f"  {text} ").replace(" ", "\u00a0\n"),
    ],
)
def test_evidence_moves_with_white_space_and_composition(tmp_path, labels, change):
    source = copy_of(tmp_path, *(change(text) for _, _, text, *_ in TEXTS.values()))
    joined = join_labels(labels, [source])
    assert len(joined.rows) == 4
    for row in joined.rows:
        (span,) = row["evidence"]
        assert fold_text(row["text"][span["start"] : span["end"]]) == TEXTS[row["id"]][4]
    assert any(row["text"] != TEXTS[row["id"]][2] for row in joined.rows)


def test_evidence_that_cannot_be_placed_is_dropped_and_counted(tmp_path):
    jamo = unicodedata.normalize("NFD", "한 Late")  # composes without combining marks: not told apart here
    assert folded_offsets(jamo) is None
    row = {"sha256": hash_text(jamo), "source": "s", "id": "1", "split": "train", "labels": ["delivery"]}
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps({**row, "evidence": [{"label": "delivery", "start": 2, "end": 6}]}), encoding="utf-8")
    joined = join_labels(path, [copy_of(tmp_path, jamo)])
    assert joined.rows[0]["evidence"] == []
    assert joined.n_evidence_dropped == 1


def test_joined_rows_train_as_they_are(tmp_path, labels):
    source = tmp_path / "copy.jsonl.gz"
    with gzip.open(source, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps({"body": f" {text}"}) + "\n" for _, _, text, *_ in TEXTS.values())
    write_joined(join_labels(labels, [source], text_column="body", split="train"), tmp_path / "out.jsonl")
    rows = check_examples(read_examples(tmp_path / "out.jsonl"))
    assert [(e.id, e.source, e.labels) for e in rows] == [
        ("r1", "forum", ("delivery",)),
        ("r2", "forum", ("policy",)),
        ("r3", "survey", ("delivery",)),
    ]
    assert [e.text[slice(*e.evidence[e.labels[0]])] for e in rows] == [
        "café was shut",
        "No refunds",
        "lost it.",
    ]


def test_wrong_columns_and_files_are_refused(tmp_path, labels):
    source = copy_of(tmp_path, "a", column="comment")
    with pytest.raises(ColumnError, match="no column 'text': name one of its columns, comment, row"):
        join_labels(labels, [source])
    with pytest.raises(InputError, match="no rows of split 'tset'; it has dev, train"):
        join_labels(labels, [source], text_column="comment", split="tset")
    with pytest.raises(InputError, match=r"copy\.csv:2: no sha256"):
        join_labels(source, [source], text_column="comment")


def test_join_command_counts_on_stderr_and_never_takes_dev_rows_unasked(tmp_path, labels):
    source = copy_of(tmp_path, TEXTS["r1"][2], TEXTS["d1"][2], column="comment")
    out = tmp_path / "joined.jsonl"
    arguments = ["join", str(labels), str(source), "-o", str(out), "--text-column", "comment"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    assert done.stderr.splitlines() == [
        "1 of 3 labelled texts found",
        "  forum: 1 of 2",
        "  survey: 0 of 1",
        "1 rows of the copies have no label here",
    ]
    assert [e.id for e in read_examples(out)] == ["r1"]

    assert CliRunner().invoke(app, [*arguments, "--split", "all"]).exit_code == 0
    assert [e.id for e in read_examples(out)] == ["r1", "d1"]


def test_join_command_refuses_a_copy_of_something_else(tmp_path, labels):
    source = copy_of(tmp_path, "nothing of this kind")
    done = CliRunner().invoke(app, ["join", str(labels), str(source), "-o", str(tmp_path / "out.jsonl")])
    assert isinstance(done.exception, InputError)
    assert "is 'text' the column of the untouched text?" in str(done.exception)
    assert not (tmp_path / "out.jsonl").exists()
