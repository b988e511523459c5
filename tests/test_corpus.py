"""Labelled rows: reading, checking, writing, and their command."""

import gzip
import json
import logging
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gapnlp.errors import ColumnError, CorpusError, InputError
from gapnlp.taxonomy import LABELS
from training.cli.corpus import app
from training.corpus import (
    UNLABELLED,
    Example,
    check_examples,
    check_floor,
    check_leakage,
    codebook_version,
    count_labels,
    read_examples,
    write_examples,
)

ROWS = [
    {"id": "r1", "text": "No refunds after 14 days.", "labels": ["policy"], "evidence": {"policy": [0, 10]}},
    {
        "id": "r2",
        "text": "Lost my bag,\nand nobody told me.",
        "labels": ["delivery", "communication"],
        "evidence": {},
    },
    {"id": "r3", "text": "Lovely crew today.", "labels": [], "evidence": {}},
]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def example(text, *labels, **fields):
    return Example(id=fields.pop("id", text[:4]), text=text, labels=labels, **fields)


def test_jsonl_gzip_and_parquet_read_the_same(tmp_path):
    plain = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    zipped = tmp_path / "rows.jsonl.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    parquet = tmp_path / "rows.parquet"
    spans = [[{"label": k, "start": s, "end": e} for k, (s, e) in row["evidence"].items()] for row in ROWS]
    table = [{**row, "evidence": span} for row, span in zip(ROWS, spans, strict=True)]
    pq.write_table(pa.Table.from_pylist(table), parquet)

    read = read_examples(plain)

    assert [e.labels for e in read] == [("policy",), ("delivery", "communication"), ()]
    assert read[0].evidence == {"policy": (0, 10)}
    assert read[1].text == ROWS[1]["text"]
    assert read_examples([zipped]) == read
    assert read_examples([parquet]) == read
    assert read[2].where == f"{plain}:3"


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_flat_files_take_joined_names_of_any_kind(tmp_path, suffix, delimiter):
    path = tmp_path / f"mine.{suffix}"
    rows = [
        ["comment", "gap"],
        ['"Two\nlines"', "Gap 3;promise gap"],
        ["Thanks", "None"],
        ["Dear", '"[""policy""]"'],
    ]
    path.write_text("\n".join(delimiter.join(row) for row in rows), encoding="utf-8-sig")

    read = read_examples(path, text_column="comment", labels_column="gap")

    assert [e.labels for e in read] == [("delivery", "communication"), (), ("policy",)]
    assert read[0].text == "Two\nlines"
    assert read[1].id == read[1].where == f"{path}:3"


def test_a_blank_label_cell_is_not_the_same_as_none(tmp_path):
    path = tmp_path / "half.csv"
    path.write_text("text,labels\nLate again,\nThanks,none\n", encoding="utf-8")

    assert [e.labels for e in read_examples(path)] == [(UNLABELLED,), ()]
    with pytest.raises(CorpusError, match=r"half\.csv:2: not labelled; write 'none'"):
        check_examples(read_examples(path))
    assert [e.labels for e in read_examples(path, blank_is_none=True)] == [(), ()]


def test_a_null_or_absent_label_is_blank_and_an_empty_list_is_none(tmp_path):
    path = write_jsonl(
        tmp_path / "x.jsonl", [{"text": "a", "labels": None}, {"text": "b"}, {"text": "c", "labels": []}]
    )
    assert [e.labels for e in read_examples(path)] == [(UNLABELLED,), (UNLABELLED,), ()]


@pytest.mark.parametrize("missing", ["text", "labels"])
def test_an_absent_column_is_named_beside_those_there(tmp_path, missing):
    rows = [{k: v for k, v in row.items() if k != missing} for row in ROWS]
    path = write_jsonl(tmp_path / "x.jsonl", rows)
    with pytest.raises(ColumnError, match=rf"no column '{missing}': name one of its columns, evidence, id, "):
        read_examples(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"text": "a", "labels": []}\n{"text": \n', "x.jsonl:2: not JSON"),
        ("x.jsonl", b'["a"]\n', "x.jsonl:1: got a list, expected a JSON object"),
        ("x.jsonl", b"\n", "no rows"),
        ("x.csv", b"", "expected a header row"),
        ("x.csv", b"text,labels\nSlow, and rude,delivery\n", "x.csv:2: 3 cells under 2 columns"),
        ("x.csv", b"text,labels\ncaf\xe9,none\n", "not UTF-8"),
        ("x.csv.gz", b"plain", "cannot be read"),
        ("x.parquet", b"plain", "not a Parquet file"),
        ("x.docx", b"plain", "unknown format"),
    ],
)
def test_unreadable_files_say_where_and_why(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_examples(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_examples(tmp_path / "gone.csv")


def test_evidence_of_no_known_shape_is_refused_with_its_row(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [{"text": "Late", "labels": ["delivery"], "evidence": {"delivery": 3}}])
    with pytest.raises(CorpusError, match=r"x\.jsonl:1: evidence"):
        read_examples(path)


def test_every_problem_is_listed_with_its_row(tmp_path):
    path = write_jsonl(
        tmp_path / "bad.jsonl",
        [
            {"text": "Late", "labels": ["delivry"]},
            {"text": " \n", "labels": []},
            {"text": "Rude", "labels": ["delivery"], "evidence": {"delivery": [0, 5]}},
            {"text": "Slow", "labels": ["delivery"], "evidence": {"policy": [0, 2]}},
            {"text": "Fine", "labels": ["none", "policy"]},
            {"text": "Meh", "labels": [2]},
            {"text": "No  refunds", "labels": ["policy"]},
            {"text": "No refunds ", "labels": ["customer"]},
        ],
    )
    with pytest.raises(CorpusError) as caught:
        check_examples(read_examples(path))
    message = str(caught.value).replace(str(path), "bad")
    assert message.startswith("the labelled rows cannot be trained on: 7 problems\n")
    for part in (
        "bad:1: 'delivry' is no name of a gap: did you mean 'delivery'",
        "bad:2: got a text of white space alone",
        "bad:3: evidence [0, 5] for 'delivery' lies outside the 4 characters",
        "bad:4: evidence for 'policy', which is not among its labels",
        "bad:5: 'none' stands beside a gap",
        "bad:6: '2 (int)' is no name of a gap",
        "bad:8: labelled customer, but bad:7, the same text, policy",
    ):
        assert part in message


def test_only_the_first_twenty_problems_are_spelled_out():
    rows = [example(f"text {n}", "wrong") for n in range(25)]
    with pytest.raises(CorpusError, match="25 problems") as caught:
        check_examples(rows)
    assert str(caught.value).splitlines()[-1] == "… and 5 more"
    assert len(str(caught.value).splitlines()) == 22


def test_exact_duplicates_are_dropped_with_a_warning(caplog):
    rows = [
        example("So  late", "delivery", "customer", where="a:1"),
        example("So late\n", "customer", "delivery", where="a:2"),
    ]
    with caplog.at_level(logging.WARNING):
        assert check_examples(rows) == rows[:1]
    assert "1 exact duplicates dropped: a:2" in caplog.text


def test_leakage_names_both_rows():
    train = [example("So late", "delivery", where="train:7"), example("Fine")]
    check_leakage(train, [example("Other")])
    with pytest.raises(CorpusError, match=r"1 problem\ntrain:7: the same text is held out \(test:3\)"):
        check_leakage(train, [example(" So\tlate", where="test:3")])


def test_too_few_rows_of_a_gap_are_refused_with_all_counts():
    rows = [example(f"{label} {n}", label) for label in LABELS for n in range(3)]
    check_floor(rows, floor=3)
    with pytest.raises(CorpusError, match=r"too few rows for policy: got knowledge 3, policy 2, .* at least 3"):
        check_floor([e for e in rows if e.text != "policy 0"], floor=3)


def test_rows_without_a_gap_count_as_none():
    assert count_labels([example("a"), example("b", "policy", "delivery")]) == {
        "none": 1,
        "policy": 1,
        "delivery": 1,
    }


def test_written_rows_read_back_the_same(tmp_path):
    rows = [
        example(
            "Zu spät\n“ja”",
            "delivery",
            evidence={"delivery": (0, 7)},
            source="mine",
            sector="hotel",
            channel="email",
            group="g",
            subset="contrast",
        ),
        example("Fine"),
    ]
    write_examples(rows, tmp_path / "new" / "rows.jsonl")
    assert read_examples(tmp_path / "new" / "rows.jsonl") == rows


def test_a_lone_surrogate_does_not_stop_reading_or_writing(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "late \\ud83d again", "labels": ["delivery"]}', encoding="utf-8")
    rows = read_examples(path)
    assert rows[0].text == "late \ufffd again"
    write_examples(rows, tmp_path / "out.jsonl")
    assert [replace(e, where="") for e in read_examples(tmp_path / "out.jsonl")] == rows


def test_codebook_version_comes_from_its_line(tmp_path):
    path = tmp_path / "codebook.md"
    path.write_text("# Codebook\n\nVersion: 2.1\n", encoding="utf-8")
    assert codebook_version(path) == "2.1"
    path.write_text("# Codebook\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="no line 'Version: …'"):
        codebook_version(path)


def test_check_command_reports_counts_and_refuses_leakage(tmp_path):
    rows = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    done = CliRunner().invoke(app, ["check", str(rows)])
    assert done.exit_code == 0
    assert "3 rows are fit for training: knowledge 0, policy 1, delivery 1, communication 1" in done.stderr

    leaking = CliRunner().invoke(app, ["check", str(rows), "--against", str(rows)])
    assert isinstance(leaking.exception, CorpusError)
    short = CliRunner().invoke(app, ["check", str(rows), "--floor", "1"])
    assert "too few rows for knowledge, customer" in str(short.exception)
