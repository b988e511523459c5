from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from gapnlp.errors import UnknownGapError
from gapnlp.taxonomy import LABELS, NONE, load_taxonomy, resolve_gap

# The names of the literature and of practitioners' guides, written here a second time on purpose.
NAMES = {
    "knowledge": [
        "knowledge gap",
        "expectation gap",
        "listening gap",
        "market research gap",
        "management perception gap",
        "consumer expectation \u2013 management perception",
        "the gap between what management believes and what customers anticipate",
    ],
    "policy": [
        "policy gap",
        "standards gap",
        "design gap",
        "specification gap",
        "management perception \u2013 service quality specification",
        "between what management believes and what customers experience in terms of service quality",
    ],
    "delivery": [
        "delivery gap",
        "performance gap",
        "service performance gap",
        "service quality specification \u2013 service delivery",
        "between promised and actual service",
    ],
    "communication": [
        "communication gap",
        "external communication gap",
        "promise gap",
        "service delivery \u2013 external communication",
        "between service quality and public outreach",
    ],
    "customer": [
        "customer gap",
        "customer service gap",
        "perception gap",
        "service quality gap",
        "expectation\u2013experience gap",
        "expected service \u2013 experienced service",
        "the disconnect between customer expectations and actual service",
    ],
}
EVERY_NAME = [(gap, name) for gap, names in NAMES.items() for name in names]


def test_file_and_constant_agree() -> None:
    gaps = load_taxonomy().gaps
    assert tuple(gap.id for gap in gaps) == LABELS
    assert [gap.number for gap in gaps] == [1, 2, 3, 4, 5]
    assert NONE not in LABELS


def test_import_does_not_read_the_file() -> None:
    code = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: event == 'open' and opened.append(str(args[0])))\n"
        "import gapnlp.taxonomy as t\n"
        "assert not any(path.endswith('gaps.toml') for path in opened)\n"
        "t.load_taxonomy()\n"
        "assert any(path.endswith('gaps.toml') for path in opened)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_field_is_filled() -> None:
    taxonomy = load_taxonomy()
    assert "1985" in taxonomy.source
    assert taxonomy.version
    assert "feed gap 5" in taxonomy.about
    for gap in taxonomy.gaps:
        for field in dataclasses.fields(gap):
            value = getattr(gap, field.name)
            assert value, (gap.id, field.name)
            for line in value if isinstance(value, tuple) else ():
                assert line == line.strip()
                assert len(line) < 120, "short sentences"
        for line in (gap.definition, *gap.causes, *gap.remedies):
            assert line.endswith("."), line
        assert all(line.endswith("?") for line in gap.questions)
        assert gap.names[0] == gap.name
        assert len(gap.causes) >= 4
        assert len(gap.questions) >= 3
        assert len(gap.remedies) >= 4


def test_file_has_exactly_the_names_in_use() -> None:
    assert {gap.id: list(gap.names) for gap in load_taxonomy().gaps} == NAMES


@pytest.mark.parametrize(("gap", "name"), EVERY_NAME)
def test_every_name_is_accepted_however_written(gap: str, name: str) -> None:
    dashed = name.replace("\u2013", "-")
    for variant in (
        name,
        name.upper(),
        name.title(),
        dashed,
        dashed.replace(" - ", "-"),
        name.replace("\u2013", "\u2014"),
        name.replace(" ", "_"),
        name.replace(" ", "-"),
        f"  {name.replace(' ', '  ')}\n",
        f"The {name.removeprefix('the ')}",
        f'"{name}"',
    ):
        assert resolve_gap(variant) == gap, variant


def test_no_name_is_claimed_twice() -> None:
    owners: dict[str, str] = {}
    for gap in load_taxonomy().gaps:
        for name in (gap.id, *gap.names, str(gap.number)):
            key = "".join(char for char in name.casefold() if char.isalnum())
            assert owners.setdefault(key, gap.id) == gap.id, name
            assert resolve_gap(name) == gap.id, name


@pytest.mark.parametrize(
    "template", ["{}", " {} ", "gap {}", "Gap-{}", "GAP_{}", "gap{}", "#{}", "gap #{}", "gap no. {}"]
)
def test_numbers_are_accepted(template: str) -> None:
    assert [resolve_gap(template.format(number)) for number in range(1, 6)] == list(LABELS)


@pytest.mark.parametrize("label", LABELS)
def test_ids_are_accepted(label: str) -> None:
    assert resolve_gap(label) == resolve_gap(label.upper()) == resolve_gap(f"{label} gap") == label
    assert load_taxonomy()[label].id == label


def test_taxonomy_takes_any_name() -> None:
    assert load_taxonomy()["promise gap"].number == 4


@pytest.mark.parametrize(
    ("wrong", "offered"),
    [
        ("delivry", "'delivery'"),
        ("comunication gap", "'communication gap'"),
        ("promises", "'promise gap'"),
        ("standard", "'standards gap'"),
        ("KNOWLEDGE GAPS", "'knowledge gap'"),
    ],
)
def test_unknown_name_offers_the_nearest(wrong: str, offered: str) -> None:
    with pytest.raises(UnknownGapError) as caught:
        resolve_gap(wrong)
    assert repr(wrong) in str(caught.value)
    assert f"did you mean {offered}" in str(caught.value)


@pytest.mark.parametrize("wrong", ["", "gap", "none", "0", "6", "gap 6", "33", "quantum", "\ud800", "x" * 5000])
def test_unknown_name_without_neighbours_lists_the_ids(wrong: str) -> None:
    with pytest.raises(UnknownGapError) as caught:
        resolve_gap(wrong)
    assert ", ".join(LABELS) in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("wrong", [3, None, True, ["delivery"]])
def test_not_a_string_is_refused(wrong: object) -> None:
    with pytest.raises(UnknownGapError, match="expected text"):
        resolve_gap(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "gap"), [("promise", "communication"), ("listening", "knowledge"), ("Design", "policy")]
)
def test_a_name_does_without_its_word_gap(name: str, gap: str) -> None:
    assert resolve_gap(name) == gap
