"""The job that joins reader, model and writer."""

import csv
import datetime
import gzip
import json
from decimal import Decimal

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapnlp.archive import GAP_COLUMNS, JobOptions, Watch, open_job, open_source
from gapnlp.errors import ColumnError, InputError
from gapnlp.records import Evidence, Prediction
from gapnlp.text import check_text

# A word → the label it stands for.
WORDS = {"late": "delivery", "nobody told": "communication", "rule": "policy"}


class WordClassifier:
    """Give a label wherever its word stands in the text, the earliest first."""

    name = "words@1.0"
    fingerprint = "words"

    def __init__(self):
        self.batches = []

    def predict(self, texts, *, evidence=True, on_texts=None):
        self.batches.append(list(texts))
        return [self._predict(text, evidence=evidence) for text in texts]

    def _predict(self, text, *, evidence):
        try:
            check_text(text)
        except InputError as exc:
            return Prediction((), (0.0,) * 5, (), True, False, self.name, str(exc))
        found = sorted((text.index(word), word) for word in WORDS if word in text)
        labels = tuple(WORDS[word] for _, word in found)
        passages = tuple(Evidence(WORDS[word], at, at + len(word)) for at, word in found) if evidence else ()
        return Prediction(labels, (0.5,) * 5, passages, "perhaps" in text, len(text) > 1000, self.name)


@pytest.fixture
def classifier():
    return WordClassifier()


@pytest.fixture
def csv_file(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text('id,text\n1,It was late\n2,\n3,"a rule, late"\n4,a,b,c\n5,thanks\n6,perhaps\n')
    return str(path)


def run(classifier, *inputs, output, **options):
    with open_job(JobOptions(inputs=inputs, output=str(output), **options)) as job:
        return job.run(classifier)


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_keep_their_order_and_bad_rows_do_not_stop_the_others(tmp_path, csv_file, classifier):
    summary = run(classifier, csv_file, output=tmp_path / "out.csv")
    rows = read_csv(tmp_path / "out.csv")
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [row["gap_labels"] for row in rows] == ["delivery", "", "policy;delivery", "", "", ""]
    assert [row["gap_primary"] for row in rows] == ["delivery", "", "policy", "", "none", "none"]
    assert [bool(row["gap_error"]) for row in rows] == [False, True, False, True, False, False]
    assert rows[3]["text"] == "a,b,c"
    assert {row["gap_model"] for row in rows} == {"words@1.0"}
    start, end = json.loads(rows[2]["gap_evidence"])["policy"]
    assert rows[2]["text"][start:end] == "rule"
    assert (summary.n_rows, summary.n_failed, summary.n_review, summary.n_truncated) == (6, 2, 3, 0)
    assert summary.counted == {
        "knowledge": 0,
        "policy": 1,
        "delivery": 2,
        "communication": 0,
        "customer": 0,
        "none": 2,
    }


def test_flagged_rows_are_those_whose_column_says_so(tmp_path, csv_file, classifier):
    summary = run(classifier, csv_file, output=tmp_path / "out.csv")
    assert [row["gap_review"] for row in read_csv(tmp_path / "out.csv")].count("true") == summary.n_review


def test_rows_are_classified_in_large_chunks_and_unreadable_ones_not_at_all(tmp_path, csv_file, classifier):
    run(classifier, csv_file, output=tmp_path / "a.csv")
    assert [len(batch) for batch in classifier.batches] == [5]
    classifier.batches.clear()
    run(classifier, csv_file, output=tmp_path / "b.csv", chunk_rows=2)
    assert [len(batch) for batch in classifier.batches] == [2, 1, 2]
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_progress_is_told_chunk_by_chunk(tmp_path, csv_file, classifier):
    told = []
    options = JobOptions(inputs=(csv_file,), output=str(tmp_path / "out.csv"), chunk_rows=4)
    with open_job(options) as job:
        job.run(classifier, watch=Watch(on_rows=told.append))
        assert job.n_rows == 6
        assert job.inputs == [f"{csv_file}: CSV, utf-8, separated by comma; text in 'text'"]
    assert told == [4, 2]


FORMATS = ["csv", "tsv", "csv.gz", "jsonl", "ndjson.gz", "xlsx", "parquet"]
PLAIN_ROWS = [
    {"id": "1", "text": "It was late"},
    {"id": "2", "text": ""},
    {"id": "3", "text": "a rule, late"},
]


def write_plain(path):
    """Write `PLAIN_ROWS` without the writers under test."""
    suffix = path.name.partition(".")[2]
    if suffix == "xlsx":
        book = openpyxl.Workbook()
        for row in [["id", "text"], *(list(row.values()) for row in PLAIN_ROWS)]:
            book.active.append(row)
        book.save(path)
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(PLAIN_ROWS), path)
    elif "json" in suffix:
        write_text(path, "".join(json.dumps(row) + "\n" for row in PLAIN_ROWS))
    else:
        separator = "\t" if "tsv" in suffix else ","
        write_text(
            path,
            "".join(f'{i}{separator}"{t}"\n' for i, t in [("id", "text"), *map(dict.values, PLAIN_ROWS)]),
        )
    return str(path)


def write_text(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def read_rows(path):
    with open_source(str(path)) as source:
        return [row.values for chunk in source.chunks(10) for row in chunk.rows]


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_every_format_becomes_every_other(tmp_path, classifier, source, target):
    out = tmp_path / f"out.{target}"
    run(classifier, write_plain(tmp_path / f"in.{source}"), output=out)
    rows = read_rows(out)
    assert list(rows[0]) == ["id", "text", *GAP_COLUMNS]
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [row["text"] or "" for row in rows] == [row["text"] for row in PLAIN_ROWS]
    assert rows[2]["gap_labels"] in ("policy;delivery", ["policy", "delivery"])
    assert [bool(row["gap_error"]) for row in rows] == [False, True, False]


def test_parquet_keeps_its_types_and_an_error_its_row(tmp_path, classifier):
    table = pa.table({"n": pa.array([1, 2], pa.int8()), "text": pa.array(["late", None], pa.large_string())})
    pq.write_table(table, tmp_path / "in.parquet")
    run(classifier, str(tmp_path / "in.parquet"), output=tmp_path / "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.select(["n", "text"]).equals(table)
    assert out.column("gap_labels").to_pylist() == [["delivery"], []]


def test_masked_text_is_what_is_classified_and_written(tmp_path, classifier):
    table = pa.table({"mail": ["x@y.com"], "text": pa.array(["Ask jo@mail.com why it was late"], pa.large_string())})
    pq.write_table(table, tmp_path / "in.parquet")
    for name in ("out.csv", "out.parquet", "out.jsonl"):
        run(classifier, str(tmp_path / "in.parquet"), output=tmp_path / name, mask=True)
        (row,) = read_rows(tmp_path / name)
        assert row["text"] == "Ask [email] why it was late"
        evidence = row["gap_evidence"]
        start, end = (json.loads(evidence) if isinstance(evidence, str) else evidence)["delivery"]
        assert row["text"][start:end] == "late"
        assert row["mail"] == "x@y.com"  # masking is about the text
    assert pq.read_schema(tmp_path / "out.parquet").field("text").type == pa.large_string()
    assert {text for batch in classifier.batches for text in batch} == {"Ask [email] why it was late"}


def test_masking_reaches_the_cells_of_rows_that_could_not_be_read(tmp_path, classifier):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "late"}\n{"text": "mail jo@mail.com\n')
    run(classifier, str(source), output=tmp_path / "out.jsonl", mask=True)
    assert "jo@mail.com" not in (tmp_path / "out.jsonl").read_text()
    assert "[email]" in (tmp_path / "out.jsonl").read_text()


def test_inputs_of_different_shape_follow_each_other(tmp_path, classifier):
    (tmp_path / "a.csv").write_text("id,text\n1,late\n")
    (tmp_path / "b.jsonl").write_text('{"comment": "a rule", "stars": 2}\n{oops\n')
    summary = run(classifier, str(tmp_path / "a.csv"), str(tmp_path / "b.jsonl"), output=tmp_path / "out.csv")
    rows = read_csv(tmp_path / "out.csv")
    assert list(rows[0])[:5] == ["id", "text", "comment", "stars", "raw_line"]
    assert [list(row.values())[:6] for row in rows] == [
        ["1", "late", "", "", "", "delivery"],
        ["", "", "a rule", "2", "", "policy"],
        ["", "", "", "", "{oops", ""],
    ]
    assert summary.n_failed == 1


def test_parquet_of_inputs_whose_types_differ(tmp_path, classifier):
    pq.write_table(pa.table({"n": pa.array([1], pa.int8()), "text": ["late"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": pa.array([300], pa.int32()), "text": ["rule"]}), tmp_path / "b.parquet")
    (tmp_path / "c.csv").write_text("n,text\n007,fine\n")
    inputs = [str(tmp_path / name) for name in ("a.parquet", "b.parquet", "c.csv")]
    run(classifier, *inputs[:2], output=tmp_path / "numbers.parquet")
    assert (
        pq.read_table(tmp_path / "numbers.parquet")
        .column("n")
        .equals(pa.chunked_array([pa.array([1, 300], pa.int32())]))
    )
    run(classifier, *inputs, output=tmp_path / "texts.parquet")
    assert pq.read_table(tmp_path / "texts.parquet").column("n").to_pylist() == ["1", "300", "007"]


def column_of(folder, array):
    """Write a file whose column `n` is this."""
    path = folder / f"{len(list(folder.iterdir()))}.parquet"
    pq.write_table(pa.table({"n": array, "text": ["late"] * len(array)}), path)
    return str(path)


def lines_of(folder, *numbers):
    path = folder / f"{len(list(folder.iterdir()))}.jsonl"
    path.write_text("".join(json.dumps({"n": number, "text": "late"}) + "\n" for number in numbers))
    return str(path)


def joined_column(folder, classifier, *inputs):
    for name, order in (("ab.parquet", inputs), ("ba.parquet", inputs[::-1])):
        run(classifier, *order, output=folder / name)
    one, other = (pq.read_table(folder / name).column("n") for name in ("ab.parquet", "ba.parquet"))
    assert one.type == other.type
    assert sorted(map(str, one.to_pylist())) == sorted(map(str, other.to_pylist()))
    return str(one.type), one.to_pylist()


def test_a_large_integer_beside_a_float_is_kept_as_text(tmp_path, classifier):
    large = column_of(tmp_path, pa.array([1234567890123456789]))
    found = joined_column(tmp_path, classifier, large, column_of(tmp_path, pa.array([1.5])))
    assert found == ("string", ["1234567890123456789", "1.5"])


@pytest.mark.parametrize("whole", [[5, None], [None]])
def test_small_integers_beside_a_float_are_numbers(tmp_path, classifier, whole):
    """As `pandas` writes a column in a month without gaps and in one with them."""
    integers = column_of(tmp_path, pa.array(whole, pa.int64()))
    found = joined_column(tmp_path, classifier, integers, column_of(tmp_path, pa.array([1.5])))
    assert found == ("double", [*whole, 1.5])


def test_an_integer_beside_a_decimal_is_kept_as_text(tmp_path, classifier):
    price = column_of(tmp_path, pa.array([Decimal("1.50")], pa.decimal128(10, 2)))
    found = joined_column(tmp_path, classifier, column_of(tmp_path, pa.array([2**62])), price)
    assert found == ("string", [str(2**62), "1.50"])


def test_a_date_beyond_what_nanoseconds_reach_is_kept_as_text(tmp_path, classifier):
    never = column_of(tmp_path, pa.array([datetime.datetime.fromisoformat("9999-12-31")], pa.timestamp("us")))
    fine = column_of(tmp_path, pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")))
    found = joined_column(tmp_path, classifier, never, fine)
    assert found == ("string", ["9999-12-31T00:00:00", "2023-11-14 22:13:20.123456789"])


def test_mixed_json_values_beside_a_large_string_are_text(tmp_path, classifier):
    texts = column_of(tmp_path, pa.array(["late", None], pa.large_string()))
    found = joined_column(tmp_path, classifier, lines_of(tmp_path, 1, "x", "\ud800"), texts)
    assert found == ("large_string", ["1", "x", "\\ud800", "late", None])


def test_large_json_integers_beside_floats_are_kept_as_text_and_small_ones_as_numbers(tmp_path, classifier):
    fraction = lines_of(tmp_path, 1.5)
    assert joined_column(tmp_path, classifier, lines_of(tmp_path, 2**60), fraction) == ("string", [str(2**60), "1.5"])
    small = lines_of(tmp_path, 4, None)
    for name in ("ab.parquet", "ba.parquet"):
        (tmp_path / name).unlink()
    assert joined_column(tmp_path, classifier, small, fraction) == ("double", [4.0, None, 1.5])


def test_types_one_of_which_holds_the_other_are_joined(tmp_path, classifier):
    short, long = pa.array(["a"]), pa.array(["b"], pa.large_string())
    found = joined_column(tmp_path, classifier, column_of(tmp_path, short), column_of(tmp_path, long))
    assert found == ("large_string", ["a", "b"])


def test_a_time_that_the_common_type_cannot_hold_is_refused_in_words(tmp_path, classifier):
    far = column_of(tmp_path, pa.array([2**60]).view(pa.timestamp("ms")))
    near = column_of(tmp_path, pa.array([0], pa.timestamp("us")))
    with pytest.raises(InputError, match=r"'n' has the type timestamp\[us\] in one input and timestamp\[ms\] in anoth"):
        run(classifier, far, near, output=tmp_path / "out.parquet")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "xlsx", "parquet"])
def test_a_date_beyond_pythons_years_costs_no_row(tmp_path, classifier, suffix):
    when = pa.array([2**60, 0, None]).view(pa.timestamp("us"))
    summary = run(classifier, column_of(tmp_path, when), output=tmp_path / f"out.{suffix}")
    assert (summary.n_rows, summary.n_failed, summary.counted["delivery"]) == (3, 0, 3)
    if suffix == "parquet":
        assert pq.read_table(tmp_path / "out.parquet").column("n").combine_chunks().equals(when)
    else:
        first, second, third = (row["n"] for row in read_rows(tmp_path / f"out.{suffix}"))
        assert first == f"<value out of range: {2**60}>"
        assert str(second).replace("T", " ") == "1970-01-01 00:00:00"
        assert third in ("", None)


def test_an_empty_row_of_a_tsv_is_an_error_that_stays_in_its_place(tmp_path, classifier):
    (tmp_path / "in.tsv").write_text("id\ttext\n1\tlate\n\t\n3\ta rule\n")
    run(classifier, str(tmp_path / "in.tsv"), output=tmp_path / "out.csv")
    rows = read_csv(tmp_path / "out.csv")
    assert [(row["id"], row["gap_labels"]) for row in rows] == [("1", "delivery"), ("", ""), ("3", "policy")]
    assert "empty text" in rows[1]["gap_error"]


def test_failures_are_named_by_their_place_and_id(tmp_path, classifier):
    (tmp_path / "in.csv").write_text("ticket,text\n" + "".join(f"T{i},\n" for i in range(9)))
    summary = run(classifier, str(tmp_path / "in.csv"), output=tmp_path / "out.csv", id_column="ticket")
    assert summary.failures[0].startswith("line 2 (ticket T0): got an empty text")
    assert (len(summary.failures), summary.n_failed) == (5, 9)


def test_a_header_alone_gives_a_header_alone(tmp_path, classifier):
    (tmp_path / "in.csv").write_text("text\n")
    for suffix in ("csv", "parquet", "xlsx"):
        summary = run(classifier, str(tmp_path / "in.csv"), output=tmp_path / f"out.{suffix}")
        assert (summary.n_rows, summary.rows_per_second) == (0, 0.0)
    assert (tmp_path / "out.csv").read_text() == ",".join(["text", *GAP_COLUMNS]) + "\n"
    assert pq.read_table(tmp_path / "out.parquet").column_names == ["text", *GAP_COLUMNS]


def test_everything_that_can_be_refused_is_refused_before_the_model_is_needed(tmp_path, csv_file):
    (tmp_path / "there.csv").write_text("")
    (tmp_path / "labelled.csv").write_text("text,gap_primary\nx,none\n")
    (tmp_path / "two.csv").write_text("id,notes\n1,late\n")
    out = str(tmp_path / "out.csv")
    refused = [
        (
            JobOptions(inputs=(csv_file,), output=csv_file, force=True),
            InputError,
            "input as well as the output",
        ),
        (JobOptions(inputs=(csv_file,), output=str(tmp_path / "there.csv")), InputError, "--force"),
        (JobOptions(inputs=(str(tmp_path / "labelled.csv"),), output=out), InputError, "gap_primary"),
        (JobOptions(inputs=(str(tmp_path / "two.csv"),), output=out), ColumnError, "--text-column"),
        (JobOptions(inputs=(csv_file,), output=out, text_column="txt"), ColumnError, "did you mean 'text'"),
        (JobOptions(inputs=(csv_file,), output=out, id_column="di"), ColumnError, "--id-column 'di'"),
        (JobOptions(inputs=("-", "-"), output=out), InputError, "twice"),
    ]
    for options, error, message in refused:
        with pytest.raises(error, match=message), open_job(options):
            pass
    assert not (tmp_path / "out.csv").exists()


def test_too_many_rows_for_a_sheet_are_refused_before_any_is_read(tmp_path):
    pq.write_table(pa.table({"text": pa.array(["x"] * 1_048_576).dictionary_encode()}), tmp_path / "in.parquet")
    options = JobOptions(inputs=(str(tmp_path / "in.parquet"),), output=str(tmp_path / "out.xlsx"))
    with pytest.raises(InputError, match="1,048,576 rows do not fit"), open_job(options):
        pass


def test_a_job_interrupted_before_its_first_chunk_is_done_leaves_nothing(tmp_path, csv_file):
    class Interrupted(WordClassifier):
        def predict(self, texts, *, evidence=True, on_texts=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(), csv_file, output=tmp_path / "out.csv", chunk_rows=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]
