"""`gapnlp audit` and its files: planned, drawn blind, marked by people, read back."""

import csv
import json
import re

import numpy as np
import pytest
from openpyxl import load_workbook
from typer.testing import CliRunner

from gapnlp.archive.audit_file import read_audit
from gapnlp.archive.labelled import read_labelled
from gapnlp.audit import audited_estimates, reader_agreement
from gapnlp.cli.audit import parse_part, parse_width
from gapnlp.cli.main import app
from gapnlp.errors import ColumnError, ConfigError, InputError
from gapnlp.model_dir import load_model_dir
from gapnlp.prevalence.gap_score import at_likeliest_share
from gapnlp.taxonomy import LABELS

N_ROWS = 400
GAPS = [f"gap_{label}" for label in LABELS]


@pytest.fixture
def labelled(tmp_path):
    """A file as `classify` writes it: every tenth text is about delivery, and one row failed."""
    rng = np.random.default_rng(0)
    path = tmp_path / "labelled.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["ref", "comment", "gap_primary", "gap_labels", *GAPS, "gap_error"])
        for number in range(1, N_ROWS + 1):
            late = number % 10 == 0
            text = f"=It came late, number {number}" if late else f"All fine, number {number}\nreally"
            proba = rng.uniform(0.01, 0.2, 5)
            proba[2] = rng.uniform(0.3, 0.9) if late else rng.uniform(0.01, 0.4)
            cells = [f"{value:.6f}" for value in proba]
            if number == 7:
                writer.writerow([f"R{number}", "", "", "", *[""] * 5, "got an empty text"])
            else:
                writer.writerow([f"R{number}", text, "", "delivery" if proba[2] > 0.5 else "", *cells, ""])
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def draw(labelled, name="audit.csv", *options):
    path = labelled.with_name(name)
    done = run("draw", labelled, "--rows", 100, "-o", path, *options)
    assert done.exit_code == 0, done.stderr
    return path


def read_csv(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def write_csv(path, rows, *, delimiter=","):
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def mark(path, *, n_rows=None):
    """Do what a reader does, with a CSV file."""
    rows = read_csv(path)
    for row in rows[:n_rows]:
        row["read"], row["delivery"] = "x", "1" if "late" in row["text"] else ""
    write_csv(path, rows)
    return rows


def proba_of(labelled):
    return read_labelled([str(labelled)]).proba


def test_the_plan_says_in_words_what_to_read(labelled):
    done = run("plan", labelled, "--width", "5pp")
    assert done.exit_code == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert re.match(r"Read \d+ of 399 texts by hand to know the share of every gap to within ±5 points\.", said)
    assert "an interval 10 points wide, 5 on each side, that holds the true share 95% of the time" in said
    assert re.search(r"Time: about (\d+ minutes|\d+ h( \d+ min)?) for one reader \(5 words a text", said)
    assert re.search(r"delivery \d+\.\d% \d+ \d+ \d+%", said)
    assert "it holds all the same" in said
    assert re.search(rf"Next:  gapnlp audit draw \S*{labelled.name} --rows \d+ -o audit.xlsx\n", done.stdout)
    assert "1 rows have no labels (see gap_error) and are left out" in done.stderr


def test_the_model_that_labelled_tells_where_its_probabilities_were_calibrated(labelled, tmp_path):
    model = load_model_dir(None)
    priors = model.load_validation().priors
    proba = read_labelled([str(labelled)]).proba
    lines = labelled.read_text(encoding="utf-8")
    by_model = tmp_path / "by-model.csv"
    with labelled.open(newline="", encoding="utf-8") as file, by_model.open("w", newline="", encoding="utf-8") as out:
        for number, row in enumerate(csv.reader(file)):
            csv.writer(out).writerow([*row, model.name if number else "gap_model"])

    def foretold(path, *options):
        done = run("plan", path, "--width", "5pp", "--gap", "policy", "--json", *options)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)["gaps"]["policy"]["share"], done.stderr

    share, said = foretold(by_model)
    assert share == pytest.approx(at_likeliest_share(proba[:, 1], priors[1]).mean(), abs=1e-9)
    assert "at their word" not in said
    share, said = foretold(labelled)
    assert share == pytest.approx(proba[:, 1].mean(), abs=1e-9)
    assert "an unknown model: its probabilities are taken at their word" in " ".join(said.split())
    refused = run("plan", labelled, "--width", "5pp", "--model", model.path)
    assert refused.exit_code == 2
    assert f"this is {model.name}, but the archive was labelled by an unknown model" in " ".join(refused.stderr.split())
    assert "there is no model directory" in run("plan", labelled, "--width", "5pp", "--model", tmp_path / "none").stderr
    named = run("plan", by_model, "--width", "5pp", "--gap", "policy", "--model", model.path).stdout
    assert f"--gap policy --model {model.path}" in named
    for path in (by_model, labelled):
        draw(path, f"{path.stem}-audit.csv", "--gap", "policy")
    plans = [json.loads((path.parent / f"{path.stem}-audit.plan.json").read_text()) for path in (by_model, labelled)]
    assert plans[0]["cuts"] != plans[1]["cuts"]
    assert labelled.read_text(encoding="utf-8") == lines


def test_the_plan_for_one_gap(labelled):
    alone = json.loads(run("plan", labelled, "--width", "3%", "--gap", "service performance gap", "--json").stdout)
    together = json.loads(run("plan", labelled, "--width", "3%", "--json").stdout)
    assert alone["gap"] == "delivery"
    assert list(alone["gaps"]) == ["delivery"]
    assert alone["rows"] == alone["gaps"]["delivery"]["rows"] < together["gaps"]["delivery"]["rows"]
    assert together["rows"] <= together["rows_plain_reading"] <= together["texts"] == 399
    assert (together["gap"], together["half_width"], together["left_out"]) == (None, 0.03, 1)
    assert together["minutes"] == pytest.approx(together["rows"] * (5 / 238 + 0.25), abs=1.5)
    assert "--gap delivery" in run("plan", labelled, "--width", "3%", "--gap", "delivery").stdout
    assert "did you mean" in run("plan", labelled, "--width", "3%", "--gap", "deliverry").stderr


@pytest.mark.parametrize(("text", "value"), [("2pp", 0.02), ("±2.5 points", 0.025), ("0.5%", 0.005), (".5 pp", 0.005)])
def test_widths(text, value):
    assert parse_width(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["2", "0.02", "0pp", "50pp", "two", "-1pp"])
def test_a_width_without_a_unit_or_out_of_range_is_refused(text):
    with pytest.raises(ConfigError, match="such as 2pp for ±2"):
        parse_width(text)


def test_parts():
    assert (parse_part("20%"), parse_part("0.2"), parse_part("100 %")) == (0.2, 0.2, 1.0)
    for text in ("120%", "some", "-5%", "nan"):
        with pytest.raises(ConfigError, match="such as 20%"):
            parse_part(text)


def test_the_rows_are_drawn_blind_and_in_random_order(labelled):
    path = draw(labelled, "audit.csv", "--id-column", "ref")
    rows = read_csv(path)
    assert list(rows[0]) == ["row", "id", "text", *LABELS, "read"]
    numbers = [int(row["row"]) for row in rows]
    assert len(set(numbers)) == 100
    assert numbers != sorted(numbers)
    assert 7 not in numbers  # it has no labels
    assert {row[label] for row in rows for label in (*LABELS, "read")} == {""}
    assert all(
        row["id"] == f"R{row['row']}" and row["text"].endswith(f"{row['row']}" * (number % 10 == 0))
        for number, row in zip(numbers, rows, strict=True)
    )
    assert {row["text"][:4] for row in rows if int(row["row"]) % 10 == 0} == {"'=It"}  # not run as a formula
    assert "0." not in path.read_text(encoding="utf-8")
    again = draw(labelled, "again.csv", "--id-column", "ref")
    assert again.read_bytes() == path.read_bytes()
    assert draw(labelled, "other.csv", "--seed", "1").read_bytes() != path.read_bytes()


def test_what_draw_says(labelled):
    done = run("draw", labelled, "--rows", 50, "-o", labelled.with_name("a.csv"), "--double", "20%", "--gap", "policy")
    said = " ".join(done.stderr.split())
    assert "50 of 399 texts, drawn for policy; about" in said
    assert "the first 10 of them, for a second reader who reads alone" in said
    assert "Put x under each gap" in said
    assert re.search(r"Then:  gapnlp report \S+labelled.csv --audit \S+a.csv -o report.html\n", done.stderr)
    figures = json.loads(run("draw", labelled, "--rows", 50, "-o", labelled.with_name("b.csv"), "--json").stdout)
    assert (figures["rows"], figures["gap"], figures["second_reader"], figures["left_out"]) == (50, None, None, 1)


def test_from_draw_to_estimate(labelled):
    path = draw(labelled)
    rows = mark(path)
    audit = read_audit(path, proba_of(labelled))
    n_late = sum("late" in row["text"] for row in rows)
    assert audit.labels.sum(axis=0).tolist() == [0, 0, n_late, 0, 0]
    assert (audit.n_texts, audit.n_drawn, audit.drawn_for) == (399, 100, "")
    archive = read_labelled([str(labelled)])
    assert (archive.number[audit.rows] % 10 == 0).tolist() == audit.labels[:, 2].tolist()
    found = audited_estimates(archive.proba, archive.decided, audit)[2]
    assert found.low <= 40 / 399 <= found.high
    assert found.counted == archive.decided[:, 2].mean()


def test_a_draw_for_one_gap_comes_back_with_its_strata(labelled):
    path = draw(labelled, "audit.csv", "--gap", "delivery")
    mark(path)
    archive = read_labelled([str(labelled)])
    audit = read_audit(path, archive.proba)
    assert audit.drawn_for == "delivery"
    assert audit.n_strata == 4
    rate = {round(float(value), 4) for value in audit.inclusion}
    assert len(rate) > 1
    assert (1 / audit.inclusion).sum() == pytest.approx(399)
    found = audited_estimates(archive.proba, archive.decided, audit)[2]
    assert found.low <= 40 / 399 <= found.high


def test_a_workbook_filled_in_by_hand(labelled):
    path = draw(labelled, "audit.xlsx", "--double", "30%")
    book = load_workbook(path)
    sheet = book.active
    assert sheet.freeze_panes == "A2"
    assert {cell.data_type for cell in sheet["B"]} == {"s"}
    for row in sheet.iter_rows(min_row=2, max_row=61):
        late = "late" in row[1].value
        row[4].value, row[7].value = (1 if late else None), True
    book.save(path)
    audit = read_audit(path, proba_of(labelled))
    assert (len(audit.rows), len(audit.second)) == (60, 0)
    assert 0 < audit.labels[:, 2].sum() < 60
    second = load_workbook(path.with_name("audit.reader2.xlsx"))
    for row in second.active.iter_rows(min_row=2):
        row[7].value = "yes"  # sees nothing anywhere
    second.save(path.with_name("audit.reader2.xlsx"))
    audit = read_audit(path, proba_of(labelled))
    assert len(audit.second) == 30
    found = reader_agreement(audit)[2]
    assert found.n_disputed == audit.labels[audit.second_rows, 2].sum() > 0


def test_jsonl_filled_in_by_a_program(labelled):
    path = draw(labelled, "audit.jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {line["text"][0] for line in lines} == {"=", "A"}  # no spreadsheet, nothing to escape
    filled = [line | {"read": True, "policy": line["row"] % 2} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in filled), encoding="utf-8")
    audit = read_audit(path, proba_of(labelled))
    assert audit.labels[:, 1].sum() == sum(line["row"] % 2 for line in lines)


def test_marks_as_people_and_spreadsheets_leave_them(labelled):
    path = draw(labelled)
    rows = read_csv(path)
    for row, cell in zip(rows, ["X", " yes ", "1.0", "TRUE", "\u2713", "no", "0", "-", "False", ""], strict=False):
        row["Delivery gap"], row["read"] = cell, "x"
    for row in rows:
        del row["delivery"], row["text"]
        row.setdefault("Delivery gap", "")
        row["row"] = f"{row['row']}.0"
    write_csv(path, [dict(reversed(row.items())) for row in rows], delimiter=";")
    audit = read_audit(path, proba_of(labelled))
    assert len(audit.rows) == 10
    assert audit.labels[:, 2].tolist() == [True] * 5 + [False] * 5


def test_rows_left_unread_do_not_count(labelled):
    path = draw(labelled)
    mark(path, n_rows=40)
    archive = read_labelled([str(labelled)])
    audit = read_audit(path, archive.proba)
    assert (len(audit.rows), audit.n_drawn) == (40, 100)
    assert (
        "60 of the 100 texts drawn were left unread"
        in audited_estimates(archive.proba, archive.decided, audit)[0].notes[1]
    )


def change(path, position, **cells):
    rows = mark(path)
    rows[position] |= cells
    write_csv(path, rows)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"delivery": "maybe"}, r"audit.csv, line \d+, column delivery: got 'maybe', expected x, 1 or yes"),
        ({"read": "later"}, "column read: got 'later'"),
        ({"read": "", "policy": "x"}, "a gap is marked but 'read' is not; mark 'read' in every row"),
        ({"row": "7"}, "row '7' is not one of those that were drawn"),
        ({"row": "4711"}, "row '4711' is not one of those that were drawn"),
        ({"row": "x"}, "row 'x' is not one of those that were drawn"),
    ],
)
def test_a_cell_that_cannot_be_used_is_named(labelled, cells, message):
    path = draw(labelled)
    change(path, 3, **cells)
    with pytest.raises(InputError, match=message):
        read_audit(path, proba_of(labelled))


def test_a_row_that_is_there_twice_is_named(labelled):
    path = draw(labelled)
    change(path, 3, row=read_csv(path)[0]["row"])
    with pytest.raises(InputError, match=r"line \d+: row \d+ is in line 2 too; keep one of them"):
        read_audit(path, proba_of(labelled))


def test_an_untouched_file_is_no_audit(labelled):
    path = draw(labelled)
    with pytest.raises(InputError, match="no row is marked as read; put x under 'read'"):
        read_audit(path, proba_of(labelled))


def test_missing_and_doubled_columns_are_named(labelled):
    path = draw(labelled)
    rows = mark(path)
    write_csv(path, [{key: row[key] for key in row if key != "customer"} for row in rows])
    with pytest.raises(ColumnError, match="has no column 'customer'"):
        read_audit(path, proba_of(labelled))
    write_csv(path, [row | {"gap 3": ""} for row in rows])
    with pytest.raises(ColumnError, match="'delivery' and 'gap 3' mean the same gap"):
        read_audit(path, proba_of(labelled))


def test_another_archive_is_refused(labelled):
    path = draw(labelled)
    mark(path)
    proba = proba_of(labelled)
    with pytest.raises(InputError, match=r"drawn from 399 texts \(labelled.csv\), but got 398"):
        read_audit(path, proba[1:])
    with pytest.raises(InputError, match=r"another archive \(labelled.csv\), or that one has since been sorted"):
        read_audit(path, proba[::-1])


def test_the_plan_must_lie_beside_the_rows(labelled):
    path = draw(labelled)
    mark(path)
    plan = path.with_name("audit.plan.json")
    content = plan.read_text(encoding="utf-8")
    for broken, message in (
        ("{", "cannot be read as the plan"),
        ("[]", "not the plan of an audit"),
        ("{}", "not the plan"),
    ):
        plan.write_text(broken, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            read_audit(path, proba_of(labelled))
    plan.write_text(content.replace('"rows": [[', '"rows": [["x", '), encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read as the plan"):
        read_audit(path, proba_of(labelled))
    plan.unlink()
    with pytest.raises(InputError, match="put it back"):
        read_audit(path, proba_of(labelled))
    with pytest.raises(InputError, match="no such file; expected what  gapnlp audit draw  wrote"):
        read_audit(path.with_name("other.csv"), proba_of(labelled))


def test_a_readers_marks_are_not_written_over(labelled):
    path = draw(labelled, "audit.csv", "--double", "10%")
    mark(path)
    before = path.read_bytes()
    refused = run("draw", labelled, "--rows", 10, "-o", path)
    assert refused.exit_code == 2
    assert "is there already, with marks perhaps" in refused.stderr
    assert path.read_bytes() == before
    assert run("draw", labelled, "--rows", 10, "-o", path, "--force").exit_code == 0
    assert len(read_csv(path)) == 10
    assert not path.with_name("audit.reader2.csv").exists()  # it was of the other rows
    mark(path)
    assert len(read_audit(path, proba_of(labelled)).rows) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "400", "-o", "a.csv"], "rows to read: got 400, expected 1 to 399"),
        (["--rows", "10", "-o", "a.parquet"], "ends in .csv, .xlsx or .jsonl"),
        (["--rows", "10", "-o", "a.csv.gz"], "ends in .csv, .xlsx or .jsonl"),
        (["--rows", "10", "-o", "labelled.csv"], "is the input as well as the output"),
        (["--rows", "10", "-o", "no/a.csv"], "its folder does not exist"),
        (["--rows", "10", "-o", "a.csv", "--id-column", "reff"], "did you mean 'ref'"),
        (["--rows", "10", "-o", "a.csv", "--text-column", "body"], "--text-column 'body' is no column"),
        (["--rows", "10", "-o", "a.csv", "--double", "2"], "such as 20%"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(labelled, monkeypatch, arguments, message):
    monkeypatch.chdir(labelled.parent)
    done = run("draw", "labelled.csv", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert [path.name for path in labelled.parent.iterdir()] == ["labelled.csv"]


def test_a_file_that_was_not_classified_is_refused(tmp_path):
    path = tmp_path / "raw.csv"
    path.write_text("text\nhello\n")
    done = run("plan", path, "--width", "2pp")
    assert done.exit_code == 2
    assert "has no column gap_labels, which classifying adds; label the file first" in done.stderr
    assert "name what  gapnlp classify  wrote" in run("plan", "-", "--width", "2pp").stderr


def test_an_edited_probability_is_named(labelled):
    text = labelled.read_text(encoding="utf-8")
    labelled.write_text(re.sub(r"0\.\d{6}", "1.5", text, count=1), encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2: gap_knowledge is '1.5', expected a number from 0 to 1"):
        read_labelled([str(labelled)])


def test_what_classify_writes_can_be_audited_in_every_format(tmp_path, loads):
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "\n".join(["slow", "promised slow", "fine", "fine fine"] * 10) + "\n")
    prints = set()
    for suffix in ("csv", "jsonl", "xlsx", "parquet"):
        path = tmp_path / f"out.{suffix}"
        assert CliRunner().invoke(app, ["classify", str(source), "-o", str(path), "--quiet"]).exit_code == 0
        done = run("draw", path, "--rows", 20, "-o", tmp_path / f"audit-{suffix}.csv", "--json")
        assert done.exit_code == 0, done.stderr
        plan = json.loads((tmp_path / f"audit-{suffix}.plan.json").read_text(encoding="utf-8"))
        prints.add(plan["fingerprint"])
        archive = read_labelled([str(path)])
        assert archive.decided.sum(axis=0).tolist()[2] == 20
    assert len(prints) == 1
    assert loads


def test_two_files_count_as_one_archive(labelled, tmp_path):
    other = tmp_path / "more.csv"
    other.write_bytes(labelled.read_bytes())
    path = tmp_path / "audit.csv"
    assert run("draw", labelled, other, "--rows", 300, "-o", path, "--id-column", "ref").exit_code == 0
    rows = read_csv(path)
    assert max(int(row["row"]) for row in rows) > N_ROWS
    assert all(int(row["row"]) % N_ROWS == int(row["id"][1:]) % N_ROWS for row in rows)


@pytest.mark.parametrize("command", ["plan", "draw"])
def test_the_help_ends_with_an_example_that_parses(command):
    shown = run(command, "--help").stdout.rstrip().splitlines()
    example = shown[-1].split()
    assert example[:3] == ["gapnlp", "audit", command]
    assert "no such file" in run(*example[2:]).stderr
