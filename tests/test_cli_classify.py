"""`gapnlp classify`: what it prints, where, and how it exits."""

import errno
import json
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

from gapnlp.archive import JobOptions, Watch, open_job
from gapnlp.calibration import Calibration
from gapnlp.classifier import GapClassifier
from gapnlp.cli.classify import run_classify
from gapnlp.cli.main import app
from gapnlp.engines.fake import FakeEngine
from gapnlp.errors import InputError
from gapnlp.model_dir import Decision

# To the fake engine "slow" speaks for delivery, communication and knowledge, "rules" for policy
# and communication, any other word against all.
VOCABULARY = {"[UNK]": 0, "rules": 7, "slow": 11}


def load():
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    decision = Decision(Calibration((1.0,) * 5, (0.0,) * 5, (0.5,) * 5), 0.7, 0.9, 0.5, "nothing")
    return GapClassifier(FakeEngine(), tokenizer, decision=decision, name="tiny@1.0")


@pytest.fixture
def csv_file(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("id,text\n1,slow\n2,rules\n3,hello\n")
    return path


def options_of(tmp_path, csv_file, **options):
    return JobOptions(inputs=(str(csv_file),), output=str(tmp_path / "out.csv"), **options)


def test_the_report_stands_on_stderr(tmp_path, csv_file, capsys):
    csv_file.write_text(csv_file.read_text() + "4,\n")
    run_classify(options_of(tmp_path, csv_file, id_column="id"), load)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{csv_file}: CSV, utf-8, separated by comma; text in 'text'" in err
    lines = [" ".join(line.split()) for line in err.splitlines()]
    assert "gap counted share of rows" in lines
    assert "delivery 1 33.3%" in lines
    assert "communication 2 66.7%" in lines
    assert "none 1 33.3%" in lines
    assert "customer 0 0.0%" in lines
    assert "counted labels, not a prevalence estimate" in " ".join(lines)
    assert "(of the 3 rows that could be read)" in " ".join(lines)
    assert "no label: line 5 (id 4): got an empty text" in err
    assert "4 rows, 1 failed, 0 duplicates, 0 truncated, " in err
    assert "rows/s; model tiny@1.0" in err
    assert f"output: {tmp_path / 'out.csv'}" in err
    assert "\x1b[" not in err  # no progress bar where no one looks


def test_quiet_prints_nothing(tmp_path, csv_file, capsys):
    run_classify(options_of(tmp_path, csv_file), load, quiet=True)
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "out.csv").exists()


def test_json_prints_the_summary_on_stdout(tmp_path, csv_file, capsys):
    run_classify(options_of(tmp_path, csv_file), load, quiet=True, as_json=True)
    summary = json.loads(capsys.readouterr().out)
    assert summary.pop("seconds") > 0
    assert summary.pop("rows_per_second") > 0
    assert summary.pop("review") >= 0
    assert summary == {
        "output": str(tmp_path / "out.csv"),
        "model": "tiny@1.0",
        "rows": 3,
        "kept": 0,
        "failed": 0,
        "duplicates": 0,
        "truncated": 0,
        "counted": {"knowledge": 1, "policy": 1, "delivery": 1, "communication": 2, "customer": 0, "none": 1},
        "failures": [],
        "notes": [],
    }


def test_json_and_rows_do_not_share_stdout(csv_file):
    with pytest.raises(InputError, match="--json and -o - would both write to stdout"):
        run_classify(JobOptions(inputs=(str(csv_file),), output="-"), load, as_json=True)


def test_rows_alone_go_to_stdout(csv_file, capfdbinary):
    run_classify(JobOptions(inputs=(str(csv_file),), output="-"), load)
    sys.stdout.flush()
    out, err = capfdbinary.readouterr()
    assert out.splitlines()[0].startswith(b"id,text,gap_primary")
    assert len(out.splitlines()) == 4
    assert b"output: stdout" in err


def run(script):
    """Run the command line in a process of its own, on the tiny model."""
    prelude = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    return [sys.executable, "-c", prelude + textwrap.dedent(script)]


CLI = """
    from test_cli_classify import load
    from gapnlp.classifier import GapClassifier
    from gapnlp.cli.main import main
    GapClassifier.load = lambda *_, **__: load()
    main()
"""


def test_exit_status(tmp_path, csv_file):
    def status(*arguments):
        command = [*run(CLI), "classify", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    out = tmp_path / "out.csv"
    assert status(csv_file, "-o", out).returncode == 0
    refused = status(csv_file, "-o", out)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"{out} is there already; choose another name, or replace it with  --force\n"
    csv_file.write_text("id,text\n1,slow\n2\n")
    assert status(csv_file, "-o", out, "--force").returncode == 1


def test_stdin_to_stdout_in_a_pipe(csv_file):
    command = [*run(CLI), "classify", "-", "-o", "-", "--format", "jsonl"]
    done = subprocess.run(command, input='{"text": "slow"}\n', capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["gap_primary"] == "delivery"


def test_a_full_stdout_is_a_clear_error(csv_file):
    with Path("/dev/full").open("wb") as full:
        command = [*run(CLI), "classify", str(csv_file), "-o", "-"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "stdout: cannot be written (the disk is full)" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_pressed_twice_stops_at_once_and_leaves_no_file(tmp_path, csv_file):
    script = """
        import time
        from test_cli_classify import load
        from gapnlp.classifier import GapClassifier
        from gapnlp.cli.main import main

        def wait(*_, **__):
            print("waiting", flush=True)
            time.sleep(60)

        def load_slow(*_, **__):
            classifier = load()
            classifier.predict = wait
            return classifier

        GapClassifier.load = load_slow
        main()
    """
    command = [*run(script), "classify", str(csv_file), "-o", str(tmp_path / "out.csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        assert len(list(tmp_path.iterdir())) == 2  # the folder of the job
        process.send_signal(signal.SIGINT)
        assert "text in 'text'" in process.stderr.readline()
        assert process.stderr.readline().startswith("stopping after this chunk; Ctrl-C again: at once")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == f"Interrupted: {tmp_path / 'out.csv'} is not written yet\n"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [csv_file]


def test_a_terminal_gets_a_progress_bar(tmp_path, csv_file):
    ours, theirs = pty.openpty()
    command = [*run(CLI), "classify", str(csv_file), "-o", str(tmp_path / "out.csv")]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL, env=env) as process:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 30)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"3/3" in shown


def stop_after_two_chunks(options):
    """Leave an unfinished job."""
    answers = iter([False, True])
    with open_job(options) as job, pytest.raises(KeyboardInterrupt):
        job.run(load(), watch=Watch(stop=lambda: next(answers)))


def test_a_job_that_goes_on_says_where(tmp_path, csv_file, capsys):
    options = options_of(tmp_path, csv_file, chunk_rows=1)
    stop_after_two_chunks(options)
    summary = run_classify(options, load, as_json=True)
    out, err = capsys.readouterr()
    assert "resuming at row 2 of 3\n" in err
    assert "rows/s (2 rows were done before); model tiny@1.0" in err
    assert json.loads(out)["kept"] == summary.n_kept == 2


def test_a_refusal_says_what_is_kept(tmp_path, csv_file, monkeypatch):
    options = options_of(tmp_path, csv_file, chunk_rows=1)
    stop_after_two_chunks(options)

    def fsync(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(InputError) as caught:
        run_classify(options, load, quiet=True)
    assert "out.csv: cannot be written (the disk is full); make room" in str(caught.value)
    assert str(caught.value).endswith("; 2 of 3 rows are done and kept: the same command goes on from there")


def test_options_that_tell_the_job_and_the_model(tmp_path, csv_file, loads):
    out = tmp_path / "out.csv"

    def status(*options):
        return CliRunner().invoke(app, ["classify", str(csv_file), "-o", str(out), "--quiet", *options])

    assert status("--workers", "3").exit_code == 0
    assert loads == [(None, 3)]
    out.unlink()
    stop_after_two_chunks(options_of(tmp_path, csv_file, chunk_rows=1))
    refused = status()
    assert refused.exit_code == 2
    assert "rows in a chunk was 1, now it is 8192. Begin again with  --restart" in refused.stderr
    assert status("--restart").exit_code == 0
    assert len(out.read_text().splitlines()) == 4


def test_many_inputs_are_not_all_listed(tmp_path, capsys):
    for i in range(30):
        (tmp_path / f"{i:02}.csv").write_text("text\nslow\n")
    run_classify(JobOptions(inputs=(str(tmp_path / "*.csv"),), output=str(tmp_path / "out.jsonl")), load)
    err = capsys.readouterr().err
    assert err.count("CSV, utf-8") == 10
    assert "and 20 more inputs\n" in err
    assert "30 rows, 0 failed, 29 duplicates, 0 truncated" in err


def test_model_directory_that_is_not_there_comes_after_the_inputs_are_checked(tmp_path, csv_file):
    def run_app(*arguments):
        return CliRunner().invoke(app, ["classify", *map(str, arguments)])

    absent = run_app(csv_file, "-o", tmp_path / "out.csv", "--model", tmp_path / "none")
    assert absent.exit_code == 2
    assert str(tmp_path / "none") in absent.stderr
    both = run_app(tmp_path / "no.csv", "-o", tmp_path / "out.csv", "--model", tmp_path / "none")
    assert "no such file" in both.stderr
    assert list(tmp_path.iterdir()) == [csv_file]


def test_the_help_ends_with_an_example_that_parses(tmp_path):
    shown = CliRunner().invoke(app, ["classify", "--help"]).stdout.rstrip().splitlines()
    example = shown[-1].split()
    assert example[:2] == ["gapnlp", "classify"]
    result = CliRunner().invoke(app, example[1:])
    assert "no such file" in result.stderr
