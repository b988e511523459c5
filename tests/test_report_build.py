"""What a report says: the figures of planted archives, and the sentences about them."""

import csv
import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from report_world import MODEL, VALIDATION, joined, natural, planted, write_labelled

import gapnlp
from gapnlp.archive.audit_file import AuditFiles, write_audit
from gapnlp.archive.labelled import read_labelled, read_texts
from gapnlp.audit import choose_design, draw_rows
from gapnlp.errors import ColumnError, ConfigError, InputError
from gapnlp.prevalence.estimate import ASSUMPTION, SHIFTED
from gapnlp.records import PrevalenceEstimate
from gapnlp.report import ReportOptions, build_report
from gapnlp.report.answer import UNLIKE, write_answer
from gapnlp.report.dates import DateReader, Over, to_periods
from gapnlp.report.formats import render
from gapnlp.report.quotations import Quotations, excerpt, masked
from gapnlp.report.reading import Wanted, read_archive
from gapnlp.report.tables import tables
from gapnlp.report.words import collect_notes, is_doubted, name_of, share
from gapnlp.taxonomy import LABELS

DELIVERY, POLICY = LABELS.index("delivery"), LABELS.index("policy")
MIX = {"policy": 0.45, "delivery": 0.15, "communication": 0.1}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """600 texts, nearly half about rules; 40 of them in a branch that has nothing else; two rows failed."""
    rows = joined(planted(MIX, n=560), planted({"policy": 0.98}, n=40, seed=1))
    rng = random.Random(0)
    rows.columns["branch"] = [rng.choice(["North", "South"]) for _ in range(560)] + ["=West"] * 36 + [" "] * 4
    rows.columns["date"] = [f"2026-{i % 10 + 1:02d}-11" for i in range(599)] + [""]
    rows.columns["comment"][5] = "=Too dear, I say, for what it is and what it does"
    rows.errors = {3: "got an empty text", 4: "got an empty text"}
    rows.review, rows.truncated = {7, 8, 9}, {10}
    return rows, write_labelled(rows, tmp_path_factory.mktemp("archive") / "labelled.csv")


@pytest.fixture(scope="module")
def content(archive):
    return build_report([archive[1]], ReportOptions(by=("branch",), over="date:month", created="2026-11-30"))


def of(content, label):
    return content.estimates[LABELS.index(label)]


def test_the_largest_gap_is_named_first_with_its_reasons(content):
    answer = content.answer
    assert (answer.label, answer.separated) == ("policy", True)
    assert answer.headline == "Close the policy gap first."
    assert "of the 598 texts point to the policy gap" in answer.reasons[0]
    assert "rules, standards and designs differ" in answer.reasons[0]
    assert "next is the delivery gap" in answer.reasons[1]
    assert "95 times in 100" in answer.certainty
    assert f"the {len(VALIDATION.proba)} texts that it was checked on" in answer.certainty
    assert any("is not what it costs" in caveat for caveat in answer.caveats)


def test_the_estimates_are_those_of_the_arrays(archive, content):
    rows, _ = archive
    kept = [i for i in range(600) if i not in rows.errors]
    proba, decided = rows.proba[kept].round(6), rows.decided[kept]
    expected = gapnlp.estimate_prevalence(proba, decided, VALIDATION)
    assert list(content.estimates) == expected
    truth = rows.truth[kept].mean(axis=0)
    assert all(item.low <= truth[j] <= item.high for j, item in enumerate(content.estimates))
    assert content.none.label == "none"
    assert content.none.counted == pytest.approx((~decided.any(axis=1)).mean())


def test_texts_without_a_gap_are_estimated_too(tmp_path):
    rows = natural(n=800)
    found = build_report([write_labelled(rows, tmp_path / "x.csv")])
    truth = (~rows.truth.any(axis=1)).mean()
    assert found.none.low <= truth <= found.none.high
    assert found.none.prevalence == pytest.approx(truth, abs=0.06)
    assert found.none.high - found.none.low < 0.2


def test_every_note_of_the_estimates_is_kept(content):
    for estimate in (*content.estimates, content.none):
        for note in estimate.notes:
            assert sum(text.endswith(note) for text in content.notes) >= 1
    assert content.notes.count(ASSUMPTION) == 1


def test_notes_of_some_gaps_name_them():
    one, other = (PrevalenceEstimate(x, 9, 0, 0, 0, 1, 0.95, "adjusted", ("All.", "Few.")) for x in LABELS[:2])
    third = replace(one, label="delivery", notes=("All.",))
    assert collect_notes([one, other, third]) == ("All.", "knowledge and policy: Few.")


def test_groups(content):
    (split,) = content.splits
    assert split.column == "branch"
    assert set(split.groups) == {"North", "South", "=West", "(empty)"}
    assert list(split.n_texts) == sorted(split.n_texts, reverse=True)
    assert sum(split.n_texts) == 598
    west = next(item for item in split.segments.of("policy") if item.group == "=West")
    assert west.estimate.prevalence > 0.6
    assert split.segments.left_out == ("(empty)",)
    assert any(text.startswith("=West: the policy gap is") and "more frequent than elsewhere" in text
               for text in split.findings)  # fmt: skip
    assert not any(text.startswith("North: ") and "more frequent" in text for text in split.findings)
    assert any("(empty) (4 texts)" in note for note in split.notes)
    assert any("at most 5 in 100 are expected to be false" in note for note in split.notes)


def test_groups_smaller_than_asked_are_neither_shown_nor_compared(archive):
    found = build_report([archive[1]], ReportOptions(by=("branch",), min_texts=60))
    assert "=West" not in {item.group for item in found.splits[0].differences}
    assert "=West" not in {item.group for item in found.splits[0].segments.estimates}


def test_time(content):
    line = content.timeline
    assert (line.column, line.unit, line.n_undated) == ("date", "month", 1)
    assert line.periods == tuple(f"2026-{month:02d}" for month in range(1, 11))
    assert sum(line.n_texts) == 597
    assert [trend.label for trend in line.trends] == list(LABELS)
    assert len(line.trends[0].levels) == 10
    assert any(note.startswith("1 texts have no date") for note in line.notes)
    assert any("at most 5 in 100 gaps show one, which is 23 in 100 reports" in note for note in line.notes)


def test_a_planted_change_is_told_with_its_month_and_its_group(tmp_path):
    before, after = planted({"delivery": 0.2}, n=2400), planted({"delivery": 0.6}, n=1600, seed=1)
    rows = joined(before, after)
    rows.columns["when"] = [f"2026-{i % 6 + 1:02d}" for i in range(2400)] + [
        f"2026-{i % 4 + 7:02d}" for i in range(1600)
    ]
    rows.columns["branch"] = random.Random(0).choices(["East", "West"], k=4000)
    path = write_labelled(rows, tmp_path / "labelled.csv")
    found = build_report([path], ReportOptions(by=("branch",), over="when"))
    delivery = [alert for alert in found.timeline.alerts if alert.label == "delivery"]
    assert [(alert.period, alert.lasting) for alert in delivery] == [("2026-07", True)]
    assert any(text.startswith("The delivery gap has been 4") and "higher since 2026-07 than before" in text
               for text in found.timeline.findings)  # fmt: skip
    assert {item.group for item in found.splits[0].alerts if item.alert.label == "delivery"} == {"East", "West"}
    assert any(text.startswith("East: the delivery gap has been") for text in found.splits[0].findings)
    assert all(item.alert.false_alarm_rate == 0.05 / 2 for item in found.splits[0].alerts)


def test_quality(content):
    quality = content.quality
    figures = (quality.n_rows, quality.n_failed, quality.n_review, quality.n_truncated, quality.n_duplicates)
    assert figures == (600, 2, 3, 1, 0)
    assert quality.failures == (("got an empty text", 2),)
    assert quality.notes[0].startswith("2 of 600 rows (under 1%) have no labels")


def test_duplicates_are_counted(tmp_path):
    rows = planted(MIX, n=60)
    rows.columns["comment"][10:20] = [rows.columns["comment"][0]] * 10
    found = build_report([write_labelled(rows, tmp_path / "x.csv")])
    assert found.quality.n_duplicates == 10
    assert any("10 texts (17%) equal one before them" in note for note in found.quality.notes)


def test_every_gap_has_its_section(content):
    assert [section.rank for section in content.gaps] == [1, 2, 3, 4, 5]
    shares = [section.estimate.prevalence for section in content.gaps]
    assert shares == sorted(shares, reverse=True)
    first = content.gaps[0]
    assert first.gap.id == "policy"
    assert first.gap.remedies[0] == "Give explicit instructions with benchmarks in numbers."
    assert "of the 598 texts point to it." in first.summary
    assert 3 <= len(first.quotations) <= 5


def test_quotations_point_to_their_row(archive, content):
    rows, _ = archive
    quotations = [item for section in content.gaps for item in section.quotations]
    assert len({item.text for item in quotations}) == len(quotations) >= 8
    for item in quotations:
        row = int(item.place.removeprefix("labelled.csv, row ")) - 1
        assert item.text == rows.columns["comment"][row]
        assert item.text[item.start : item.end] == item.text[:12].strip()
        assert item.probability == pytest.approx(rows.proba[row, LABELS.index(item.label)], abs=1e-6)
        assert rows.decided[row, LABELS.index(item.label)]
        assert item.groups == (rows.columns["branch"][row].strip() or "(empty)",)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_quotations_call_rows_by_the_column_that_names_them(archive, tmp_path, name):
    rows, _ = archive
    numbers = range(1, len(rows.decided) + 1)
    cells = [None if row % 2 else f"=T{row}" for row in numbers]
    path = write_labelled(replace(rows, columns={**rows.columns, "ticket": cells}), tmp_path / name)
    quotations = [
        item for part in build_report([path], ReportOptions(id_column="ticket")).gaps for item in part.quotations
    ]
    called = {item.text: item.place.removeprefix(f"{name}, ") for item in quotations}
    assert {place.startswith("row ") for place in called.values()} == {True, False}
    for text, place in called.items():
        row = rows.columns["comment"].index(text) + 1
        assert place == (f"row {row}" if row % 2 else cells[row - 1])
    with pytest.raises(ColumnError, match="tickets"):
        build_report([path], ReportOptions(id_column="tickets"))


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl", "x.tsv.gz", "x.xlsx", "x.csv.zst"])
def test_every_format_gives_the_same_report(archive, content, tmp_path, name):
    options = ReportOptions(by=("branch",), over="date:month", created="2026-11-30")
    found = build_report([write_labelled(archive[0], tmp_path / name)], options)
    assert json.dumps(asdict(found)) == json.dumps(asdict(content)).replace("labelled.csv", name)


def test_several_files_are_one_archive(archive, content, tmp_path):
    rows, _ = archive
    halves = []
    for part, places in (("a.csv", range(300)), ("b.parquet", range(300, 600))):
        half = replace(
            rows,
            proba=rows.proba[places],
            columns={name: [cells[i] for i in places] for name, cells in rows.columns.items()},
            errors=rows.errors if part == "a.csv" else {},
        )
        halves.append(write_labelled(half, tmp_path / part))
    found = build_report(halves, ReportOptions(by=("branch",), over="date:month"))
    assert found.estimates == content.estimates
    assert found.splits[0].segments == content.splits[0].segments
    assert [(source.name, source.n_rows) for source in found.sources] == [("a.csv", 300), ("b.parquet", 300)]


def test_a_file_saved_by_a_spreadsheet_program_is_read_too(archive, content, tmp_path):
    with Path(archive[1]).open(newline="", encoding="utf-8") as file:
        cells = list(csv.reader(file))
    path = tmp_path / "labelled.csv"
    with path.open("w", newline="", encoding="cp1252") as file:
        csv.writer(file, delimiter=";").writerows(cells)
    found = build_report([path], ReportOptions(by=("branch",), over="date:month", created="2026-11-30"))
    assert found == content


def test_what_pyarrow_stumbles_over_is_read_row_by_row(archive, content, tmp_path, monkeypatch):
    """A line of blanks in the middle, as an editor leaves it; nothing is read twice or left out."""
    monkeypatch.setattr("gapnlp.report.table._BLOCK", 30_000)  # so that much is read before it comes
    lines = Path(archive[1]).read_text(encoding="utf-8").splitlines(keepends=True)
    assert lines[401].startswith("R400,")
    lines[401] = lines[401].replace("R400,", "   \nR400,", 1)
    path = tmp_path / "labelled.csv"
    path.write_text("".join(lines), encoding="utf-8")
    found = build_report([path], ReportOptions(by=("branch",), over="date:month", created="2026-11-30"))
    assert found == content


def test_an_audit_replaces_the_classifiers_word(archive, tmp_path):
    rows, path = archive
    labelled = read_labelled([path])
    drawn = draw_rows(labelled.proba, choose_design(labelled.proba, 150), seed=1)
    files = AuditFiles.beside(tmp_path / "audit.csv")
    numbers = labelled.number[drawn.rows].tolist()
    write_audit(files, drawn, archive=labelled, texts=read_texts(labelled, numbers), seed=0)
    with files.rows.open(newline="", encoding="utf-8-sig") as file:
        marks = list(csv.DictReader(file))
    for mark in marks:
        truth = rows.truth[int(mark["row"]) - 1]
        mark.update({label: "x" if truth[j] else "" for j, label in enumerate(LABELS)}, read="x")
    with files.rows.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(marks[0]))
        writer.writeheader()
        writer.writerows(marks)
    found = build_report([path], ReportOptions(by=("branch",), audit=files.rows))
    assert {item.method for item in (*found.estimates, found.none)} == {"audited"}
    assert "150 texts that were read, and hold however the classifier errs" in found.answer.certainty
    assert any("Rests on 150 of 598 texts" in note for note in found.notes)
    kept = [i for i in range(600) if i not in rows.errors]
    assert all(item.low <= rows.truth[kept, j].mean() <= item.high for j, item in enumerate(found.estimates))
    assert found.none.low <= (~rows.truth[kept].any(axis=1)).mean() <= found.none.high
    known = [
        label for j, label in enumerate(LABELS) if rows.truth[[int(mark["row"]) - 1 for mark in marks], j].sum() >= 10
    ]
    assert known
    assert 0 < len(known) < len(LABELS)
    assert "is known from those of them that were read, for the " in found.splits[0].notes[0]
    assert all((name_of(label) in found.splits[0].notes[0]) == (label in known) for label in LABELS)
    titles = dict(found.method.paragraphs)
    assert "take the place of the texts that the model was checked on" in titles["The audit"]
    as_parquet = write_labelled(rows, tmp_path / "same.parquet")
    assert build_report([as_parquet], ReportOptions(audit=files.rows)).estimates == found.estimates


def test_the_method_names_what_was_done_and_no_more(archive, content):
    titles = [title for title, _ in content.method.paragraphs]
    assert titles == [
        "What the model did",
        "Why not simply count",
        "The condition",
        "By group",
        "Over time",
        "Quotations",
    ]
    assert content.method.model == MODEL.name
    assert any("Benjamini" in reference for reference in content.method.references)
    plain = build_report([archive[1]]).method
    assert [title for title, _ in plain.paragraphs] == titles[:3] + titles[-1:]
    assert not any("Benjamini" in reference for reference in plain.references)


def test_a_file_that_was_not_classified(tmp_path):
    path = tmp_path / "my comments.csv"
    path.write_text("id,comment\n1,late\n2,slow\n")
    with pytest.raises(InputError, match=r"has no column gap_labels, so it was not classified yet; first run  gapnlp "
                                         r"classify '.*my comments.csv' -o labelled.csv"):  # fmt: skip
        build_report([path])


def test_the_model_must_be_the_one_that_labelled(tmp_path):
    rows = planted(MIX, n=40)
    rows.model = "other@9.9"
    with pytest.raises(InputError, match=rf"labelled by other@9.9, but {MODEL.name} was loaded.*--model DIR"):
        build_report([write_labelled(rows, tmp_path / "x.csv")])
    second = write_labelled(planted(MIX, n=40), tmp_path / "y.csv")
    with pytest.raises(InputError, match="labelled by several models"):
        build_report([str(tmp_path / "x.csv"), second])


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("gap_policy", "1.5", r"row 8: gap_policy is 1.5, expected a number from 0 to 1"),
        ("gap_policy", "", r"row 8: gap_policy is nan, expected a number"),
        ("gap_policy", "much", r"line 9: gap_policy is 'much', expected a number from 0 to 1"),
        ("gap_labels", "policy;speed", r"gap_labels holds 'speed', expected knowledge"),
    ],
)
def test_edited_gap_columns_are_refused(archive, tmp_path, column, cell, message):
    with Path(archive[1]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows[7][column] = cell
    path = tmp_path / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(InputError, match=message):
        build_report([path])


def test_columns_that_are_not_there(archive):
    with pytest.raises(ColumnError, match=r"--by 'brunch' is no column of it \(did you mean 'branch'\?\)"):
        build_report([archive[1]], ReportOptions(by=("brunch",)))
    with pytest.raises(ColumnError, match="--over 'day'"):
        build_report([archive[1]], ReportOptions(over="day:month"))
    with pytest.raises(InputError, match="'R0' in the column 'ref' is no date"):
        build_report([archive[1]], ReportOptions(over="ref"))
    with pytest.raises(ConfigError, match="every column once"):
        build_report([archive[1]], ReportOptions(by=("branch", "branch")))
    with pytest.raises(ConfigError, match="confidence"):
        build_report([archive[1]], ReportOptions(confidence=95))


def test_a_column_of_names_is_no_way_to_split(tmp_path):
    rows = planted(MIX, n=1200)
    with pytest.raises(InputError, match=r"'ref' has more than 1,000 different values, such as 'R0'"):
        build_report([write_labelled(rows, tmp_path / "x.csv")], ReportOptions(by=("ref",)))


def test_no_row_with_labels(tmp_path):
    rows = planted(MIX, n=3)
    rows.errors = dict.fromkeys(range(3), "got an empty text")
    with pytest.raises(InputError, match="no row has labels"):
        build_report([write_labelled(rows, tmp_path / "x.csv")])


# ---- the answer


def estimates(**shares):
    """Build estimates from (prevalence, low, high)."""
    found = dict.fromkeys(LABELS, (0.02, 0.01, 0.03)) | shares
    return [PrevalenceEstimate(label, 1000, 0.1, *found[label], 0.95, "adjusted", (ASSUMPTION,)) for label in LABELS]


def answer_to(found):
    return write_answer(found, n_checked=825, n_read=None)


def test_an_archive_too_small_to_show_other_errors_is_told_so():
    many = estimates(policy=(0.3, 0.25, 0.35))
    few = [replace(estimate, n_texts=60) for estimate in many]
    assert "too few" not in answer_to(many).certainty
    assert "60 texts are too few to show whether it does. The surest answer is to read them" in answer_to(few).certainty
    assert "too few" not in write_answer(few, n_checked=825, n_read=60).certainty


def test_two_gaps_that_overlap_are_both_named():
    answer = answer_to(estimates(policy=(0.3, 0.25, 0.35), delivery=(0.28, 0.2, 0.36)))
    assert (answer.label, answer.separated) == ("policy", False)
    assert answer.headline == "Close the policy gap or the delivery gap first: the data do not separate the two."
    assert "The two intervals overlap" in answer.reasons[1]


def test_several_gaps_that_overlap_are_all_named():
    answer = answer_to(estimates(policy=(0.3, 0.2, 0.4), delivery=(0.28, 0.2, 0.36), knowledge=(0.25, 0.2, 0.3)))
    assert answer.headline == (
        "Begin with the policy gap, but the data do not separate it from the delivery gap and the knowledge gap."
    )


def test_the_customer_gap_is_never_the_one_to_close():
    answer = answer_to(estimates(customer=(0.6, 0.55, 0.65), policy=(0.3, 0.25, 0.35)))
    assert answer.label == "policy"
    assert "More texts, about 60% (between 55% and 65%), point to the customer gap" in answer.caveats[0]
    assert "cannot close that gap directly" in answer.caveats[0]


def test_a_doubted_figure_names_no_gap():
    found = estimates(policy=(0.3, 0.25, 0.35))
    found[POLICY] = replace(found[POLICY], notes=(ASSUMPTION, SHIFTED.format(p=0.001)))
    answer = answer_to(found)
    assert (answer.label, answer.headline, answer.separated) == ("", UNLIKE, False)
    assert "the policy gap would come first, with about 30%" in answer.reasons[0]
    assert "For the policy gap there are signs that it does not" in answer.certainty
    aside = estimates(policy=(0.3, 0.25, 0.35))
    aside[DELIVERY] = replace(aside[DELIVERY], notes=(SHIFTED.format(p=0.001),))
    assert answer_to(aside).label == "policy"
    assert "For the delivery gap there are signs" in answer_to(aside).certainty


def test_texts_unlike_those_checked_are_noticed(tmp_path):
    """Scores of a kind that no mixture of the checked rows has: all near the middle."""
    rows = planted(MIX, n=600)
    rows.proba = np.random.default_rng(0).uniform(0.3, 0.6, rows.proba.shape)
    rows.columns["branch"] = ["North", "South"] * 300
    found = build_report([write_labelled(rows, tmp_path / "x.csv")], ReportOptions(by=("branch",)))
    assert found.answer.headline == UNLIKE
    assert any("The doubts about the whole hold here too" in note for note in found.splits[0].notes)


def test_a_month_unlike_those_checked_is_told_beside_its_alert(tmp_path):
    months = [f"2026-{month:02}" for month in range(1, 9)]
    rows = planted(MIX, n=1600)
    rows.columns["date"] = [f"{month}-15" for month in months for _ in range(200)]
    rows.proba[1400:, POLICY] = np.random.default_rng(0).uniform(0.3, 0.6, 200)
    rows.proba[1200:1400, DELIVERY] = np.random.default_rng(1).uniform(0.3, 0.6, 200)
    found = build_report([write_labelled(rows, tmp_path / "x.csv")], ReportOptions(over="date:month")).timeline
    doubted = {
        (level.group, level.estimate.label)
        for trend in found.trends
        for level in trend.levels
        if is_doubted(level.estimate)
    }
    assert doubted == {("2026-07", "delivery"), ("2026-08", "policy")}
    assert [alert.period for alert in found.alerts if alert.label == "policy"] == ["2026-08"]
    assert "one of the kind of text: 2026-07: delivery; 2026-08: policy." in found.findings[-1]


def test_a_group_unlike_those_checked_is_marked_and_not_compared(tmp_path):
    rows = joined(planted(MIX, n=900), planted(MIX, n=150, seed=1))
    rows.proba[900:, POLICY] = np.random.default_rng(0).uniform(0.3, 0.6, 150)
    rows.columns["branch"] = random.Random(0).choices(["North", "South"], k=900) + ["Odd"] * 150
    found = build_report([write_labelled(rows, tmp_path / "x.csv")], ReportOptions(by=("branch",)))
    (split,) = found.splits
    assert {(s.group, s.estimate.label) for s in split.segments.estimates if is_doubted(s.estimate)} == {
        ("Odd", "policy")
    }
    compared = {(item.group, item.label) for item in split.differences}
    assert ("Odd", "policy") not in compared
    assert {("Odd", "delivery"), ("North", "policy")} <= compared
    [told] = [text for text in split.findings if text.startswith("Not compared")]
    assert "far off: Odd: policy. Have" in told
    assert [(row["group"], row["gap"]) for row in tables(found)["estimates"] if row["group"] and row["doubted"]] == [
        ("Odd", "policy")
    ]
    markdown, page = (render(found, kind=kind).decode() for kind in ("md", "html"))
    assert "? texts unlike those that the classifier was checked on" in markdown
    assert "Odd ?" in page


def test_gaps_that_cannot_be_estimated_are_said_to_be_so():
    answer = answer_to(estimates(policy=(0.3, 0.25, 0.35), knowledge=(0.9, 0.0, 1.0)))
    assert answer.label == "policy"
    assert "The knowledge gap could not be ranked" in " ".join(answer.caveats)
    nothing = answer_to(estimates(**dict.fromkeys(LABELS, (0.5, 0.0, 1.0))))
    assert (nothing.label, nothing.headline) == ("", "These data do not say which gap to close first.")


def test_gaps_that_are_all_rare():
    answer = answer_to(estimates(**dict.fromkeys(LABELS, (0.002, 0.0, 0.006))))
    assert (answer.label, answer.headline) == ("", "No gap is frequent enough to begin with.")


@pytest.mark.parametrize(
    ("value", "width", "text"),
    [(0.236, 0.1, "24%"), (0.236, 0.01, "23.6%"), (0.004, 0.1, "under 1%"), (0.0, 0.1, "0%"), (1.0, 0.1, "100%"),
     (0.998, 0.1, "over 99%"), (0.0004, 0.001, "under 0.1%"), (0.0051, 1.0, "1%")],
)  # fmt: skip
def test_shares_have_the_digits_that_they_bear(value, width, text):
    assert share(value, width=width) == text


# ---- dates


def periods_of(texts, over):
    import pyarrow as pa

    reader = DateReader(Over.parse(over))
    days = reader.days(reader.read(pa.array(texts), place="x.csv"))
    found = to_periods(days, unit=reader._over.unit, column=reader._over.column)
    return [found.names[i] if i >= 0 else None for i in found.of_text.tolist()]


@pytest.mark.parametrize(
    "text",
    ["2026-03-14", "2026-03-14T23:59:59Z", "2026-03-14 08:00:00.5+02:00", "2026/03/14", "2026.3.14", "20260314",
     "14.03.2026", "14.3.2026 17:05", "14/03/2026", "03/14/2026", "14-03-2026", "14 Mar 2026", "14-Mar-2026",
     "March 14, 2026", "14 sept 2026".replace("sept", "march"), " 2026-03-14 "],
)  # fmt: skip
def test_dates_that_cannot_be_mistaken(text):
    assert periods_of([text], "d:day") == ["2026-03-14"]


@pytest.mark.parametrize("text", ["14.03.26", "2026-02-30", "yesterday", "31/31/2026", "45731", "12:30", "5 Ma 2026"])
def test_what_is_no_date_is_shown_with_the_way_out(text):
    with pytest.raises(InputError, match=r"x.csv: .* in the column 'd' is no date .*--over d:month:%d"):
        periods_of([text], "d")


def test_day_or_month_first_is_told_by_the_other_dates():
    assert periods_of(["03/04/2026", "05/05/2026", "25/12/2026"], "d:day") == ["2026-04-03", "2026-05-05", "2026-12-25"]
    assert periods_of(["03/04/2026", "12/25/2026"], "d:day") == ["2026-03-04", "2026-12-25"]


def test_day_or_month_first_is_asked_where_nothing_tells():
    with pytest.raises(InputError, match=r"'03/04/2026' in the column 'd' may be read .* --over d:week:%d/%m/%Y"):
        periods_of(["03/04/2026", "05/05/2026"], "d:week")
    assert periods_of(["03/04/2026"], "d:day:%d/%m/%Y") == ["2026-04-03"]
    with pytest.raises(InputError, match=r"has both '25/12/2026'.*'12/25/2026'"):
        periods_of(["25/12/2026", "12/25/2026"], "d")


def test_a_named_format_is_the_only_one():
    assert periods_of(["14.03.26", ""], "d:month:%d.%m.%y") == ["2026-03", None]
    with pytest.raises(InputError, match=r"'2026-03-14' .* no date of the format '%d.%m.%y'"):
        periods_of(["2026-03-14"], "d:month:%d.%m.%y")


def test_missing_dates_and_units():
    dates = ["2025-12-31", "", None, "n/a", "2026-02-01"]
    assert periods_of(dates, "d") == ["2025-12", None, None, None, "2026-02"]
    assert periods_of(dates, "d:week") == ["2026-W01", None, None, None, "2026-W05"]
    assert periods_of(dates, "d:quarter") == ["2025-Q4", None, None, None, "2026-Q1"]
    assert periods_of(dates, "d:year") == ["2025", None, None, None, "2026"]
    assert periods_of(["2026-03"], "d:month") == ["2026-03"]
    with pytest.raises(InputError, match="no date"):
        periods_of(["2026-03"], "d:day")
    with pytest.raises(InputError, match="holds no date"):
        periods_of(["", None], "d")
    with pytest.raises(InputError, match=r"runs from 0202-05-01 to 2026-05-01, which is 21,8\d\d months"):
        periods_of(["0202-05-01", "2026-05-01"], "d")


def test_periods_between_are_not_left_out():
    import pyarrow as pa

    reader = DateReader(Over("d"))
    days = reader.days(reader.read(pa.array(["2025-11-03", "2026-02-03"]), place="x"))
    assert to_periods(days, unit="month", column="d").names == ("2025-11", "2025-12", "2026-01", "2026-02")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("date", Over("date", "month", "")), ("date:week", Over("date", "week", "")),
     ("a:b:year", Over("a:b", "year", "")),
     ("date:day:%H:%M %d/%m/%Y", Over("date", "day", "%H:%M %d/%m/%Y")), ("sent:fortnight", Over("sent:fortnight"))],
)  # fmt: skip
def test_over(text, expected):
    assert Over.parse(text) == expected


def test_dates_with_types_of_their_own(archive, tmp_path):
    import pyarrow as pa

    table = pq.read_table(write_labelled(archive[0], tmp_path / "x.parquet"))
    column = table.schema.get_field_index("date")
    typed = pa.array([text or None for text in table["date"].to_pylist()]).cast(pa.date32())
    pq.write_table(table.set_column(column, "date", typed), tmp_path / "y.parquet")
    found = read_archive([str(tmp_path / "y.parquet")], Wanted(over=Over("date")))
    assert to_periods(found.days, unit="month", column="date").names[0] == "2026-01"
    assert np.count_nonzero(found.days < -(10**6)) == 1


def with_column(path, name, array):
    """Put a column of its own type into a labelled Parquet file."""
    pq.write_table(pq.read_table(path).append_column(name, array), path)
    return path


def test_dates_beyond_the_calendar_are_no_dates(tmp_path):
    import pyarrow as pa

    path = write_labelled(planted(MIX, n=3), tmp_path / "x.parquet")
    for kind, far in ((pa.timestamp("ms"), 2**60), (pa.timestamp("us", "UTC"), 2**60), (pa.date64(), 2**60)):
        array = pa.array([0, far - far % 86_400_000, None], pa.int64()).view(kind)
        name = f"when {kind}"
        with_column(path, name, array)
        with pytest.raises(InputError, match=r"x.parquet: '<value out of range: .* is no date of the years 1 to 9999"):
            read_archive([path], Wanted(over=Over(name)))


# ---- lists


@pytest.fixture
def tagged(tmp_path):
    """The same tags as lists in Parquet and as JSON text in CSV."""
    import pyarrow as pa

    tags = [['["late"]', "[]", '["late", "Straße"]', None][i % 4] for i in range(40)]
    rows = planted(MIX, n=40)
    lists = pa.array([None if tag is None else json.loads(tag) for tag in tags], pa.list_(pa.string()))
    as_lists = with_column(write_labelled(rows, tmp_path / "x.parquet"), "tags", lists)
    rows.columns["tags"] = tags
    return as_lists, write_labelled(rows, tmp_path / "x.csv")


def test_lists_are_grouped_by_the_text_that_flat_files_have(tagged):
    as_lists, as_text = (read_archive([path], Wanted(by=("tags",))) for path in tagged)
    assert set(as_lists.group_names[0]) == {'["late"]', "[]", '["late", "Straße"]', "(empty)"}
    places = [[archive.group_names[0][i] for i in archive.groups[0]] for archive in (as_lists, as_text)]
    assert places[0] == places[1]


def test_lists_are_no_dates(tagged):
    for path in tagged:
        with pytest.raises(InputError, match=r"""'\["late"\]' in the column 'tags' is no date that can be told"""):
            read_archive([path], Wanted(over=Over("tags")))


def test_lists_and_bytes_are_quoted_and_grouped_as_text(tmp_path):
    import pyarrow as pa

    path = write_labelled(planted(MIX, n=40), tmp_path / "x.parquet")
    with_column(path, "lines", pa.array([["late", "again"]] * 40))
    with_column(path, "key", pa.array([b"\xff\xfe", b"plain"] * 20))
    archive = read_archive([path], Wanted(by=("key", "lines"), text_column="lines"))
    assert set(archive.group_names[0]) == {"//4=", "plain"}
    assert archive.group_names[1] == ('["late", "again"]',)
    assert read_archive([path], Wanted(text_column="key")).n_texts == archive.n_texts


# ---- quotations


def offer(quotations, texts, *, gap=0, groups=None, probability=0.9):
    for order, text in enumerate(texts):
        quotations.offer(
            gap, text, probability=probability, primary=True, evidence='{"knowledge": [0, 4]}', order=order,
            place=f"x, row {order}", groups=(groups[order],) if groups else (),
        )  # fmt: skip


def chosen(quotations, *, mask=False):
    return [item.text for item in quotations.choose(0, mask=mask, taken=set())]


def test_near_duplicates_are_quoted_once():
    quotations = Quotations()
    same = [f"Order {n} came three days late and nobody answered the phone at the shop" for n in range(50)]
    nearly = ["Order came three days late and nobody answered the phone at the shop, again!"]
    offer(quotations, [*same, *nearly, "The form asks for a fax number and will not go on without one, in 2026"])
    assert len(chosen(quotations)) == 2


def test_quotations_come_from_several_groups():
    rng = random.Random(1)
    words = ["abcdefgh", "ijklmn", "opqrst", "uvwxyz", "kettle", "sofa", "lamp", "carpet", "mirror"]
    texts = [" ".join(rng.sample(words, 8)) * 2 for _ in range(40)]
    texts = [f"{text} {''.join(rng.choices('bcdfghklm', k=30))} {i}" for i, text in enumerate(texts)]
    quotations = Quotations()
    offer(quotations, texts, groups=["North"] * 39 + ["South"])
    groups = {item.groups for item in quotations.choose(0, mask=False, taken=set())}
    assert ("South",) in groups


def test_long_texts_and_scraps_come_last():
    quotations = Quotations()
    plain = "The shop was shut although the page said open, so I drove home with the broken phone"
    offer(quotations, ["bad", "word " * 300, plain])
    assert chosen(quotations)[0] == plain


def test_only_so_many_candidates_are_kept():
    quotations = Quotations()
    offer(quotations, [f"{' '.join(random.Random(i).choices('abcdefghijk', k=40))} late" for i in range(2000)])
    assert sum(len(heap.items) for heap in quotations._heaps) <= 160
    assert not quotations.wanted(0, probability=0.2, primary=True)


def test_a_long_text_is_cut_around_its_evidence():
    text = "First sentence here. " * 30 + "They promised me Monday. " + "Last one here. " * 40
    start = text.index("They")
    cut, begin, end = excerpt(text, start, start + 24)
    assert cut[begin:end] == "They promised me Monday."
    assert cut.startswith(("… First sentence", "… here"))
    assert cut.endswith("here. …")
    assert len(cut) <= 330
    assert excerpt("a  short\n one ", 3, 8) == ("a short one", 2, 7)
    whole, begin, end = excerpt("word " * 200, 0, 999)
    assert len(whole) < 330
    assert begin == 0


@pytest.mark.parametrize(
    ("text", "passage", "expected"),
    [
        ("Call me on +44 20 7946 0958, I waited", "I waited", "I waited"),
        ("I waited, call +44 20 7946 0958 please", "I waited", "I waited"),
        ("Write to jo@example.org or ring", "example.org or", "[email] or"),
        ("No name in this one", "name", "name"),
    ],
)
def test_masking_keeps_the_evidence_in_its_place(text, passage, expected):
    start = text.index(passage)
    hidden, begin, end = masked(text, start, start + len(passage))
    assert hidden[begin:end].endswith(expected)
    assert "7946" not in hidden
    assert "example" not in hidden


def test_personal_data_are_masked_on_request(tmp_path):
    rows = planted({"policy": 0.9}, n=60)
    rows.columns["comment"] = [f"{text} Mail jane.{i}x@example.org" for i, text in enumerate(rows.columns["comment"])]
    path = write_labelled(rows, tmp_path / "x.csv")
    plain, hidden = (build_report([path], ReportOptions(mask=mask)) for mask in (False, True))
    texts = [[item.text for section in found.gaps for item in section.quotations] for found in (plain, hidden)]
    assert "@example.org" in " ".join(texts[0])
    assert "@example.org" not in " ".join(texts[1])
    assert "[email]" in " ".join(texts[1])
    assert hidden.masked
    assert not plain.masked


def test_importing_stays_light():
    import subprocess
    import sys

    code = "import sys, gapnlp; assert 'numpy' not in sys.modules; assert gapnlp.estimate_prevalence"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'guess'"):
        _ = gapnlp.guess
