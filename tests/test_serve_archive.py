"""`/v1/classify/archive`: a file in, the same file with its labels out, and nobody waits for it."""

import asyncio
import csv
import errno
import gzip
import io
import json
import tempfile
import threading
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archive_bodies import ARCHIVES, ROWS
from service_world import CANARY, SECONDS, SlowEngine, fake_classifier, fake_world, wait_until
from test_serve_batching import GatedEngine

from gapnlp.archive import JobOptions, open_job
from gapnlp.engines.fake import FakeEngine
from serve import upload
from serve.routes import archive
from serve.upload import MEDIA_TYPES

PATH = "/v1/classify/archive"
MAX = 50_000


@pytest.fixture(autouse=True)
def aside(tmp_path, monkeypatch):
    """Give archives a folder of their own, which must be empty after each test."""
    folder = tmp_path / "aside"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    wait_until(lambda: not list(folder.iterdir()))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("archive"), max_upload_bytes=MAX) as world:
        yield world


def send(world, body, kind="csv", query="", **headers):
    return world.send(PATH + query, body, content_type=MEDIA_TYPES.get(kind, kind), **headers)


def labelled(answer):
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text)))


def long_archive(n_rows, word="slow"):
    return b"comment\n" + b"".join(b"%s %d\n" % (word.encode(), i) for i in range(n_rows))


ODD_ROWS = {
    "csv": b'id,comment,note\n1,slow,"a, b"\n2,,x\n3, \t ,x\n4,promised\n5,"slow\nslow",=1+1\n6,one,two,three\n',
    "tsv": b"id\tcomment\n1\tslow\n2\t\n3\tpromised slow\n",
    "jsonl": b'{"comment": "slow", "at": [{"x": 1}]}\n{"comment": 3}\n{"other": 0}\n[]\n{"comment": "slow \\ud800"}\n',
}


@pytest.mark.parametrize("kind", ODD_ROWS)
def test_the_answer_is_what_the_command_writes(world, tmp_path, kind):
    rest = {"csv": b'%d,"slow %d",y\n', "tsv": b"%d\tslow %d\n", "jsonl": b'{"comment": "%d slow %d"}\n'}[kind]
    body = ODD_ROWS[kind] + b"".join(rest % (i, i) for i in range(200))
    (tmp_path / f"in.{kind}").write_bytes(body)
    with open_job(JobOptions(inputs=(str(tmp_path / f"in.{kind}"),), output=str(tmp_path / f"out.{kind}"))) as job:
        summary = job.run(fake_classifier())
    answer = send(world, body, kind)
    assert summary.n_failed > 0
    assert answer.content == (tmp_path / f"out.{kind}").read_bytes()
    assert answer.headers["content-type"].partition(";")[0] == MEDIA_TYPES[kind]
    assert answer.headers["content-disposition"] == f'attachment; filename="labelled.{kind}"'
    assert answer.headers["gapnlp-rows"] == str(summary.n_rows)


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("output", ["csv", "tsv", "jsonl", ""])
def test_every_format_in_and_every_text_format_out(world, kind, output):
    answer = send(world, ARCHIVES[kind], kind, f"?output={output}" if output else "")
    assert answer.status_code == 200, answer.text
    output = output or (kind if kind in ODD_ROWS else "csv")
    if output == "jsonl":
        rows = [json.loads(line) for line in answer.text.splitlines()]
    else:
        rows = list(csv.DictReader(io.StringIO(answer.text), delimiter="\t" if output == "tsv" else ","))
    assert [(row["id"], row["comment"]) for row in rows] == list(ROWS)
    assert [row["gap_primary"] for row in rows] == ["delivery", "communication"]


def test_the_text_column_may_be_named(world):
    body = b"a,b\nslow,promised\n"
    assert labelled(send(world, body, query="?text_column=a"))[0]["gap_primary"] == "delivery"
    assert labelled(send(world, body, query="?text_column=b"))[0]["gap_primary"] == "communication"


@pytest.mark.parametrize("packing", ["identity", "gzip"])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_archive_at_the_limit_passes_and_one_byte_more_does_not(world, packing, chunked):
    async def pieces(content):
        for start in range(0, len(content), 700):
            yield content[start : start + 700]

    for n_bytes, status in ((MAX - 1, 200), (MAX, 200), (MAX + 1, 413)):
        body = b"comment,rest\nslow," + b"x" * (n_bytes - 19) + b"\n"
        assert len(body) == n_bytes
        content = gzip.compress(body) if packing == "gzip" else body
        headers = {"content-type": "text/csv", "content-encoding": packing}
        answer = world.post(PATH, content=pieces(content) if chunked else content, headers=headers)
        assert answer.status_code == status, n_bytes
        if status == 413:
            assert answer.json()["detail"] == "the body, unpacked, may have 50,000 bytes"


@pytest.mark.slow
def test_the_usual_limit_is_a_hundred_megabytes_and_that_of_json_is_what_it_was(tmp_path):
    row = b"slow," + b"x" * 999_994 + b"\n"
    with fake_world(tmp_path) as world:
        for n_bytes, status in ((99_999_999, 200), (100_000_000, 200), (100_000_001, 413)):
            body = b"comment,rest\n" + row * 99
            body += b"slow," + b"y" * (n_bytes - len(body) - 6) + b"\n"
            answer = send(world, body)
            assert answer.status_code == status, n_bytes
            if status == 200:
                assert answer.headers["gapnlp-rows"] == "100"
                assert answer.content.count(b",delivery,") >= 100
        assert world.send("/v1/classify", b" " * 2_000_001).status_code == 413


@pytest.mark.parametrize(
    ("body", "kind", "query", "status", "told"),
    [
        (b"", "csv", "", 422, "cannot be read as CSV"),
        (f"{CANARY},{CANARY}\n1,2\n".encode(), "csv", "", 422, "cannot be read as CSV"),
        (f"{CANARY}\n".encode(), "jsonl", "", 422, "cannot be read as JSONL"),
        (f'{{"{CANARY}": '.encode(), "jsonl", "", 422, "cannot be read as JSONL"),
        (f"PK\x03\x04{CANARY}".encode(), "xlsx", "", 422, "cannot be read as XLSX"),
        (ARCHIVES["xlsx"], "csv", "", 422, "cannot be read as CSV"),
        (f"PAR1{CANARY}".encode(), "parquet", "", 422, "cannot be read as PARQUET"),
        (f"{CANARY} a,b\n{CANARY},slow\n".encode(), "csv", "", 422, "2 columns: put the name"),
        (f"{CANARY} a,b\n{CANARY},slow\n".encode(), "csv", f"?text_column={CANARY}", 422, "2 columns: none has"),
        (f"{CANARY},gap_primary\na,b\n".encode(), "csv", "", 422, "columns that labelling adds"),
        (b"comment\nslow\n", "csv", "?output=xlsx", 422, "expected one of csv, tsv, jsonl"),
        (b"comment\nslow\n", "csv", f"?{CANARY}=1", 422, "text_column and output alone"),
        (b"comment\nslow\n", "csv", "?output=csv&output=tsv", 422, "each at most once"),
        (b"comment\nslow\n", "application/json", "", 415, "text/csv"),
        (b"comment\nslow\n", f"text/{CANARY}", "", 415, "text/csv"),
    ],
)
def test_what_is_no_archive_is_refused_and_nothing_of_it_repeated(world, body, kind, query, status, told):
    answer = send(world, body, kind, query)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert told in answer.json()["detail"]
    assert CANARY not in answer.text
    assert "gapnlp-upload" not in answer.text
    assert labelled(send(world, b"comment\nslow\n"))


def test_a_row_that_cannot_be_read_says_why_and_the_others_go_on(tmp_path):
    class Picky(FakeEngine):
        def run(self, input_ids, attention_mask):
            if (input_ids == 4).any():
                raise RuntimeError(CANARY)
            return super().run(input_ids, attention_mask)

    with fake_world(tmp_path, engine=Picky(), max_characters=20) as world:
        rows = labelled(send(world, b"comment,n\nslow,1\npromised,2\nslow " + b"x" * 30 + b",3\n ,4\nslow again,5\n"))
    assert [row["gap_error"] for row in rows] == [
        "",
        "the model failed on this text",
        "got 35 characters, expected at most 20",
        "got a text of white space alone, but expected at least one visible character: leave such rows out",
        "",
    ]
    assert [row["gap_primary"] for row in rows] == ["delivery", "", "", "", "delivery"]
    assert CANARY not in str(rows)


def test_nothing_of_an_archive_is_kept_and_the_drift_of_tickets_is_not_that_of_archives(tmp_path):
    with fake_world(tmp_path, store_text=True) as world:
        assert len(labelled(send(world, b"n,comment\n0,\n" + b"1,slow\n" * 100))) == 101
        with world.service.store.read() as conn:
            assert conn.exec_driver_sql("SELECT count(*) FROM predictions").scalar() == 0
        metrics = world.get("/metrics").text
    assert 'gapnlp_texts_total{source="archive"} 101.0' in metrics
    assert 'gapnlp_texts_failed_total{source="archive"} 1.0' in metrics
    assert 'gapnlp_labels_total{label="delivery",source="archive"} 100.0' in metrics
    assert "gapnlp_label_window_texts 0.0" in metrics


def test_a_ticket_waits_for_no_more_than_a_few_rows(tmp_path):
    engine = GatedEngine()
    with fake_world(tmp_path, engine=engine) as world:

        async def both():
            headers = {"content-type": "text/csv"}
            long = asyncio.create_task(world.client.post(PATH, content=long_archive(1000), headers=headers))
            assert await asyncio.to_thread(engine.begun.acquire, timeout=SECONDS)
            one = asyncio.create_task(world.client.post("/v1/classify", json={"text": "promised"}))
            while not world.service.batcher.n_waiting:
                await asyncio.sleep(0.005)
            engine.gate.set()
            answer = await one
            return answer, sum(map(len, engine.calls)), await long

        answer, n_read, long = world.run(both())
    assert answer.status_code == 200
    assert n_read <= 3 * upload.N_ROWS
    assert len(labelled(long)) == 1000


def test_an_archive_waits_while_the_queue_is_full(tmp_path):
    engine = SlowEngine()
    with fake_world(tmp_path, engine=engine, max_waiting=1, cache_texts=0) as world:

        async def crowd():
            first = []
            while not world.service.batcher.is_full():
                first.append(asyncio.create_task(world.client.post("/v1/classify", json={"text": f"a {len(first)}"})))
                await asyncio.to_thread(engine.is_running.wait)
                await asyncio.sleep(0.05)
            headers = {"content-type": "text/csv"}
            late = asyncio.create_task(world.client.post(PATH, content=b"comment\nslow\n", headers=headers))
            await asyncio.sleep(0.3)
            waits = not late.done()
            engine.may_run.set()
            await asyncio.gather(*first)
            return waits, await late

        waits, answer = world.run(crowd())
    assert waits
    assert labelled(answer)[0]["gap_primary"] == "delivery"


def test_more_archives_than_may_be_are_asked_to_come_back(tmp_path):
    engine = SlowEngine()
    with fake_world(tmp_path, engine=engine, max_uploads=1) as world:
        answers = []
        first = threading.Thread(target=lambda: answers.append(send(world, b"comment\nslow\n")))
        first.start()
        engine.is_running.wait()
        refused = send(world, b"comment\nslow\n")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
        assert refused.json()["type"] == "urn:gapnlp:problem:busy"
        engine.may_run.set()
        first.join()
        assert labelled(answers[0])
        for _ in range(3):  # refusals give their place back as well
            assert send(world, b"", "csv").status_code == 422
        assert labelled(send(world, b"comment\nslow\n"))


def test_whoever_goes_away_gives_the_place_back(tmp_path, aside):
    engine = SlowEngine()
    with fake_world(tmp_path, engine=engine, max_uploads=1) as world:

        async def leave():
            gone = asyncio.Event()

            async def messages():
                yield {"type": "http.request", "body": long_archive(500)}
                await gone.wait()
                yield {"type": "http.disconnect"}

            call = asyncio.create_task(world.call(messages(), path=PATH, headers=CSV_HEADERS))
            await asyncio.to_thread(engine.is_running.wait)
            there = list(aside.iterdir())
            gone.set()
            await call
            return there

        assert len(world.run(leave())) == 1
        assert list(aside.iterdir()) == []
        engine.may_run.set()
        assert labelled(send(world, b"comment\nslow\n"))


def test_whoever_goes_away_while_sending_leaves_nothing(world):
    async def messages():
        yield {"type": "http.request", "body": b"comment\n", "more_body": True}
        yield {"type": "http.disconnect"}

    sent = world.run(world.call(messages(), path=PATH, headers=CSV_HEADERS))
    assert sent[0]["status"] == 499


def test_an_archive_may_take_longer_to_come_than_a_text(tmp_path):
    async def messages():
        for line in (b"comment\n", b"slow\n", b"promised\n"):
            await asyncio.sleep(0.15)
            yield {"type": "http.request", "body": line, "more_body": True}
        yield {"type": "http.request", "body": b""}
        await asyncio.Event().wait()

    with fake_world(tmp_path, timeout_seconds=0.2) as world:
        assert world.run(world.call(messages(), path=PATH, headers=CSV_HEADERS))[0]["status"] == 200
    (tmp_path / "slow").mkdir()
    with fake_world(tmp_path / "slow", upload_seconds=0.2) as world:
        sent = world.run(world.call(messages(), path=PATH, headers=CSV_HEADERS))
        assert sent[0]["status"] == 408


@pytest.mark.parametrize("fails_from", ["open", "write", "flush"])
def test_a_full_disk_is_told(world, monkeypatch, aside, fails_from):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    def temporary_file(**options):
        if fails_from == "open":
            full()
        file = tempfile.NamedTemporaryFile(**options)  # noqa: SIM115  who asked for it closes it
        close = file.close
        monkeypatch.setattr(file, fails_from, full)
        monkeypatch.setattr(file, "close", lambda: (close(), full()))
        return file

    monkeypatch.setattr(archive, "NamedTemporaryFile", temporary_file)
    answer = send(world, b"comment\nslow\n")
    assert (answer.status_code, answer.headers.get("retry-after")) == (503, "60")
    monkeypatch.setattr(archive, "NamedTemporaryFile", tempfile.NamedTemporaryFile)
    for _ in range(3):
        assert labelled(send(world, b"comment\nslow\n"))


def test_long_texts_do_not_fill_the_queue(tmp_path):
    engine = GatedEngine()
    with fake_world(tmp_path, engine=engine) as world:
        body = b"comment\n" + b"".join(b"slow %d " % i * 2000 + b"\n" for i in range(70))
        answers = []
        thread = threading.Thread(target=lambda: answers.append(send(world, body)))
        thread.start()
        assert engine.begun.acquire(timeout=SECONDS)
        assert not world.service.batcher.is_full()
        assert world.service.batcher.n_waiting <= 1
        engine.gate.set()
        thread.join()
    assert [row["gap_error"] for row in labelled(answers[0])] == [""] * 70


def test_a_workbook_counts_as_what_is_in_it(world):
    book = openpyxl.Workbook()
    for row in (("comment",), ("slow",), ("x" * 30_000,), ("y" * 30_000,)):
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    assert len(out.getvalue()) < MAX
    answer = send(world, out.getvalue(), "xlsx")
    assert (answer.status_code, answer.json()["detail"]) == (413, "the body, unpacked, may have 50,000 bytes")


def test_a_parquet_file_that_is_damaged_further_on_is_refused_before_anything_is_answered(world):
    out = io.BytesIO()
    pq.write_table(pa.table({"comment": [f"slow {i} {i * 7919 % 1000}" for i in range(3000)]}), out, row_group_size=500)
    body = bytearray(out.getvalue())
    assert len(body) < MAX
    assert labelled(send(world, bytes(body), "parquet"))
    body[len(body) // 2 : len(body) // 2 + 200] = b"\xff" * 200
    answer = send(world, bytes(body), "parquet")
    assert answer.status_code == 422
    assert "cannot be read as PARQUET" in answer.json()["detail"]


def test_an_archive_needs_a_key_that_may_classify(tmp_path):
    with fake_world(tmp_path, require_keys=True) as world:
        assert send(world, b"comment\nslow\n").status_code == 401
        assert send(world, b"comment\nslow\n", x_api_key=world.key("feedback")).status_code == 403
        assert labelled(send(world, b"comment\nslow\n", x_api_key=world.key("classify")))


def test_what_is_put_aside_is_for_nobody_else(tmp_path, aside):
    engine = SlowEngine()
    with fake_world(tmp_path, engine=engine) as world:
        thread = threading.Thread(target=send, args=(world, b"comment\nslow\n"))
        thread.start()
        engine.is_running.wait()
        (file,) = aside.iterdir()
        assert Path(file).stat().st_mode & 0o077 == 0
        engine.may_run.set()
        thread.join()


CSV_HEADERS = ((b"content-type", b"text/csv"),)
