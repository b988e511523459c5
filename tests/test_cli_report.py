"""`gapnlp report`: what it writes, prints and refuses."""

import json
from pathlib import Path

import pytest
from report_world import planted, write_labelled
from typer.testing import CliRunner

from gapnlp.archive import JobOptions
from gapnlp.classifier import GapClassifier
from gapnlp.cli.classify import run_classify
from gapnlp.cli.main import app


@pytest.fixture
def labelled(tmp_path):
    rows = planted({"policy": 0.5, "delivery": 0.1}, n=300)
    rows.columns["branch"] = [f"B{i % 3}" for i in range(300)]
    rows.columns["date"] = [f"{i % 28 + 1:02d}/03/2026" for i in range(300)]
    return write_labelled(rows, tmp_path / "labelled.csv")


def run(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_a_report_is_written_and_its_answer_printed(labelled, tmp_path):
    output = tmp_path / "report.json"
    done = run(labelled, "-o", output, "--by", "branch", "--over", "date:week", "--title", "Our gaps")
    assert done.exit_code == 0, done.stderr
    found = json.loads(output.read_text())
    assert (found["title"], found["answer"]["label"]) == ("Our gaps", "policy")
    assert found["splits"][0]["column"] == "branch"
    assert found["timeline"]["unit"] == "week"
    said = " ".join(done.stderr.split())
    assert done.stdout == ""
    assert said.startswith("Close the policy gap first.")
    assert "95% range counted" in said
    assert "No group of branch differs from the rest beyond chance" in said
    assert f"output: {output}" in done.stderr


def test_the_extension_tells_the_format_unless_one_is_asked_for(labelled, tmp_path):
    assert run(labelled, "-o", tmp_path / "r.md", "--quiet").exit_code == 0
    assert (tmp_path / "r.md").read_text().startswith("# Which service gap to close first")
    assert run(labelled, "-o", tmp_path / "r.txt", "--format", "md", "--quiet").exit_code == 0
    assert (tmp_path / "r.txt").read_text() == (tmp_path / "r.md").read_text()
    refused = run(labelled, "-o", tmp_path / "r.pdf")
    assert refused.exit_code == 2
    assert "expected a name that ends in .html" in refused.stderr
    assert "expected one of html, print, json" in run(labelled, "-o", tmp_path / "r.md", "--format", "pdf").stderr


def test_a_report_goes_to_stdout(labelled):
    done = run(labelled, "-o", "-", "--format", "csv", "--quiet")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.lstrip("\ufeff").startswith("part,group,gap,texts,counted,prevalence")
    assert done.stderr == ""
    assert "--format html|print|json|csv|xlsx|md" in run(labelled, "-o", "-").stderr


def test_labelled_rows_come_from_stdin(labelled):
    arguments = ["report", "-", "-o", "-", "--format", "json", "--quiet"]
    done = CliRunner().invoke(app, arguments, input=Path(labelled).read_bytes())
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["sources"] == [{"name": "stdin", "n_rows": 300}]


def test_nothing_is_written_over(labelled, tmp_path):
    output = tmp_path / "report.md"
    output.write_text("mine")
    refused = run(labelled, "-o", output)
    assert refused.exit_code == 2
    assert "is there already" in refused.stderr
    assert "--force" in refused.stderr
    assert output.read_text() == "mine"
    assert run(labelled, "-o", output, "--force", "--quiet").exit_code == 0
    before = (tmp_path / "labelled.csv").read_bytes()
    assert "is the input as well as the output" in run(labelled, "-o", labelled, "--force").stderr
    assert (tmp_path / "labelled.csv").read_bytes() == before
    assert "its folder does not exist" in run(labelled, "-o", tmp_path / "no" / "r.md").stderr
    assert "is a folder" in run(labelled, "-o", tmp_path, "--format", "md", "--force").stderr


def test_patterns_match_everything_but_the_report(labelled, tmp_path):
    write_labelled(planted({"policy": 0.5}, n=50), tmp_path / "more.csv")
    output = tmp_path / "shares.csv"
    for _ in range(2):  # the second time, the report of the first is there
        done = run(tmp_path / "*.csv", "-o", output, "--quiet", "--force")
        assert done.exit_code == 0, done.stderr
    assert "350" in output.read_text(encoding="utf-8-sig")


def test_mistakes_are_explained_in_one_message(labelled, tmp_path):
    raw = tmp_path / "raw.csv"
    raw.write_text("comment\nlate\n")
    for arguments, message in (
        ([raw], f"gapnlp classify {raw} -o labelled.csv"),
        ([labelled, "--by", "shop"], "--by 'shop' is no column"),
        ([labelled, "--over", "comment"], "is no date that can be told for certain; say how dates are written"),
        ([labelled, "--over", "branch"], "'B0' in the column 'branch' is no date"),
        ([labelled, "--audit", tmp_path / "audit.csv"], "no such file"),
        ([labelled, "--model", tmp_path / "nowhere"], "no model directory"),
        ([labelled, "--text-column", "words"], "--text-column 'words' is no column"),
    ):
        done = run(*arguments, "-o", tmp_path / "r.md")
        assert done.exit_code == 2, arguments
        assert message in done.stderr.replace("\n", " "), arguments
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "r.md").exists()


def test_from_comments_to_a_report_with_a_model_of_ones_own(model_dir, read_corpus, tmp_path):
    """The whole way: a model trained here, its labels, its held-out scores."""
    comments = tmp_path / "comments.csv"
    rows = [f'"{example.text}"' for example in read_corpus("test", 200) if '"' not in example.text]
    comments.write_text("comment\n" + "\n".join(rows) + "\n", encoding="utf-8")
    output = str(tmp_path / "labelled.parquet")
    run_classify(JobOptions(inputs=(str(comments),), output=output), lambda: GapClassifier.load(model_dir), quiet=True)
    done = run(output, "-o", tmp_path / "report.json", "--model", model_dir)
    assert done.exit_code == 0, done.stderr
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["n_texts"] == len(rows)
    assert found["method"]["model"].startswith("tiny@")
    assert "For 60 texts that the model had not learnt from" in json.dumps(found["method"])
    wrong = run(output, "-o", tmp_path / "other.json")
    assert wrong.exit_code == 2
    assert "labelled by tiny@" in wrong.stderr
    no_scores = run(output, "-o", tmp_path / "other.json", "--confidence", "0.2")
    assert no_scores.exit_code == 2


def test_the_help_ends_with_an_example():
    text = run("--help").stdout
    assert text.rstrip().endswith("gapnlp report labelled.csv -o report.html --by branch --over date:month")
