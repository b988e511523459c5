"""Jobs that stop and go on: nothing is lost, nothing is done twice, nothing is mixed."""

import errno
import io
import json
import os
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_archive_job import WORDS, WordClassifier, read_rows

from gapnlp.archive import JobOptions, Watch, ledger, open_job, scoring
from gapnlp.archive.ledger import Ledger, ledger_folder
from gapnlp.archive.memory import Memory, text_key
from gapnlp.archive.scored import Scored, from_json_bytes, to_json_bytes
from gapnlp.errors import InputError, ModelError
from gapnlp.records import Evidence, Prediction

CANARY = "Canary Wharf 4711"
N_ROWS = 23


class Stopping(WordClassifier):
    """Stop as Ctrl-C would, when it is asked for the batch after `n_batches`."""

    def __init__(self, n_batches):
        super().__init__()
        self._n_batches = n_batches

    def predict(self, texts, *, evidence=True, on_texts=None):
        if len(self.batches) == self._n_batches:
            raise KeyboardInterrupt
        return super().predict(texts, evidence=evidence)


class Failing(WordClassifier):
    """Fail on some texts, as an engine does."""

    def __init__(self, is_bad, error=None):
        super().__init__()
        self._is_bad = is_bad
        self._error = error or RuntimeError("out of luck")

    def predict(self, texts, *, evidence=True, on_texts=None):
        if self._is_bad(texts):
            raise self._error
        return super().predict(texts, evidence=evidence)


@pytest.fixture
def archive(tmp_path):
    """Rows of all kinds: with labels, without, empty, ragged, and some that come again."""
    words = list(WORDS)
    lines = [f"{i},{CANARY} {words[i % 3]} {i % 18}\n" for i in range(N_ROWS)]
    lines[4], lines[11] = "4,\n", "11,one,cell,too,many\n"
    path = tmp_path / "in.csv"
    path.write_text("id,text\n" + "".join(lines))
    return str(path)


def run(classifier, archive, output, *, watch=None, **options):
    inputs = (archive,) if isinstance(archive, str) else archive
    with open_job(JobOptions(inputs=inputs, output=str(output), **{"chunk_rows": 5, **options})) as job:
        return job.run(classifier, watch=watch)


def stop_after(n_batches, archive, output, **options):
    classifier = Stopping(n_batches)
    with pytest.raises(KeyboardInterrupt):
        run(classifier, archive, output, **options)
    assert not output.exists()
    return classifier


def test_an_interrupted_run_leaves_its_results_and_no_part_of_the_output(tmp_path, archive):
    stop_after(2, archive, tmp_path / "out.csv")
    folder = ledger_folder(tmp_path / "out.csv")
    assert folder.name == ".out.csv.gapnlp-job"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("job.json", "lock", "rows-000000000000-000000005.json.z", "rows-000000000005-000000005.json.z")
    ]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "jsonl", "jsonl.zst", "xlsx", "parquet"])
def test_the_output_is_the_same_whether_or_not_the_run_was_interrupted(tmp_path, archive, suffix):
    whole = WordClassifier()
    run(whole, archive, tmp_path / f"whole.{suffix}")
    out = tmp_path / f"out.{suffix}"
    first = stop_after(1, archive, out)
    second = stop_after(1, archive, out)
    last = WordClassifier()
    kept, told = [], []
    summary = run(last, archive, out, watch=Watch(on_rows=told.append, on_kept=kept.append))
    assert out.read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()
    # Every text was scored once over all runs, and in the very batches of the uninterrupted one.
    assert [*first.batches, *second.batches, *last.batches] == whole.batches
    assert (sum(kept), sum(told), summary.n_kept, summary.n_rows) == (10, N_ROWS - 10, 10, N_ROWS)
    assert not ledger_folder(out).exists()


def test_a_text_that_comes_again_is_scored_once_over_all_chunks_and_runs(tmp_path, archive):
    whole = WordClassifier()
    summary = run(whole, archive, tmp_path / "whole.csv")
    texts = [row["text"] for row in read_rows(tmp_path / "whole.csv") if not row["gap_error"]]
    asked = [text for batch in whole.batches for text in batch if text]
    assert len(asked) == len(set(asked)) == len(set(texts)) < len(texts)
    assert summary.n_duplicates == len(texts) - len(set(texts))
    stop_after(2, archive, tmp_path / "out.csv")
    assert run(WordClassifier(), archive, tmp_path / "out.csv").n_duplicates == summary.n_duplicates


def test_stop_is_asked_at_the_end_of_each_chunk(tmp_path, archive):
    answers = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        run(WordClassifier(), archive, tmp_path / "out.csv", watch=Watch(stop=lambda: next(answers)))
    with open_job(JobOptions(inputs=(archive,), output=str(tmp_path / "out.csv"), chunk_rows=5)) as job:
        assert job.n_kept == 10
    summary = run(WordClassifier(), archive, tmp_path / "out.csv", watch=Watch(stop=lambda: False))
    assert summary.n_kept == 10


def test_who_asks_to_stop_in_the_last_chunk_gets_the_output(tmp_path, archive):
    summary = run(WordClassifier(), archive, tmp_path / "out.csv", chunk_rows=100, watch=Watch(stop=lambda: True))
    assert summary.n_rows == N_ROWS


# What must not be mixed


class Renamed(WordClassifier):
    name = "words@2.0"


class Rebuilt(WordClassifier):
    fingerprint = "other files"


def test_another_job_does_not_go_on_with_the_results_of_the_first(tmp_path, archive):
    out = tmp_path / "out.csv"
    run(WordClassifier(), archive, tmp_path / "whole.csv")
    (tmp_path / "other.csv").write_text("id,text\n1,late\n")
    stop_after(2, archive, out)
    refused = [
        (Renamed(), archive, {}, "the model was words@1.0, now it is words@2.0"),
        (Rebuilt(), archive, {}, "the model words@1.0 has other files or another engine"),
        (WordClassifier(), str(tmp_path / "other.csv"), {}, r"the input .*other.csv is not what it was"),
        (WordClassifier(), (archive, str(tmp_path / "other.csv")), {}, "began with 1 inputs, now there are 2"),
        (WordClassifier(), archive, {"text_column": "id"}, "text column was 'text', now it is 'id'"),
        (WordClassifier(), archive, {"mask": True}, "masking of personal data was off, now it is on"),
        (WordClassifier(), archive, {"chunk_rows": 6}, "rows in a chunk was 5, now it is 6"),
    ]
    for classifier, inputs, options, message in refused:
        with pytest.raises(InputError, match=message) as caught:
            run(classifier, inputs, out, **options)
        assert "--restart" in str(caught.value)
        assert "name another output" in str(caught.value)
        assert not out.exists()
    summary = run(WordClassifier(), archive, out)
    assert summary.n_kept == 10
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_changed_input_is_refused_and_a_renamed_one_is_not(tmp_path, archive):
    stop_after(2, archive, tmp_path / "out.csv")
    moved = Path(archive).rename(tmp_path / "moved.csv")
    assert run(WordClassifier(), str(moved), tmp_path / "out.csv").n_kept == 10
    stop_after(2, str(moved), tmp_path / "out2.csv")
    moved.write_text(moved.read_text().replace("late", "soon"))
    with pytest.raises(InputError, match="is not what it was when the job began"):
        run(WordClassifier(), str(moved), tmp_path / "out2.csv")


def test_the_order_of_inputs_counts(tmp_path, archive):
    (tmp_path / "b.csv").write_text("id,text\n1,late\n")
    pair = (archive, str(tmp_path / "b.csv"))
    stop_after(2, pair, tmp_path / "out.csv")
    with pytest.raises(InputError, match="the inputs come in another order"):
        run(WordClassifier(), pair[::-1], tmp_path / "out.csv")
    assert run(WordClassifier(), pair, tmp_path / "out.csv").n_kept == 10


def test_restart_begins_again_and_replaces_no_finished_output(tmp_path, archive):
    out = tmp_path / "out.csv"
    stop_after(2, archive, out)
    summary = run(Renamed(), archive, out, restart=True)
    assert (summary.n_kept, summary.model) == (0, "words@2.0")
    with pytest.raises(InputError, match="is there already"):
        run(WordClassifier(), archive, out, restart=True)
    assert run(WordClassifier(), archive, out, restart=True, force=True).model == "words@1.0"


def test_settings_that_change_no_result_may_change(tmp_path, archive):
    stop_after(2, archive, tmp_path / "out.csv")
    assert run(WordClassifier(), archive, tmp_path / "out.csv", raw=True, id_column="id", force=True).n_kept == 10


def test_two_runs_do_not_write_one_output(tmp_path, archive):
    out = tmp_path / "out.csv"
    with open_job(JobOptions(inputs=(archive,), output=str(out))) as job:
        with pytest.raises(InputError, match="another run is writing it"):
            run(WordClassifier(), archive, out)
        with pytest.raises(InputError, match="another run is writing it"):
            run(WordClassifier(), archive, out, restart=True)
        job.run(WordClassifier())
    assert out.exists()


def test_an_output_that_another_run_finished_meanwhile_is_not_replaced(tmp_path, archive, monkeypatch):
    out = tmp_path / "out.csv"
    real = ledger.locked

    def locked_late(folder):
        out.write_text("of another run")
        return real(folder)

    monkeypatch.setattr(ledger, "locked", locked_late)
    with pytest.raises(InputError, match="is there already"):
        run(WordClassifier(), archive, out)
    assert out.read_text() == "of another run"
    assert not ledger_folder(out).exists()


def test_a_file_that_changes_while_it_is_read_gives_no_output(tmp_path, archive):
    class Appending(WordClassifier):
        def predict(self, texts, *, evidence=True, on_texts=None):
            with Path(archive).open("a") as file:
                file.write("99,late again\n")
            return super().predict(texts, evidence=evidence)

    with pytest.raises(InputError, match="was changed while it was read"):
        run(Appending(), archive, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_stdin_goes_on_if_the_same_bytes_come_again(tmp_path, archive, monkeypatch):
    content = Path(archive).read_bytes()

    def pipe(content):
        monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BytesIO(content)}))

    pipe(content)
    stop_after(2, "-", tmp_path / "out.csv")
    pipe(content + b"24,more\n")
    with pytest.raises(InputError, match="the input stdin is not what it was"):
        run(WordClassifier(), "-", tmp_path / "out.csv")
    pipe(content)
    assert run(WordClassifier(), "-", tmp_path / "out.csv").n_kept == 10


# Damage


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder"])
def test_a_damaged_chunk_is_done_again(tmp_path, archive, damage):
    run(WordClassifier(), archive, tmp_path / "whole.csv")
    out = tmp_path / "out.csv"
    stop_after(3, archive, out)
    path = sorted(ledger_folder(out).glob("rows-*"))[1]
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"cut": content[:-9], "flipped": content[:-1] + b"!", "empty": b""}[damage])
    if damage == "folder":
        with pytest.raises(InputError, match="cannot be written"):
            run(WordClassifier(), archive, out)
        return
    classifier = WordClassifier()
    summary = run(classifier, archive, out)
    assert summary.n_kept == 10
    assert len(classifier.batches) == 3
    assert summary.notes == ["1 chunks that an earlier run had left were damaged; done again"]
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 0}', b'{"format": 1}'])
def test_a_ledger_that_does_not_say_what_it_is_of_counts_for_nothing(tmp_path, archive, content):
    out = tmp_path / "out.csv"
    stop_after(2, archive, out)
    (ledger_folder(out) / "job.json").write_bytes(content)
    assert run(WordClassifier(), archive, out).n_kept == 0


def test_what_others_put_into_the_folder_stays(tmp_path, archive):
    folder = ledger_folder(tmp_path / "out.csv")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    run(WordClassifier(), archive, tmp_path / "out.csv")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_the_ledger_holds_no_text(tmp_path, archive):
    stop_after(3, archive, tmp_path / "out.csv")
    for path in ledger_folder(tmp_path / "out.csv").iterdir():
        content = path.read_bytes()
        assert b"Canary" not in content
        if path.name.startswith("rows-"):
            assert b"Canary" not in zlib.decompress(content[32:])
            assert json.loads(zlib.decompress(content[32:]))


class Died(BaseException):
    """The process is gone."""


def test_a_crash_after_the_output_is_placed_costs_nothing(tmp_path, archive, monkeypatch):
    out = tmp_path / "out.csv"

    def die(_):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "remove", die)
        with pytest.raises(Died):
            run(WordClassifier(), archive, out)
    content = out.read_bytes()
    assert ledger_folder(out).exists()
    again = WordClassifier()
    assert run(again, archive, out).n_kept == N_ROWS  # without `force`: the output is its own
    assert again.batches == []
    assert out.read_bytes() == content
    with pytest.raises(InputError, match="is there already"):
        run(again, archive, out)


def test_an_output_that_was_edited_since_is_not_replaced(tmp_path, archive):
    out = tmp_path / "out.csv"
    run(Failing(lambda texts: any("rule 2" in str(text) for text in texts)), archive, out)
    assert ledger_folder(out).exists()
    out.write_text(out.read_text() + "edited\n")
    with pytest.raises(InputError, match="is there already"):
        run(WordClassifier(), archive, out)


# A model that fails


def test_a_text_the_model_fails_on_costs_no_other_and_is_tried_again(tmp_path, archive):
    run(WordClassifier(), archive, tmp_path / "whole.csv")
    out = tmp_path / "out.csv"
    bad = Failing(lambda texts: f"{CANARY} rule 2" in texts)
    summary = run(bad, archive, out)
    rows = read_rows(out)
    failed = [
        row["id"] for row in rows if "the model failed on this text (RuntimeError: out of luck)" in row["gap_error"]
    ]
    assert failed == ["2", "20"]
    assert summary.n_failed == 4  # the empty cell and the ragged row, too
    assert summary.notes == [
        "on 2 rows the model failed for a reason that may pass; the same command tries these alone again"
    ]
    healed = WordClassifier()
    summary = run(healed, archive, out)
    assert healed.batches == [[f"{CANARY} rule 2"]]  # not the empty one
    assert (summary.n_failed, summary.notes) == (2, [])
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not ledger_folder(out).exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("too large")])
def test_a_chunk_too_large_for_the_model_is_halved(tmp_path, archive, error):
    run(WordClassifier(), archive, tmp_path / "whole.csv")
    small = Failing(lambda texts: len(texts) > 2, error)
    summary = run(small, archive, tmp_path / "out.csv")
    assert max(map(len, small.batches)) == 2
    assert summary.n_failed == 2
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_model_that_fails_on_everything_stops_the_job(tmp_path, archive):
    with pytest.raises(ModelError, match=r"words@1.0 fails on every text \(RuntimeError: out of luck; 5 in a row\)"):
        run(Failing(lambda _: True), archive, tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_model_that_breaks_down_on_the_way_stops_the_job_which_goes_on_later(tmp_path, archive, monkeypatch):
    run(WordClassifier(), archive, tmp_path / "whole.csv")
    monkeypatch.setattr(scoring, "GIVE_UP_AFTER", 3)
    out = tmp_path / "out.csv"
    broken = Failing(lambda _: len(broken.batches) >= 2)
    with pytest.raises(ModelError, match="3 in a row"):
        run(broken, archive, out)
    assert not out.exists()
    assert run(WordClassifier(), archive, out).n_kept == 10
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_some_failures_now_and_then_are_not_all():
    scorer = scoring.Scorer(Failing(lambda texts: any("bad" in text for text in texts)))
    for step in range(3):
        bad = [f"bad {step} {i}" for i in range(scoring.GIVE_UP_AFTER - 1)]
        assert sum(item.retry for item in scorer.score([f"good {step}", *bad])) == len(bad)
    with pytest.raises(ModelError):
        scorer.score([f"bad {i}" for i in range(scoring.GIVE_UP_AFTER)])


def test_texts_that_fail_again_do_not_stop_a_job_that_has_good_ones(tmp_path, archive):
    bad = Failing(lambda texts: any("rule" in str(text) for text in texts))
    for _ in range(2):
        summary = run(bad, archive, tmp_path / "out.csv")
        assert summary.n_failed > 2
    assert run(WordClassifier(), archive, tmp_path / "out.csv").n_failed == 2


def test_progress_moves_within_a_chunk_if_the_model_tells(tmp_path, archive):
    class Telling(WordClassifier):
        def predict(self, texts, *, evidence=True, on_texts):
            for _ in texts:
                on_texts(1)
            return super().predict(texts, evidence=evidence)

    told = []
    run(Telling(), archive, tmp_path / "out.csv", chunk_rows=100, watch=Watch(on_rows=told.append))
    assert told[:5] == [1] * 5
    assert sum(told) == N_ROWS


# What cannot be written


@pytest.mark.parametrize("n_good", range(6))
def test_a_disk_that_fills_up_is_a_sentence_and_the_job_goes_on_when_there_is_room(
    tmp_path, archive, monkeypatch, n_good
):
    run(WordClassifier(), archive, tmp_path / "whole.csv")
    calls = []
    real = os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) > 2 * n_good:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    out = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"out.csv: cannot be written \(the disk is full\); make room"):
            run(WordClassifier(), archive, out)
    assert not out.exists()
    run(WordClassifier(), archive, out)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv", "whole.csv"]


def test_a_limit_on_files_is_met_in_the_ledger_and_in_the_output(tmp_path):
    """The operating system itself refuses to write, as on a full disk."""
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "".join(f"late {i} {i * 7919 % 1000}\n" for i in range(2000)))
    script = """
        import resource, signal, sys
        sys.path.insert(0, {tests!r})
        from test_archive_resume import run, WordClassifier
        from gapnlp.errors import InputError
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        import pathlib
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), hard))
            run(WordClassifier(), sys.argv[1], pathlib.Path(sys.argv[2]), chunk_rows=500)
        except InputError as exc:
            print(exc)
    """
    script = textwrap.dedent(script.format(tests=str(Path(__file__).parent)))
    out = tmp_path / "out.csv"
    for limit in (100, 2_000, 100_000):  # the job file, a chunk, the output
        command = [sys.executable, "-c", script, source, out, str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"{out}: cannot be written (File too large); make room" in done.stdout, done.stderr
        assert not out.exists()
    run(WordClassifier(), str(source), tmp_path / "whole.csv", chunk_rows=500)
    assert run(WordClassifier(), str(source), out, chunk_rows=500).n_kept > 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder where not even root can write")
def test_a_folder_that_cannot_be_written_to_is_a_sentence(archive):
    with pytest.raises(InputError, match=r"/proc/out.csv: cannot be written \(.*make room or check the permissions"):
        run(WordClassifier(), archive, Path("/proc/out.csv"))


def test_a_file_where_the_ledger_belongs_is_a_sentence(tmp_path, archive):
    ledger_folder(tmp_path / "out.csv").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        run(WordClassifier(), archive, tmp_path / "out.csv")


# Inputs by pattern


def test_patterns_give_each_file_once_in_order_and_never_the_output(tmp_path):
    for name in ("b", "a", "deep/c"):
        path = tmp_path / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"text\nlate {name}\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    (tmp_path / "folder.csv").mkdir()
    out = tmp_path / "out.csv"
    for _ in range(2):
        run(WordClassifier(), str(tmp_path / "*.csv"), out, force=True)
        assert [row["text"] for row in read_rows(out)] == ["late a", "late b"]
    run(WordClassifier(), str(tmp_path / "**/*.csv"), out, force=True)
    assert [row["text"] for row in read_rows(out)] == ["late a", "late b", "late deep/c"]


def test_a_name_with_brackets_is_that_file(tmp_path):
    (tmp_path / "a[1].csv").write_text("text\nlate\n")
    assert run(WordClassifier(), str(tmp_path / "a[1].csv"), tmp_path / "out.csv").n_rows == 1


def test_patterns_that_cannot_be_meant_are_refused(tmp_path, archive):
    out = tmp_path / "out.csv"
    with pytest.raises(InputError, match=r"\*.tsv: no file matches this pattern"):
        run(WordClassifier(), str(tmp_path / "*.tsv"), out)
    with pytest.raises(InputError, match=r"in\.csv is named twice; its rows would count double"):
        run(WordClassifier(), (archive, str(tmp_path / "*.csv")), out)
    out.write_text("text\n")
    with pytest.raises(InputError, match="matches the output alone"):
        run(WordClassifier(), str(tmp_path / "o*.csv"), out, force=True)


def test_failures_name_their_file_where_there_are_several(tmp_path, archive):
    (tmp_path / "b.csv").write_text("id,text\nB7,\n")
    summary = run(WordClassifier(), (archive, str(tmp_path / "b.csv")), tmp_path / "out.csv", id_column="id")
    assert summary.failures[0].startswith(f"{archive}, line 6 (id 4): got an empty text")
    assert summary.failures[-1].startswith(f"{tmp_path / 'b.csv'}, line 2 (id B7): got an empty text")


def test_as_many_files_as_no_process_may_have_open(tmp_path):
    import pyarrow as pa

    for i in range(60):
        pq.write_table(pa.table({"text": [f"late {i}"]}), tmp_path / f"{i:02}.parquet")
    script = f"""
        import resource, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_archive_resume import run, WordClassifier
        import pyarrow.parquet
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        print(run(WordClassifier(), {str(tmp_path / "*.parquet")!r}, Path({str(tmp_path / "out.jsonl")!r})).n_rows)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.stdout == "60\n", done.stderr


# The parts


def test_memory_forgets_what_was_not_asked_for_the_longest():
    memory = Memory(model="m@1", n_texts=2)
    found = Scored(Prediction(("policy",), (0.1,) * 5, (), False, False, "m@1"))
    for text in ("a", "b"):
        memory.put(text_key(text), found)
    assert memory.get(text_key("a")) == found
    memory.put(text_key("c"), found)
    assert [memory.get(text_key(text)) == found for text in ("a", "b", "c")] == [True, False, True]


def test_texts_are_told_apart_exactly():
    assert len({text_key(text) for text in ("a", "a ", "A", "á", "a\u0301", "\ud800")}) == 6
    assert text_key(None) is text_key(3) is None


def test_results_come_back_exactly():
    results = [
        Scored(
            Prediction(
                ("customer", "policy"), (0.1, 1 / 3, 1e-17, 0.0, 1.0), (Evidence("policy", 0, 9),), True, True, "m"
            )
        ),
        Scored(Prediction((), (0.0,) * 5, (), True, False, "m", "wrong \ud800 é"), retry=True),
    ]
    assert from_json_bytes(to_json_bytes(results), model="m") == results


def test_memory_of_a_job_does_not_grow_with_its_rows(tmp_path):
    """What a process holds at its peak is a matter of the chunk and of the texts remembered, not of the file."""
    script = f"""
        import resource, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import gapnlp.archive.memory
        from test_archive_resume import run, WordClassifier

        class Forgetful(WordClassifier):
            def predict(self, texts, *, evidence=True, on_texts=None):
                return [self._predict(text, evidence=evidence) for text in texts]

        gapnlp.archive.memory.Memory.__init__.__kwdefaults__["n_texts"] = 2000
        n_rows = int(sys.argv[1])
        source = Path({str(tmp_path)!r}, f"{{n_rows}}.csv")
        with source.open("w") as file:
            file.write("text\\n")
            file.writelines(f"late {{i}} and a rule that nobody told us of\\n" for i in range(n_rows))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run(Forgetful(), str(source), source.with_suffix(".csv.gz"), chunk_rows=1000)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    peaks = [int(subprocess.check_output([*command, str(n_rows)])) for n_rows in (5_000, 50_000)]
    assert peaks[1] < peaks[0] + 4 * 1024  # kilobytes
