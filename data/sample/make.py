"""Make the sample archive from test rows of the corpus: one invented company, half a year of comments.

    python data/sample/make.py

The texts, their channels and the lines of business (from the sectors) are the corpus's; dates and branches
are drawn here, and the pattern that is planted in them is described in README.md beside this file. The labels
steer that pattern and stay out of the file. The same rows and the same seed give the same file.
"""

from __future__ import annotations

import csv
import datetime as dt
import random
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from training.corpus import Example, read_examples

HERE = Path(__file__).parent
SEED = 2026
N_COMMENTS = 500
FIRST, LAST = dt.date(2026, 1, 1), dt.date(2026, 6, 30)
COLUMNS = ("comment_id", "date", "branch", "product", "channel", "comment")

BRANCHES = {  # invented towns, and how much of the trade each does
    "Aldermouth": 20,
    "Saltmere": 17,
    "Wrenport": 15,
    "Tarnholme": 13,
    "Penfarrow": 11,
    "Oxley Bar": 9,
    "Kelby Quay": 8,
    "Northwick Sands": 7,
}
POLICY_BRANCH, POLICY_FACTOR = "Kelby Quay", 4.0
"""Planted: a `policy` comment is this many times likelier to come from this branch than its trade says."""

DELIVERY_GROWTH = 1.35
"""Planted: a `delivery` comment is this many times likelier in each month than in the month before."""

WEEKDAYS = (1.3, 1.15, 1.1, 1.0, 1.0, 0.75, 0.6)  # Monday to Sunday: Monday brings the weekend's complaints
QUIET = {
    dt.date(2026, 1, 1),
    dt.date(2026, 4, 3),
    dt.date(2026, 4, 5),
    dt.date(2026, 4, 6),
}  # New Year, Easter


def make(
    output: Annotated[Path, typer.Option("-o", help="File to write.")] = HERE / "harbourline-2026.csv",
) -> None:
    """Write the sample archive."""
    rows = sample_rows(read_examples(HERE.parent / "test.jsonl"))
    with output.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    typer.echo(f"{len(rows)} comments", err=True)


def sample_rows(examples: Sequence[Example]) -> list[tuple[str, ...]]:
    """Draw comments of the lines that the company has, and give each a date and a branch."""
    sectors = tomllib.loads((HERE.parent / "sectors.toml").read_text(encoding="utf-8"))
    line_of = {name: sector["line"] for name, sector in sectors.items() if "line" in sector}
    rng = random.Random(SEED)  # noqa: S311 (no secret hangs on it)
    chosen = rng.sample([e for e in examples if e.sector in line_of], N_COMMENTS)
    dated = sorted(((draw_date(e, rng=rng), draw_branch(e, rng=rng), e) for e in chosen), key=lambda row: row[:1])
    return [
        (f"HL-{number:04d}", day.isoformat(), branch, line_of[e.sector], e.channel, e.text)
        for number, (day, branch, e) in enumerate(dated, start=1)
    ]


def draw_date(example: Example, *, rng: random.Random) -> dt.date:
    """Draw a day: fewer at weekends and on holidays, and of `delivery` comments more from month to month."""
    days = [FIRST + dt.timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
    growth = DELIVERY_GROWTH if "delivery" in example.labels else 1.0
    weights = [WEEKDAYS[d.weekday()] * (0.3 if d in QUIET else 1.0) * growth ** (d.month - 1) for d in days]
    return rng.choices(days, weights=weights)[0]


def draw_branch(example: Example, *, rng: random.Random) -> str:
    """Draw a branch by its trade, and for `policy` comments with one branch far ahead of it."""
    factor = POLICY_FACTOR if "policy" in example.labels else 1.0
    weights = [trade * (factor if name == POLICY_BRANCH else 1.0) for name, trade in BRANCHES.items()]
    return rng.choices(list(BRANCHES), weights=weights)[0]


if __name__ == "__main__":
    typer.run(make)
