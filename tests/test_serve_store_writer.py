"""Group commit: what waits together is committed together, and each failure is its own caller's alone."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
import traceback

import pytest
from sqlalchemy import event, text
from store_world import NOW, fixture_postgres_url, fixture_store, fixture_store_url, ping, prediction  # noqa: F401

from serve.store import AsyncWriter, Feedback, Store, StoreBusyError, StoreError, StoreFullError, UnknownIdError
from serve.store.errors import StoreClosedError, StoreReadOnlyError, StoreUnreachableError

LARGE = "x" * 400_000


def ids(store):
    with store.read() as conn:
        return {row[0] for row in conn.execute(text("SELECT id FROM predictions"))}


def run_with(store, scenario, **options):
    """Run a scenario with a writer, and close the writer whatever happens."""

    async def run():
        writer = AsyncWriter(store, **options)
        try:
            return await asyncio.wait_for(scenario(writer), 30)
        finally:
            await writer.close()

    return asyncio.run(run())


def gather(*awaitables):
    return asyncio.gather(*awaitables, return_exceptions=True)


def add(store, *rows):
    return lambda conn: store.predictions.add(conn, rows)


class Commits:
    """Counts the commits of a store."""

    def __init__(self, store):
        self.n = 0
        event.listen(store._engine, "commit", self._count)

    def _count(self, _):
        self.n += 1


class HeldBack:
    """Keeps the writer's thread from going on, so that what follows gathers to one group."""

    def __init__(self, writer):
        self._may_go = threading.Event()
        self.first = asyncio.ensure_future(writer.run(lambda _: self._may_go.wait(10)))

    async def let_go(self):
        await asyncio.sleep(0.05)
        self._may_go.set()
        await self.first


def test_each_caller_gets_its_own_answer(store):
    async def scenario(writer):
        return await asyncio.gather(
            *(writer.run(lambda conn, n=n: conn.execute(text(f"SELECT {n}")).scalar_one()) for n in range(50)),
            *(writer.add_predictions([prediction(f"p{n}"), prediction(f"q{n}")]) for n in range(50)),
        )

    assert run_with(store, scenario) == [*range(50), *[None] * 50]
    assert ids(store) == {f"{kind}{n}" for kind in "pq" for n in range(50)}


def test_what_waits_together_is_committed_together(store):
    commits = Commits(store)

    async def scenario(writer):
        held = HeldBack(writer)
        await asyncio.sleep(0.02)
        waiting = [asyncio.ensure_future(writer.add_predictions([prediction(f"p{n}")])) for n in range(100)]
        await held.let_go()
        await asyncio.gather(*waiting)

    run_with(store, scenario)
    assert len(ids(store)) == 100
    assert commits.n <= 3


def test_long_reads_hold_up_no_short_ones(store):
    async def scenario(writer):
        may_go = threading.Event()
        long = [asyncio.ensure_future(writer.read(lambda _: may_go.wait(10), is_long=True)) for _ in range(3)]
        assert await asyncio.wait_for(writer.read(lambda conn: conn.execute(text("SELECT 1")).scalar_one()), 5) == 1
        assert not any(task.done() for task in long)
        may_go.set()
        await asyncio.gather(*long)

    run_with(store, scenario)


def test_an_answer_comes_after_the_commit(store, store_url):
    other = Store.open(store_url)

    async def scenario(writer):
        for n in range(20):
            await writer.add_predictions([prediction(f"p{n}")])
            assert f"p{n}" in ids(other)

    run_with(store, scenario)
    other.close()


@pytest.mark.parametrize("fail", ["same id", "unknown prediction", "python", "bad sql"])
def test_a_failure_is_its_own_callers_alone(store, fail):
    def failing(conn):
        store.predictions.add(conn, [prediction("half-done")])
        if fail == "same id":
            store.predictions.add(conn, [prediction("first")])
        elif fail == "unknown prediction":
            store.feedback.add(conn, Feedback(id="f", prediction_id="gone", created_at=NOW, labels=()))
        elif fail == "python":
            raise ZeroDivisionError
        conn.execute(text("SELECT nonsense FROM nowhere"))

    expected = {"unknown prediction": UnknownIdError, "python": ZeroDivisionError}.get(fail, StoreError)

    async def scenario(writer):
        await writer.add_predictions([prediction("first")])
        held = HeldBack(writer)
        await asyncio.sleep(0.02)
        waiting = gather(
            writer.run(add(store, prediction("before"))),
            writer.add_predictions([prediction("merged-1")]),
            writer.run(failing),
            writer.add_predictions([prediction("merged-2")]),
            writer.run(add(store, prediction("after"))),
        )
        await asyncio.sleep(0)
        await held.let_go()
        return await waiting

    outcomes = run_with(store, scenario)
    assert isinstance(outcomes.pop(2), expected)
    assert outcomes == [None] * 4
    assert ids(store) == {"first", "before", "merged-1", "merged-2", "after"}


def test_rows_that_fail_do_not_fail_the_rows_they_were_inserted_with(store):
    async def scenario(writer):
        await writer.add_predictions([prediction("p1", text="canary-text")])
        held = HeldBack(writer)
        await asyncio.sleep(0.02)
        waiting = gather(
            writer.add_predictions([prediction("p2")]),
            writer.add_predictions([prediction("p3"), prediction("p1", text="canary-text")]),
            writer.add_predictions([prediction("p4")]),
        )
        await asyncio.sleep(0)
        await held.let_go()
        return await waiting

    good, bad, also_good = run_with(store, scenario)
    assert (good, also_good) == (None, None)
    assert type(bad) is StoreError
    assert "canary" not in "".join(traceback.format_exception(bad))
    assert ids(store) == {"p1", "p2", "p4"}


def test_the_event_loop_does_not_wait_for_the_writer(store):
    async def scenario(writer):
        waiting = asyncio.ensure_future(writer.run(lambda _: time.sleep(0.5)))
        reading = asyncio.ensure_future(writer.read(lambda _: time.sleep(0.5)))
        longest, last = 0.0, time.monotonic()
        while not (waiting.done() and reading.done()):
            await asyncio.sleep(0.005)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        return longest

    assert run_with(store, scenario) < 0.3


def test_more_than_may_wait_is_refused_at_once_and_taken_again_later(store):
    async def scenario(writer):
        held = HeldBack(writer)
        waiting = [asyncio.ensure_future(writer.add_predictions([prediction(f"p{n}")])) for n in range(4)]
        await asyncio.sleep(0.02)
        with pytest.raises(StoreBusyError, match="5 calls wait"):
            await writer.add_predictions([prediction("too-much")])
        assert writer.n_waiting == 5
        await held.let_go()
        await asyncio.gather(*waiting)
        assert writer.n_waiting == 0
        await writer.add_predictions([prediction("later")])

    run_with(store, scenario, max_waiting=5)
    assert ids(store) == {"p0", "p1", "p2", "p3", "later"}


def test_what_a_caller_no_longer_waits_for_is_not_begun(store):
    async def scenario(writer):
        held = HeldBack(writer)
        await asyncio.sleep(0.02)
        given_up = asyncio.ensure_future(writer.add_predictions([prediction("given-up")]))
        kept = asyncio.ensure_future(writer.add_predictions([prediction("kept")]))
        await asyncio.sleep(0)
        given_up.cancel()
        await held.let_go()
        await kept
        assert given_up.cancelled()

    run_with(store, scenario)
    assert ids(store) == {"kept"}


def test_closing_commits_what_waits_and_takes_nothing_more(store):
    async def scenario():
        writer = AsyncWriter(store)
        held = HeldBack(writer)
        waiting = [asyncio.ensure_future(writer.add_predictions([prediction(f"p{n}")])) for n in range(300)]
        await asyncio.sleep(0.02)
        closing = asyncio.ensure_future(writer.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreClosedError, match="closed"):
            await writer.run(lambda _: None)
        with pytest.raises(StoreClosedError, match="closed"):
            await writer.read(lambda _: None)
        await held.let_go()
        await asyncio.gather(closing, *waiting)
        await writer.close()

    asyncio.run(scenario())
    assert len(ids(store)) == 300
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gapnlp-store")]


def test_reads_go_beside_a_write_that_is_under_way(store):
    async def scenario(writer):
        await writer.add_predictions([prediction()])
        held = HeldBack(writer)
        await asyncio.sleep(0.02)
        found = await writer.read(lambda conn: store.predictions.get(conn, ["p1"]))
        assert not held.first.done()
        with pytest.raises(ZeroDivisionError):
            await writer.read(lambda _: 1 // 0)
        await held.let_go()
        return found

    assert run_with(store, scenario) == [prediction()]


class Trouble:
    """What goes wrong in the database, as the database itself says it, until it is over."""

    def __init__(self, store, *, sqlite, postgresql):
        self._store = store
        self._statement = sqlite if store._engine.dialect.name == "sqlite" else postgresql

    def __enter__(self):
        event.listen(self._store._engine, "checkout", self._begin)

    def __exit__(self, *_):
        event.remove(self._store._engine, "checkout", self._begin)
        self._store._engine.dispose()

    def _begin(self, connection, *_):
        connection.execute(self._statement)
        connection.commit()


def test_the_writer_goes_on_after_the_store_was_read_only(store):
    trouble = Trouble(store, sqlite="PRAGMA query_only = ON", postgresql="SET default_transaction_read_only = on")

    async def scenario(writer):
        with trouble:
            outcomes = await gather(*(writer.add_predictions([prediction(f"bad{n}")]) for n in range(3)))
            assert [type(outcome) for outcome in outcomes] == [StoreReadOnlyError] * 3
            assert "right to write" in str(outcomes[0])
        await writer.add_predictions([prediction("good")])

    run_with(store, scenario)
    assert ids(store) == {"good"}


# The trigger stands for a disk that has room for small rows alone: PostgreSQL says SQLSTATE 53100 then.
FULL_DISK = """
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF length(NEW.text) > 1000 THEN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON predictions FOR EACH ROW EXECUTE FUNCTION refuse();
"""


def test_a_full_disk_fails_what_does_not_fit_and_nothing_else(store):
    with store.begin() as conn:
        store.predictions.add(conn, [prediction("first")])
    pages = 100
    trouble = Trouble(store, sqlite=f"PRAGMA max_page_count = {pages}", postgresql=FULL_DISK)

    async def scenario(writer):
        with trouble:
            held = HeldBack(writer)
            await asyncio.sleep(0.02)
            waiting = gather(
                writer.add_predictions([prediction("small-1")]),
                writer.add_predictions([prediction("large", text=LARGE)]),
                writer.run(add(store, prediction("small-2"))),
            )
            await asyncio.sleep(0)
            await held.let_go()
            outcomes = await waiting
            alone = await gather(writer.add_predictions([prediction("large", text=LARGE)]))
        return outcomes, alone[0]

    (small, large, also_small), alone = run_with(store, scenario)
    assert (small, also_small) == (None, None)
    assert type(large) is type(alone) is StoreFullError
    assert "disk is full" in str(large)
    assert ids(store) == {"first", "small-1", "small-2"}


def test_after_a_full_disk_the_same_write_succeeds_on_an_empty_one(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 's.db'}")

    async def scenario(writer):
        with Trouble(store, sqlite="PRAGMA max_page_count = 60", postgresql=""):
            (outcome,) = await gather(writer.add_predictions([prediction(text=LARGE)]))
            assert isinstance(outcome, StoreFullError)
        await writer.add_predictions([prediction(text=LARGE)])

    run_with(store, scenario)
    assert ids(store) == {"p1"}
    store.close()


def test_the_writer_goes_on_after_somebody_held_the_lock(store_url, monkeypatch):
    monkeypatch.setattr("serve.store.engine.BUSY_SECONDS", 0.2)
    store, other = Store.open(store_url), Store.open(store_url)

    async def scenario(writer):
        with other.begin() as conn:
            if store_url.startswith("postgresql"):
                conn.execute(text("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE"))
            outcomes = await gather(*(writer.add_predictions([prediction(f"bad{n}")]) for n in range(3)))
            assert [type(outcome) for outcome in outcomes] == [StoreBusyError] * 3
            assert "try again" in str(outcomes[0])
        await writer.add_predictions([prediction("good")])

    run_with(store, scenario)
    assert ids(store) == {"good"}
    store.close()
    other.close()


def test_the_writer_goes_on_after_the_server_ended_its_connection(postgres_url):
    store = Store.open(postgres_url)
    other = Store.open(postgres_url)

    def end(conn):
        process = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with other.begin() as elsewhere:
            elsewhere.execute(text("SELECT pg_terminate_backend(:process)"), {"process": process})
        conn.execute(text("SELECT 1"))

    async def scenario(writer):
        (outcome,) = await gather(writer.run(end))
        assert isinstance(outcome, StoreUnreachableError), repr(outcome)
        await writer.add_predictions([prediction("good")])

    run_with(store, scenario)
    assert ids(store) == {"good"}
    store.close()
    other.close()


def test_idle_connections_that_the_server_ended_are_replaced(postgres_url):
    store = Store.open(postgres_url)
    other = Store.open(postgres_url)
    ping(store)
    with store.read() as conn:
        process = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with other.begin() as conn:
        conn.execute(text("SELECT pg_terminate_backend(:process)"), {"process": process})
    time.sleep(0.2)
    with store.begin() as conn:
        store.predictions.add(conn, [prediction()])
    store.close()
    other.close()


WRITING = """
import asyncio, sys
from store_world import prediction
from serve.store import AsyncWriter, Store

async def write(writer, worker):
    n = 0
    while True:
        name = f"{worker}-{n}"
        await writer.add_predictions([prediction(name)])
        print(name, flush=True)
        n += 1

async def main():
    writer = AsyncWriter(Store.open(sys.argv[1]))
    await asyncio.gather(*(write(writer, worker) for worker in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("n_lines", [1, 37, 200])
def test_kill_9_after_the_answer_loses_nothing(store_url, n_lines):
    from pathlib import Path

    with subprocess.Popen(
        [sys.executable, "-c", WRITING, store_url], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    ) as process:
        promised = [process.stdout.readline().strip() for _ in range(n_lines)]
        process.send_signal(signal.SIGKILL)
        *rest, _torn = process.stdout.read().split("\n")
    promised += rest
    store = Store.open(store_url)
    kept = ids(store)
    store.close()
    assert len(promised) >= n_lines
    assert set(promised) <= kept
    for worker in range(8):
        n_kept = sum(name.startswith(f"{worker}-") for name in kept)
        assert {f"{worker}-{n}" for n in range(n_kept)} <= kept
    assert len(kept) <= len(promised) + 8
