"""Measuring a model: as shipped, fairly on its own calibration rows, and next to others."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from gapnlp.cli.main import app
from gapnlp.model_dir import load_model_dir
from training.card import CARD, EVALUATION
from training.evaluate import compare, evaluate_model, gather_contenders, read_evaluation_set


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory, read_corpus):
    path = tmp_path_factory.mktemp("rows") / "mine.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for example in read_corpus("test", 60):
            spans = [{"label": k, "start": a, "end": b} for k, (a, b) in example.evidence.items()]
            readers = {"reader_1": list(example.labels), "reader_2": list(example.labels)}
            row = {"text": example.text, "labels": list(example.labels), "evidence": spans, **readers}
            out.write(json.dumps(row) + "\n")
    return path


@pytest.fixture(scope="module")
def rows(rows_file):
    return read_evaluation_set(rows_file, text_column="text", labels_column="labels")


def test_a_set_is_named_by_its_file_and_knows_its_readers(rows):
    assert rows.name == "mine"
    assert rows.agreement["same_labels"] == 1.0


def test_other_rows_are_decided_by_the_shipped_thresholds(model_dir, rows):
    figures = evaluate_model(load_model_dir(model_dir), rows)
    assert figures["cross_fitted"] is False
    assert "as_shipped" not in figures
    assert 0 <= figures["scores"]["macro_f1_five"]["value"] <= 1
    assert figures["agreement"]["macro_f1_five"] == 1.0


def test_contenders_are_compared_in_one_table(model_dir, rows):
    model = load_model_dir(model_dir)
    table = compare(gather_contenders({"one": model, "two": model}, train=[], encoder=""), rows)
    assert table["one"] == table["two"]
    assert "macro_f1_six" in table["one"]


def test_rows_without_evidence_have_no_figure_for_it(model_dir, read_corpus, tmp_path):
    path = tmp_path / "bare.csv"
    lines = [
        f'"{e.text.replace(chr(34), chr(34) * 2)}",{";".join(e.labels) or "none"}\n' for e in read_corpus("test", 40)
    ]
    path.write_text("text,labels\n" + "".join(lines), encoding="utf-8")
    done = CliRunner().invoke(app, ["evaluate", str(model_dir), str(path)])
    assert done.exit_code == 0, done.output
    assert "evidence" not in done.output
    assert "macro-F1 over the five gaps" in done.output


def test_what_another_model_was_compared_with_comes_along(trained, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        shutil.copytree(trained.path, folder)

    def evaluate(model, data, *options):
        done = CliRunner().invoke(app, ["evaluate", str(model), str(data), "--save", *options])
        assert done.exit_code == 0, done.output
        return json.loads((model / EVALUATION).read_text(encoding="utf-8"))["sets"][data.stem]["comparison"]

    few = tmp_path / "validation.jsonl"
    lines = trained.validation.read_text(encoding="utf-8").splitlines(keepends=True)
    few.write_text("".join(lines[:50]), encoding="utf-8")
    known = evaluate(other, trained.validation, "--against", str(trained.path))
    assert list(known) == ["other", "tiny"]
    assert evaluate(one, few, "--against", str(other)).keys() == {"one", "other"}, "of other rows nothing is known"
    table = evaluate(one, trained.validation, "--against", str(other))
    assert table == {**known, "one": known["other"]}
    assert list(table) == ["one", "other", "tiny"]
    assert "| tiny | 0." in (one / CARD).read_text(encoding="utf-8")
    assert evaluate(one, trained.validation) == table, "measured again alone, it keeps its table"


def test_the_command_prints_json_for_programs(model_dir, rows_file):
    done = CliRunner().invoke(app, ["evaluate", str(model_dir), str(rows_file), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["sets"]["mine"]["n_rows"] == 60


def test_rows_that_fitted_the_calibration_are_told_and_cross_fitted(trained):
    rows = read_evaluation_set(trained.validation, text_column="text", labels_column="labels")
    figures = evaluate_model(load_model_dir(trained.path), rows)
    assert figures["cross_fitted"] is True
    assert figures["scores"]["macro_f1_five"] != figures["as_shipped"]["macro_f1_five"]
