"""What no file of the repository may hold."""

import csv
import json
import re
import subprocess
from pathlib import Path

import pytest

from gapnlp.text import hash_text

ROOT = Path(__file__).parent.parent
LABELS_OF_PUBLIC_ROWS = ROOT / "data" / "public" / "labels.jsonl"
WEIGHTS = {".safetensors"}
# One letter of each word stands in brackets, so that this file is not its own finding.
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:ro[o]t|h[o]me|w[o]rk|Us[e]rs)/\w")


def shipped_files():
    """Return the files that are, or can become, part of the repository."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout: what belongs to the repository is not known")
    return [path for name in listed if name and (path := ROOT / name).is_file()]


def found(pattern):
    return [
        f"{path.relative_to(ROOT)}: {match[0]!r}"
        for path in shipped_files()
        if path.suffix not in WEIGHTS
        for match in pattern.finditer(path.read_bytes().decode("utf-8", "replace"))
    ]


def test_no_file_names_a_path_of_somebodys_machine():
    assert found(MACHINE_PATH) == []


@pytest.mark.parametrize("text", ["/ro{}t/x", '"/h{}me/ada/x', "in /w{}rk/main", "(/h{}me/ada)"])
def test_a_path_of_a_machine_would_be_found(text):
    assert MACHINE_PATH.search(text.format("o"))


@pytest.mark.parametrize("text", ["/usr/bin", "https://x.org/h{}me/a", "../w{}rk/a", "netw{}rk/a", "w{}rk/life"])
def test_other_paths_are_left_alone(text):
    assert not MACHINE_PATH.search(text.format("o"))


@pytest.mark.skipif(not LABELS_OF_PUBLIC_ROWS.is_file(), reason="the labels of the public rows are not here")
def test_no_public_text_is_in_the_data():
    lines = LABELS_OF_PUBLIC_ROWS.read_text(encoding="utf-8").splitlines()
    public = {json.loads(line)["sha256"] for line in lines}
    texts = {
        json.loads(line)["text"]
        for path in (ROOT / "data").glob("*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    for path in (ROOT / "data" / "sample").glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as rows:
            texts |= {cell for row in csv.DictReader(rows) for cell in row.values()}
    assert len(texts) > 3000
    assert [text for text in texts if hash_text(text) in public] == []
