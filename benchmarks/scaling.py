"""Whether an archive of any size takes the same time per row, and how much memory.

    python -m benchmarks.scaling [--rows 10000 --rows 30000 --rows 100000] [--rows-with-repeats 1000000]

Each archive is a CSV file of made-up short texts, no two alike, labelled by `gapnlp classify` in a process of its own.
One more is larger and says the same 50,000 texts over and over, as archives of short comments do. What a run on one
row takes is the start-up, and is subtracted; memory is the most that the process ever had resident. A million different
texts (`--rows 10000 --rows 1000000`) take about an hour on two cores. Writes `results/scaling.json` and `scaling.md`,
and ends with 1 where a goal is missed.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.report import Figures, Goal, new_parser, say, table_head, table_row, write_report
from benchmarks.serving import GAPNLP
from benchmarks.texts import distinct_texts

ROWS = [10_000, 30_000, 100_000]
ROWS_WITH_REPEATS = 1_000_000
N_REPEATED = 50_000  # different texts among them
N_STARTS = 3
MAX_DEVIATION = 10.0  # percent
MAX_MEMORY = 700.0  # MB


def main() -> None:
    """Label archives of all sizes and write the table."""
    parser = new_parser(__doc__)
    parser.add_argument("--rows", type=int, action="append", help="of an archive; give it several times")
    parser.add_argument("--rows-with-repeats", type=int, default=ROWS_WITH_REPEATS, help="of the archive with repeats")
    options = parser.parse_args()
    options.rows = sorted(options.rows or ROWS)
    start_up = median(classify(1)["seconds"] for _ in range(N_STARTS))
    runs = []
    for n_rows in options.rows:
        runs.append(run := classify(n_rows))
        say(f"{n_rows:,} rows: {run['seconds']:,.1f} s, {run['peak_mb']:,.0f} MB")
    repeats = classify(options.rows_with_repeats, n_texts=N_REPEATED)
    figures, goals = judge(runs, repeats=repeats, start_up=start_up)
    title = "Archives of growing size"
    raise SystemExit(write_report("scaling", figures, title=title, lines=_lines(figures), options=options, goals=goals))


def classify(n_rows: int, *, n_texts: int | None = None) -> Figures:
    """Label an archive of so many rows and so many different texts, by default as many; return what it took.

    Raises:
        RuntimeError: Not every row was read on its own account.
    """
    n_texts = min(n_rows, n_texts or n_rows)
    with TemporaryDirectory() as scratch:
        given, said = Path(scratch) / "archive.csv", Path(scratch) / "said.json"
        write_archive(given, n_rows=n_rows, n_texts=n_texts)
        command = [*GAPNLP, "classify", str(given), "-o", str(given.with_name("labelled.csv")), "--quiet", "--json"]
        with said.open("wb") as output:
            began = time.perf_counter()
            process = subprocess.Popen(command, stdout=output)  # noqa: S603
            _, status, usage = os.wait4(process.pid, 0)  # it alone tells the memory of this very process
            seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        summary = json.loads(said.read_bytes() or "{}")
    if process.returncode or (summary["rows"], summary["failed"], summary["duplicates"]) != (
        n_rows,
        0,
        n_rows - n_texts,
    ):
        raise RuntimeError(f"`gapnlp classify` of {n_rows:,} rows ended with {process.returncode}: {summary}")
    return {"rows": n_rows, "seconds": seconds, "peak_mb": usage.ru_maxrss * 1024 / 1e6}  # KiB on Linux


def write_archive(path: Path, *, n_rows: int, n_texts: int) -> None:
    """Write a CSV file of so many rows, which go through `n_texts` different texts again and again."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["comment"])
        for first_row in range(0, n_rows, n_texts):
            writer.writerows([text] for text in distinct_texts(min(n_texts, n_rows - first_row)))


def judge(runs: list[Figures], *, repeats: Figures, start_up: float) -> tuple[Figures, list[Goal]]:
    """Compare runs, the smallest first, and that with repeats; `start_up` in seconds."""
    rows = [run | {"ms_per_row": 1000 * (run["seconds"] - start_up) / run["rows"]} for run in runs]
    for row in rows:
        row["against_smallest"] = row["ms_per_row"] / rows[0]["ms_per_row"]
    deviation = 100 * max(abs(row["against_smallest"] - 1) for row in rows)
    return {"start_up": start_up, "runs": rows, "repeats": repeats}, [
        Goal("time per row, off that of the smallest", deviation, MAX_DEVIATION, "%"),
        Goal("peak memory", max(row["peak_mb"] for row in (*rows, repeats)), MAX_MEMORY, "MB"),
    ]


def _lines(figures: Figures) -> list[str]:
    columns = ("seconds", "time per row", "against the smallest", "peak memory")
    lines = [
        "Made-up short texts, no two alike, from CSV to CSV by `gapnlp classify`. A run on one row takes",
        f"{figures['start_up']:.1f} s (median of {N_STARTS}): that is the start-up, and not in the times per row.",
        "",
        *table_head("rows", *columns),
    ]
    for row in figures["runs"]:
        times = (f"{row['seconds']:,.1f}", f"{row['ms_per_row']:.3f} ms", f"{row['against_smallest']:.2f} times")
        lines.append(table_row(f"{row['rows']:,}", *times, f"{row['peak_mb']:,.0f} MB"))
    repeats = figures["repeats"]
    took = f"{repeats['seconds']:,.0f} s, {repeats['peak_mb']:,.0f} MB at the most"
    return [*lines, "", f"{repeats['rows']:,} rows that say {N_REPEATED:,} different texts again and again: {took}."]


if __name__ == "__main__":
    main()
