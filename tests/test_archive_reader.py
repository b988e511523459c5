"""Reading archives: formats, encodings, separators, bad rows, bad files."""

import datetime
import gzip
import io
import json
import time
import zipfile
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapnlp.archive import open_source
from gapnlp.archive.columns import check_column, guess_text_column
from gapnlp.archive.kinds import merge_schemas
from gapnlp.archive.tabular import _find_separator
from gapnlp.archive.textfile import TextFile
from gapnlp.errors import ColumnError, InputError


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read(name, n_rows=100, **options):
    with open_source(name, **options) as source:
        rows = [row for chunk in source.chunks(n_rows) for row in chunk.rows]
        assert len(rows) == source.n_rows
        return source, rows


def values(name, **options):
    return [row.values for row in read(name, **options)[1]]


def workbook(path, rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return str(path)


def test_csv_cells_stay_text_and_quoted_line_breaks_stay_in_their_cell(tmp_path):
    name = write(tmp_path, "a.csv", 'id,text\n007,"cold, and\nlate"\n\n008,"she said ""no"""\n')
    source, rows = read(name)
    assert source.columns == ("id", "text")
    assert [row.values for row in rows] == [
        {"id": "007", "text": "cold, and\nlate"},
        {"id": "008", "text": 'she said "no"'},
    ]
    assert [row.place for row in rows] == ["line 2", "line 5"]


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("cp1252", "cp1252"),
    ],
)
def test_encoding_is_found(tmp_path, encoding, expected):
    text = "The café\u2019s “service” was poor, £20 for naïve answers"
    name = write(tmp_path, "a.csv", f'id,text\n1,"{text}"\n'.encode(encoding))
    source, rows = read(name)
    assert rows[0].values == {"id": "1", "text": text}
    assert expected in source.how


def test_cyrillic_in_an_old_encoding_is_not_taken_for_latin(tmp_path):
    text = "Номер плохой, очень дорого и грязно"
    assert values(write(tmp_path, "a.tsv", f"text\tn\n{text}\t1\n".encode("cp1251")))[0]["text"] == text


def test_an_old_encoding_is_found_even_where_it_shows_late(tmp_path):
    body = "text\n" + "plain words\n" * 20_000 + "café\n"
    assert values(write(tmp_path, "a.csv", body.encode("cp1252")))[-1] == {"text": "café"}


def test_one_damaged_byte_does_not_turn_a_utf8_file_into_another_encoding(tmp_path):
    body = ("text\n" + "café\n" * 30).encode() + b"bad \xff byte\n"
    rows = values(write(tmp_path, "a.csv", body))
    assert rows[0] == {"text": "café"}
    assert rows[-1] == {"text": "bad \\xff byte"}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separator_is_found(tmp_path, separator):
    body = f'id{separator}text\n1{separator}"a, b; c"\n2{separator}d\n'
    assert values(write(tmp_path, "a.csv", body)) == [
        {"id": "1", "text": "a, b; c"},
        {"id": "2", "text": "d"},
    ]


def test_a_column_of_bare_sentences_is_not_cut_at_its_commas(tmp_path):
    name = write(tmp_path, "a.csv", "text\nHello, I waited\nCold, late, rude\nfine\n")
    assert values(name) == [{"text": "Hello, I waited"}, {"text": "Cold, late, rude"}, {"text": "fine"}]


def test_a_quoted_text_of_many_lines_does_not_hide_the_separator(tmp_path):
    mail = "Dear all,\n" + "we waited; nobody came\n" * 250
    lines = [f'{i},2026-03-14,mail,North,Again,"{mail if i == 1 else "short"}"' for i in range(1, 6)]
    source, rows = read(write(tmp_path, "a.csv", "\n".join(["id,date,channel,branch,subject,body", *lines])))
    assert source.how == "CSV, utf-8, separated by comma"
    assert [row.values["id"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[0].values["body"] == mail


@pytest.mark.parametrize("line", ['a 5" screen,late', '"open,late', 'a",b,"c', 'a",b,"c' + "x" * 2000])
def test_stray_quotes_do_not_slow_the_search_for_the_separator(tmp_path, line):
    path = write(tmp_path, "a.csv", 'id",text\n' + f"{line}\n" * 2000)
    text = TextFile(Path(path), packing="", name=path)
    began = time.process_time()
    _find_separator(text, tab_first=False)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_a_row_of_empty_cells_is_a_row_and_a_line_of_blanks_is_none(tmp_path, suffix, separator):
    body = f"id{separator}text\n1{separator}late\n{separator}\n \n2{separator}fine\n"
    rows = read(write(tmp_path, f"a.{suffix}", body))[1]
    assert [(row.place, row.values) for row in rows] == [
        ("line 2", {"id": "1", "text": "late"}),
        ("line 3", {"id": "", "text": ""}),
        ("line 5", {"id": "2", "text": "fine"}),
    ]


def test_a_line_of_tabs_in_a_csv_is_blank(tmp_path):
    assert values(write(tmp_path, "a.csv", "id,text\n1,late\n\t\n")) == [{"id": "1", "text": "late"}]


def test_ragged_rows_carry_an_error_keep_their_cells_and_stop_nothing(tmp_path):
    rows = read(write(tmp_path, "a.csv", "id,text\n1,fine\n2,a,b,c\n3\n4,good\n5,nice,,\n"))[1]
    assert [row.values for row in rows] == [
        {"id": "1", "text": "fine"},
        {"id": "2", "text": "a,b,c"},
        {"id": "3"},
        {"id": "4", "text": "good"},
        {"id": "5", "text": "nice"},
    ]
    assert [bool(row.error) for row in rows] == [False, True, True, False, False]
    assert "line 3 has 4 cells, the header has 2" in rows[1].error
    assert "kept in the column 'text'" in rows[1].error


@pytest.mark.parametrize(
    "lines",
    [
        ['1,"never closed', "2,fine", "3,good"],
        ['1,"never closed', '2,"fine"', "3,good"],
        ["1,fine", "2,good", '3,"never closed'],
    ],
)
def test_a_quote_never_closed_costs_its_own_row_only(tmp_path, lines):
    rows = read(write(tmp_path, "a.csv", "\n".join(["id,text", *lines]) + "\n"))[1]
    assert [row.values["id"] for row in rows] == ["1", "2", "3"]
    assert [row.values["text"].strip('"') for row in rows] == [line[2:].strip('"') for line in lines]
    assert [bool(row.error) for row in rows] == ["never" in line for line in lines]
    assert "opens a quote" in next(row.error for row in rows if row.error)


def test_a_quote_inside_a_cell_is_read_forgivingly(tmp_path):
    rows = read(write(tmp_path, "a.csv", 'id,text\n1,"a 5" screen"\n2,fine\n'))[1]
    assert rows[0].values["id"] == "1"
    assert rows[0].values["text"] == '"a 5" screen"'
    assert not rows[0].error
    assert rows[1].values == {"id": "2", "text": "fine"}


def test_nul_bytes_stay_in_their_row(tmp_path):
    assert values(write(tmp_path, "a.csv", "id,text\n1,a\0b\n2,c\n"))[0] == {"id": "1", "text": "a\0b"}


def test_a_cell_longer_than_the_csv_module_likes(tmp_path):
    assert values(write(tmp_path, "a.csv", "id,text\n1," + "x" * 500_000 + "\n"))[0]["text"] == "x" * 500_000


def test_a_header_alone_is_an_archive_without_rows(tmp_path):
    source, rows = read(write(tmp_path, "a.csv", "id,text\n"))
    assert (source.columns, rows) == (("id", "text"), [])


def test_chunks_are_full_but_for_the_last(tmp_path):
    name = write(tmp_path, "a.csv", "text\n" + "fine\n" * 5)
    with open_source(name) as source:
        assert [len(chunk.rows) for chunk in source.chunks(2)] == [2, 2, 1]
        assert [len(chunk.rows) for chunk in source.chunks(3)] == [3, 2]


@pytest.mark.parametrize("suffix", ["csv.gz", "tsv.gz", "jsonl.gz", "ndjson.gz"])
def test_gzip(tmp_path, suffix):
    body = '{"text": "late"}\n' if "json" in suffix else "text\nlate\n"
    assert values(write(tmp_path, f"a.{suffix}", gzip.compress(body.encode()))) == [{"text": "late"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", b" \n\n", "empty"),
        ("a.csv", b"\xff\xfe", "empty"),
        ("a.jsonl", b"\xef\xbb\xbf\n", "empty"),
        ("a.csv", b"PK\x03\x04rest", "zip file"),
        ("a.csv", b"PAR1rest", "Parquet"),
        ("a.csv", gzip.compress(b"text\nx\n"), "gzip"),
        ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old .xls"),
        ("a.csv", b'{"text": "x"}\n', "name it .jsonl"),
        ("a.csv", bytes(range(32)) * 10, "no text"),
        ("a.csv.gz", b"text\nx\n", "its content is not gzip; give"),
        ("a.csv.gz", gzip.compress(b"text\n" + bytes(range(256)) * 99)[:-20], "damaged"),
        ("a.xlsx", b"text\nx\n", "its content is not XLSX; give"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "password"),
        ("a.xlsx", b"PK\x03\x04 cut short", "damaged"),
        ("a.parquet", b"PAR1 no Parquet", "Parquet"),
        ("a.parquet", b"text\nx\n", "not PARQUET"),
        ("a.jsonl", b'[{"text": "x"}]\n', "one object a line"),
        ("a.jsonl", b"no json\nnone\n", "no line is a JSON object"),
        ("a.doc", b"text", "expected one of .csv"),
        ("a.xlsx.gz", b"text", "expected one of .csv"),
        ("a.csv", b"id,id\n1,2\n", "'id' is there twice"),
        ("a.csv", b"id,,text\n1,2,3\n", "column 2 has no name"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read(write(tmp_path, name, content))
    assert name in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read(str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match="is a folder"):
        read(str(tmp_path))


def test_an_endless_line_is_refused_before_it_fills_the_memory(tmp_path):
    body = gzip.compress(b"text\n" + b"x" * (17 * 2**20))
    with pytest.raises(InputError, match="line 2 is longer"):
        read(write(tmp_path, "a.csv.gz", body))


def test_stdin_is_csv_unless_said_otherwise(monkeypatch):
    class Stdin:
        buffer = io.BytesIO(b"id;text\n1;late\n")

    monkeypatch.setattr("sys.stdin", Stdin)
    assert values("-") == [{"id": "1", "text": "late"}]
    Stdin.buffer = io.BytesIO(b'{"text": "late"}\n')
    assert values("-", stream_kind="jsonl") == [{"text": "late"}]
    with pytest.raises(InputError, match="--format parquet"):
        read("-", stream_kind="parquet")


def test_jsonl_keeps_a_bad_line_and_names_it(tmp_path):
    lines = ['{"id": 1, "text": "late"}', "{broken", "[1]", '{"id": 2, "id": 3}', '{"n": {"a": [1]}}']
    source, rows = read(write(tmp_path, "a.jsonl", "\n".join(lines)))
    assert source.columns == ("id", "text", "n", "raw_line")
    assert [row.values for row in rows] == [
        {"id": 1, "text": "late"},
        {"raw_line": "{broken"},
        {"raw_line": "[1]"},
        {"raw_line": '{"id": 2, "id": 3}'},
        {"n": {"a": [1]}},
    ]
    assert [row.error.split(":")[0] for row in rows] == [
        "",
        "line 2 is no valid JSON",
        "line 3 holds list, expected an object",
        "line 4 is no valid JSON",
        "",
    ]


def test_jsonl_types_are_told_from_all_lines(tmp_path):
    lines = [
        {"i": 1, "f": 1, "b": True, "s": "x", "m": 1, "big": 2**60, "huge": 2**70, "void": None},
        {"i": None, "f": 0.5, "b": False, "s": "y", "m": "x", "n": [1], "big": 1, "huge": 1},
    ]
    source, _ = read(write(tmp_path, "a.jsonl", "\n".join(json.dumps(line) for line in lines)))
    types = {field.name: str(field.type) for field in source.schema()}
    assert types == {
        "i": "int64",
        "f": "double",
        "b": "bool",
        "s": "string",
        "m": "string",
        "big": "int64",
        "huge": "string",
        "void": "string",
        "n": "string",
    }


def test_jsonl_of_extreme_depth_is_a_bad_line(tmp_path):
    rows = read(write(tmp_path, "a.jsonl", '{"text": "x"}\n' + "[" * 100_000 + "\n"))[1]
    assert "line 2 is nested deeper than 100 levels" in rows[1].error
    assert len(rows[1].values["raw_line"]) == 100_000


def test_xlsx_cells_keep_their_types_and_rows_their_numbers(tmp_path):
    day = datetime.datetime.fromisoformat("2026-03-01T12:30")
    name = workbook(tmp_path / "a.xlsx", [["id", "text", "when"], [7, "late", day], [], [8, None, None]])
    source, rows = read(name)
    assert [row.values for row in rows] == [
        {"id": 7, "text": "late", "when": day},
        {"id": 8, "text": None, "when": None},
    ]
    assert [row.place for row in rows] == ["row 2", "row 4"]
    assert [str(field.type) for field in source.schema()] == ["int64", "string", "timestamp[us]"]


def test_xlsx_cell_beyond_the_header_is_an_error_that_keeps_the_cell(tmp_path):
    rows = read(workbook(tmp_path / "a.xlsx", [["id", "text"], [1, "late", "extra"], [2, "fine"]]))[1]
    assert rows[0].values == {"id": 1, "text": "late, extra"}
    assert "row 2 has cells beyond" in rows[0].error
    assert not rows[1].error


def test_xlsx_says_which_sheet_it_reads(tmp_path):
    book = openpyxl.Workbook()
    book.active.title = "Comments"
    book.active.append(["text"])
    book.create_sheet("More")
    book.save(tmp_path / "a.xlsx")
    assert read(str(tmp_path / "a.xlsx"))[0].how == "XLSX, sheet 'Comments', first of 2"


def test_xlsx_without_a_row_is_refused(tmp_path):
    with pytest.raises(InputError, match="first sheet is empty"):
        read(workbook(tmp_path / "a.xlsx", []))


def test_xlsx_bomb_is_refused_before_it_is_inflated(tmp_path):
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("[Content_Types].xml", "<Types/>")
        book.writestr("xl/worksheets/sheet1.xml", b"\0" * (100 * 2**20))
    with pytest.raises(InputError, match="would inflate"):
        read(str(path))


def test_workbook_whose_data_are_damaged_is_refused(tmp_path):
    path = workbook(tmp_path / "a.xlsx", [["text"], *([f"late {i * 7919}"] for i in range(500))])
    with zipfile.ZipFile(path) as book:
        at = book.getinfo("xl/worksheets/sheet1.xml").header_offset + 400
    content = bytearray((tmp_path / "a.xlsx").read_bytes())
    content[at : at + 50] = bytes(50)
    (tmp_path / "a.xlsx").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as an XLSX workbook"):
        read(path)


def test_zip_that_is_no_workbook_is_refused(tmp_path):
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("comments.csv", "text\nlate\n")
    with pytest.raises(InputError, match="no XLSX workbook"):
        read(str(path))


def test_workbook_with_broken_xml_is_refused(tmp_path):
    good = workbook(tmp_path / "good.xlsx", [["text"], ["late"]])
    path = tmp_path / "bad.xlsx"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.namelist():
            broken = entry.endswith("sheet1.xml")
            target.writestr(entry, "<worksheet><sheetData><row" if broken else source.read(entry))
    with pytest.raises(InputError, match="cannot be read as an XLSX workbook"):
        read(str(path))


def test_parquet_rows_in_chunks(tmp_path):
    table = pa.table(
        {
            "id": pa.array([1, 2, 3], pa.int16()),
            "text": ["late", None, "fine"],
            "when": pa.array([1_700_000_000_123_456_789] * 3, pa.timestamp("ns")),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with open_source(str(tmp_path / "a.parquet")) as source:
        chunks = list(source.chunks(2))
        assert source.n_rows == 3
        assert source.schema().equals(table.schema)
    assert [len(chunk.rows) for chunk in chunks] == [2, 1]
    assert chunks[0].rows[1].values["text"] is None
    assert chunks[1].rows[0].place == "row 3"
    assert str(chunks[1].rows[0].values["when"]).endswith(".123456789")


def far(kind, *counts):
    """A column of times by their counts of units, far from what Python holds."""
    return pa.array(counts, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)


@pytest.mark.parametrize(
    ("kind", "count", "expected"),
    [
        (pa.timestamp("us"), 2**60, "<value out of range: 1152921504606846976>"),
        (pa.timestamp("us", "UTC"), 2**60, "<value out of range: 1152921504606846976>"),
        (pa.timestamp("us", "Europe/Berlin"), 253402300799 * 10**6, "10000-01-01 00:59:59.000000+0100"),
        (pa.date32(), 2**30, "<value out of range: 1073741824>"),
    ],
)
def test_a_date_beyond_pythons_years_is_text_and_the_other_cells_are_not(tmp_path, kind, count, expected):
    times = far(kind, count, 0, None)
    nested = pa.ListArray.from_arrays([0, 1, 2, 3], times)
    parts = pa.StructArray.from_arrays([times], ["at"])
    pairs = pa.MapArray.from_arrays([0, 1, 2, 3], pa.array(["a", "b", "c"]), times)
    table = pa.table({"text": ["late"] * 3, "when": times, "all": nested, "part": parts, "pairs": pairs})
    pq.write_table(table, tmp_path / "a.parquet")
    first, second, third = values(str(tmp_path / "a.parquet"))
    assert (first["when"], first["all"]) == (expected, [expected])
    assert (first["part"], first["pairs"]) == ({"at": expected}, [("a", expected)])
    assert second["when"] == times[1].as_py()
    assert (second["all"], second["part"]) == ([times[1].as_py()], {"at": times[1].as_py()})
    assert third["when"] is None


def merged(*kinds):
    return merge_schemas([pa.schema([("n", kind)]) for kind in kinds]).field("n").type


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.int64(), pa.float64()),
        (pa.int64(), pa.uint64()),
        (pa.int64(), pa.decimal128(10, 2)),
        (pa.int32(), pa.decimal128(10, 2)),
        (pa.float64(), pa.decimal128(10, 2)),
        (pa.timestamp("us"), pa.timestamp("ns")),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (pa.string(), pa.binary()),
        (pa.list_(pa.int64()), pa.list_(pa.float64())),
        (pa.struct([("a", pa.int64())]), pa.struct([("a", pa.float64())])),
    ],
)
def test_types_that_cannot_hold_each_others_values_become_text(one, other):
    assert merged(one, other) == merged(other, one) == pa.string()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.null(), pa.timestamp("ns"), pa.timestamp("ns")),
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.uint32(), pa.int64(), pa.int64()),
        (pa.int32(), pa.float64(), pa.float64()),
        (pa.int32(), pa.float16(), pa.float64()),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.int8(), pa.decimal128(10, 2), pa.decimal128(10, 2)),
        (pa.decimal128(10, 2), pa.decimal128(12, 4), pa.decimal128(12, 4)),
        (pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("us")),
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.list_(pa.int32()), pa.list_(pa.int64()), pa.list_(pa.int64())),
        (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int8()), ("b", pa.int8())]),
         pa.struct([("a", pa.int8()), ("b", pa.int8())])),
        (pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.string()),
         pa.dictionary(pa.int32(), pa.string())),
    ],
)  # fmt: skip
def test_types_one_of_which_holds_the_other_keep_it(one, other, expected):
    assert merged(one, other) == merged(other, one) == expected


def test_whole_numbers_found_in_a_text_file_stay_numbers_beside_fractions(tmp_path):
    schemas = []
    for i, n in enumerate([4, 2.5, 2**60]):
        with open_source(write(tmp_path, f"{i}.jsonl", json.dumps({"n": n}))) as source:
            schemas.append(source.schema())
    whole, fraction, large = schemas
    assert str(merge_schemas([whole, whole]).field("n").type) == "int64"
    assert str(merge_schemas([whole, fraction, whole]).field("n").type) == "double"
    assert str(merge_schemas([whole, large]).field("n").type) == "int64"
    assert str(merge_schemas([large, fraction]).field("n").type) == "string"
    assert merge_schemas([whole]).equals(pa.schema([("n", pa.int64())]), check_metadata=True)


def test_schemas_merge_to_a_common_type_or_text():
    one = pa.schema([("a", pa.int32()), ("b", pa.int64()), ("c", pa.string())])
    other = pa.schema([("a", pa.int64()), ("b", pa.string()), ("d", pa.bool_())])
    assert {field.name: str(field.type) for field in merge_schemas([one, other])} == {
        "a": "int64",
        "b": "string",
        "c": "string",
        "d": "bool",
    }


def test_text_column_is_guessed_only_where_it_is_unmistakable():
    sample = [{"id": "1", "Customer Comment": "late", "review": "4"}]
    assert guess_text_column([], columns=["whatever"], source="a") == "whatever"
    assert guess_text_column(sample, columns=["id", "Customer Comment"], source="a") == "Customer Comment"
    # a column of numbers is no text, whatever its name
    assert guess_text_column(sample, columns=["Customer Comment", "review"], source="a") == "Customer Comment"
    with pytest.raises(ColumnError, match="none has a name that tells"):
        guess_text_column(sample, columns=["id", "notes"], source="a")


def test_a_doubtful_text_column_is_asked_for_with_samples():
    sample = [{"id": "", "text": "They were late " + "again " * 50, "review": "Good"}]
    with pytest.raises(ColumnError) as caught:
        guess_text_column(sample, columns=["id", "text", "review"], source="a.csv")
    message = str(caught.value)
    assert "2 could be it" in message
    assert "  id      (empty)\n  text    They were late again" in message
    assert "--text-column NAME" in message
    assert max(len(line) for line in message.splitlines()[1:]) < 80


def test_a_sample_cannot_steer_the_terminal():
    with pytest.raises(ColumnError) as caught:
        guess_text_column([{"a": "red \x1b[31m", "b": "x"}], columns=["a", "b"], source="a.csv")
    assert "  a  red ?[31m" in str(caught.value)


def test_a_column_that_is_not_there_gets_the_nearest_one_suggested():
    assert check_column("text", columns=["id", "text"], option="--text-column", source="a") == "text"
    with pytest.raises(ColumnError, match=r"'Coment' is no column of it \(did you mean 'comment'\?\).*'id', 'comment'"):
        check_column("Coment", columns=["id", "comment"], option="--text-column", source="a")
