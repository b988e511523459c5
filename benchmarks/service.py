"""Measure the service against the engine alone and against other servers of the same model, all in one run.

    python -m benchmarks.service [--n-texts 1000] [--rounds 3] [--infinity PYTHON]

Everyone answers the same short texts, one a request, to 64 clients that each send the next when the last is answered;
clients and server share this machine. They take turns; the median of the rounds counts. A first part of the texts
warms each server up and is not timed. `--infinity` names the Python of an environment with `infinity-emb`, which
does not install beside this project. Writes `results/service.json` and `service.md`.
"""

from __future__ import annotations

import argparse
import atexit
import re
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from safetensors.torch import load_file, save_file

from benchmarks.load import Sample, closed_loop, percentile, post
from benchmarks.report import new_parser, say, table_head, table_row, write_report
from benchmarks.serving import free_port, gapnlp_server, running
from benchmarks.texts import short_texts
from gapnlp.classifier import GapClassifier
from gapnlp.model_dir import WEIGHTS, find_model

OFFLINE = "the engine alone (`GapClassifier.predict`, all texts at once)"
OURS = "`gapnlp serve`"
N_WARM = 200
N_CLIENTS = 64


def main() -> None:
    """Let everyone take turns and write the table."""
    options = _options()
    texts = _short_texts(N_WARM + options.n_texts)
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for name, measure in _contenders(options).items():
            found = measure(texts)
            runs.setdefault(name, []).append(found)
            p99 = f", p99 {found['p99'] * 1000:,.0f} ms" if "p99" in found else ""
            say(f"{name}: {found['per_second']:,.0f} texts/s{p99}")
    figures = _figures(runs, n_texts=options.n_texts)
    write_report("service", figures, title="The service against others", lines=_lines(figures), options=options)


def _options() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--n-texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--infinity", type=Path, metavar="PYTHON")
    return parser.parse_args()


def _contenders(options: argparse.Namespace) -> dict[str, Callable[[list[str]], dict[str, float]]]:
    found: dict[str, Callable[[list[str]], dict[str, float]]] = {OFFLINE: _offline, OURS: _ours}
    for name, module in (("FastAPI + `pipeline`", "plain_fastapi"), ("LitServe + `pipeline`", "plain_litserve")):
        command = [sys.executable, "-m", f"benchmarks.peers.{module}"]
        found[name] = _peer(command, body=lambda text: {"text": text})
    if options.infinity:
        command = [str(options.infinity.with_name("infinity_emb")), "v2", "--engine", "torch", "--device", "cpu"]
        command += ["--host", "127.0.0.1", "--model-id", str(_widened(find_model().resolve()))]
        found["infinity (torch)"] = _peer(command, body=lambda text: {"model": find_model().name, "input": [text]})
    return found


@cache
def _widened(model: Path) -> Path:
    """Copy a model with its weights in float32: transformers 4, which infinity comes with, cannot widen eight bits."""
    scratch = TemporaryDirectory()
    atexit.register(scratch.cleanup)
    folder = Path(shutil.copytree(model, Path(scratch.name) / model.name))
    weights = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def _short_texts(n_texts: int) -> list[str]:
    """Return different texts of the corpus, each a sentence or two."""
    short = sorted(short_texts())
    if len(short) < n_texts:
        short = [f"{text} {n}" for n in range(1 + n_texts // len(short)) for text in short]
    return short[:: len(short) // n_texts][:n_texts]


def _offline(texts: list[str]) -> dict[str, float]:
    classifier = GapClassifier.load()
    classifier.predict(texts[:N_WARM])
    began = time.perf_counter()
    classifier.predict(texts[N_WARM:])
    seconds = time.perf_counter() - began
    return {"per_second": (len(texts) - N_WARM) / seconds}


def _ours(texts: list[str]) -> dict[str, float]:
    port = free_port()
    requests = [post("/v1/classify", {"text": text}) for text in texts]
    with gapnlp_server(port):
        uvloop.run(closed_loop(port, requests[:N_WARM], n_clients=N_CLIENTS))
        before = _batches(port)
        found = _load(port, requests[N_WARM:])
        after = _batches(port)
    return found | {"batch": (after[0] - before[0]) / (after[1] - before[1])}


def _peer(command: Sequence[str], *, body: Callable[[str], object]) -> Callable[[list[str]], dict[str, float]]:
    def measure(texts: list[str]) -> dict[str, float]:
        port = free_port()
        requests = [post("/classify", body(text)) for text in texts]
        with _running_peer(command, port):
            uvloop.run(closed_loop(port, requests[:N_WARM], n_clients=N_CLIENTS))
            return _load(port, requests[N_WARM:])

    return measure


def _running_peer(command: Sequence[str], port: int) -> AbstractContextManager[int]:
    own = {"PYTHONPATH": str(Path(__file__).parent.parent)} if command[0] == sys.executable else {}
    env = {"MODEL": str(find_model().resolve()), "PORT": str(port), "HF_HUB_OFFLINE": "1", **own}
    given = [] if own else ["--port", str(port)]
    return running([*command, *given], port=port, ready="/health", env=env)


def _load(port: int, requests: list[bytes]) -> dict[str, float]:
    began = time.perf_counter()
    samples = uvloop.run(closed_loop(port, requests, n_clients=N_CLIENTS))
    seconds = time.perf_counter() - began
    _check(samples)
    return {
        "per_second": len(samples) / seconds,
        "p50": percentile(samples, 0.5),
        "p99": percentile(samples, 0.99),
    }


def _check(samples: Sequence[Sample]) -> None:
    bad = [sample for sample in samples if sample.status != 200]
    if bad:
        raise RuntimeError(
            f"{len(bad)} of {len(samples)} requests failed, the first with {bad[0].status}: {bad[0].body!r}"
        )


def _batches(port: int) -> tuple[float, float]:
    """Return the seconds that all batches took so far, and how many there were."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return tuple(  # type: ignore[return-value]
        float(re.findall(rf"^gapnlp_batch_seconds_{part} (\S+)$", text, re.MULTILINE)[0]) for part in ("sum", "count")
    )


def _figures(runs: dict[str, list[dict[str, float]]], *, n_texts: int) -> dict[str, Any]:
    rows = {name: {key: median(run[key] for run in found) for key in found[0]} for name, found in runs.items()}
    ours = rows[OURS]
    for row in rows.values():
        row["of_offline"] = row["per_second"] / rows[OFFLINE]["per_second"]
        row["ours_times"] = ours["per_second"] / row["per_second"]
    return {
        "n_texts": n_texts,
        "n_clients": N_CLIENTS,
        "p99_in_batches": ours["p99"] / ours["batch"],
        "rows": rows,
        "rounds": runs,
    }


def _lines(figures: dict[str, Any]) -> list[str]:
    lines = [
        f"{figures['n_texts']:,} different short texts, one a request; {figures['n_clients']} clients beside it.",
        "",
        *table_head("server", "texts/s", "of the engine alone", "`gapnlp serve` is", "median", "p99"),
    ]
    for name, row in figures["rows"].items():
        times = "" if name in (OFFLINE, OURS) else f"{row['ours_times']:.1f} times as fast"
        waits = [f"{row[key] * 1000:,.0f} ms" if key in row else "" for key in ("p50", "p99")]
        lines.append(table_row(name, f"{row['per_second']:,.0f}", f"{row['of_offline']:.0%}", times, *waits))
    batch, in_batches = figures["rows"][OURS]["batch"] * 1000, figures["p99_in_batches"]
    return [
        *lines,
        "",
        f"A batch of `gapnlp serve` took {batch:,.0f} ms on average; its p99 is {in_batches:.1f} of them.",
    ]


if __name__ == "__main__":
    main()
