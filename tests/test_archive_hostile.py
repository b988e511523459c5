"""Odd and hostile files: each is refused with a sentence, or read right; quickly, and in little memory.

Every file is read by a process of its own, which has imported all that is needed before it starts to measure.
"""

import gzip
import io
import json
import os
import random
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import dataclass
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

MAX_SECONDS = 1.0  # of computing, so that a busy machine fails nobody
MAX_MEGABYTES = 256  # above what the process had before


@dataclass(frozen=True)
class Refused:
    """The file is refused with a message that holds these words."""

    words: str


@dataclass(frozen=True)
class Read:
    """The file is read: so many rows, so many of them with an error, and the first texts."""

    n_rows: int
    n_failed: int = 0
    texts: tuple[str, ...] = ()


def zst(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        for start in range(0, len(content), 2**20):
            stream.write(content[start : start + 2**20])
    return sink.getvalue().to_pybytes()


def many(block, n_times, *, packing):
    """Pack a long content without holding it."""
    sink = io.BytesIO()
    if packing == "gz":
        with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1) as stream:
            for _ in range(n_times):
                stream.write(block)
    else:
        with pa.CompressedOutputStream(pa.PythonFile(sink, "w"), "zstd") as stream:
            for _ in range(n_times):
                stream.write(block)
            stream.flush()
            return sink.getvalue()
    return sink.getvalue()


def workbook(rows=(("id", "text"), (1, "late"))):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


def patched(name, content):
    """A sound workbook, one part of which is something else."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook())) as source, zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.namelist():
            if entry != name:
                target.writestr(entry, source.read(entry))
        target.writestr(name, content)
    return sink.getvalue()


SHEET = "xl/worksheets/sheet1.xml"
MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def sheet(rows, *, before=""):
    return patched(SHEET, f'<?xml version="1.0"?>{before}<worksheet {MAIN}><sheetData>{rows}</sheetData></worksheet>')


def cell(text, at="A1"):
    return f'<c r="{at}" t="inlineStr"><is><t>{text}</t></is></c>'


def parquet(table=None, **options):
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["late", None]}) if table is None else table, sink, **options)
    return sink.getvalue()


LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(12))
    + "]>"
)
FORMULAS = '=1+1,+1+cmd,-1+x,@SUM(A1),"\t=1","\r=1"\n'
MIB = 2**20
NOISE = random.Random(0).randbytes(3000)  # what cannot be packed

CASES = {
    # Nothing, or next to nothing, in them
    "nothing.csv": (b"", Refused("the file is empty")),
    "nothing.xlsx": (b"", Refused("the file is empty")),
    "nothing.parquet": (b"", Refused("the file is empty")),
    "nothing.csv.gz": (gzip.compress(b""), Refused("the file is empty")),
    "nothing.jsonl.zst": (zst(b""), Refused("the file is empty")),
    "blank.csv": (b" \n\n \r\n", Refused("the file is empty")),
    "mark.csv": (b"\xef\xbb\xbf", Refused("the file is empty")),
    "mark16.jsonl": (b"\xff\xfe", Refused("the file is empty")),
    "header.csv": (b"id,text\n", Read(0)),
    "no_sheet_rows.xlsx": (workbook(rows=()), Refused("first sheet is empty")),
    # Encodings
    "cp1252.csv": ("id,text\n1,the café “tea”\n".encode("cp1252"), Read(1, texts=("the café “tea”",))),
    "utf8_mark.csv": ("text,id\nlate é,1\n".encode("utf-8-sig"), Read(1, texts=("late é",))),
    "utf16.csv": ("text,id\nlate é,1\n".encode("utf-16"), Read(1, texts=("late é",))),
    "utf16_bare.csv": ("text,id\nlate again,1\n".encode("utf-16-be"), Read(1, texts=("late again",))),
    "utf32.csv": ("text,id\nlate é,1\n".encode("utf-32"), Read(1, texts=("late é",))),
    "half_character.csv": (b"text\ncaf\xc3\xa9\n" + b"caf\xc3\xa9\n" * 20 + b"\xf0\x9f\n", Read(22)),
    "right_to_left.jsonl": ('{"text": "\u202eetal \U0001f469\u200d\U0001f680"}\n'.encode(), Read(1)),
    # Tables that are none
    "ragged.csv": (b"id,text\n1,fine\n2\n3,a,b\n4,good\n", Read(4, 2)),
    "mixed_line_ends.csv": (b"id,text\r\n1,one\n2,two\r3,three\r\n", Read(3, texts=("one", "two", "three"))),
    "open_quote.csv": (b'id,text\n1,"open\n2,fine\n3,good\n', Read(3, 1)),
    "open_quote_long.csv": (b'id,text\n1,"open\n' + b"2,a\n" * 20_000, Read(20_001, 1)),
    "stray_quote.csv": (b'id,text\n1,"a 5" screen"\n2,fine\n', Read(2, texts=('"a 5" screen"', "fine"))),
    "nul.csv": (b"id,text\n1,a\0b\n", Read(1, texts=("a\0b",))),
    "control.csv": (bytes(range(32)) * 100, Refused("no text")),
    "noise.csv": (NOISE, Refused("no text")),
    "million_columns.csv": (",".join(f"c{i}" for i in range(1_000_000)).encode() + b"\n", Refused("1,000,000 columns")),
    "million_cells.csv": (b"id,text\n1," + b"a," * 1_000_000 + b"\n2,fine\n", Read(2, 1)),
    "long_line.csv": (b"id,text\n1," + b"a" * (50 * MIB) + b"\n", Refused("line 2 is longer")),
    "long_first_line.csv": (b"a" * (50 * MIB), Refused("longer than")),
    "long_line.jsonl": (b'{"text": "x"}\n{"text": "' + b"a" * (50 * MIB) + b'"}\n', Refused("longer than")),
    "long_cell.csv": (b"id,text\n1," + b"a" * MIB + b"\n", Read(1)),
    "twice.csv": (b"text,text\n1,2\n", Refused("'text' is there twice")),
    "nameless.csv": (b"id,,text\n1,2,3\n", Refused("column 2 has no name")),
    "labelled.csv": (b"text,gap_primary\nlate,none\n", Refused("columns that classifying adds")),
    "formulas.csv": (b"text,a,b,c,d,e\n" + FORMULAS.encode(), Read(1, texts=("=1+1",))),
    # JSON
    "numbers.jsonl": (b'{"text": "x", "n": NaN}\n{"text": "y", "n": 1e999}\n{"text": "z", "n": -Infinity}\n', Read(3)),
    "long_number.jsonl": (b'{"text": "x"}\n{"text": "y", "n": ' + b"7" * 5000 + b"}\n", Read(2, 1)),
    "double_keys.jsonl": (b'{"text": "x"}\n{"text": "y", "text": "z"}\n', Read(2, 1)),
    "deep.jsonl": (b'{"text": "x"}\n' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", Read(2, 1)),
    "less_deep.jsonl": (b'{"text": "x", "n": ' + b"[" * 900 + b"NaN" + b"]" * 900 + b'}\n{"text": "y"}\n', Read(2, 1)),
    "surrogate.jsonl": (b'{"text": "a \\ud800 b"}\n', Read(1, texts=("a \ud800 b",))),
    "nul.jsonl": (b'{"text": "a\\u0000b"}\n', Read(1, texts=("a\0b",))),
    "array.jsonl": (b'[{"text": "x"}]\n', Refused("one object a line")),
    "many_keys.jsonl": (b"".join(b'{"text": "x", "k%d": 1}\n' % i for i in range(20_000)), Refused("different keys")),
    "hostile_string.jsonl": (b'{"text": "' + b'\\"[' * MIB + b"\n", Refused("no line is a JSON object")),
    "json.csv": (b'{"text": "x"}\n', Refused("name it .jsonl")),
    # Extensions that lie
    "text.xlsx": (b"id,text\n", Refused("not XLSX")),
    "workbook.csv": (workbook(), Refused("zip file")),
    "parquet.csv": (parquet(), Refused("Parquet")),
    "packed.csv": (gzip.compress(b"text\nx\n"), Refused("gzip")),
    "packed2.csv": (zst(b"text\nx\n"), Refused("zstd")),
    "plain.csv.gz": (b"text\nx\n", Refused("not gzip")),
    "plain.csv.zst": (b"text\nx\n", Refused("not zstd")),
    "gzip.csv.zst": (gzip.compress(b"text\nx\n"), Refused("gzip")),
    "page.csv": (b"%PDF-1.7\n", Refused("PDF")),
    "word.doc": (b"text\nx\n", Refused("expected one of")),
    "twice_packed.csv.gz": (gzip.compress(gzip.compress(NOISE)), Refused("no text")),
    # Packed data
    "cut.csv.gz": (gzip.compress(b"text\n" + NOISE.hex().encode())[:-30], Refused("damaged or cut short")),
    "cut.csv.zst": (zst(b"text\n" + NOISE.hex().encode())[:-30], Refused("damaged or cut short")),
    "checksum.csv.gz": (gzip.compress(b"text\nlate\n")[:-8] + bytes(8), Refused("damaged")),
    "trailing.csv.zst": (zst(b"text\nlate\n") + b"and more", Refused("damaged")),
    "in_parts.csv.zst": (zst(b"text\nlate\n") + zst(b"again\n"), Read(2, texts=("late", "again"))),
    "in_parts.csv.gz": (gzip.compress(b"text\nlate\n") + gzip.compress(b"again\n"), Read(2, texts=("late", "again"))),
    "bomb.csv.gz": (many(b"a" * MIB, 1000, packing="gz"), Refused("longer than")),
    "bomb.csv.zst": (many(b"a" * MIB, 2000, packing="zst"), Refused("longer than")),
    "later_bomb.jsonl.zst": (zst(b'{"text": "x"}\n') + many(b"a" * MIB, 2000, packing="zst"), Refused("longer than")),
    "zeros.csv.gz": (many(bytes(MIB), 1000, packing="gz"), Refused("no text")),
    # A frame that asks for a window of 1 GiB: magic, descriptor, window descriptor, one empty last block.
    "window.csv.zst": (b"\x28\xb5\x2f\xfd\x00" + bytes([20 << 3]) + b"\x01\x00\x00", Refused("damaged")),
    # Workbooks
    "locked.xlsx": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + NOISE, Refused("password")),
    "cut.xlsx": (workbook()[:-200], Refused("damaged")),
    "no_workbook.xlsx": (patched("x", "y")[:30], Refused("damaged")),
    "bomb.xlsx": (patched(SHEET, bytes(300 * MIB)), Refused("would inflate")),
    "strings_bomb.xlsx": (patched("xl/sharedStrings.xml", bytes(300 * MIB)), Refused("would inflate")),
    "laughs.xlsx": (sheet(f"<row>{cell('&m;')}</row>", before=LAUGHS), Refused("cannot be read as an XLSX")),
    "stranger.xlsx": (
        sheet(f"<row>{cell('&x;')}</row>", before='<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        Refused("cannot be read as an XLSX"),
    ),
    "broken_xml.xlsx": (patched(SHEET, "<worksheet><sheetData><row"), Refused("cannot be read as an XLSX")),
    "far_row.xlsx": (
        sheet(f'<row r="1">{cell("text")}</row><row r="99999999999">{cell("late", "A99999999999")}</row>'),
        Refused("beyond"),
    ),
    "far_column.xlsx": (sheet(f'<row r="1">{cell("text")}</row><row r="2">{cell("late", "XFD2")}</row>'), Read(1, 1)),
    "no_such_string.xlsx": (
        sheet('<row r="1"><c r="A1" t="s"><v>999</v></c></row>'),
        Refused("cannot be read as an XLSX"),
    ),
    "climbing.xlsx": (patched("../../climbed.txt", "x"), Read(1, texts=("late",))),
    "error_cell.xlsx": (workbook((("id", "text"), (1, "#REF!"), (2, "late"))), Read(2, texts=("#REF!", "late"))),
    # Parquet
    "cut.parquet": (parquet()[:-20], Refused("cannot be read as Parquet")),
    "cut_front.parquet": (b"PAR1" + parquet()[60:], Refused("cannot be read as Parquet")),
    "locked.parquet": (b"PARE" + NOISE + b"PARE", Refused("not PARQUET")),
    "long_footer.parquet": (b"PAR1" + NOISE + b"\xff\xff\xff\x7fPAR1", Refused("cannot be read as Parquet")),
    "no_rows.parquet": (parquet(pa.table({"text": pa.array([], pa.string())})), Read(0)),
    "empty_cells.parquet": (parquet(), Read(2, 1)),
    "nested.parquet": (parquet(pa.table({"text": ["late"], "n": [[{"a": [1]}]]})), Read(1)),
}


NO_FILES = {
    "loop.csv": (lambda path: path.symlink_to(path), Refused("cannot be read")),
    "dangling.csv": (lambda path: path.symlink_to(path.with_name("gone")), Refused("no such file")),
    "pipe.csv": (os.mkfifo, Refused("is a pipe or a device")),
    "zero.csv": (lambda path: path.symlink_to("/dev/zero"), Refused("is a pipe or a device")),
    "folder.csv": (Path.mkdir, Refused("is a folder; name the files in it")),
    "absent.csv": (lambda _: None, Refused("no such file")),
    "header.csv/in.csv": (lambda _: None, Refused("no such file")),
    "x" * 300 + ".csv": (lambda _: None, Refused("cannot be read")),
    "*.none": (lambda _: None, Refused("no file matches")),
}

DRIVER = """
    import json, os, resource, sys, time
    sys.path.insert(0, {tests!r})
    import numpy, openpyxl, pyarrow.parquet
    from gapnlp.archive import JobOptions, open_job
    from test_archive_job import WordClassifier

    class Texts(WordClassifier):
        def __init__(self):
            self.batches, self.texts = [], []
        def predict(self, texts, *, evidence=True, on_texts=None):
            self.texts += [str(text)[:50] for text in texts[:3]]
            return [self._predict(text, evidence=evidence) for text in texts]

    def usage():
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime, used.ru_maxrss

    def read(name):
        seconds, memory = usage()
        answer, classifier = {{}}, Texts()
        column = None if name.endswith("xlsx") or "." not in name else "text"
        try:
            options = JobOptions(inputs=(name,), output="out/" + str(os.getpid()) + ".jsonl", text_column=column)
            with open_job(options) as job:
                summary = job.run(classifier)
            answer = {{"n_rows": summary.n_rows, "n_failed": summary.n_failed, "texts": classifier.texts}}
        except Exception as exc:
            answer = {{"error": type(exc).__name__, "message": str(exc)}}
        after, most = usage()
        return answer | {{"seconds": after - seconds, "megabytes": (most - memory) / 1024}}

    os.mkdir("out")
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2)  # what fails the test must not take the machine along
    for name in json.loads(sys.stdin.read()):
        if os.fork() == 0:
            import signal
            signal.alarm(60)
            print(json.dumps([name, read(name)]), flush=True)
            os._exit(0)
        os.wait()
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What became of each file."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, (content, _) in CASES.items():
        (folder / name).write_bytes(content)
    for name, (build, _) in NO_FILES.items():
        build(folder / name)
    names = [*CASES, *NO_FILES]
    script = textwrap.dedent(DRIVER.format(tests=str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(names), capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.parent.glob("climbed*"))
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize(("name", "expected"), [(name, case[1]) for name, case in (CASES | NO_FILES).items()])
def test_a_file_is_refused_or_read_right(answers, name, expected):
    answer = answers[name]
    assert answer["megabytes"] <= MAX_MEGABYTES
    if isinstance(expected, Refused):
        assert answer.get("error") in ("InputError", "ColumnError"), answer
        assert expected.words in answer["message"]
        assert len(answer["message"]) < 700
        assert "root:" not in answer["message"]  # no file that the file points to
        assert answer["seconds"] <= MAX_SECONDS
    else:
        assert "error" not in answer, answer
        assert (answer["n_rows"], answer["n_failed"]) == (expected.n_rows, expected.n_failed)
        assert answer["texts"][: len(expected.texts)] == list(expected.texts)


def test_there_are_enough_of_them():
    assert len(CASES) + len(NO_FILES) >= 40
