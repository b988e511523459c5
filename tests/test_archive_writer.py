"""Writing labelled rows: formats, cells safe for spreadsheets, whole files or none."""

import csv
import datetime
import gzip
import json
import math
import subprocess
import sys
import textwrap

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapnlp.archive.cells import make_safe, to_json, to_text
from gapnlp.archive.chunk import Chunk, Layout, Row
from gapnlp.archive.columns import GAP_COLUMNS, gap_values
from gapnlp.archive.kinds import KindScan
from gapnlp.archive.reader import open_source
from gapnlp.archive.workbook import MAX_CELL, check_sheet_rows
from gapnlp.archive.writer import Output, check_replaceable, choose_target
from gapnlp.errors import InputError
from gapnlp.records import Evidence, Prediction

PROBA = (0.1234567891, 0.25, 0.9, 0.5, 0.0)
FOUND = Prediction(
    ("delivery", "communication"),
    PROBA,
    (Evidence("delivery", 2, 9),),
    review=True,
    truncated=False,
    model="m@1",
)
FAILED = Prediction((), (0.0,) * 5, (), review=True, truncated=False, model="m@1", error="got an empty text")


def layout_of(rows, *, raw=False):
    scan = KindScan()
    for row in rows:
        scan.see(row)
    return Layout(tuple(scan.kinds), scan.schema, raw)


def open_output(path, layout):
    return Output(choose_target(str(path), []), layout, part=path.with_name("part"))


def write(path, rows, predictions, *, raw=False, chunk_rows=1):
    with open_output(path, layout_of(rows, raw=raw)) as output:
        for at in range(0, len(rows), chunk_rows):
            chunk = Chunk([Row(f"row {at}", row) for row in rows[at : at + chunk_rows]])
            output.write(chunk, [gap_values(prediction) for prediction in predictions[at : at + chunk_rows]])
        notes = output.finish()
        output.place()
        return notes


def read_csv(path, **options):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, **options))


def read_xlsx(path):
    header, *rows = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


ROWS = [{"id": "1", "text": "we waited"}, {"id": "2", "text": ""}]


def test_the_added_columns_are_those_of_the_contract():
    assert ";".join(GAP_COLUMNS) == (
        "gap_primary;gap_labels;gap_knowledge;gap_policy;gap_delivery;gap_communication;gap_customer;"
        "gap_evidence;gap_review;gap_truncated;gap_error;gap_model"
    )
    assert tuple(gap_values(FOUND)) == GAP_COLUMNS


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_flat_formats(tmp_path, suffix, delimiter):
    write(tmp_path / f"a.{suffix}", ROWS, [FOUND, FAILED])
    found, failed = read_csv(tmp_path / f"a.{suffix}", delimiter=delimiter)
    assert list(found) == ["id", "text", *GAP_COLUMNS]
    assert list(found.values()) == [
        *("1", "we waited", "delivery", "delivery;communication", "0.123457", "0.25", "0.9", "0.5", "0.0"),
        *('{"delivery": [2, 9]}', "true", "false", "", "m@1"),
    ]
    assert list(failed.values()) == [
        *("2", "", "", "", "", "", "", "", "", "{}", "true", "false", "got an empty text", "m@1")
    ]


def test_jsonl_is_nested_exact_and_adds_no_key_to_the_input(tmp_path):
    write(tmp_path / "a.jsonl", [{"n": {"a": [1, "ü"]}}, {"text": "x\ud800", "odd": math.nan}], [FOUND, FAILED])
    found, failed = (json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines())
    assert list(found) == ["n", *GAP_COLUMNS]
    assert found["n"] == {"a": [1, "ü"]}
    assert found["gap_labels"] == ["delivery", "communication"]
    assert found["gap_knowledge"] == PROBA[0]
    assert found["gap_evidence"] == {"delivery": [2, 9]}
    assert failed["text"] == "x\ud800"
    assert failed["odd"] is None
    assert (failed["gap_primary"], failed["gap_labels"], failed["gap_policy"]) == (None, [], None)


def test_parquet_types(tmp_path):
    rows = [{"id": 1, "text": "x\ud800", "n": [1]}, {"id": None, "text": None}]
    write(tmp_path / "a.parquet", rows, [FOUND, FAILED])
    table = pq.read_table(tmp_path / "a.parquet")
    assert {field.name: str(field.type) for field in table.schema if not field.name.startswith("gap_")} == {
        "id": "int64",
        "text": "string",
        "n": "string",
    }
    types = {str(table.schema.field(name).type) for name in GAP_COLUMNS[2:7]}
    assert types == {"double"}
    assert str(table.schema.field("gap_labels").type).startswith("list<")
    found, failed = table.to_pylist()
    assert (found["id"], found["n"], found["text"]) == (1, "[1]", "x\\ud800")
    assert found["gap_labels"] == ["delivery", "communication"]
    assert found["gap_evidence"] == '{"delivery": [2, 9]}'
    assert (failed["text"], failed["gap_primary"], failed["gap_policy"]) == (None, None, None)
    assert failed["gap_error"] == "got an empty text"


def test_parquet_gathers_chunks_into_one_row_group(tmp_path):
    write(tmp_path / "a.parquet", ROWS * 10, [FOUND, FAILED] * 10)
    assert pq.ParquetFile(tmp_path / "a.parquet").metadata.num_row_groups == 1


def test_parquet_columns_keep_the_types_they_came_with(tmp_path):
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.uint8()),
            "when": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns", "UTC")),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            "parts": pa.array([[{"x": 1}], []], pa.list_(pa.struct([("x", pa.int8())]))),
        },
        metadata={"origin": "here"},
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with (
        open_source(str(tmp_path / "a.parquet")) as source,
        open_output(tmp_path / "b.parquet", Layout(source.columns, source.schema)) as output,
    ):
        for chunk in source.chunks(1):
            output.write(chunk, [gap_values(FOUND)])
        output.finish()
        output.place()
    back = pq.read_table(tmp_path / "b.parquet").select(table.column_names)
    assert back.equals(pq.read_table(tmp_path / "a.parquet"))
    assert back.schema.equals(pq.read_schema(tmp_path / "a.parquet"))
    assert back.schema.metadata[b"origin"] == b"here"


def test_xlsx_keeps_numbers_dates_and_odd_characters(tmp_path):
    day = datetime.datetime.fromisoformat("2026-03-01T12:30")
    rows = [{"n": 7, "when": day, "text": "a\0b _x0041_ \r\n c", "long": 2**60, "nan": math.nan, "l": [1]}]
    assert write(tmp_path / "a.xlsx", rows, [FOUND]) == []
    row = read_xlsx(tmp_path / "a.xlsx")[0]
    assert (row["n"], row["when"], row["long"], row["l"]) == (7, day, str(2**60), "[1]")
    assert (row["gap_delivery"], row["gap_review"], row["gap_labels"]) == (
        0.9,
        True,
        "delivery;communication",
    )
    with open_source(str(tmp_path / "a.xlsx")) as source:
        again = next(source.chunks(1)).rows[0]
    assert again.values["text"] == rows[0]["text"]


def test_xlsx_cell_that_is_too_long_is_cut_and_said(tmp_path):
    notes = write(tmp_path / "a.xlsx", [{"text": "x" * 40_000}], [FOUND])
    assert read_xlsx(tmp_path / "a.xlsx")[0]["text"] == "x" * MAX_CELL
    assert notes == ["1 cells were cut to the 32,767 characters that an XLSX cell can hold; CSV holds them all"]


def test_a_sheet_has_an_end():
    check_sheet_rows(1_048_575)
    with pytest.raises(InputError, match=r"1,048,576 rows do not fit.*\.csv or \.parquet"):
        check_sheet_rows(1_048_576)


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\rx", "  =1+1", "\n=1", "-1+2", "- bad", "+"]
)
def test_a_text_that_a_spreadsheet_would_run_is_prefixed(text):
    assert make_safe(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "late", "-5", "+3.2", "-1,234.50", "-.5", "-1e9", "+4%", " -5 ", "a=b", "' =1"])
def test_a_harmless_text_stays(text):
    assert make_safe(text) == text


def test_safe_cells_take_time_linear_in_the_text():
    assert make_safe("-" + "1" * 200_000 + "x").startswith("'-1")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "xlsx"])
@pytest.mark.parametrize("raw", [False, True])
def test_safe_cells_are_the_default_of_flat_formats(tmp_path, suffix, raw):
    rows = [{"=id": "-5", "text": "=1+1"}]
    path = tmp_path / f"a.{suffix}"
    write(path, rows, [FOUND], raw=raw)
    row = read_xlsx(path)[0] if suffix == "xlsx" else read_csv(path, delimiter="\t" if suffix == "tsv" else ",")[0]
    assert list(row.values())[:2] == ["-5", "=1+1" if raw else "'=1+1"]
    assert next(iter(row)) == ("=id" if raw else "'=id")
    if suffix == "xlsx":
        assert openpyxl.load_workbook(path).active["B2"].data_type != "f" or raw


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_nested_formats_write_exactly(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write(path, [{"text": "=1+1"}], [FOUND])
    text = pq.read_table(path).to_pylist()[0] if suffix == "parquet" else json.loads(path.read_text())
    assert text["text"] == "=1+1"


def test_a_bare_carriage_return_does_not_end_a_row(tmp_path):
    write(tmp_path / "a.csv", [{"text": "one\rtwo\nthree"}], [FOUND])
    assert [row["text"] for row in read_csv(tmp_path / "a.csv")] == ["one\rtwo\nthree"]


def test_values_as_text():
    moment = datetime.datetime.fromisoformat("2026-03-01T12:30")
    given = [None, True, 3, 0.1, moment, moment.date(), b"\xff", [1, None], {"a": moment}, math.inf]
    assert [to_text(value) for value in given] == [
        *("", "true", "3", "0.1", "2026-03-01T12:30:00", "2026-03-01", "/w==", "[1, null]"),
        *('{"a": "2026-03-01T12:30:00"}', "inf"),
    ]
    assert to_json({"a": [math.inf, 1.5]}) == '{"a": [null, 1.5]}'


def test_gzip_output_is_the_same_every_time(tmp_path):
    for name in ("a.csv.gz", "b.csv.gz"):
        write(tmp_path / name, ROWS, [FOUND, FAILED])
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).startswith(b"id,text,gap_primary")


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl.zst", "xlsx", "parquet", "jsonl"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_a_job_that_stops_leaves_no_file(tmp_path, suffix, error):
    def stop_after_one_row():
        with open_output(tmp_path / f"a.{suffix}", layout_of(ROWS)) as output:
            output.write(Chunk([Row("row 1", ROWS[0])]), [gap_values(FOUND)])
            assert len(list(tmp_path.iterdir())) == 1
            raise error

    with pytest.raises(error):
        stop_after_one_row()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl.zst", "xlsx", "parquet", "jsonl"])
def test_a_full_disk_says_so_and_leaves_no_file(tmp_path, suffix):
    """A limit on the size of files makes the operating system refuse to write, as a full disk does."""
    script = f"""
        import resource, sys, tempfile
        sys.path.insert(0, {str(__file__).rsplit("/", 1)[0]!r})
        from test_archive_writer import FOUND, write
        import random, pathlib
        path = pathlib.Path({str(tmp_path)!r}, "a.{suffix}")
        rows = [{{"text": "".join(random.choices("abcdefghijklmnop", k=5000))}} for _ in range(100)]
        import pyarrow.parquet, openpyxl, numpy
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write(path, rows, [FOUND] * len(rows), chunk_rows=50)
        except Exception as exc:
            print(type(exc).__name__, exc)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert "InputError" in done.stdout, done.stderr
    assert f"a.{suffix}: cannot be written (File too large); make room or check the permissions" in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_an_output_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    with open_output(path, layout_of(ROWS)) as output:
        output.write(Chunk([Row("row 1", ROWS[0])]), [gap_values(FOUND)])
        output.finish()
        assert path.read_text() == "old"
        output.place()
    assert "we waited" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_outputs_that_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text\n")
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    with pytest.raises(InputError, match=r"is there already.*--force"):
        check_replaceable(choose_target(str(path), []), force=False, restart=False)
    check_replaceable(choose_target(str(path), []), force=True, restart=False)
    for output, source in ((path, path), (link, path), (path, link)):
        with pytest.raises(InputError, match="the input as well as the output"):
            choose_target(str(output), [str(source)])
    with pytest.raises(InputError, match="mkdir -p"):
        choose_target(str(tmp_path / "none" / "a.csv"), [])
    with pytest.raises(InputError, match="expected one of"):
        choose_target(str(tmp_path / "a.txt"), [])
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        choose_target(str(tmp_path / "b.csv"), [])
    with pytest.raises(InputError, match="--format xlsx"):
        choose_target("-", [], stream_kind="xlsx")
