"""The service under load: refuses politely, serves whoever stays, keeps its memory; times are for the benchmarks."""

import asyncio
import itertools
import sys

import pytest

from benchmarks import overload, soak
from benchmarks.load import closed_loop
from benchmarks.serving import free_port, gapnlp_server, running

pytestmark = pytest.mark.slow

SECONDS = 15
LEAKING = """
from gapnlp.cli.main import main
from serve.inference import Batcher

kept, classify = [], Batcher.classify

def leak(self, *args, **options):
    kept.append(bytearray(b"x" * 2_000_000))
    return classify(self, *args, **options)

Batcher.classify = leak
main()
"""


def test_four_times_too_much_is_answered_or_refused_with_a_time_to_come_back():
    async def scenario(port):
        requests = overload.short_requests()
        capacity = await overload.measure_capacity(port, requests, n=400)
        samples, live = await overload.send_too_much(port, requests, rate=4 * capacity, seconds=8)
        after = await closed_loop(port, itertools.islice(requests, 50), n_clients=4)
        return samples, live, after, await overload.count_waiting(port)

    port = free_port()
    with gapnlp_server(port, cache_texts=0, max_waiting=128):  # full soon, however slow the machine is
        samples, live, after, waiting = asyncio.run(scenario(port))
    assert {sample.status for sample in samples} == {200, 429}
    assert all(1 <= int(sample.headers["retry-after"]) <= 60 for sample in samples if sample.status == 429)
    assert {sample.status for sample in live} == {200}
    assert {sample.status for sample in after} == {200}
    assert waiting == 0


def test_clients_that_give_up_leave_nothing_behind():
    async def scenario(port):
        requests = overload.short_requests()
        gone = await overload.give_up(port, requests)
        after = await closed_loop(port, itertools.islice(requests, 200), n_clients=64)
        return gone, after, await overload.count_waiting(port)

    port = free_port()
    with gapnlp_server(port, cache_texts=0):
        gone, after, waiting = asyncio.run(scenario(port))
    assert gone > 100
    assert [sample.status for sample in after] == [200] * 200
    assert waiting == 0


def test_memory_stays_where_it_was():
    port = free_port()
    with gapnlp_server(port) as pid:
        found = soak.soak(port, pid, seconds=SECONDS)
    assert found.n_failed == 0
    assert found.n_requests > 20
    assert found.growth <= soak.MAX_GROWTH


def test_a_planted_leak_is_found():
    port = free_port()
    env = {"GAPNLP_PORT": str(port), "GAPNLP_RATE_LIMIT": "1000000/second"}
    with running([sys.executable, "-c", LEAKING, "serve"], port=port, ready="/readyz", env=env) as pid:
        found = soak.soak(port, pid, seconds=SECONDS)
    assert found.growth > soak.MAX_GROWTH
