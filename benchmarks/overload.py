"""What the service does when more is asked of it than it can do.

    python -m benchmarks.overload [--seconds 60]

First its capacity is measured (64 clients, short texts, one a request), then four times as many requests a second are
sent for a minute, while `/livez` is asked ten times a second; then it is seen how soon it is back to normal. After that
200 requests come as on any day, then 500 clients who give up after 0.1 s and 200 requests right after them, twenty
times over. Clients and server share this machine. Writes `results/overload.json` and `overload.md`, and ends with 1
where a goal is missed.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import uvloop

from benchmarks.load import Connection, Sample, closed_loop, get, open_loop, percentile, post
from benchmarks.report import Goal, new_parser, write_report
from benchmarks.serving import free_port, gapnlp_server
from benchmarks.texts import short_texts

N_CLIENTS = 64
TIMES_CAPACITY = 4
RECOVERS_WITHIN = 5.0  # seconds
N_IMPATIENT = 500
PATIENCE = 0.1  # seconds
N_AFTER = 200
N_TURNS = 20  # the p99 of fewer answers is mostly chance


def main() -> None:
    """Run both parts and write the table."""
    parser = new_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    port = free_port()
    with gapnlp_server(port, cache_texts=0):
        figures, goals = uvloop.run(_measure(port, seconds=options.seconds))
    title = "The service under overload"
    raise SystemExit(
        write_report("overload", figures, title=title, lines=_lines(figures), options=options, goals=goals)
    )


async def _measure(port: int, *, seconds: float) -> tuple[dict[str, Any], list[Goal]]:
    requests = short_requests()
    await closed_loop(port, itertools.islice(requests, 200), n_clients=N_CLIENTS)
    capacity = await measure_capacity(port, requests)
    few = await _few(port, requests)
    overload = await send_too_much(port, requests, rate=TIMES_CAPACITY * capacity, seconds=seconds)
    back = await _until_usual(port, requests, usual=few)
    usual, after, gone = await _take_turns(port, requests)
    goals = [
        *_overload_goals(*overload, back=back),
        Goal("of the requests after 500 that gave up, not answered", sum(s.status != 200 for s in after), 0),
        Goal("their p99 against that of any day", percentile(after, 0.99) / percentile(usual, 0.99), 1.2, "times"),
        Goal("texts left waiting", await count_waiting(port), 0),
    ]
    figures = {
        "capacity": capacity,
        "sent_per_second": len(overload[0]) / seconds,
        "statuses": {str(status): n for status, n in Counter(s.status for s in overload[0]).most_common()},
        "gave_up": gone,
        "usual_p99": percentile(usual, 0.99),
    }
    return figures, goals


def _overload_goals(samples: Sequence[Sample], live: Sequence[Sample], *, back: float) -> list[Goal]:
    refused = [sample for sample in samples if sample.status == 429]
    return [
        Goal("answers other than 200 and 429", sum(s.status not in {200, 429} for s in samples), 0),
        Goal("429 without Retry-After", sum("retry-after" not in s.headers for s in refused), 0),
        Goal("p99 of a refusal", percentile(refused, 0.99) * 1000, 50, "ms"),
        Goal("p99 of `/livez` meanwhile", percentile(live, 0.99) * 1000, 100, "ms"),
        Goal("`/livez` not 200", sum(s.status != 200 for s in live), 0),
        Goal("back to normal after", back, RECOVERS_WITHIN, "s"),
    ]


def short_requests() -> Iterator[bytes]:
    """Yield requests with short texts, no two alike."""
    texts = short_texts()
    for count in itertools.count():
        yield post("/v1/classify", {"text": f"{texts[count % len(texts)]} {count}"})


async def measure_capacity(port: int, requests: Iterator[bytes], *, n: int = 1500) -> float:
    """Return how many of `n` requests are answered in a second."""
    began = time.perf_counter()
    samples = await closed_loop(port, itertools.islice(requests, n), n_clients=N_CLIENTS)
    return len(samples) / (time.perf_counter() - began)


async def _few(port: int, requests: Iterator[bytes]) -> float:
    """Return the usual time of an answer, in seconds, when a few clients ask."""
    return percentile(await closed_loop(port, itertools.islice(requests, 100), n_clients=4), 0.5)


async def send_too_much(
    port: int, requests: Iterator[bytes], *, rate: float, seconds: float
) -> tuple[list[Sample], list[Sample]]:
    """Send `rate` requests a second; return their samples, and those of `/livez` meanwhile."""
    flood = asyncio.create_task(open_loop(port, requests, rate=rate, seconds=seconds))
    live = await open_loop(port, itertools.repeat(get("/livez")), rate=10, seconds=seconds)
    return await flood, live


async def _until_usual(port: int, requests: Iterator[bytes], *, usual: float) -> float:
    """Return after how many seconds a few clients are answered as fast as before, give or take a half."""
    began = time.perf_counter()
    while True:
        samples = await closed_loop(port, itertools.islice(requests, 20), n_clients=4)
        seconds = time.perf_counter() - began
        answered = all(sample.status == 200 for sample in samples)
        if (answered and percentile(samples, 0.5) <= 1.5 * usual) or seconds > 10 * RECOVERS_WITHIN:
            return seconds


async def _take_turns(port: int, requests: Iterator[bytes]) -> tuple[list[Sample], list[Sample], int]:
    """Return the samples of any day, those after clients that gave up, and how many of these had no answer."""
    usual: list[Sample] = []
    after: list[Sample] = []
    gone = 0
    for _ in range(N_TURNS):
        usual += await closed_loop(port, itertools.islice(requests, N_AFTER), n_clients=N_CLIENTS)
        gone += await give_up(port, requests)
        after += await closed_loop(port, itertools.islice(requests, N_AFTER), n_clients=N_CLIENTS)
    return usual, after, gone


async def give_up(port: int, requests: Iterator[bytes]) -> int:
    """Let clients ask and hang up; return how many had no answer by then."""

    async def one(request: bytes) -> bool:
        connection = await Connection.open(port)
        try:
            await asyncio.wait_for(connection.send(0, request), PATIENCE)
        except TimeoutError:
            return True
        finally:
            connection.close()
        return False

    gone = await asyncio.gather(*(one(request) for request in itertools.islice(requests, N_IMPATIENT)))
    return sum(gone)


async def count_waiting(port: int) -> float:
    """Return how many texts wait, once nobody asks any more."""
    await asyncio.sleep(0.5)
    connection = await Connection.open(port)
    sample = await connection.send(0, get("/metrics"))
    connection.close()
    lines = sample.body.decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("gapnlp_queue_texts "))


def _lines(figures: dict[str, Any]) -> list[str]:
    statuses = ", ".join(f"{n:,} with {status}" for status, n in figures["statuses"].items())
    return [
        "Clients and server share the machine.",
        f"Capacity: {figures['capacity']:,.0f} short texts a second. Sent: {figures['sent_per_second']:,.0f} a second.",
        f"Answers: {statuses}.",
        f"{figures['gave_up']} of {N_TURNS * N_IMPATIENT} clients gave up after {PATIENCE} s.",
    ]


if __name__ == "__main__":
    main()
