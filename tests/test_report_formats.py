"""A report as JSON, CSV, XLSX, Markdown and data frames."""

import csv
import io
import json
import random
import re
from dataclasses import replace
from itertools import takewhile

import pytest
from openpyxl import load_workbook
from report_world import planted, write_labelled

from gapnlp.errors import InputError
from gapnlp.report import ReportOptions, build_report, render, tables, to_frames
from gapnlp.report.content import Quotation
from gapnlp.report.formats import KINDS, kind_of, to_csv, to_json, to_markdown, to_workbook
from gapnlp.taxonomy import LABELS

FORMULA = '=HYPERLINK("http://example.org","x")'


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    rows = planted({"policy": 0.5, "delivery": 0.1}, n=400)
    rows.columns["branch"] = random.Random(0).choices(["North | East", FORMULA], k=400)
    rows.columns["date"] = [f"2026-{i % 9 + 1:02d}-01" for i in range(400)]
    rows.columns["comment"] = [f"@home *{text}* <b>\x07" for text in rows.columns["comment"]]
    path = write_labelled(rows, tmp_path_factory.mktemp("archive") / "labelled.csv")
    options = ReportOptions(by=("branch",), over="date", created="2026-11-30", title="+Gaps")
    return build_report([path], options)


def test_json_holds_everything(content):
    found = json.loads(to_json(content))
    assert found["format"] == 1
    assert found["answer"]["label"] == "policy"
    assert [item["label"] for item in found["estimates"]] == list(LABELS)
    assert found["estimates"][1]["prevalence"] == content.estimates[1].prevalence
    assert found["estimates"][1]["notes"] == list(content.estimates[1].notes)
    assert found["gaps"][0]["gap"]["remedies"] == list(content.gaps[0].gap.remedies)
    assert found["splits"][0]["segments"]["estimates"][0]["group"] in ("North | East", FORMULA)
    assert len(found["timeline"]["trends"]) == 5
    assert found["title"] == "+Gaps"


def test_json_has_no_numbers_that_are_none(content):
    broken = replace(content, none=replace(content.none, prevalence=float("nan")))
    assert json.loads(to_json(broken))["none"]["prevalence"] is None


def test_csv_is_one_share_a_row_and_runs_nothing(content):
    rows = list(csv.DictReader(io.StringIO(to_csv(content))))
    whole = {row["gap"]: row for row in rows if row["part"] == "whole"}
    assert list(whole) == [*LABELS, "none"]
    assert float(whole["policy"]["prevalence"]) == pytest.approx(content.estimates[1].prevalence, abs=1e-6)
    assert whole["policy"]["band_low"] == ""
    groups = {row["group"] for row in rows if row["part"] == "branch"}
    assert groups == {"North | East", f"'{FORMULA}"}
    assert {row["group"] for row in rows if row["part"] == "date"} == {f"2026-{month:02d}" for month in range(1, 10)}
    assert render(content, kind="csv").startswith(b"\xef\xbb\xbf")


def test_xlsx_runs_nothing(content):
    book = load_workbook(io.BytesIO(to_workbook(content)))
    assert book.sheetnames[:3] == ["answer", "estimates", "differences"]
    assert {"quotations", "actions", "trends", "changes"} <= set(book.sheetnames)
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row if cell.value is not None]
    assert not [cell for cell in cells if cell.data_type == "f"]
    texts = [cell.value for cell in cells if isinstance(cell.value, str)]
    assert f"'{FORMULA}" in texts
    assert FORMULA not in texts
    assert "'+Gaps" in texts
    assert not [text for text in texts if text.startswith(("=", "@")) or "\x07" in text]
    answer = {row[0].value: row[1].value for row in book["answer"].iter_rows(min_row=2)}
    assert answer["answer"] == "Close the policy gap first."
    shares = [cell for cell in book["estimates"][2] if isinstance(cell.value, float)]
    assert shares
    assert all(cell.number_format == "0.0%" for cell in shares)


def test_markdown_is_what_one_pastes_into_a_ticket(content):
    text = to_markdown(content)
    lines = text.splitlines()
    assert lines[:3] == ["# +Gaps", "", "**Close the policy gap first.**"]
    assert any(line.startswith("| policy gap | ") for line in lines)
    for part in (
        "## By branch",
        "## Over time",
        "## 1. Policy gap",
        "**Likely causes**",
        "**What closes it**",
        "## Data",
    ):
        assert part in lines
    assert lines.count("**Questions to ask**") == 1
    assert lines.count("**What closes it**") == 5
    for sentence in (*content.answer.reasons, content.answer.certainty, *content.notes):
        assert sentence.replace("*", r"\*") in text
    assert "labelled.csv (400 rows)" in lines[-1]
    assert "2026-11-30" in lines[-1]


def test_markdown_shows_what_customers_wrote_as_they_wrote_it(content):
    quoted = Quotation("policy", "Is *this* [a](link)? <b>Yes</b> | no", 3, 9, 0.9, "x.csv, row 1", ("North | East",))
    first = replace(content.gaps[0], quotations=(quoted,))
    text = to_markdown(replace(content, gaps=(first, *content.gaps[1:])))
    assert r"> Is **\*this\*** \[a\](link)? \<b\>Yes\</b\> \| no (North \| East, x.csv, row 1)" in text
    assert r"| North \| East |" in text


def test_a_table_row_has_as_many_cells_as_its_header(content):
    lines = to_markdown(content).splitlines()
    heads = [i for i, line in enumerate(lines) if re.fullmatch(r"\|(-+:?\|)+", line)]
    assert len(heads) == 3
    for head in heads:
        rows = takewhile(lambda line: line.startswith("|"), lines[head - 1 :])
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_without_parts_there_are_none(tmp_path):
    plain = build_report([write_labelled(planted({"policy": 0.5}, n=80), tmp_path / "x.jsonl")])
    assert "## By" not in to_markdown(plain)
    assert "## Over time" not in to_markdown(plain)
    assert {row["part"] for row in tables(plain)["estimates"]} == {"whole"}
    assert "differences" not in load_workbook(io.BytesIO(to_workbook(plain))).sheetnames


def test_data_frames(content):
    frames = to_frames(content)
    estimates = frames["estimates"].set_index(["part", "group", "gap"])
    assert estimates.loc[("whole", "", "policy"), "prevalence"] == pytest.approx(
        content.estimates[1].prevalence, abs=1e-6
    )
    assert len(estimates) == 6 + 5 * (2 + 9)
    assert len(frames["differences"]) == 10
    assert set(frames["actions"]["kind"]) == {"likely cause", "question to ask", "what closes it"}
    assert list(frames["quotations"].columns) == ["gap", "text", "evidence", "probability", "place", "groups"]


def test_model_based_figures_are_marked(tmp_path):
    rows = planted({"policy": 0.3}, n=400)
    rows.columns["branch"] = [f"B{i % 9}" for i in range(400)]
    found = build_report([write_labelled(rows, tmp_path / "x.csv")], ReportOptions(by=("branch",)))
    assert any(row["method"] == "model-based" for row in tables(found)["estimates"])
    assert r"\* model-based" in to_markdown(found)


@pytest.mark.parametrize(("name", "kind"), [("a.html", "html"), ("A.HTM", "html"), ("c.d.xlsx", "xlsx")])
def test_the_extension_tells_the_format(name, kind):
    assert kind_of(name) == kind
    assert kind in KINDS


def test_an_unknown_extension(content):
    with pytest.raises(InputError, match=r"report.pdf: expected a name that ends in .html"):
        kind_of("report.pdf")


def test_the_page_to_print_is_unfolded(content):
    pytest.importorskip("vl_convert")
    folded, opened = (render(content, kind=kind).decode() for kind in ("html", "print"))
    assert folded.count("<details") == opened.count("<details") > 0
    assert opened.count("<details open") == opened.count("<details")
    assert folded.count("<details open") < folded.count("<details")
