"""Whether the service keeps its memory under load that does not end.

    python -m benchmarks.soak [--seconds 600]

20 clients send eight texts a request, of real lengths and no two alike, without a pause. Memory is that of the server's
process (resident, without what it shares with other processes), from the moment it has warmed up. Writes
`results/soak.json` and `soak.md`, and ends with 1 where it grew by more than 30 MB.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from benchmarks.load import Sample, closed_loop, post
from benchmarks.report import Goal, new_parser, write_report
from benchmarks.serving import free_port, gapnlp_server
from benchmarks.texts import make_texts

N_CLIENTS = 20
N_TEXTS = 8
WARM_SHARE = 0.2  # of the time
MAX_GROWTH = 30.0  # MB
_PART = 0.25  # of the time after the warm-up: its start and its end are compared


@dataclass(frozen=True, slots=True)
class Soak:
    """What was seen.

    Attributes:
        seconds: Since the start, of each look.
        megabytes: Memory then.
        n_requests: That were answered.
        n_failed: That were not answered with 200.
    """

    seconds: list[float]
    megabytes: list[float]
    n_requests: int
    n_failed: int

    @property
    def growth(self) -> float:
        """From the first quarter after the warm-up to the last one, in MB: medians, so that no moment decides."""
        end = self.seconds[-1]
        start = WARM_SHARE * end
        part = _PART * (end - start)
        first = [mb for at, mb in zip(self.seconds, self.megabytes, strict=True) if start <= at <= start + part]
        last = [mb for at, mb in zip(self.seconds, self.megabytes, strict=True) if at >= end - part]
        return float(np.median(last) - np.median(first))


def main() -> None:
    """Run and write the table."""
    parser = new_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    port = free_port()
    with gapnlp_server(port) as pid:
        found = soak(port, pid, seconds=options.seconds)
    shown = [round(mb, 1) for mb in found.megabytes[:: max(1, len(found.megabytes) // 60)]]
    start, middle, end = (f"{mb:.0f} MB" for mb in (shown[0], shown[len(shown) // 2], shown[-1]))
    status = write_report(
        "soak",
        {"n_requests": found.n_requests, "n_failed": found.n_failed, "growth": found.growth, "megabytes": shown},
        title="Memory of the service under load",
        lines=[
            f"{N_CLIENTS} clients, {N_TEXTS} texts a request, {found.n_requests:,} requests.",
            f"Memory at the start {start}, half-way {middle}, at the end {end}.",
        ],
        options=options,
        goals=[
            Goal("growth after the warm-up", found.growth, MAX_GROWTH, "MB"),
            Goal("requests that failed", found.n_failed, 0),
        ],
    )
    raise SystemExit(status)


def soak(port: int, pid: int, *, seconds: float) -> Soak:
    """Load a server of this machine and watch its memory.

    Args:
        port: Where it listens.
        pid: Its process.
        seconds: For how long.
    """
    return uvloop.run(_soak(port, pid, seconds=seconds))


def memory_of(pid: int) -> float:
    """Return the memory in MB that is a process's own, as Linux counts it."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"process {pid} has no Pss in smaps_rollup: this needs Linux 4.14 or later")


async def _soak(port: int, pid: int, *, seconds: float) -> Soak:
    began = time.perf_counter()
    looks: list[tuple[float, float]] = []

    def requests() -> Iterator[bytes]:
        for texts in _texts():
            if time.perf_counter() - began > seconds:
                return
            yield post("/v1/classify", {"texts": texts})

    load = asyncio.create_task(_counted(port, requests()))
    while not load.done():
        looks.append((time.perf_counter() - began, memory_of(pid)))
        await asyncio.sleep(min(1.0, seconds / 60))
    n_requests, n_failed = await load
    return Soak([at for at, _ in looks], [mb for _, mb in looks], n_requests, n_failed)


async def _counted(port: int, requests: Iterator[bytes]) -> tuple[int, int]:
    samples: list[Sample] = await closed_loop(port, requests, n_clients=N_CLIENTS)
    return len(samples), sum(sample.status != 200 for sample in samples)


def _texts() -> Iterator[list[str]]:
    pool = make_texts(4000)
    for count in itertools.count():
        start = count * N_TEXTS
        yield [f"{pool[(start + n) % len(pool)]} {start + n}" for n in range(N_TEXTS)]


if __name__ == "__main__":
    main()
