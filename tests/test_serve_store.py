"""The store's tables: predictions, feedback, API keys and retention, on SQLite and on PostgreSQL."""

import stat
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text
from store_world import NOW, fixture_postgres_url, fixture_store, fixture_store_url, ping, prediction  # noqa: F401

from gapnlp.records import Evidence, Prediction
from serve.store import (
    Delivery,
    Feedback,
    LastWord,
    Origin,
    Pruned,
    Store,
    StoreBusyError,
    StoredPrediction,
    StoreError,
    UnknownIdError,
)
from serve.store import prune as prune_module
from serve.store.errors import StoreClosedError

DAY = timedelta(days=1)


def count(store, table):
    with store.read() as conn:
        return conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def test_a_prediction_comes_back_as_it_was_kept(store):
    kept = prediction(text="Nobody called back.")
    with store.begin() as conn:
        store.predictions.add(conn, [kept, prediction("p2", labels=(), evidence=())])
    with store.read() as conn:
        assert store.predictions.get(conn, ["p1"]) == [kept]
        assert store.predictions.get(conn, ["p2"]) == [prediction("p2", labels=(), evidence=())]


def test_a_stored_prediction_is_built_from_what_the_model_says():
    said = Prediction(("policy",), (0.1, 0.9, 0.2, 0.3, 0.4), (Evidence("policy", 3, 9),), True, False, "tiny@1.0")
    values = {"id": "p", "created_at": NOW, "text_hash": "h", "text": None, "source": "api", "fingerprint": "f"}
    built = StoredPrediction.of(said, Origin(**values))
    assert built == StoredPrediction(
        **values,
        labels=("policy",),
        proba=said.proba,
        evidence=(("policy", 3, 9),),
        review=True,
        truncated=False,
        model="tiny@1.0",
    )


def test_predictions_come_in_the_order_of_the_ids_without_the_unknown(store):
    with store.begin() as conn:
        store.predictions.add(conn, [prediction(f"p{i}") for i in range(1200)])
    ids = [f"p{i}" for i in range(1199, -1, -1)]
    with store.read() as conn:
        assert [row.id for row in store.predictions.get(conn, ["nowhere", *ids, "p3"])] == ids
        assert store.predictions.get(conn, []) == []


def test_predictions_are_found_by_time_the_oldest_first(store):
    rows = [prediction(f"p{i}", created_at=NOW + i * DAY) for i in (3, 1, 2, 0)]
    with store.begin() as conn:
        store.predictions.add(conn, rows)
    with store.read() as conn:
        found = store.predictions.between(conn, since=NOW + DAY, until=NOW + 3 * DAY, limit=10)
        assert [row.id for row in found] == ["p1", "p2"]
        assert [row.id for row in store.predictions.between(conn, since=NOW, until=NOW + 9 * DAY, limit=1)] == ["p0"]


def test_times_come_back_as_utc_whatever_zone_they_were_given_in(store):
    there = datetime(2026, 3, 1, 20, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with store.begin() as conn:
        store.predictions.add(conn, [prediction(created_at=there)])
        (row,) = store.predictions.get(conn, ["p1"])
    assert row.created_at == there
    assert row.created_at.tzinfo == UTC


def test_a_time_without_a_zone_is_refused(store):
    with pytest.raises(StoreError), store.begin() as conn:
        store.predictions.add(conn, [prediction(created_at=NOW.replace(tzinfo=None))])


def test_characters_that_a_database_cannot_hold_are_replaced_one_for_one(store):
    with store.begin() as conn:
        store.predictions.add(conn, [prediction(text="a\0b\ud800c \N{GRINNING FACE}\r\n")])
        (row,) = store.predictions.get(conn, ["p1"])
        assert store.predictions.get(conn, ["\0", "\udfff"]) == []
    assert row.text == "a\ufffdb\ufffdc \N{GRINNING FACE}\r\n"


def test_text_is_in_the_store_only_where_it_was_given(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 's.db'}")
    with store.begin() as conn:
        store.predictions.add(conn, [prediction("p1", text="kept-canary"), prediction("p2", text=None)])
        assert [row.text for row in store.predictions.get(conn, ["p1", "p2"])] == ["kept-canary", None]
    store.close()


def test_the_same_id_twice_is_refused_without_telling_the_text(store):
    with store.begin() as conn:
        store.predictions.add(conn, [prediction(text="canary-one")])
    with pytest.raises(StoreError, match="refused") as caught, store.begin() as conn:
        store.predictions.add(conn, [prediction(text="canary-two")])
    told = "".join(traceback.format_exception(caught.value))
    assert "canary" not in told
    assert "p1" not in told


def test_the_last_word_on_each_prediction_holds(store):
    first = Feedback(id="f1", prediction_id="p1", created_at=NOW, labels=("policy",), author="ada", comment="see\0")
    later = Feedback(id="f0", prediction_id="p1", created_at=NOW + DAY, labels=())
    other = Feedback(id="f3", prediction_id="p2", created_at=NOW, labels=("delivery", "policy"))
    same_moment = replace(other, id="f4", labels=("customer",))
    silent, told = prediction(text=None), prediction("p2", text="Nobody called back.")
    with store.begin() as conn:
        store.predictions.add(conn, [silent, told, prediction("p3")])
        for feedback in (later, first, same_moment, other):
            store.feedback.add(conn, feedback)
    with store.read() as conn:
        found = list(store.feedback.last_words(conn))
    assert found == [
        LastWord(same_moment, told.text_hash, "Nobody called back.", told.source),
        LastWord(later, silent.text_hash, None, silent.source),
    ]


def test_feedback_on_an_unknown_prediction_is_refused(store):
    with pytest.raises(UnknownIdError, match="no stored prediction has this id"), store.begin() as conn:
        store.feedback.add(conn, Feedback(id="f", prediction_id="gone", created_at=NOW, labels=()))
    assert count(store, "feedback") == 0


def test_an_error_in_a_transaction_undoes_all_of_it(store):

    def fail():
        with store.begin() as conn:
            store.predictions.add(conn, [prediction()])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert count(store, "predictions") == 0


def test_what_is_written_while_reading_is_not_kept(store):
    with store.read() as conn:
        store.predictions.add(conn, [prediction()])
    assert count(store, "predictions") == 0


def test_a_key_is_found_by_its_whole_secret_alone(store):
    with store.begin() as conn:
        row, token = store.keys.create(conn, "zendesk", scopes=["classify", "feedback"], now=NOW)
    assert token.startswith(f"gapnlp_{row.id}_")
    assert len(token.removeprefix(f"gapnlp_{row.id}_")) * 4 == 256
    with store.read() as conn:
        assert store.keys.find(conn, token) == row
        assert row.scopes == ("classify", "feedback")
        flipped = token[:-1] + ("0" if token[-1] != "0" else "1")
        for wrong in (
            flipped,
            token[:-1],
            token + "0",
            token.upper(),
            row.id,
            "",
            "gapnlp__",
            f"gapnlp_{row.id}_",
            "\0_\ud800_x",
        ):
            assert store.keys.find(conn, wrong) is None, wrong


def test_a_revoked_key_is_not_found_but_listed(store):
    with store.begin() as conn:
        first, token = store.keys.create(conn, "first", scopes=[], now=NOW)
        second, other = store.keys.create(conn, "second", scopes=[], now=NOW + DAY)
        revoked = store.keys.revoke(conn, first.id, now=NOW + 2 * DAY)
        assert (
            store.keys.revoke(conn, first.id, now=NOW + 3 * DAY) == revoked == replace(first, revoked_at=NOW + 2 * DAY)
        )
    with store.read() as conn:
        assert store.keys.find(conn, token) is None
        assert store.keys.find(conn, other) == second
        assert store.keys.list(conn) == (revoked, second)
    with pytest.raises(UnknownIdError, match="no API key"), store.begin() as conn:
        store.keys.revoke(conn, "nobody", now=NOW)


def test_the_secret_of_a_key_is_nowhere_in_the_database(store, store_url, tmp_path):
    with store.begin() as conn:
        row, token = store.keys.create(conn, "ops", scopes=[], now=NOW)
    secret = token.rsplit("_", 1)[1]
    if store_url.startswith("sqlite"):
        files = list(tmp_path.glob("store.db*"))
        assert any(row.id.encode() in file.read_bytes() for file in files)
        held = b"".join(file.read_bytes() for file in files)
        assert secret.encode() not in held
        assert bytes.fromhex(secret) not in held
    with store.read() as conn:
        stored = repr(conn.execute(text("SELECT * FROM api_keys")).all())
    assert secret not in stored
    assert repr(bytes.fromhex(secret))[2:-1] not in stored


def test_a_new_sqlite_file_is_its_owners_alone(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 's.db'}")
    with store.begin() as conn:
        store.predictions.add(conn, [prediction()])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("s.db*")}
    store.close()
    assert modes["s.db"] == 0o600
    assert set(modes.values()) == {0o600}


def test_sqlite_is_set_up_to_lose_nothing(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 's.db'}")
    with store.read() as conn:
        ask = {
            name: conn.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "secure_delete")
        }
    store.close()
    assert ask == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000, "secure_delete": 1}


def test_readers_do_not_wait_for_a_writer(store):
    with store.begin() as writing:
        store.predictions.add(writing, [prediction()])
        began = time.monotonic()
        with store.read() as conn:
            assert store.predictions.get(conn, ["p1"]) == []
        assert time.monotonic() - began < 1


def test_a_thread_that_writes_too_long_keeps_others_waiting_for_a_bounded_time(tmp_path, monkeypatch):
    monkeypatch.setattr("serve.store.engine.BUSY_SECONDS", 0.2)
    store = Store.open(f"sqlite:///{tmp_path / 's.db'}")
    with store.begin(), pytest.raises(StoreBusyError, match="another thread"), store.begin():
        pass
    with store.begin() as conn:
        store.predictions.add(conn, [prediction()])
    store.close()


def test_a_closed_store_says_so(store):
    ping(store)
    store.close()
    with pytest.raises(StoreClosedError, match="closed"):
        ping(store)
    with pytest.raises(StoreError), store.begin():
        pass


def fill(store, *, n_rows, at, name):
    rows = [prediction(f"{name}{i}", created_at=at) for i in range(n_rows)]
    with store.begin() as conn:
        store.predictions.add(conn, rows)
        store.feedback.add(conn, Feedback(id=name, prediction_id=rows[0].id, created_at=at, labels=()))
        store.deliveries.add(
            conn, Delivery(id=name, connector="z", delivery_id=name, ticket="1", payload=b"x", received_at=at)
        )
        store.taggings.intend(conn, connector="z", ticket="1", tags=["gap_policy"], delivery_id=name, now=at)
        store.idempotency.begin(conn, name, scope="s", body_hash="b", now=at)


def test_what_is_too_old_is_deleted_and_nothing_else(store):
    fill(store, n_rows=3, at=NOW - 91 * DAY, name="old")
    fill(store, n_rows=2, at=NOW - 89 * DAY, name="new")
    done = store.prune(NOW, retention_days=90, idempotency_hours=24)
    assert done == Pruned(predictions=3, feedback=1, deliveries=1, taggings=1, idempotency=2)
    assert store.prune(NOW, retention_days=90, idempotency_hours=24) == Pruned()
    assert count(store, "predictions") == 2
    assert [count(store, table) for table in ("feedback", "deliveries", "taggings", "idempotency")] == [1, 1, 1, 0]


def test_young_feedback_goes_with_its_old_prediction(store):
    with store.begin() as conn:
        store.predictions.add(conn, [prediction(created_at=NOW - 91 * DAY)])
        store.feedback.add(conn, Feedback(id="f", prediction_id="p1", created_at=NOW - DAY, labels=()))
    assert store.prune(NOW, retention_days=90, idempotency_hours=24).predictions == 1
    assert count(store, "feedback") == 0


def test_deleting_happens_in_small_transactions_with_room_for_others(store):
    rows = [prediction(f"p{i}", created_at=NOW - 100 * DAY) for i in range(2100)]
    with store.begin() as conn:
        store.predictions.add(conn, rows)
    left, waits = [], []

    @contextmanager
    def begin():
        with store.begin() as conn:
            yield conn
        left.append(count(store, "predictions"))

    pruning = threading.Thread(target=lambda: prune_module.prune(begin, NOW, retention_days=90, idempotency_hours=24))
    pruning.start()
    n = 0
    while pruning.is_alive():
        began = time.monotonic()
        with store.begin() as conn:
            store.idempotency.begin(conn, str(n), scope="s", body_hash="b", now=NOW)
        waits.append(time.monotonic() - began)
        n += 1
    pruning.join()
    steps = [before - after for before, after in zip([2100, *left], left, strict=False)]
    assert max(steps) <= 200
    assert left[-1] == 0
    assert n > 8
    assert max(waits) < 1


def test_deleted_text_does_not_stay_readable_in_the_file(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 's.db'}")
    with store.begin() as conn:
        store.predictions.add(conn, [prediction(created_at=NOW - 100 * DAY, text="canary-text")])
    store.close()
    file = Path(tmp_path / "s.db")
    assert b"canary-text" in file.read_bytes()
    store = Store.open(f"sqlite:///{file}")
    store.prune(NOW, retention_days=90, idempotency_hours=24)
    store.close()
    assert b"canary-text" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_several_that_open_a_new_store_at_once_all_get_it(store_url):
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(Store.open, [store_url] * 4))
    for store in opened:
        ping(store)
        assert count(store, "predictions") == 0
        store.close()
