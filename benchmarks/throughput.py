"""Time this project against other ways of labelling the same texts with the same weights, all in one run.

    python -m benchmarks.throughput [--texts FILE.jsonl.gz] [--n-texts 10000] [--rounds 1]

Each contender has a process of its own, so that its peak memory is its own, and they take turns. Loading and a
warm-up are not timed; tokenising, scoring and deciding are. Texts are cut to one window of the model beforehand: what
is longer, the others would drop and this project read. Writes `results/throughput.json` and `throughput.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.contender import BASELINE, CONTENDERS, OURS, REFERENCE, open_contender
from benchmarks.peak import matmul_peak
from benchmarks.report import new_parser, say, table_head, table_row, write_report
from benchmarks.texts import make_texts, read_texts
from gapnlp.engines.openvino import n_cores
from gapnlp.model_dir import find_model

N_WARM = 256
WINDOW = 256  # tokens that the shipped model reads at once


def main() -> None:
    """Run every contender in turn and write the table."""
    options = _options()
    if options.contender:
        _run_contender(options)
        return
    texts = read_texts(options.texts, n_texts=options.n_texts) if options.texts else make_texts(options.n_texts)
    texts = _cut(texts)
    with TemporaryDirectory() as scratch:
        given = Path(scratch) / "texts.json"
        given.write_text(json.dumps(texts), encoding="utf-8")
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
        for _ in range(options.rounds):
            for name in CONTENDERS:
                found = _in_process(name, given, Path(scratch))
                runs[name].append(found)
                say(f"{name}: " + (found.get("error") or f"{len(texts) / found['seconds']:,.0f} rows/s"))
        figures = _figures(runs, texts=texts, scratch=Path(scratch))
    figures["texts"] = f"{len(texts):,} " + ("texts given" if options.texts else "made-up texts of real lengths")
    title = "Against other ways of labelling"
    write_report("throughput", figures, title=title, lines=_lines(figures), options=options)


def _options() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--texts", type=Path, help="JSON Lines with a column text; without it texts are made up")
    parser.add_argument("--n-texts", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1, help="turns of each contender; the median counts")
    parser.add_argument("--contender", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--labels", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run_contender(options: argparse.Namespace) -> None:
    """Be one contender: time it once, write its labels, print its figures."""
    texts = json.loads(options.texts.read_text(encoding="utf-8"))
    label = open_contender(options.contender, find_model())
    label(sorted(texts, key=len)[:: max(1, len(texts) // N_WARM)])
    began, worked = time.perf_counter(), time.process_time()
    labels = label(texts)
    seconds, busy = time.perf_counter() - began, time.process_time() - worked
    np.save(options.labels, labels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    sys.stdout.write(json.dumps({"seconds": seconds, "cpu_seconds": busy, "peak_mib": peak}))


def _in_process(name: str, texts: Path, scratch: Path) -> dict[str, Any]:
    labels = _labels_file(scratch, name)
    command = [sys.executable, "-m", "benchmarks.throughput", "--contender", name, "--texts", str(texts)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    done = subprocess.run(  # noqa: S603
        [*command, "--labels", str(labels)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["ended without a word"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _labels_file(scratch: Path, name: str) -> Path:
    return scratch / f"{list(CONTENDERS).index(name)}.npy"


def _figures(runs: dict[str, list[dict[str, Any]]], *, texts: list[str], scratch: Path) -> dict[str, Any]:
    n_threads = n_cores()
    rows: dict[str, Any] = {}
    for name, found in runs.items():
        if any("error" in run for run in found):
            rows[name] = {"error": next(run["error"] for run in found if "error" in run)}
            continue
        seconds = [run["seconds"] for run in found]
        rows[name] = {
            "rows_per_second": len(texts) / median(seconds),
            "seconds": seconds,
            "cores_busy": median(run["cpu_seconds"] / run["seconds"] for run in found),
            "peak_mib": max(run["peak_mib"] for run in found),
        }
    reference = np.load(_labels_file(scratch, REFERENCE))
    for name, row in rows.items():
        if "error" not in row:
            row["times_baseline"] = row["rows_per_second"] / rows[BASELINE]["rows_per_second"]
            if name != "SetFit predict":  # another model: its labels say nothing
                row["same_labels"] = float(np.mean((np.load(_labels_file(scratch, name)) == reference).all(axis=1)))
    work = _operations(texts)
    peaks = {kind: matmul_peak(kind, n_threads=n_threads) for kind in ("f32", "bf16", "int8")}
    ours = rows[OURS]["rows_per_second"] * work / len(texts)
    return {
        "contenders": rows,
        "operations_per_text": work / len(texts),
        "peak_operations_per_second": peaks,
        "share_of_peak": {kind: ours / peak for kind, peak in peaks.items()},
        "times_torch_sorted": rows[OURS]["rows_per_second"] / rows[REFERENCE]["rows_per_second"],
    }


def _cut(texts: list[str]) -> list[str]:
    """Cut texts to what every contender reads: 256 tokens with the special ones."""
    encodings = _tokenizer().encode_batch(texts, add_special_tokens=False)
    ends = [encoding.offsets[: WINDOW - 2][-1][1] if encoding.offsets else 0 for encoding in encodings]
    return [text[:end] for text, end in zip(texts, ends, strict=True) if end]


def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(find_model() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _operations(texts: list[str]) -> float:
    """Count the multiplications and sums of all matrix products that the texts need, padding left out."""
    folder = find_model()
    shape = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    hidden, inner, n_layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    lengths = np.array([len(encoding.ids) for encoding in _tokenizer().encode_batch(texts)])
    per_token = 4 * hidden * hidden + 2 * hidden * inner
    return float(2 * n_layers * (lengths.sum() * per_token + 2 * hidden * np.square(lengths).sum()))


def _lines(figures: dict[str, Any]) -> list[str]:
    columns = ("rows/s", "times the pipeline", "labels as torch float32", "cores busy", "peak memory")
    lines = [f"{figures['texts']}.", "", *table_head("way", *columns)]
    for name, row in figures["contenders"].items():
        if "error" in row:
            lines.append(table_row(name, f"did not run: {row['error']}", "", "", "", ""))
            continue
        same = f"{row['same_labels']:.2%}" if "same_labels" in row else "another model"
        speed = (f"{row['rows_per_second']:,.0f}", f"{row['times_baseline']:.1f}")
        lines.append(table_row(name, *speed, same, f"{row['cores_busy']:.1f}", f"{row['peak_mib']:,.0f} MiB"))
    shares = ", ".join(
        f"{figures['share_of_peak'][kind]:.0%} of the {kind} peak ({peak / 1e12:.2f} TOPS)"
        for kind, peak in figures["peak_operations_per_second"].items()
    )
    lines += ["", f"gapnlp against torch sorted: {figures['times_torch_sorted']:.1f} times. It reaches {shares}, end"]
    lines[-1] += " to end, of what large matrix products measured on the same cores reach."
    return lines


if __name__ == "__main__":
    main()
