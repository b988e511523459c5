"""Play the reader of a sample: put the corpus's labels of these comments into an audit file.

    python data/sample/read.py out/sample-audit.csv

The comments of the sample archive are those of the test split, labelled by a large language model working from the
codebook, see data/README.md. With an archive of your own you read the drawn rows yourself.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from gapnlp.taxonomy import LABELS

TEST = Path(__file__).parent.parent / "test.jsonl"


def read(path: Path) -> None:
    """Fill an audit file in place."""
    with TEST.open(encoding="utf-8") as file:
        labels = {row["text"]: row["labels"] for row in map(json.loads, file)}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        given = labels[row["text"].removeprefix("'")]  # a cell that a spreadsheet would run begins with a '
        row.update({gap: "x" if gap in given else "" for gap in LABELS}, read="x")
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    read(Path(sys.argv[1]))
