"""Idempotency keys, deliveries and taggings: what must happen once, on SQLite and on PostgreSQL."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from store_world import NOW, fixture_postgres_url, fixture_store, fixture_store_url  # noqa: F401

from serve.store import Delivery, Finished, Mismatch, Running, Started, Store, Tagging, UnknownIdError

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
LEASE = 60


def begin(store, key="k", *, scope="ada", body="b1", now=NOW):
    with store.begin() as conn:
        return store.idempotency.begin(conn, key, scope=scope, body_hash=body, now=now)


def finish(store, started, *, key="k", scope="ada", body=b'{"ok":1}\0\xff'):
    with store.begin() as conn:
        return store.idempotency.finish(
            conn, key, scope=scope, token=started.token, status=200, body=body, content_type="application/json"
        )


ANSWER = Finished(200, b'{"ok":1}\0\xff', "application/json")


def test_a_key_is_started_once_then_runs_then_gives_the_same_answer(store):
    started = begin(store)
    assert isinstance(started, Started)
    assert begin(store, now=NOW + SECOND) == Running()
    assert finish(store, started)
    assert begin(store, now=NOW + SECOND) == ANSWER
    assert begin(store, now=NOW + 23 * HOUR) == ANSWER


def test_a_key_belongs_to_one_body_running_or_finished(store):
    started = begin(store)
    assert begin(store, body="b2") == Mismatch()
    finish(store, started)
    assert begin(store, body="b2") == Mismatch()


def test_two_clients_may_use_the_same_key(store):
    assert isinstance(begin(store, scope="ada"), Started)
    assert isinstance(begin(store, scope="bob"), Started)
    assert isinstance(begin(store, key="kx", scope="a"), Started)
    assert isinstance(begin(store, key="x", scope="ak"), Started)


def test_an_answer_outlives_the_process(store, store_url):
    finish(store, begin(store))
    store.close()
    again = Store.open(store_url)
    assert begin(again) == ANSWER
    again.close()


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_key_is_forgotten_after_a_day_whatever_its_body_was(store, is_finished):
    started = begin(store)
    if is_finished:
        finish(store, started)
    assert isinstance(begin(store, body="b2", now=NOW + 24 * HOUR), Started)
    assert begin(store, body="b2", now=NOW + 24 * HOUR) == Running()


def test_a_key_whose_owner_died_is_taken_over_and_the_dead_cannot_answer_for_it(store):
    dead = begin(store)
    assert begin(store, now=NOW + (LEASE - 1) * SECOND) == Running()
    heir = begin(store, now=NOW + LEASE * SECOND)
    assert isinstance(heir, Started)
    assert not finish(store, dead, body=b"late")
    with store.begin() as conn:
        store.idempotency.abandon(conn, "k", scope="ada", token=dead.token)
    assert begin(store, now=NOW + (LEASE + 1) * SECOND) == Running()
    assert finish(store, heir)
    assert begin(store, now=NOW + (LEASE + 1) * SECOND) == ANSWER


def test_an_abandoned_key_may_be_tried_again_with_any_body(store):
    started = begin(store)
    with store.begin() as conn:
        store.idempotency.abandon(conn, "k", scope="ada", token=started.token)
    assert isinstance(begin(store, body="b2"), Started)


def test_a_finished_key_cannot_be_abandoned(store):
    started = begin(store)
    finish(store, started)
    with store.begin() as conn:
        store.idempotency.abandon(conn, "k", scope="ada", token=started.token)
    assert begin(store) == ANSWER


def test_of_many_at_once_one_starts(store):
    barrier = threading.Barrier(8)

    def race(_):
        barrier.wait()
        return begin(store)

    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(race, range(8)))
    assert sum(isinstance(claim, Started) for claim in claims) == 1
    assert sum(claim == Running() for claim in claims) == 7


def test_of_many_heirs_at_once_one_takes_over(store):
    begin(store)
    barrier = threading.Barrier(8)

    def race(_):
        barrier.wait()
        return begin(store, now=NOW + LEASE * SECOND)

    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(race, range(8)))
    assert sum(isinstance(claim, Started) for claim in claims) == 1


def test_keys_of_any_length_and_character_are_kept_apart(store):
    keys = ["", "\0", "\ud800", "\ufffd", "x" * 10_000, "x" * 10_001]
    assert all(isinstance(begin(store, key=key), Started) for key in keys)
    assert all(begin(store, key=key) == Running() for key in keys)


def delivery(n=1, **changes):
    values = {
        "id": f"d{n}",
        "connector": "zendesk",
        "delivery_id": f"their-{n}",
        "ticket": str(n),
        "payload": b'{"text": "slow\0\xff"}',
        "received_at": NOW + n * SECOND,
    }
    return Delivery(**values | changes)


def add(store, *deliveries):
    with store.begin() as conn:
        return [store.deliveries.add(conn, item) for item in deliveries]


def claim(store, now=NOW + HOUR, *, limit=10, leave=()):
    with store.begin() as conn:
        return store.deliveries.claim(conn, now=now, lease_seconds=LEASE, limit=limit, leave=leave)


def counts(store):
    with store.read() as conn:
        return {state: n for state, n in store.deliveries.counts(conn).items() if n}


def test_a_delivery_seen_before_is_ignored(store):
    assert add(store, delivery(1)) == [True]
    assert add(store, delivery(1, id="other", payload=b"again")) == [False]
    assert add(store, delivery(1, id="d9", connector="jira")) == [True]
    assert counts(store) == {"waiting": 2}
    assert [item.payload for item in claim(store)] == [delivery().payload] * 2


def test_a_delivery_is_seen_before_even_when_it_is_done(store):
    add(store, delivery(1))
    claim(store)
    with store.begin() as conn:
        store.deliveries.done(conn, "d1")
    assert add(store, delivery(1, id="d2")) == [False]
    assert claim(store, NOW + 9 * HOUR) == []


def test_the_oldest_deliveries_are_claimed_first_and_by_nobody_else(store):
    add(store, delivery(3), delivery(1), delivery(2))
    assert claim(store, NOW) == []
    assert claim(store, limit=2) == [delivery(1, n_attempts=1), delivery(2, n_attempts=1)]
    assert claim(store, limit=2) == [delivery(3, n_attempts=1)]
    assert claim(store, limit=2) == []
    assert counts(store) == {"claimed": 3}


def test_what_a_dead_worker_had_claimed_is_claimed_again(store):
    add(store, delivery(1))
    claim(store, NOW + HOUR)
    assert claim(store, NOW + HOUR + (LEASE - 1) * SECOND) == []
    assert claim(store, NOW + HOUR + LEASE * SECOND) == [delivery(1, n_attempts=2)]


def test_a_delivery_to_be_tried_again_comes_when_it_is_due(store):
    add(store, delivery(1))
    claim(store)
    with store.begin() as conn:
        store.deliveries.retry(conn, "d1", due_at=NOW + 2 * HOUR, error="429")
    assert counts(store) == {"waiting": 1}
    assert claim(store, NOW + 2 * HOUR - SECOND) == []
    assert [item.n_attempts for item in claim(store, NOW + 2 * HOUR)] == [2]


def test_a_done_delivery_keeps_no_text_of_the_customer(store):
    add(store, delivery(1))
    claim(store)
    with store.begin() as conn:
        store.deliveries.done(conn, "d1")
    assert counts(store) == {"done": 1}
    with store.read() as conn:
        assert bytes(conn.execute(text("SELECT payload FROM deliveries")).scalar_one()) == b""


def test_a_delivery_given_up_stays_until_it_is_revived(store):
    add(store, delivery(1), delivery(2, connector="jira"))
    claim(store)
    with store.begin() as conn:
        store.deliveries.give_up(conn, "d1", error="404")
        store.deliveries.give_up(conn, "d2", error="404")
    assert counts(store) == {"given_up": 2}
    assert claim(store, NOW + 9 * HOUR) == []
    with store.begin() as conn:
        assert store.deliveries.revive(conn, "zendesk", now=NOW + 9 * HOUR) == 1
    assert [(item.id, item.payload) for item in claim(store, NOW + 9 * HOUR)] == [("d1", delivery().payload)]


def test_what_is_revived_may_be_tried_as_often_as_at_first(store):
    add(store, delivery(1))
    for hours in range(1, 21):
        (found,) = claim(store, NOW + hours * HOUR)
    assert found.n_attempts == 20
    with store.begin() as conn:
        store.deliveries.give_up(conn, "d1", error="401")
        store.deliveries.revive(conn, "zendesk", now=NOW)
    assert [item.n_attempts for item in claim(store)] == [2]  # not 1: what an earlier attempt wrote is ours


def test_the_deliveries_of_some_helpdesks_can_be_left(store):
    add(store, delivery(1), delivery(2, connector="jira"))
    assert [item.id for item in claim(store, leave=["zendesk"])] == ["d2"]
    assert [item.id for item in claim(store)] == ["d1"]


def test_a_late_worker_cannot_put_a_done_delivery_back(store):
    add(store, delivery(1))
    claim(store)
    with store.begin() as conn:
        store.deliveries.done(conn, "d1")
        store.deliveries.retry(conn, "d1", due_at=NOW, error="late")
        store.deliveries.give_up(conn, "d1", error="late")
    assert counts(store) == {"done": 1}


CLAIMER = """
import sys
from datetime import datetime
from serve.store import Store, StoreBusyError
store = Store.open(sys.argv[1])
now = datetime.fromisoformat(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
while True:
    try:
        with store.begin() as conn:
            found = store.deliveries.claim(conn, now=now, lease_seconds=60, limit=3)
    except StoreBusyError:  # on a machine that is short of cores; the service's worker tries again, too
        continue
    if not found:
        break
    print(*(item.id for item in found), sep="\\n", flush=True)
"""


def test_two_processes_share_the_deliveries_and_none_is_claimed_twice(store, store_url):
    add(store, *(delivery(n) for n in range(300)))
    command = [sys.executable, "-c", CLAIMER, store_url, (NOW + HOUR).isoformat()]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    claimed = [worker.communicate(timeout=30)[0].split() for worker in workers]
    assert sorted(claimed[0] + claimed[1]) == sorted(f"d{n}" for n in range(300))
    assert [worker.returncode for worker in workers] == [0, 0]


def test_a_claim_does_not_wait_for_another_that_is_not_committed(postgres_url):
    store = Store.open(postgres_url)  # SQLite has one writer at a time: there the second claim waits
    add(store, delivery(1), delivery(2))
    with store.begin() as first:
        assert [item.id for item in store.deliveries.claim(first, now=NOW + HOUR, lease_seconds=60, limit=1)] == ["d1"]
        assert [item.id for item in claim(store)] == ["d2"]
    store.close()


def intend(store, *tags, delivery_id="d1", ticket="7", connector="zendesk", now=NOW):
    with store.begin() as conn:
        return store.taggings.intend(
            conn, connector=connector, ticket=ticket, tags=tags, delivery_id=delivery_id, now=now
        )


def open_for(store, connector="zendesk", **since):
    with store.read() as conn:
        return store.taggings.open_for(conn, connector, **since)


def test_a_tagging_is_intended_confirmed_and_undone(store):
    intended = intend(store, "gap_policy", "gap_delivery")
    assert intended == Tagging(
        id=intended.id,
        connector="zendesk",
        ticket="7",
        tags=("gap_policy", "gap_delivery"),
        delivery_id="d1",
        intended_at=NOW,
    )
    assert open_for(store) == [intended]
    with store.begin() as conn:
        store.taggings.confirm(conn, intended.id, now=NOW + SECOND)
    assert open_for(store) == [replace(intended, confirmed_at=NOW + SECOND)]
    with store.begin() as conn:
        store.taggings.undone(conn, intended.id, now=NOW + HOUR)
    assert open_for(store) == []


def test_undo_finds_the_helpdesks_own_taggings_the_newest_first(store):
    first = intend(store, "a", delivery_id="d1", now=NOW)
    second = intend(store, "b", delivery_id="d2", now=NOW + HOUR)
    intend(store, "c", delivery_id="d3", connector="jira", now=NOW + HOUR)
    assert open_for(store) == [second, first]
    assert open_for(store, since=NOW + HOUR) == [second]


def test_a_second_try_for_a_delivery_loses_no_tag_of_the_first(store):
    first = intend(store, "a", "b")
    second = intend(store, "b", "c", now=NOW + HOUR)
    assert second == replace(first, tags=("a", "b", "c"))
    assert open_for(store) == [second]


def test_tags_written_after_an_undo_are_a_tagging_of_their_own(store):
    first = intend(store, "a")
    with store.begin() as conn:
        store.taggings.undone(conn, first.id, now=NOW)
    second = intend(store, "a", now=NOW + HOUR)
    assert second.id != first.id
    assert open_for(store) == [second]


def test_an_unknown_tagging_cannot_be_confirmed_or_undone(store):
    for change in (store.taggings.confirm, store.taggings.undone):
        with pytest.raises(UnknownIdError, match="no tagging"), store.begin() as conn:
            change(conn, "nothing", now=NOW)
