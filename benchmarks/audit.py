"""Measure audits on simulated archives made of real scores: do the intervals hold, and how much reading they save.

An archive draws the score of each text from the held-out rows of the shipped model, from those with the gap or
those without it; a shift then spoils the scores on purpose. Rows are drawn, read without error and estimated by
the library's own functions. Run it with `python -m benchmarks.audit`; it writes `benchmarks/results/audit.json` and
`audit.md`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import new_parser, table_head, table_row, write_report
from gapnlp.audit import Audit, Design, audited_estimates, choose_design, draw_rows, plan_audit
from gapnlp.calibration import logit, sigmoid
from gapnlp.intervals import wilson_interval, z_value
from gapnlp.taxonomy import LABELS

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Figures = dict[str, Any]

CONFIDENCE = 0.95
SHIFTS = ("none", "too low", "too high", "half missed", "noise", "inverted", "all missed")
SIMPLE_SIZES = ((1000, 100), (1000, 300), (5000, 300), (2000, 1000), (20_000, 500), (50_000, 1000))
SIMPLE_SHARES = (0.005, 0.02, 0.10, 0.30, 0.70)
RARE_SIZES = ((5000, 100), (5000, 300), (20_000, 500), (50_000, 1000))
RARE_SHARES = (0.005, 0.01, 0.02, 0.05)
SAVED_SIZES = (300, 1000, 3000)
SAVED_TEXTS = 50_000
MOST_RARE = 0.3


@dataclass(frozen=True, slots=True)
class Pool:
    """Real scores of one gap: of rows that have it, and of rows that have not."""

    with_gap: FloatArray
    without: FloatArray

    @property
    def prior(self) -> float:
        """Share at which the scores are calibrated, 0-1."""
        return len(self.with_gap) / (len(self.with_gap) + len(self.without))


@dataclass(frozen=True, slots=True)
class Case:
    """One simulated archive, audited again and again.

    Attributes:
        shift: One of `SHIFTS`.
        n_texts: Texts in the archive.
        n_rows: Rows read.
        shares: True share per gap, 0-1.
        gap: The gap that rows are drawn for; empty for a simple random draw.
    """

    shift: str
    n_texts: int
    n_rows: int
    shares: tuple[float, ...]
    gap: str = ""


def scores_of(pool: Pool, has_gap: BoolArray, *, shift: str, rng: np.random.Generator) -> FloatArray:
    """Draw a score for each text and spoil it. *Shapes:* (n_texts,) in and out."""
    n = len(has_gap)
    f = np.where(has_gap, rng.choice(pool.with_gap, n), rng.choice(pool.without, n))
    if shift == "half missed":
        f = np.where(has_gap & (rng.random(n) < 0.5), rng.choice(pool.without, n), f)
    elif shift == "all missed":
        f = np.where(has_gap, np.quantile(pool.without, 0.01), f)
    elif shift == "noise":
        f = rng.permutation(f)
    elif shift == "inverted":
        f = 1 - f
    moved = {"too low": -2.0, "too high": 2.0}.get(shift, 0.0)
    return sigmoid(logit(f) + moved + rng.normal(0, 0.05, n))  # a little noise, so that scores are not all tied


def archive_of(pools: Sequence[Pool], case: Case, *, rng: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """Make an archive. Returns scores and truth, *shapes* (n_texts, 5)."""
    counts = [max(round(share * case.n_texts), 1) for share in case.shares]
    labels = np.column_stack([rng.permutation(case.n_texts) < count for count in counts])
    columns = [scores_of(pool, labels[:, j], shift=case.shift, rng=rng) for j, pool in enumerate(pools)]
    return np.column_stack(columns), labels


def audit_of(proba: FloatArray, labels: BoolArray, design: Design, *, seed: int) -> Audit:
    """Draw and read."""
    rows = draw_rows(proba, design, seed=seed).rows
    return Audit(
        rows=rows,
        labels=labels[rows],
        stratum=design.stratum(proba),
        n_strata=len(design.n_rows),
        second=np.zeros((0, len(LABELS)), dtype=np.bool_),
        second_rows=np.zeros(0, dtype=np.int64),
        n_drawn=len(rows),
        drawn_for=design.gap,
    )


def repeat(case: Case, *, pools: Sequence[Pool], n_archives: int, n_audits: int, seed: int) -> Figures:
    """Audit several archives of one case, each several times; count how often the intervals hold the truth."""
    rng = np.random.default_rng(seed)
    priors = [pool.prior for pool in pools]
    held, normal, widths = [], [], []
    for _ in range(n_archives):
        proba, labels = archive_of(pools, case, rng=rng)
        truth, decided = labels.mean(axis=0), proba > 0.5
        design = choose_design(proba, case.n_rows, gap=case.gap, priors=priors)
        for _ in range(n_audits):
            audit = audit_of(proba, labels, design, seed=int(rng.integers(2**31)))
            found = audited_estimates(proba, decided, audit, confidence=CONFIDENCE)
            low, high = (np.array([getattr(item, end) for item in found]) for end in ("low", "high"))
            held.append((low <= truth + 1e-12) & (truth <= high + 1e-12))
            widths.append(high - low)
            if not case.gap:
                normal.append(_normal_interval_holds(proba, labels, audit.rows, truth))
    return {
        "shift": case.shift,
        "n_texts": case.n_texts,
        "n_rows": case.n_rows,
        "gap": case.gap,
        "shares": case.shares,
        "n": n_archives * n_audits,
        "held": np.mean(held, axis=0).tolist(),
        "normal_held": np.mean(normal, axis=0).tolist() if normal else None,
        "width": np.mean(widths, axis=0).tolist(),
    }


def _normal_interval_holds(proba: FloatArray, labels: BoolArray, rows: Any, truth: FloatArray) -> BoolArray:
    """Tell whether the textbook interval holds: PPI++ with plug-in power, estimate ± z standard errors."""
    y, f = labels[rows].astype(np.float64), proba[rows]
    deviation = f - f.mean(axis=0)
    variance = (deviation**2).mean(axis=0)
    power = np.clip((deviation * y).mean(axis=0) / np.where(variance > 0, variance, 1.0), 0.0, 1.0)
    estimate = y.mean(axis=0) + power * (proba.mean(axis=0) - f.mean(axis=0))
    error = np.sqrt((y - power * f).var(axis=0, ddof=1) / len(y) * (1 - len(y) / len(proba)))
    return np.asarray(np.abs(estimate - truth) <= z_value(CONFIDENCE) * error + 1e-12)


def plain_rows(share: float, width: float, *, n_texts: int) -> float:
    """How many rows plain reading needs for Wilson intervals of this mean width."""
    rng = np.random.default_rng(0)
    n_with = round(share * n_texts)

    def mean_width(n_rows: int) -> float:
        seen = rng.hypergeometric(n_with, n_texts - n_with, n_rows, size=2000)
        n_effective = n_rows * (n_texts - 1) / (n_texts - n_rows)
        low, high = wilson_interval(seen / n_rows, n_effective, confidence=CONFIDENCE)
        return float((high - low).mean())

    low, high = 10, n_texts - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if mean_width(middle) <= width else (middle + 1, high)
    return high


def least_possible(pool: Pool, share: float) -> float:
    """Rows that the best of all draws by this score needs, in large audits, as part of plain reading's, 0-1.

    Neyman's (1934) allocation with as many strata as there are scores and the true share known in each, here for
    twenty strata of the real rows.
    """
    edges = np.unique(np.quantile(np.concatenate([pool.with_gap, pool.without]), np.linspace(0, 1, 21)[1:-1]))
    with_gap, without = (
        np.bincount(np.searchsorted(edges, f), minlength=len(edges) + 1) / len(f) for f in (pool.with_gap, pool.without)
    )
    weight = share * with_gap + (1 - share) * without
    p = share * with_gap / np.where(weight > 0, weight, 1.0)
    return float((weight * np.sqrt(p * (1 - p))).sum() ** 2 / (share * (1 - share)))


def simple_cases() -> list[Case]:
    """All shifts and sizes, each gap at each share in turn."""
    turns = [tuple(np.roll(SIMPLE_SHARES, turn).tolist()) for turn in range(len(LABELS))]
    return [
        Case(shift, *size, turns[turn % len(turns)]) for turn, (shift, size) in enumerate(product(SHIFTS, SIMPLE_SIZES))
    ]


def rare_cases() -> list[Case]:
    """All shifts, sizes and rare shares, each for another gap in turn; the other gaps are common or rare."""
    cases = []
    for turn, (shift, size, share) in enumerate(product(SHIFTS, RARE_SIZES, RARE_SHARES)):
        shares = list(np.roll(SIMPLE_SHARES, turn))
        shares[turn % len(LABELS)] = share
        cases.append(Case(shift, *size, tuple(map(float, shares)), LABELS[turn % len(LABELS)]))
    return cases


def saved_cases(natural: Sequence[float]) -> list[Case]:
    """Unspoilt scores: all gaps at the shares they have, and each gap alone at rare shares."""
    simple = [Case("none", SAVED_TEXTS, n_rows, tuple(natural)) for n_rows in SAVED_SIZES]
    rare = []
    for n_rows, share, label in product(SAVED_SIZES, RARE_SHARES[1:], rare_labels(natural)):
        shares = tuple(share if item == label else float(p) for item, p in zip(LABELS, natural, strict=True))
        rare.append(Case("none", SAVED_TEXTS, n_rows, shares, label))
    return simple + rare


def rare_labels(natural: Sequence[float]) -> list[str]:
    """Gaps that may be called rare: scores of one that most texts have say nothing of an archive where few have it."""
    return [label for label, share in zip(LABELS, natural, strict=True) if share < MOST_RARE]


def saved(row: Figures, pools: Sequence[Pool]) -> list[Figures]:
    """Compare with plain reading, per gap that the draw is for."""
    columns = [LABELS.index(row["gap"])] if row["gap"] else range(len(LABELS))
    return [
        {
            "label": LABELS[j],
            "share": row["shares"][j],
            "n_rows": row["n_rows"],
            "width": row["width"][j],
            "n_plain": (n_plain := plain_rows(row["shares"][j], row["width"][j], n_texts=row["n_texts"])),
            "ratio": row["n_rows"] / n_plain,
            "least_possible": least_possible(pools[j], row["shares"][j]) if row["gap"] else None,
        }
        for j in columns
    ]


def promise(half_width: float, *, gap: str, pools: Sequence[Pool], natural: Sequence[float], seed: int) -> Figures:
    """Plan, read as many rows as planned, and compare the interval with the one that was asked for."""
    rng = np.random.default_rng(seed)
    case = Case("none", 20_000, 1, tuple(natural), gap)
    proba, labels = archive_of(pools, case, rng=rng)
    plan = plan_audit(proba, half_width=half_width, gap=gap, priors=natural)
    design = choose_design(proba, plan.n_rows, gap=gap, priors=natural)
    needy = max(plan.gaps, key=lambda item: item.n_rows)
    got = []
    for _ in range(30):
        audit = audit_of(proba, labels, design, seed=int(rng.integers(2**31)))
        found = audited_estimates(proba, proba > 0.5, audit)[LABELS.index(needy.label)]
        got.append((found.high - found.low) / 2)
    return {"gap": gap, "asked": half_width, "n_rows": plan.n_rows, "n_plain": plan.n_plain, "got": float(np.mean(got))}


def measure(proba: FloatArray, labels: BoolArray, *, effort: float, jobs: int) -> Figures:
    """Run everything; `effort` 1 is what the results state."""
    pools = [Pool(proba[labels[:, j], j], proba[~labels[:, j], j]) for j in range(len(LABELS))]
    natural = labels.mean(axis=0).tolist()

    def times(n: int) -> int:
        return max(round(n * effort), 2)

    with ProcessPoolExecutor(jobs) as executor:
        go: Callable[..., list[Figures]] = partial(_run, executor, pools)
        simple = go(simple_cases(), n_archives=4, n_audits=times(70))
        rare = go(rare_cases(), n_archives=3, n_audits=times(25))
        saving = go(saved_cases(natural), n_archives=3, n_audits=times(10))
    asked = product((0.03, 0.02), ("", "knowledge", "communication"))
    return {
        "rows": len(proba),
        "natural": natural,
        "simple": simple,
        "rare": rare,
        "saved": [item for row in saving for item in saved(row, pools) if not row["gap"]],
        "saved_rare": [item for row in saving for item in saved(row, pools) if row["gap"]],
        "promised": [promise(w, gap=gap, pools=pools, natural=natural, seed=1) for w, gap in asked],
    }


def _run(
    executor: ProcessPoolExecutor, pools: Sequence[Pool], cases: Sequence[Case], *, n_archives: int, n_audits: int
) -> list[Figures]:
    task = partial(repeat, pools=pools, n_archives=n_archives, n_audits=n_audits)
    futures = [executor.submit(task, case, seed=seed) for seed, case in enumerate(cases)]
    return [future.result() for future in futures]


def table(figures: Figures) -> list[str]:
    """Lay the figures out as Markdown."""
    lines = [f"Scores of {figures['rows']} held-out rows. Nominal coverage {CONFIDENCE:.0%}."]
    lines += ["", "## A simple random draw, all gaps", ""]
    lines += _coverage_table(figures["simple"], SIMPLE_SHARES, SIMPLE_SIZES, only_target=False)
    lines += ["", _spread(figures["simple"], only_target=False)]
    lines += [
        "",
        "The textbook interval (PPI++ with plug-in power, estimate ± z standard errors) on the same draws:",
        "",
    ]
    lines += _coverage_table(figures["simple"], SIMPLE_SHARES, SIMPLE_SIZES, only_target=False, key="normal_held")
    lines += ["", "## A draw by score, for one rare gap", ""]
    lines += _coverage_table(figures["rare"], RARE_SHARES, RARE_SIZES, only_target=True)
    others = [h for row in figures["rare"] for label, h in zip(LABELS, row["held"], strict=True) if label != row["gap"]]
    lines += ["", _spread(figures["rare"], only_target=True)]
    lines += [f"The other four gaps, from the same draws: {np.mean(others):.1%} on average."]
    lines += ["", f"## Rows to read for the same width, archive of {SAVED_TEXTS:,}, unspoilt scores", ""]
    lines += _saved_table(figures["saved"])
    lines += ["", "For one rare gap, drawn by its score; in brackets what the best draw by this score would need in an"]
    lines += ["endless audit, had it known the true share at every score.", ""]
    lines += _saved_rare_table(figures["saved_rare"], labels=rare_labels(figures["natural"]))
    lines += ["", "## Does the plan keep its word?", ""]
    lines += table_head("for", "asked", "rows planned", "plain reading", "got")
    for row in figures["promised"]:
        rows = (f"{row['n_rows']:,}", f"{row['n_plain']:,}")
        lines.append(table_row(row["gap"] or "all gaps", f"±{row['asked']:.1%}", *rows, f"±{row['got']:.2%}"))
    return [*lines, "", f"{figures['seconds']:.0f} seconds."]


def _coverage_table(
    rows: Sequence[Figures],
    shares: Sequence[float],
    sizes: Sequence[tuple[int, int]],
    *,
    only_target: bool,
    key: str = "held",
) -> list[str]:
    """Coverage by share: one line per shift over all sizes, then one per size over all shifts."""
    lines = table_head("", *(f"{share:.1%}" for share in shares))
    groups = {f"scores: {shift}": [row for row in rows if row["shift"] == shift] for shift in SHIFTS}
    for n_texts, n in sizes:
        of_size = [row for row in rows if (row["n_texts"], row["n_rows"]) == (n_texts, n)]
        groups[f"{n:,} of {n_texts:,} read"] = of_size
    for name, group in groups.items():
        cells = []
        for share in shares:
            held = [
                row[key][j]
                for row in group
                for j in _columns(row, only_target=only_target)
                if row["shares"][j] == share
            ]
            cells.append(f"{np.mean(held):.1%}")
        lines.append(table_row(name, *cells))
    return lines


def _columns(row: Figures, *, only_target: bool) -> list[int]:
    return [LABELS.index(row["gap"])] if only_target else list(range(len(LABELS)))


def _spread(rows: Sequence[Figures], *, only_target: bool) -> str:
    """Say how the single cells scatter, and how much of that is chance."""
    held = [row["held"][j] for row in rows for j in _columns(row, only_target=only_target)]
    n = rows[0]["n"]
    low, high = np.quantile(held, (0.05, 0.95))
    inside = np.mean([0.93 <= h <= 0.97 for h in held])
    chance = 1.96 * np.sqrt(0.05 * 0.95 / n)
    return (
        f"{len(held)} cells of {n} audits: mean {np.mean(held):.1%}, lowest {min(held):.1%}, 90 % of them {low:.1%} "
        f"to {high:.1%}, {inside:.0%} within 93-97 % (chance alone moves a cell by ± {chance:.1%})."
    )


def _saved_table(rows: Sequence[Figures]) -> list[str]:
    lines = table_head("rows read", *LABELS, "mean")
    for n_rows in SAVED_SIZES:
        ratios = [row["ratio"] for row in rows if row["n_rows"] == n_rows]
        lines.append(table_row(f"{n_rows:,}", *(f"{x:.0%}" for x in (*ratios, float(np.mean(ratios))))))
    return lines


def _saved_rare_table(rows: Sequence[Figures], *, labels: Sequence[str]) -> list[str]:
    lines = table_head("share", "rows read", *labels, "mean")
    for share, n_rows in product(RARE_SHARES[1:], SAVED_SIZES):
        found = [row for row in rows if (row["n_rows"], row["share"]) == (n_rows, share)]
        cells = [f"{row['ratio']:.0%} ({row['least_possible']:.0%})" for row in found]
        mean = float(np.mean([row["ratio"] for row in found]))
        lines.append(table_row(f"{share:.0%}", f"{n_rows:,}", *cells, f"{mean:.0%}"))
    return lines


def read_scores(path: Path | None) -> tuple[FloatArray, BoolArray]:
    """Read held-out rows: of an .npz with `proba` and `labels`, or those that come with the shipped model."""
    if path is not None:
        with np.load(path) as arrays:
            return arrays["proba"].astype(np.float64), arrays["labels"].astype(np.bool_)
    from gapnlp.model_dir import load_model_dir

    validation = load_model_dir(None).load_validation()
    return validation.proba, validation.labels


def main() -> None:
    """Run the benchmark and write its results."""
    parser = new_parser(__doc__)
    parser.add_argument("--scores", type=Path, help=".npz with proba (n, 5) and labels (n, 5); else the model's own")
    parser.add_argument("--effort", type=float, default=1.0, help="factor on the number of simulated audits")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    started = time.perf_counter()
    figures = measure(*read_scores(options.scores), effort=options.effort, jobs=options.jobs)
    figures["seconds"] = time.perf_counter() - started
    write_report("audit", figures, title="Audits of simulated archives", lines=table(figures), options=options)


if __name__ == "__main__":
    main()
