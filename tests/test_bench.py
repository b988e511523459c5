"""The benchmarks: what they write, how they judge, and two of them at work on a small scale."""

import argparse
import itertools
import json
import tracemalloc
from pathlib import Path

import pytest

from benchmarks import scaling, webhooks
from benchmarks.load import Sample
from benchmarks.report import Goal, command_of, new_parser, write_report
from benchmarks.texts import CHUNK, SHORT_WORDS, distinct_texts


def run(monkeypatch, benchmark, *arguments):
    """Run a benchmark as a command."""
    monkeypatch.setattr("sys.argv", [benchmark.__name__, *map(str, arguments)])
    with pytest.raises(SystemExit):
        benchmark.main()


def found_by(goals):
    return {goal["name"]: goal["found"] for goal in goals}


def test_a_report_says_how_and_where_it_was_made_and_which_goals_were_missed(tmp_path, capsys):
    options = argparse.Namespace(seconds=2.0, rows=[10, 20], texts=Path("secret/x.jsonl"), none=None, save=tmp_path)
    goals = [Goal("time", 3.0, 2, "ms"), Goal("errors", 0, 0)]
    status = write_report("soak", {"n": 1}, title="Soak", lines=["A line."], options=options, goals=goals)
    figures, shown = json.loads((tmp_path / "soak.json").read_text()), (tmp_path / "soak.md").read_text()
    assert status == 1
    assert figures["command"] == "python -m benchmarks.soak --seconds 2 --rows 10 --rows 20 --texts x.jsonl"
    assert (figures["n"], [goal["is_met"] for goal in figures["goals"]]) == (1, [False, True])
    assert figures["machine"] in shown
    assert shown.startswith(f"# Soak\n\nMade by `{figures['command']}` on ")
    assert "| time | 3 ms | 2 ms | missed |\n| errors | 0 | 0 | met |\n" in shown
    assert capsys.readouterr().out == shown
    assert write_report("soak", {}, title="Soak", lines=[], options=options, goals=goals[1:]) == 0


def test_nothing_found_is_no_goal_met():
    assert not Goal("time", float("nan"), 2).is_met


def test_the_command_of_a_report_is_taken_by_its_parser():
    parser = new_parser("What it measures.\n\nMore.")
    parser.add_argument("--n-texts", type=int, default=5)
    options = parser.parse_args([])
    command = command_of("service", options)
    assert command == "python -m benchmarks.service --n-texts 5"
    assert parser.parse_args(command.split()[3:]) == options
    assert parser.description == "What it measures."


def test_texts_are_distinct_and_short_and_made_a_few_at_a_time():
    n_texts = CHUNK + 3
    texts = list(distinct_texts(n_texts))
    assert len(set(texts)) == len(texts) == n_texts
    assert max(len(text.split()) for text in texts) == SHORT_WORDS + 1
    assert list(itertools.islice(distinct_texts(10**9), 10)) == texts[:10]


def test_an_archive_of_any_size_needs_no_memory_to_write(monkeypatch, tmp_path):
    monkeypatch.setattr(scaling, "distinct_texts", lambda n_rows: (f"{row:0100}" for row in range(n_rows)))
    tracemalloc.start()
    scaling.write_archive(tmp_path / "archive.csv", n_rows=30_000, n_texts=30_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000
    assert (tmp_path / "archive.csv").stat().st_size > 3_000_000


def test_an_archive_with_repeats_goes_through_its_texts_again_and_again(monkeypatch, tmp_path):
    monkeypatch.setattr(scaling, "distinct_texts", lambda n_rows: (str(row) for row in range(n_rows)))
    scaling.write_archive(tmp_path / "archive.csv", n_rows=7, n_texts=3)
    assert (tmp_path / "archive.csv").read_text().split() == ["comment", *"0120120"]


def test_time_per_row_is_judged_without_the_start_up():
    runs = [{"rows": 1000, "seconds": 3.0, "peak_mb": 300.0}, {"rows": 9000, "seconds": 12.8, "peak_mb": 800.0}]
    repeats = {"rows": 90_000, "seconds": 9.0, "peak_mb": 100.0}
    figures, (time, memory) = scaling.judge(runs, repeats=repeats, start_up=2.0)
    assert [row["ms_per_row"] for row in figures["runs"]] == pytest.approx([1.0, 1.2])
    assert time.found == pytest.approx(20)
    assert (time.is_met, memory.found, memory.is_met) == (False, 800.0, False)
    assert scaling.judge([*runs[:1], runs[1] | {"seconds": 10.9}], repeats=repeats, start_up=2.0)[1][0].is_met
    assert scaling.judge(runs, repeats=repeats | {"peak_mb": 900.0}, start_up=2.0)[1][1].found == 900


def test_a_ticket_that_is_lost_or_tagged_twice_is_seen():
    samples = [Sample(index, 202, 0.01) for index in range(3)]
    sent = {"1": 0.0, "2": 1.0, "3": 2.0}
    well = {"1": [0.1], "2": [1.2], "3": [2.1]}
    figures, goals = webhooks.judge(samples, sent_at=sent, tagged_at=well)
    assert all(goal.is_met for goal in goals)
    assert figures["tagged_ms"]["p50"] == pytest.approx(100)
    for tagged in ({"1": [0.1], "2": [1.2]}, well | {"3": [2.1, 2.2]}):
        *_, not_once = webhooks.judge(samples, sent_at=sent, tagged_at=tagged)[1]
        assert (not_once.found, not_once.is_met) == (1, False)
    refused = [*samples[1:], Sample(3, 503, 0.01)]
    assert [goal.is_met for goal in webhooks.judge(refused, sent_at=sent, tagged_at=well)[1]] == [
        True,
        False,
        True,
        True,
    ]
    assert not any(goal.is_met for goal in webhooks.judge([], sent_at=sent, tagged_at={})[1][::2])


@pytest.mark.slow
def test_webhooks_are_sent_to_the_real_service_and_all_tickets_tagged(monkeypatch, tmp_path):
    run(monkeypatch, webhooks, "--seconds", 2, "--rate", 5, "--save", tmp_path)
    figures = json.loads((tmp_path / "webhooks.json").read_text())
    found = found_by(figures["goals"])
    assert figures["n_webhooks"] >= 9  # a machine that stops for a moment may leave out the last
    assert (found["webhooks not acknowledged"], found["tickets not tagged exactly once"]) == (0, 0)
    assert 0 < figures["acknowledged_ms"]["p50"] < figures["tagged_ms"]["p50"]
    assert "| tagged |" in (tmp_path / "webhooks.md").read_text()


@pytest.mark.slow
def test_archives_of_two_sizes_are_labelled_by_the_real_command(monkeypatch, tmp_path):
    monkeypatch.setattr(scaling, "N_STARTS", 1)
    monkeypatch.setattr(scaling, "N_REPEATED", 10)
    run(monkeypatch, scaling, "--rows", 60, "--rows", 20, "--rows-with-repeats", 35, "--save", tmp_path)
    figures = json.loads((tmp_path / "scaling.json").read_text())
    assert [row["rows"] for row in figures["runs"]] == [20, 60]
    assert figures["start_up"] > 0
    # Linux counts the memory of whoever starts a process until the new program is there: no upper bound in a test.
    assert all(row["peak_mb"] > 100 for row in figures["runs"])
    assert figures["repeats"]["rows"] == 35
    peaks = [row["peak_mb"] for row in (*figures["runs"], figures["repeats"])]
    assert found_by(figures["goals"])["peak memory"] == max(peaks)
    assert "| 60 |" in (tmp_path / "scaling.md").read_text()


@pytest.mark.slow
def test_an_archive_that_is_not_labelled_whole_ends_the_benchmark(monkeypatch):
    monkeypatch.setattr(scaling, "distinct_texts", lambda n_rows: ["the same"] * n_rows)
    with pytest.raises(RuntimeError, match="of 3 rows ended with 0"):
        scaling.classify(3)
