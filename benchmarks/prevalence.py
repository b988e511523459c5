"""Measure the prevalence estimates on simulated archives made of real scores.

Do the intervals hold, how far off is the estimate beside the counted share, and does the label-shift check speak
when it should? The held-out rows of a model are taken for the population. Each repetition draws a fresh validation set
of as many rows from it, and archives whose share of a gap was set: their texts come from the rows with the gap and
from those without, all with replacement. The true share is the one among the texts drawn ("archive"), and beside
it the one they were drawn at ("source"). Run it with `python -m benchmarks.prevalence`; it writes `prevalence.json`
and `prevalence.md`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import new_parser, table_head, table_row, write_report
from gapnlp.calibration import logit, sigmoid
from gapnlp.prevalence.adjustment import adjust
from gapnlp.prevalence.gap_score import (
    GapRows,
    GapScore,
    ValidationScores,
    fit_gap_rows,
    fit_gap_score,
    gains,
    likeliest_share,
    proba_of_gains,
    score_gains,
)
from gapnlp.prevalence.shift import ALARM_LEVEL, label_shift_p_value
from gapnlp.taxonomy import LABELS

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Figures = dict[str, Any]

CONFIDENCE = 0.95
SHARES = (0.005, 0.01, 0.02, 0.05, 0.10, 0.20, 0.35, 0.50, 0.70)
SIZES = (300, 1000, 5000, 20_000)
FEW_POSITIVES = (10, 20)
N_BOOTSTRAP = 200
CHECKED = 5  # one repetition in so many runs the label-shift check
BOOTSTRAPPED = 40  # and in so many the naive bootstraps, which cost far more than the interval
SPOILED = {"half the texts with the gap look unlike it": (0.5, 0.0), "one other text in five looks like it": (0.0, 0.2)}
SPOIL = 2.0  # what is taken from, or added to, a spoiled text's logit


@dataclass(frozen=True)
class Pool:
    """The rows that stand for the population.

    Attributes:
        proba: Calibrated probabilities, 0-1. *Shape:* (n, 5).
        labels: True where the row carries the gap. *Shape:* (n, 5).
        decided: True where the model gave the gap. *Shape:* (n, 5).
    """

    proba: FloatArray
    labels: BoolArray
    decided: BoolArray


def read_pool(path: Path | None) -> Pool:
    """Read scores from an .npz of `proba`, `labels`, `decided`, or from a model directory (None: the shipped)."""
    if path is not None and path.suffix == ".npz":
        with np.load(path) as arrays:
            return Pool(arrays["proba"], arrays["labels"].astype(bool), arrays["decided"].astype(bool))
    from gapnlp.model_dir import load_model_dir

    model = load_model_dir(path)
    rows = model.load_validation()
    return Pool(rows.proba, rows.labels, model.decision.calibration.decide(rows.proba))


def draw_validation(pool: Pool, *, rng: np.random.Generator) -> ValidationScores:
    """Draw as many rows as there are, with replacement."""
    at = rng.integers(0, len(pool.proba), len(pool.proba))
    return ValidationScores(pool.proba[at], pool.labels[at])


def draw_with_positives(pool: Pool, gap: int, *, n_pos: int, rng: np.random.Generator) -> ValidationScores:
    """Draw as many rows as there are, `n_pos` of them with the gap."""
    has = pool.labels[:, gap]
    n_neg = len(has) - n_pos
    at = np.concatenate([rng.choice(np.flatnonzero(has), n_pos), rng.choice(np.flatnonzero(~has), n_neg)])
    return ValidationScores(pool.proba[at], pool.labels[at])


def draw_archive(has: BoolArray, *, n: int, share: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return how often each pool row occurs among `n` texts, a share of which carries the gap. *Shape:* kept."""
    counts = np.zeros(len(has), dtype=np.int64)
    n_pos = rng.binomial(n, share)
    for side, k in ((has, n_pos), (~has, n - n_pos)):
        counts[side] = rng.multinomial(k, np.full(side.sum(), 1 / side.sum()))
    return counts


def gains_of(rows: GapRows, proba_column: FloatArray) -> FloatArray:
    """Turn probabilities into gains as the rows' recalibration says."""
    return gains(proba_column, prior=rows.prior, slope=rows.slope, intercept=rows.intercept)


@dataclass(frozen=True)
class Cell:
    """One archive: what is known of it, and what the library makes of it."""

    gap: int
    n: int
    share: float
    truth: float
    counted: float
    probabilistic: float
    likeliest: float
    score: GapScore
    mean: float
    naive: tuple[bool, bool] | None = None
    p: float | None = None


def observe(pool: Pool, rows: GapRows, counts: npt.NDArray[np.int64], *, share: float) -> Cell:
    """Score one archive."""
    gap = LABELS.index(rows.label)
    g, n = gains_of(rows, pool.proba[:, gap]), int(counts.sum())
    score = fit_gap_score(rows, g, counts=counts)
    return Cell(
        gap=gap,
        n=n,
        share=share,
        truth=float(counts @ pool.labels[:, gap]) / n,
        counted=float(counts @ pool.decided[:, gap]) / n,
        probabilistic=float(counts @ proba_of_gains(g, q=rows.prior)) / n,
        likeliest=likeliest_share(g, prior=rows.prior, counts=counts),
        score=score,
        mean=float(counts @ score_gains(g, q=score.q)) / n,
    )


def bootstrap(
    pool: Pool, rows: GapRows, counts: npt.NDArray[np.int64], *, cell: Cell, rng: np.random.Generator
) -> tuple[bool, bool]:
    """Tell whether two naive bootstraps of the archive cover its share.

    That of the counted share, and that of the adjusted estimate with the validation rows held fixed.
    """
    drawn = rng.multinomial(cell.n, counts / cell.n, size=N_BOOTSTRAP)
    h = score_gains(gains_of(rows, pool.proba[:, cell.gap]), q=cell.score.q)
    adjusted = (drawn @ h / cell.n - cell.score.m0) / (cell.score.m1 - cell.score.m0)
    covered = []
    for values in (drawn @ pool.decided[:, cell.gap] / cell.n, np.clip(adjusted, 0, 1)):
        low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        covered.append(bool(low <= cell.truth <= high))
    return covered[0], covered[1]


def check(pool: Pool, rows: GapRows, counts: npt.NDArray[np.int64]) -> float:
    """Return the p-value of the label-shift check of an archive."""
    g = gains_of(rows, pool.proba[:, LABELS.index(rows.label)])
    return label_shift_p_value(g, negatives=rows.negatives, positives=rows.positives, counts=counts)


def judge(cells: Sequence[Cell]) -> list[Figures]:
    """Compare the estimates of archives of one size with the truth, one record each."""
    scores, n, mean = [cell.score for cell in cells], cells[0].n, [cell.mean for cell in cells]
    plain, estimate, low, high = (a[0] for a in adjust(scores, n, mean, confidence=CONFIDENCE))
    source = adjust(scores, n, mean, confidence=CONFIDENCE, stream=True)
    return [
        {
            "covered": bool(low[i] <= cell.truth <= high[i]),
            "below": bool(high[i] < cell.truth),
            "covered_source": bool(source.low[0, i] <= cell.share <= source.high[0, i]),
            "width": float(high[i] - low[i]),
            "error": abs(float(estimate[i]) - cell.truth),
            "error_plain": abs(float(plain[i]) - cell.truth),
            "error_likeliest": abs(cell.likeliest - cell.truth),
            "error_counted": abs(cell.counted - cell.truth),
            "error_probabilistic": abs(cell.probabilistic - cell.truth),
            "naive_counted": np.nan if cell.naive is None else cell.naive[0],
            "naive_adjusted": np.nan if cell.naive is None else cell.naive[1],
            "alarm": np.nan if cell.p is None else cell.p < ALARM_LEVEL,
        }
        for i, cell in enumerate(cells)
    ]


def shifted(pool: Pool, repetition: int) -> dict[tuple[Any, ...], Figures]:
    """Run one repetition of every share, size and gap, keyed by gap, size and share."""
    rng = np.random.default_rng((1, repetition))
    fitted = fit_gap_rows(draw_validation(pool, rng=rng))
    records = {}
    for n in SIZES:
        cells = []
        for gap, rows in enumerate(fitted):
            for share in SHARES:
                counts = draw_archive(pool.labels[:, gap], n=n, share=share, rng=rng)
                cell = observe(pool, rows, counts, share=share)
                if repetition % CHECKED == 0:
                    cell = replace(cell, p=check(pool, rows, counts))
                if repetition % BOOTSTRAPPED == 0:
                    cell = replace(cell, naive=bootstrap(pool, rows, counts, cell=cell, rng=rng))
                cells.append(cell)
        records.update({(c.gap, n, c.share): record for c, record in zip(cells, judge(cells), strict=True)})
    return records


def natural(pool: Pool, repetition: int) -> dict[tuple[Any, ...], Figures]:
    """Run one repetition of archives drawn like the rows themselves, keyed by gap and size."""
    rng = np.random.default_rng((2, repetition))
    fitted = fit_gap_rows(draw_validation(pool, rng=rng))
    records = {}
    for n in SIZES:
        counts = rng.multinomial(n, np.full(len(pool.proba), 1 / len(pool.proba)))
        cells = [
            observe(pool, rows, counts, share=float(pool.labels[:, gap].mean())) for gap, rows in enumerate(fitted)
        ]
        records.update({(cell.gap, n): record for cell, record in zip(cells, judge(cells), strict=True)})
    return records


def few(pool: Pool, repetition: int) -> dict[tuple[Any, ...], Figures]:
    """Run one repetition with few validation positives, keyed by their number, gap, size and share."""
    rng = np.random.default_rng((3, repetition))
    records = {}
    for n_pos in FEW_POSITIVES:
        for gap in range(len(LABELS)):
            rows = fit_gap_rows(draw_with_positives(pool, gap, n_pos=n_pos, rng=rng))[gap]
            for n in (SIZES[0], SIZES[-1]):
                drawn = [(s, draw_archive(pool.labels[:, gap], n=n, share=s, rng=rng)) for s in SHARES]
                cells = [observe(pool, rows, counts, share=s) for s, counts in drawn]
                judged = zip(cells, judge(cells), strict=True)
                records.update({(n_pos, gap, n, cell.share): record for cell, record in judged})
    return records


def spoiled(pool: Pool, repetition: int) -> dict[tuple[Any, ...], Figures]:
    """Run one repetition of archives in which the classifier errs otherwise, keyed by how, gap and size.

    The archive has the pool's own share of the gap; part of its texts have their logit moved.
    """
    rng = np.random.default_rng((4, repetition))
    fitted = fit_gap_rows(draw_validation(pool, rng=rng))
    records = {}
    for how, (of_pos, of_neg) in SPOILED.items():
        for n in (1000, 20_000):
            for gap, rows in enumerate(fitted):
                has = pool.labels[:, gap]
                counts = draw_archive(has, n=n, share=float(has.mean()), rng=rng)
                moved = rng.binomial(counts, np.where(has, of_pos, of_neg))
                logits = logit(pool.proba[:, gap])
                other = sigmoid(logits + np.where(has, -SPOIL, SPOIL))
                g = gains_of(rows, np.concatenate([pool.proba[:, gap], other]))
                both = np.concatenate([counts - moved, moved])
                score = fit_gap_score(rows, g, counts=both)
                mean, truth = float(both @ score_gains(g, q=score.q)) / n, float(counts @ has) / n
                result = adjust([score], n, mean, confidence=CONFIDENCE)
                p = label_shift_p_value(g, negatives=rows.negatives, positives=rows.positives, counts=both)
                records[how, gap, n] = {
                    "alarm": p < ALARM_LEVEL,
                    "covered": bool(result.low[0, 0] <= truth <= result.high[0, 0]),
                    "error": abs(float(result.prevalence[0, 0]) - truth),
                }
    return records


PARTS = {"shifted": shifted, "natural": natural, "few": few, "spoiled": spoiled}
SPARED = {"few": 2, "spoiled": 2}  # run on one repetition in so many


def _some(pool: Pool, part: str, repetitions: Sequence[int]) -> dict[tuple[Any, ...], list[FloatArray]]:
    """Run repetitions of a part; per key, the sums of its fields and how many there were of each."""
    sums: dict[tuple[Any, ...], list[FloatArray]] = {}
    for repetition in repetitions:
        for key, record in PARTS[part](pool, repetition).items():
            values = np.array([*record.values()], dtype=np.float64)
            total = sums.setdefault(key, [np.zeros(len(values)), np.zeros(len(values))])
            total[0] += np.nan_to_num(values)
            total[1] += ~np.isnan(values)
    return sums


def run_part(pool: Pool, part: str, *, reps: int, jobs: int) -> dict[tuple[Any, ...], Figures]:
    """Average the records of a part over repetitions, per key."""
    chunks = [range(start, reps, 4 * jobs) for start in range(min(reps, 4 * jobs))]
    names = list(next(iter(PARTS[part](pool, 0).values())))
    totals: dict[tuple[Any, ...], list[FloatArray]] = {}
    with ProcessPoolExecutor(jobs) as workers:
        work = partial(_some, pool, part)
        for sums in map(work, chunks) if jobs == 1 else workers.map(work, chunks):
            for key, (total, n) in sums.items():
                held = totals.setdefault(key, [np.zeros_like(total), np.zeros_like(n)])
                held[0] += total
                held[1] += n
    return {
        key: {name: float(t / m) for name, t, m in zip(names, total, n, strict=True) if m > 0}
        for key, (total, n) in totals.items()
    }


def measure(pool: Pool, *, reps: int, jobs: int = 2) -> Figures:
    """Run everything; the figures hold one record per key, and what the tables say of them all."""
    parts = {part: run_part(pool, part, reps=-(-reps // SPARED.get(part, 1)), jobs=jobs) for part in PARTS}
    names = {
        "shifted": ("gap", "n", "share"),
        "natural": ("gap", "n"),
        "few": ("n_pos", "gap", "n", "share"),
        "spoiled": ("how", "gap", "n"),
    }
    records = {
        part: [dict(zip(names[part], key, strict=True)) | record for key, record in rows.items()]
        for part, rows in parts.items()
    }
    for row in (row for rows in records.values() for row in rows):
        row["gap"] = LABELS[row["gap"]]
    return {"repetitions": reps, "rows": len(pool.proba), "positives": pool.labels.sum(axis=0).tolist()} | records


def mean_of(rows: Sequence[Figures], field: str) -> float:
    """Average a field over records that have it."""
    return float(np.mean([row[field] for row in rows if field in row]))


def table(figures: Figures) -> list[str]:
    """Set the figures in Markdown."""
    positives = ", ".join(f"{label} {n}" for label, n in zip(LABELS, figures["positives"], strict=True))
    about = f"{figures['repetitions']:,} repetitions; population and validation sets of {figures['rows']} held-out rows"
    error = 100 * (0.95 * 0.05 / figures["repetitions"]) ** 0.5
    return [
        f"{about}, with the gap: {positives}. Figures in percent.",
        "",
        f"Chance alone moves a coverage by {error:.1f} (one standard error), alike in the cells of a gap.",
        "",
        *_coverage_tables(figures["shifted"]),
        *_naive_table(figures["shifted"]),
        *_error_table(figures),
        *_few_table(figures["few"]),
        *_check_table(figures),
        f"Took {figures['seconds']:.0f} s.",
    ]


def _grid(rows: Sequence[Figures], field: str, *, title: str) -> list[str]:
    """Set one field by gap, size and share."""
    lines = [f"## {title}", "", *table_head("gap", "texts", *(f"{100 * s:g} %" for s in SHARES))]
    by_key = {(row["gap"], row["n"], row["share"]): row[field] for row in rows if field in row}
    for gap, n in dict.fromkeys((row["gap"], row["n"]) for row in rows):
        lines.append(table_row(gap, f"{n:,}", *(f"{100 * by_key[gap, n, s]:.1f}" for s in SHARES)))
    return [*lines, ""]


def _coverage_tables(rows: Sequence[Figures]) -> list[str]:
    covered = np.array([row["covered"] for row in rows])
    inside = np.mean((covered >= 0.93) & (covered <= 0.97))
    lines = _grid(rows, "covered", title="How often the 95 % interval holds the archive's share, by true share")
    source = (
        f"{100 * mean_of(rows, 'covered_source'):.1f} (least {100 * min(row['covered_source'] for row in rows):.1f})"
    )
    spread = f"Mean {100 * covered.mean():.1f}, least {100 * covered.min():.1f}, most {100 * covered.max():.1f}"
    lines.append(f"{spread}; {100 * inside:.0f} % of the cells within 93-97.")
    lines += [f"The interval for the source (`stream=True`) holds the source's share in {source}.", ""]
    return lines


def _naive_table(rows: Sequence[Figures]) -> list[str]:
    lines = ["## Beside naive bootstraps of the same archives", ""]
    columns = ("interval", "bootstrap of the counted share", "bootstrap of the estimate, validation fixed")
    lines += table_head("texts", *columns)
    for n in SIZES:
        at = [row for row in rows if row["n"] == n]
        fields = ("covered", "naive_counted", "naive_adjusted")
        lines.append(table_row(f"{n:,}", *(f"{100 * mean_of(at, field):.1f}" for field in fields)))
    return [*lines, ""]


def _error_table(figures: Figures) -> list[str]:
    lines = ["## Mean absolute error, percentage points, averaged over gaps", ""]
    columns = ("estimate", "plain (a - m0) / (m1 - m0)", "SLD", "probabilistic", "counted", "estimate / counted")
    lines += table_head("archives", "texts", *columns)
    fields = ("error", "error_plain", "error_likeliest", "error_probabilistic", "error_counted")
    for part, title in (("shifted", "share set"), ("natural", "natural")):
        for n in (*SIZES, None):
            at = [row for row in figures[part] if n in (None, row["n"])]
            means = [mean_of(at, field) for field in fields]
            shown = [f"{100 * value:.2f}" for value in means]
            lines.append(table_row(title, "all" if n is None else f"{n:,}", *shown, f"{means[0] / means[-1]:.2f}"))
    return [
        *lines,
        "",
        "`probabilistic` is the mean of the recalibrated probabilities: it supposes that a score means the same",
        "chance in the archive as among the validation rows, which holds for natural archives alone.",
        "",
    ]


def _few_table(rows: Sequence[Figures]) -> list[str]:
    lines: list[str] = []
    for n_pos in FEW_POSITIVES:
        at = [row for row in rows if row["n_pos"] == n_pos]
        lines += _grid(at, "covered", title=f"How often it holds with {n_pos} validation positives")
    return lines


def _check_table(figures: Figures) -> list[str]:
    lines = [f"## The label-shift check, at a level of {100 * ALARM_LEVEL:g} %", ""]
    lines += table_head("archives", "texts", "gap", "alarms", "interval holds")
    for n in SIZES:
        for gap in LABELS:
            at = [row for row in figures["shifted"] if (row["n"], row["gap"]) == (n, gap)]
            shown = [f"{100 * mean_of(at, field):.1f}" for field in ("alarm", "covered")]
            lines.append(table_row("only the share differs", f"{n:,}", gap, *shown))
    for row in figures["spoiled"]:
        shown = [f"{100 * row[field]:.1f}" for field in ("alarm", "covered")]
        lines.append(table_row(row["how"], f"{row['n']:,}", row["gap"], *shown))
    lines += [
        "",
        "Texts with a gap that look like texts without it cannot be told from a lower share: no check of scores sees",
        "them, and the interval misses. Only rows labelled by hand show them (`gapnlp audit`).",
    ]
    return [*lines, ""]


def main() -> None:
    """Run the benchmark, print its tables and write them."""
    parser = new_parser(__doc__)
    parser.add_argument("--scores", type=Path, help=".npz of proba, labels, decided, or a model directory")
    parser.add_argument("--reps", type=int, default=2000, help="repetitions")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    started = time.perf_counter()
    figures = measure(read_pool(options.scores), reps=options.reps, jobs=options.jobs)
    figures["seconds"] = time.perf_counter() - started
    title = "Prevalence estimates on simulated archives"
    write_report("prevalence", figures, title=title, lines=table(figures), options=options)


if __name__ == "__main__":
    main()
