"""Measure segments and alerts on simulated archives made of real scores.

Each simulated archive draws its texts, with their scores, from the held-out rows of the shipped model, so that one
gap has the share wanted in each group or month; the validation rows are redrawn each time. Run it with
`python -m benchmarks.trend`; it writes `benchmarks/results/trend.json` and `trend.md`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import new_parser, table_head, table_row, write_report
from gapnlp.model_dir import load_model_dir
from gapnlp.prevalence import Moments, fit_gap_scores, score_texts
from gapnlp.prevalence.alert import Alert, find_changes
from gapnlp.prevalence.comparison import compare_segments
from gapnlp.prevalence.gap_score import GapScore, ValidationScores, fit_gap_rows
from gapnlp.prevalence.scale import ScoreScale
from gapnlp.prevalence.segment import estimate_segments
from gapnlp.prevalence.trend import estimate_trend
from gapnlp.taxonomy import LABELS

FloatArray = npt.NDArray[np.float64]
Figures = dict[str, Any]

LEVELS = (0.05, 0.10, 0.15)
N_MONTHS = 24
N_GROUPS = 20
N_FITTED = 3000  # texts of a simulated archive that its scores are fitted on: they only set how well, not whether
RATE = 0.05
CLAIMS = ("claims an archive", "false among them", "any claim if all equal")


@dataclass(frozen=True, slots=True)
class Archive:
    """One simulated archive: what an analyst would have of one gap."""

    moments: Moments
    scores: tuple[GapScore, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Real rows to draw from.

    Attributes:
        rows: Held-out rows of the model.
        gap: Column of the gap whose share is set.
        rng: Random numbers.
    """

    rows: ValidationScores
    gap: int
    rng: np.random.Generator

    def archive(self, shares: FloatArray, sizes: npt.NDArray[np.int64]) -> Archive:
        """Draw an archive whose groups have these shares, each text by itself. *Shapes:* (n_groups,)."""
        validation = self.validation()
        counts = np.array([self._count(share, int(n)) for share, n in zip(shares, sizes, strict=True)])
        total = counts.sum(axis=0)
        sample = self.rng.choice(len(total), size=N_FITTED, p=total / total.sum())
        scores = fit_gap_scores(self.rows.proba[sample], fit_gap_rows(validation))
        h = score_texts(self.rows.proba, scores)[:, self.gap]
        n = counts.sum(axis=1)
        mean = counts @ h / np.maximum(n, 1)
        var = (counts * (h - mean[:, None]) ** 2).sum(axis=1) / np.maximum(n - 1, 1)
        return Archive(Moments(n, mean[:, None], var[:, None]), (scores[self.gap],))

    def validation(self) -> ValidationScores:
        """Draw a validation set of the same size, anew."""
        n = len(self.rows.labels)
        drawn = self.rng.integers(0, n, n)
        return ValidationScores(self.rows.proba[drawn], self.rows.labels[drawn])

    def _count(self, share: float, n: int) -> npt.NDArray[np.int64]:
        """Draw n rows of this share; return how often each row came up. *Shape:* (n_rows,)."""
        positive = self.rows.labels[:, self.gap]
        n_positive = self.rng.binomial(n, np.clip(share, 0, 1))
        counts = np.zeros(len(positive), dtype=np.int64)
        for of_gap, k in ((positive, n_positive), (~positive, n - n_positive)):
            counts[of_gap] = self.rng.multinomial(k, np.full(of_gap.sum(), 1 / of_gap.sum()))
        return counts


def main() -> None:
    """Run all measurements and write the results."""
    parser = new_parser(__doc__)
    parser.add_argument("--scores", type=Path, help="NPZ file with `proba` and `labels` instead of the shipped model's")
    parser.add_argument("--series", type=int, default=250, help="unchanged series per line of the tables")
    options = parser.parse_args()
    started = time.process_time()
    figures = measure(read_rows(options.scores), n_series=options.series)
    figures["cpu_seconds"] = round(time.process_time() - started, 1)
    lines = table(figures, n_series=options.series)
    write_report("trend", figures, title="Segments and alerts on simulated archives", lines=lines, options=options)


def read_rows(path: Path | None) -> ValidationScores:
    """Read held-out scores from a file, or take those of the shipped model."""
    if path is not None:
        with np.load(path) as arrays:
            return ValidationScores(arrays["proba"].astype(np.float64), arrays["labels"].astype(np.bool_))
    return load_model_dir(None).load_validation()


def measure(rows: ValidationScores, *, n_series: int) -> Figures:
    """Measure everything; JSON-ready."""
    worlds = [World(rows, gap, np.random.default_rng(gap)) for gap in range(len(LABELS))]
    return {
        "rate": RATE,
        "segments": [segment_figures(world, level, n_series // 4) for world in worlds for level in (0.01, *LEVELS)],
        "false_alarms": [
            {"series": name, "label": LABELS[world.gap], "rate": false_alarms(world, sizes, wobble, n_series // 5)}
            for name, sizes, wobble in unchanged()
            for world in worlds
        ],
        "found": [
            {"change": name, "label": LABELS[world.gap], "level": level} | found(world, level, change, n_series // 8)
            for name, change in planted()
            for world in worlds
            for level in LEVELS
        ],
        "cost": cost(worlds[1]),
    }


def segment_figures(world: World, level: float, n_series: int) -> Figures:
    """Measure how often intervals and bands hold the truth, and how many claims are false."""
    n_of, held, width = {True: 0, False: 0}, {True: 0, False: 0}, {True: 0.0, False: 0.0}
    all_held = false_share = n_false_if_equal = n_claims = differences_held = n_differences = 0.0
    for _ in range(n_series):
        sizes = np.exp(world.rng.uniform(np.log(40), np.log(3000), N_GROUPS)).astype(np.int64)
        shares = np.clip(world.rng.gamma(6.0, level / 6.0, N_GROUPS), 0, 0.9)  # they differ by 40 % of the level
        archive, names = world.archive(shares, sizes), [str(i) for i in range(N_GROUPS)]
        segments = estimate_segments(archive.moments, archive.scores, names=names)
        inside = []
        for segment in segments.estimates:
            truth, one = shares[int(segment.group)], segment.estimate
            n_of[segment.direct] += 1
            held[segment.direct] += one.low <= truth <= one.high
            width[segment.direct] += one.high - one.low
            inside.append(segment.band_low <= truth <= segment.band_high)
        all_held += all(inside)
        differences = compare_segments(archive.moments, archive.scores, names=names)
        truths = {d.group: shares[int(d.group)] - _rest(shares, sizes, int(d.group)) for d in differences}
        n_differences += len(differences)
        differences_held += sum(d.low <= truths[d.group] <= d.high for d in differences)
        claims = [d for d in differences if d.significant]
        wrong = [d for d in claims if (d.difference > 0) != (truths[d.group] > 0)]
        false_share += len(wrong) / max(len(claims), 1)
        n_claims += len(claims)
        equal = world.archive(np.full(N_GROUPS, level), sizes)
        n_false_if_equal += any(d.significant for d in compare_segments(equal.moments, equal.scores, names=names))
    return {
        "label": LABELS[world.gap],
        "level": level,
        "n_direct": n_of[True],
        "direct": _ratio(held[True], n_of[True]),
        "direct_width": _ratio(width[True], n_of[True]),
        "n_pooled": n_of[False],
        "pooled": _ratio(held[False], n_of[False]),
        "pooled_width": _ratio(width[False], n_of[False]),
        "bands": all_held / n_series,
        "differences": differences_held / n_differences,
        "claims_per_archive": n_claims / n_series,
        "false_claims": false_share / n_series,
        "any_claim_if_equal": n_false_if_equal / n_series,
    }


def _rest(shares: FloatArray, sizes: npt.NDArray[np.int64], group: int) -> float:
    return float(np.average(np.delete(shares, group), weights=np.delete(sizes, group)))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def unchanged() -> Iterator[tuple[str, Callable[[np.random.Generator], npt.NDArray[np.int64]], float]]:
    """List the unchanged series: name, texts per month, standard deviation of the months' true shares."""

    def even(n: int) -> Callable[[np.random.Generator], npt.NDArray[np.int64]]:
        return lambda rng: np.full(N_MONTHS, n)

    def uneven(rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return np.exp(rng.uniform(np.log(100), np.log(5000), N_MONTHS)).astype(np.int64)

    yield "2,000 a month, steady", even(2000), 0.0
    yield "2,000 a month, wobbling by 1 point", even(2000), 0.01
    yield "2,000 a month, wobbling by 2 points", even(2000), 0.02
    yield "100 to 5,000 a month, steady", uneven, 0.0
    yield "100 to 5,000 a month, wobbling by 1.5 points", uneven, 0.015
    yield "100 a month, steady", even(100), 0.0


def false_alarms(
    world: World, sizes: Callable[[np.random.Generator], npt.NDArray[np.int64]], wobble: float, n_series: int
) -> float:
    """Count unchanged series with an alert, over series at all levels."""
    n_alarms = 0
    for i in range(n_series):
        level = LEVELS[i % len(LEVELS)]
        shares = level + wobble * world.rng.standard_normal(N_MONTHS)
        n_alarms += bool(_alerts(world.archive(shares, sizes(world.rng))))
    return n_alarms / n_series


def planted() -> Iterator[tuple[str, FloatArray]]:
    """List the changes planted into series of 2,000 texts a month."""
    month = np.arange(N_MONTHS)
    yield "+3 points from month 13 on", np.where(month >= 12, 0.03, 0.0)
    yield "+3 points from month 19 on", np.where(month >= 18, 0.03, 0.0)
    yield "+3 points in month 15 alone", np.where(month == 14, 0.03, 0.0)
    yield "+6 points in month 15 alone", np.where(month == 14, 0.06, 0.0)


def found(world: World, level: float, change: FloatArray, n_series: int) -> Figures:
    """Count series whose planted change is found: within two months of its place, upwards, of the right kind."""
    at, lasting, n_found, bound = int(np.flatnonzero(change)[0]), bool(change[-1]), 0, 0.0
    for _ in range(n_series):
        archive = world.archive(level + change, np.full(N_MONTHS, 2000))
        n_found += any(
            alert.lasting == lasting and alert.change > 0 and abs(int(alert.period) - at) <= 2 * lasting
            for alert in _alerts(archive)
        )
        bound += best_possible(archive, change)
    return {"found": n_found / n_series, "best_possible": bound / n_series}


def best_possible(archive: Archive, change: FloatArray) -> float:
    """Give the chance of finding the change for one who knows that months never wobble, and the kind of change.

    It only has to find the place among all months, by a two-sided test shared out over them (Šidák 1967).
    """
    scale = ScoreScale(archive.scores)
    var = archive.moments.var[:, 0] / archive.moments.n / scale.length[0] ** 2
    centred = change - change.mean()
    signal = float(np.sqrt((centred**2 / var).sum()))
    limit = NormalDist().inv_cdf(1 - (1 - (1 - RATE) ** (1 / N_MONTHS)) / 2)
    return NormalDist().cdf(signal - limit)


def _alerts(archive: Archive) -> tuple[Alert, ...]:
    periods = [str(i) for i in range(N_MONTHS)]
    return find_changes(archive.moments, archive.scores, periods=periods, false_alarm_rate=RATE)


def cost(world: World) -> Figures:
    """Time a whole report's worth: 20 segments, each over 24 months, for 5 gaps."""
    sizes = np.full(N_GROUPS * N_MONTHS, 500)
    archive = world.archive(np.full(len(sizes), 0.1), sizes)
    scores = archive.scores * len(LABELS)
    wide = Moments(archive.moments.n, *(np.repeat(x, 5, axis=1) for x in (archive.moments.mean, archive.moments.var)))
    periods = [str(i) for i in range(N_MONTHS)]
    started = time.process_time()
    for group in range(N_GROUPS):
        rows = slice(group * N_MONTHS, (group + 1) * N_MONTHS)
        part = Moments(wide.n[rows], wide.mean[rows], wide.var[rows])
        estimate_trend(part, scores, periods=periods)
        find_changes(part, scores, periods=periods)
    names = [str(i) for i in range(len(sizes))]
    estimate_segments(wide, scores, names=names)
    compare_segments(wide, scores, names=names)
    return {"seconds": round(time.process_time() - started, 2)}


def table(figures: Figures, *, n_series: int) -> list[str]:
    """Lay the figures out as Markdown."""
    lines = [
        f"Segments: {N_GROUPS} groups of 40 to 3,000 texts, true shares differing by 40 % of the level, validation",
        "redrawn each time. How often nominal 95 % intervals hold the true share; how often a gap's bands hold all of",
        f"its groups at once; what part of the claims `compare_segments` makes at {RATE:.0%} is false. A line rests on",
        f"{n_series // 4} validation sets, whose error all groups of an archive share: coverage is good to 4 points,",
        "in the last line to 1 (two standard errors).",
        "",
        *table_head("gap", "level", "direct", "pooled", "all bands", "difference to the rest", *CLAIMS),
    ]
    for row in figures["segments"]:
        cells = [row["label"], f"{row['level']:.0%}", _held(row, "direct"), _held(row, "pooled")]
        cells += [f"{row['bands']:.1%}", f"{row['differences']:.1%}", f"{row['claims_per_archive']:.1f}"]
        lines.append(table_row(*cells, f"{row['false_claims']:.1%}", f"{row['any_claim_if_equal']:.1%}"))
    means = [_mean(figures["segments"], key) for key in ("direct", "pooled", "bands", "differences")]
    claims = [_mean(figures["segments"], key) for key in ("false_claims", "any_claim_if_equal")]
    n_claims = _mean(figures["segments"], "claims_per_archive")
    lines.append(table_row("all", "", *(f"{x:.1%}" for x in means), f"{n_claims:.1f}", *(f"{x:.1%}" for x in claims)))
    lines += [
        "",
        f"Alerts in unchanged series of {N_MONTHS} months at 5 %, 10 % and 15 %; stated: at most {RATE:.0%}.",
        "",
    ]
    lines += table_head("series", *LABELS, "all")
    for name in dict.fromkeys(row["series"] for row in figures["false_alarms"]):
        rates = [row["rate"] for row in figures["false_alarms"] if row["series"] == name]
        lines.append(table_row(name, *(f"{x:.1%}" for x in (*rates, float(np.mean(rates))))))
    lines += ["", "Planted changes found, 2,000 texts a month; in brackets the best that anyone could do with these"]
    lines += ["scores who knew the kind of change, and that months never wobble.", ""]
    lines += table_head("change", "level", *LABELS)
    for name, level in dict.fromkeys((row["change"], row["level"]) for row in figures["found"]):
        rows = [row for row in figures["found"] if (row["change"], row["level"]) == (name, level)]
        cells = [f"{row['found']:.0%} ({row['best_possible']:.0%})" for row in rows]
        lines.append(table_row(name, f"{level:.0%}", *cells))
    seconds = figures["cost"]["seconds"]
    lines += ["", f"{N_GROUPS} segments by {N_MONTHS} months by 5 gaps, given the sums: {seconds} s of one core."]
    return lines


def _mean(rows: list[Figures], key: str) -> float:
    return float(np.mean([row[key] for row in rows if row[key] is not None]))


def _held(row: Figures, kind: str) -> str:
    """Print coverage, in brackets how many intervals and how wide they are on average."""
    if row[kind] is None:
        return "none"
    return f"{row[kind]:.1%} ({row['n_' + kind]:,}, {100 * row[kind + '_width']:.1f} points wide)"


if __name__ == "__main__":
    main()
