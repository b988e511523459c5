"""`kill -9` in the middle of a real `gapnlp classify`, again and again: the output is that of a quiet run."""

import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from gapnlp.archive.ledger import ledger_folder

N_ROWS = 3000
SCRIPT = """
    import sys, time
    sys.path.insert(0, {tests!r})
    from test_cli_classify import load
    from gapnlp.archive import JobOptions
    from gapnlp.classifier import GapClassifier
    from gapnlp.cli.main import main

    JobOptions.__init__.__kwdefaults__["chunk_rows"] = 60
    GapClassifier.load = lambda *_, **__: load()
    print("ready", flush=True)
    main()
"""


def classify(source, out, *arguments):
    """Start the command line in a process of its own, and wait until it has imported all it needs."""
    script = textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent)))
    command = [sys.executable, "-c", script, "classify", str(source), "-o", str(out), "--quiet", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process):
    process.stdout.read()
    message = process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    return process.wait(), message


@pytest.fixture
def archive(tmp_path):
    """Rows of which some have no text, some come again much later."""
    path = tmp_path / "in.csv"
    words = ["slow", "rules", "hello", "slow rules"]
    rows = [f"{i},{'' if i % 97 == 0 else f'{words[i % 4]} {i % 1100}'}\n" for i in range(N_ROWS)]
    path.write_text("id,text\n" + "".join(rows))
    return path


def kill_many(archive, out, *, n_kills):
    """Kill as often as asked for, beginning anew whenever a run came to its end; return how often one did."""
    whole = archive.with_name(f"whole{out.suffix}")
    process = classify(archive, whole)
    began = time.monotonic()
    assert finish(process) == (1, "")
    seconds = time.monotonic() - began
    moments = random.Random(5)
    n_killed = n_finished = 0
    while n_killed < n_kills:
        process = classify(archive, out)
        time.sleep(moments.uniform(0, 0.8 * seconds))
        process.send_signal(signal.SIGKILL)
        status, message = finish(process)
        n_killed += status == -signal.SIGKILL
        n_finished += check_finished(status, message, out=out, whole=whole)
    while not check_finished(*finish(classify(archive, out)), out=out, whole=whole):
        pass
    return n_finished + 1


def check_finished(status, message, *, out, whole):
    """Compare the output of a run that came to its end, and take it away."""
    if status == -signal.SIGKILL:
        return 0
    if status == 2:  # the run before was killed after all was done
        assert message == f"{out} is there already; choose another name, or replace it with  --force\n"
        shutil.rmtree(ledger_folder(out), ignore_errors=True)
    else:
        assert (status, message) == (1, "")
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in out.parent.iterdir()) == sorted(["in.csv", out.name, whole.name])
    out.unlink()
    return 1


def test_some_kills(tmp_path, archive):
    assert kill_many(archive, tmp_path / "out.csv", n_kills=4) >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "n_kills"), [("csv", 70), ("parquet", 30)])
def test_a_hundred_kills(tmp_path, archive, suffix, n_kills):
    assert kill_many(archive, tmp_path / f"out.{suffix}", n_kills=n_kills) >= 1


def test_two_at_once_and_one_after_a_killed_one(tmp_path, archive):
    """The lock keeps the second out, and dies with its holder."""
    first = classify(archive, tmp_path / "out.csv")
    while not list(tmp_path.glob(".out.csv.gapnlp-job/rows-*")):
        time.sleep(0.005)
    first.send_signal(signal.SIGSTOP)
    status, message = finish(classify(archive, tmp_path / "out.csv"))
    assert (status, message.count("\n")) == (2, 1)
    assert "another run is writing it" in message
    first.send_signal(signal.SIGKILL)
    finish(first)
    assert finish(classify(archive, tmp_path / "out.csv")) == (1, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_the_end_of_a_chunk_and_says_how_to_go_on(tmp_path, archive, number):
    process = classify(archive, tmp_path / "out.csv")
    while not list(tmp_path.glob(".out.csv.gapnlp-job/rows-*")):
        time.sleep(0.005)
    process.send_signal(number)
    status, message = finish(process)
    assert status == 130
    stopping, interrupted = message.splitlines()
    assert stopping.startswith("stopping after this chunk; Ctrl-C again: at once")
    n_done = int(interrupted.split("; ")[1].split(" of ")[0].replace(",", ""))
    assert n_done % 60 == 0
    assert interrupted.endswith(f"{n_done:,} of {N_ROWS:,} rows are done and kept: the same command goes on from there")
    assert finish(classify(archive, tmp_path / "out.csv")) == (1, "")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == N_ROWS + 1
