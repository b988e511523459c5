import json
import re
import shlex
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from gapnlp.classifier import GapClassifier
from gapnlp.cli import explain as module
from gapnlp.cli.explain import cut, explain
from gapnlp.errors import InputError, ModelNotFoundError
from gapnlp.records import Evidence, Prediction
from gapnlp.taxonomy import LABELS, load_taxonomy

ANSI = re.compile(r"\x1b\[[0-9;]*m")

app = typer.Typer()
app.command()(explain)


@pytest.fixture(autouse=True)
def plain_output(monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments, stdin=None, env=None, charset="utf-8"):
    return CliRunner(charset=charset).invoke(app, list(arguments), input=stdin, env=env, catch_exceptions=False)


def words(text):
    return " ".join(text.split())


def test_the_gap_its_passage_and_what_closes_it_are_told(loads):
    out = words(run("the slow slow").output)
    gap = load_taxonomy()["delivery"]
    assert f"Gap found: {gap.name}" in out
    assert "the ⟦delivery: slow slow⟧" in out
    for sentence in (gap.definition, *gap.causes, *gap.questions, *gap.remedies):
        assert words(sentence) in out
    assert "Model: tiny@1.0" in out
    assert loads == [(None, None)]
    assert load_taxonomy()["policy"].definition not in out


def test_all_five_probabilities_are_listed_and_the_found_ones_marked(loads):
    lines = [line for line in run("the slow slow").output.splitlines() if re.search(r" \d\.\d\d$", line)]
    (prediction,) = GapClassifier.load().predict(["the slow slow"])
    assert [line[2:].split()[0] for line in lines] == list(LABELS)
    assert [line.split()[-1] for line in lines] == [f"{p:.2f}" for p in prediction.proba]
    assert [line[0] for line in lines] == [" ", " ", "*", " ", " "]
    assert lines[2].count("█") == round(prediction.proba[2] * 20)


def test_several_gaps_name_the_primary(loads):
    out = words(run("slow promised").output)
    assert "Gaps found: delivery gap, communication gap (primary: delivery)" in out
    assert "⟦delivery, communication: slow promised⟧" in out
    assert load_taxonomy()["communication"].definition in out


def test_none_is_said_in_a_sentence(loads):
    out = run("Lovely crew today, thank you.").output
    assert "none: no grievance was found" in out
    assert "⟦" not in out
    assert "Likely causes" not in out


def test_review_is_said_only_where_it_is_due(loads):
    assert "For review: " in run("the slow").output
    assert "For review: " not in run("Lovely crew").output


def test_truncation_is_said_only_where_it_happened(loads, monkeypatch):
    assert "Truncated: " not in run("slow").output
    monkeypatch.setattr("gapnlp.encoding.MAX_CHARACTERS", 3)
    assert "Truncated: " in run("slow").output


@pytest.mark.parametrize("text", ["[red]slow[/red]", "[/]", "[link=x]slow", ":smile: slow", "[bold slow"])
def test_markup_in_the_text_is_shown_as_it_is(loads, text):
    out = re.sub(r"⟦[^:]*: |⟧", "", run(text).output)
    assert text in out


def test_characters_that_steer_a_terminal_are_not_passed_on(loads):
    out = run("slow \x1b[31mred\x1b]0;title\x07 \x9b2J\r\nnext\tline").output
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\x9b" not in out
    assert "\ufffd[31mred" in out
    assert re.search(r"\ufffd2J\nnext +line⟧?\n", out)  # a Windows line end is one line end


def test_a_terminal_with_colours_needs_no_brackets(loads):
    env = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    out = run("the slow slow", env=env).output
    assert "⟦" not in out
    assert re.search(r"\x1b\[[0-9;]*4[0-9;]*mslow slow\x1b\[0m", out)
    assert "the slow slow" in ANSI.sub("", out)
    without = run("the slow slow", env={**env, "NO_COLOR": "1"}).output
    assert "⟦delivery: slow slow⟧" in ANSI.sub("", without)


def test_an_output_that_knows_ascii_alone_still_gets_an_answer(loads):
    out = run("slow slow café", charset="ascii").output
    assert "[[delivery: slow slow]] caf?" in out
    assert "#" in out
    assert out.isascii()


def test_every_gap_has_its_own_style():
    assert set(module.STYLES) == set(LABELS)
    assert len(set(module.STYLES.values())) == len(LABELS)


def test_json_is_the_documented_object(loads):
    text = "café slow slow slow slow slow slow slow \ud83d [b]"
    (prediction,) = GapClassifier.load().predict([text])
    assert len(prediction.labels) == 1
    said = json.loads(run(text, "--json").output)
    gap = load_taxonomy()["delivery"]
    (passage,) = prediction.evidence
    assert said == {
        "text": text,
        "primary": "delivery",
        "labels": ["delivery"],
        "probabilities": prediction.proba_by_label,
        "evidence": {
            "delivery": {
                "start": passage.start,
                "end": passage.end,
                "text": text[passage.start : passage.end],
            }
        },
        "review": prediction.review,
        "truncated": False,
        "model": "tiny@1.0",
        "gaps": [
            {
                "id": "delivery",
                "name": gap.name,
                "definition": gap.definition,
                "causes": list(gap.causes),
                "questions": list(gap.questions),
                "remedies": list(gap.remedies),
            }
        ],
    }
    assert said["evidence"]["delivery"]["text"] == "slow slow slow slow slow slow slow"


def test_json_of_none(loads):
    said = json.loads(run("thank you", "--json").output)
    assert said["primary"] == "none"
    assert said["labels"] == said["gaps"] == []
    assert said["evidence"] == {}
    assert list(said["probabilities"]) == list(LABELS)


def test_help_names_every_key_of_the_json_and_ends_with_an_example(loads):
    from gapnlp.cli.main import app as gapnlp

    out = CliRunner().invoke(gapnlp, ["explain", "--help"]).output
    for key in json.loads(run("slow", "--json").output):
        assert re.search(rf"\b{key}\b", out)
    *_, heading, example = out.rstrip().splitlines()
    assert heading.strip() == "Example:"
    program, *arguments = shlex.split(example)
    assert program == "gapnlp"
    assert CliRunner().invoke(gapnlp, arguments).exit_code == 0


def test_a_mistake_is_one_message_and_exit_2(loads):
    from gapnlp.cli.main import app as gapnlp

    done = CliRunner().invoke(gapnlp, ["explain", " "])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "got a text of white space alone" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stdin", [b"the slow slow", b"the slow slow\n", b"\xef\xbb\xbfthe slow slow\r\n"])
def test_a_dash_reads_stdin(loads, stdin):
    assert json.loads(run("-", "--json", stdin=stdin).output)["text"] == "the slow slow"


def test_stdin_that_is_not_utf_8_is_refused(loads):
    with pytest.raises(InputError, match=r"0xe9 at position 3.*UTF-8.*iconv"):
        run("-", stdin="café".encode("cp1252"))
    assert loads == []


@pytest.mark.parametrize("text", ["", "  "])
def test_a_text_without_words_is_refused(loads, text):
    with pytest.raises(InputError, match="expected"):
        run(text)


def test_the_model_is_the_one_named(loads, tmp_path):
    run("slow", "--model", str(tmp_path))
    assert loads == [(tmp_path, None)]


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelNotFoundError, match="absent"):
        run("slow", "--model", str(tmp_path / "absent"))


def test_overlapping_passages_are_cut_into_pieces():
    evidence = (Evidence("delivery", 2, 6), Evidence("policy", 4, 8))
    pieces = cut("0123456789", evidence)
    assert pieces == [
        ("01", ()),
        ("23", ("delivery",)),
        ("45", ("delivery", "policy")),
        ("67", ("policy",)),
        ("89", ()),
    ]


@pytest.mark.parametrize(
    "evidence", [(), (Evidence("delivery", 0, 4),), (Evidence("delivery", 2, 2), Evidence("policy", 0, 4))]
)
def test_the_pieces_joined_are_the_text(evidence):
    assert "".join(piece for piece, _ in cut("slow", evidence)) == "slow"
    assert all(piece for piece, _ in cut("slow", evidence))


def test_importing_the_command_imports_nothing_heavy():
    program = (
        "import sys, gapnlp.cli.explain\n"
        "print(sorted({'numpy', 'openvino', 'tokenizers', 'gapnlp.classifier'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_explanation_has_no_gaps_that_were_not_found():
    prediction = Prediction(("customer",), (0.9,) * 5, (), review=False, truncated=False, model="m@1")
    assert [gap["id"] for gap in module.explanation("x", prediction)["gaps"]] == ["customer"]
