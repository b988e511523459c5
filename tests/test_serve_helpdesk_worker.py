"""From a webhook to tags: once, kept through failures, without loops, and never against people."""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import structlog
from helpdesk_world import DESKS, QUICK, SECRET, STANDARD_SECRET, TOKEN, FreshdeskDesk, ZendeskDesk, at_work, connect
from store_world import fixture_postgres_url, fixture_store_url  # noqa: F401

from serve.helpdesk.retry import RetryRules
from serve.store import Store

TEXT = "so slow and against the rules"
TAGS = {"gap_policy", "gap_delivery"}


@pytest.fixture
def zendesk():
    with ZendeskDesk() as desk:
        yield desk


def play(folder, desk, script, *, config=None, **options):
    """Connect a stand-in, run the service on it and play a script."""

    async def do():
        connector = connect(folder, desk, **(config or {}))
        async with at_work(folder, [connector], **options) as running:
            return await script(running)

    return asyncio.run(do())


def notify(desk, ticket, **options):
    """Return the webhook that a helpdesk sends for a new ticket."""
    if desk.kind == "zendesk":
        return desk.created(ticket, **options)
    if desk.kind == "freshdesk":
        return desk.triggered(int(ticket), timestamp=datetime.now(UTC).isoformat())
    if desk.kind == "standard":
        return desk.notify(ticket, TEXT)
    return desk.notify(ticket)


@pytest.mark.parametrize("kind", DESKS)
def test_a_ticket_is_tagged_and_the_tags_of_people_stay(kind, tmp_path):
    with DESKS[kind]() as desk:
        ticket = "SUP-1" if kind == "jira" else "1"
        desk.open(ticket, TEXT, tags=["vip"])

        async def script(running):
            assert await running.receive(notify(desk, ticket)) == "stored"
            assert (await running.settled())["done"] == 1
            with running.store.read() as conn:
                (tagging,) = running.store.taggings.open_for(conn, running.name)
                (row,) = running.store.predictions.between(
                    conn, since=datetime(2020, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC), limit=9
                )
            assert (tagging.ticket, set(tagging.tags)) == (ticket, TAGS)
            assert tagging.confirmed_at is not None
            assert (row.source, set(row.labels), row.text) == (running.name, {"policy", "delivery"}, None)
            assert running.outcome("tagged") == running.outcome("stored") == 1

        play(tmp_path, desk, script)
        assert desk.tags(ticket) == {"vip"} | TAGS
        assert desk.violations == []


def test_the_ticket_is_read_where_the_webhook_has_no_text(zendesk, tmp_path):
    zendesk.open(1, "so slow")
    zendesk.comment(1, "against the rules", author_id=9)  # an agent's words
    zendesk.comment(1, "hmm")

    async def script(running):
        await running.receive(zendesk.triggered(1))
        await running.settled()

    play(tmp_path, zendesk, script)
    assert zendesk.tags(1) == {"gap_delivery", "gap_review"}


def test_a_webhook_sent_ten_times_has_one_effect(zendesk, tmp_path):
    zendesk.open(1, TEXT)

    async def script(running):
        webhook = zendesk.created(1)
        receipts = [await running.receive(webhook) for _ in range(5)]
        await running.settled()
        receipts += [await running.receive(webhook) for _ in range(5)]
        await running.settled()
        assert receipts == ["stored"] + ["duplicate"] * 9
        assert running.engine.n_texts == 1
        assert running.outcome("duplicate") == 9

    play(tmp_path, zendesk, script)
    assert [call.method for call in zendesk.calls] == ["GET", "PUT"]
    assert len(zendesk.changes) == 2


def test_a_copy_under_another_unsigned_id_has_no_effect_either(zendesk, tmp_path):
    zendesk.open(1, TEXT)

    async def script(running):
        for number in range(10):
            assert await running.receive(zendesk.triggered(1, invocation=f"forged-{number}")) == "stored"
        await running.settled()
        assert running.engine.n_texts == 1
        assert running.outcome("known") == 9

    play(tmp_path, zendesk, script)
    assert sum(call.method == "PUT" for call in zendesk.calls) == 1


@pytest.mark.parametrize("kind", ["zendesk", "freshdesk"])
def test_a_webhook_that_our_own_tags_set_off_ends_there(kind, tmp_path):
    """The rule of the helpdesk fires at every change of a ticket, ours too."""
    with DESKS[kind]() as desk:
        desk.open(1, TEXT)
        loop, running_now, n_sent = None, None, 0

        def fire(call):
            nonlocal n_sent
            n_sent += 1
            webhook = desk.triggered(1, **({"invocation": f"i{n_sent}"} if kind == "zendesk" else {}))
            asyncio.run_coroutine_threadsafe(running_now.receive(webhook), loop)

        async def script(running):
            nonlocal loop, running_now
            loop, running_now = asyncio.get_running_loop(), running
            desk.after_write = fire
            await running.receive(notify(desk, "1"))
            await asyncio.sleep(0.5)
            await running.settled()
            assert running.engine.n_texts == 1
            assert running.outcome("known") == 1

        play(tmp_path, desk, script)
        assert n_sent == 1
        assert desk.tags(1) == TAGS


def test_what_a_customer_adds_is_read_and_what_was_read_is_not_read_again(zendesk, tmp_path):
    zendesk.open(1, "so slow")

    async def script(running):
        await running.receive(zendesk.created(1))
        await running.settled()
        zendesk.comment(1, "against the rules")
        await running.receive(zendesk.commented(1, "against the rules"))
        await running.settled()
        await running.receive(zendesk.triggered(1))
        await running.settled()
        assert running.engine.n_texts == 2
        assert running.outcome("known") == 1

    play(tmp_path, zendesk, script)
    assert zendesk.tags(1) == TAGS


def test_a_tag_that_somebody_took_away_is_not_put_back(zendesk, tmp_path):
    zendesk.open(1, TEXT)

    async def script(running):
        await running.receive(zendesk.created(1))
        await running.settled()
        zendesk.change_tags(1, remove=["gap_policy"])
        await running.receive(zendesk.triggered(1))
        await running.settled()

    play(tmp_path, zendesk, script)
    assert zendesk.tags(1) == {"gap_delivery"}


def test_a_tag_that_was_there_is_not_counted_as_ours(zendesk, tmp_path):
    zendesk.open(1, TEXT, tags=["gap_policy"])
    zendesk.open(2, TEXT, tags=sorted(TAGS))

    async def script(running):
        await running.receive(zendesk.created(1, event="a"))
        await running.receive(zendesk.created(2, event="b"))
        await running.settled()
        with running.store.read() as conn:
            taggings = running.store.taggings.open_for(conn, "zendesk")
        assert [(tagging.ticket, tagging.tags) for tagging in taggings] == [("1", ("gap_delivery",))]
        assert running.outcome("untagged") == 1

    play(tmp_path, zendesk, script)


def test_a_ticket_without_a_gap_is_not_touched(zendesk, tmp_path):
    zendesk.open(1, "all was well")
    zendesk.open(2, "> only quoted")

    async def script(running):
        await running.receive(zendesk.created(1, event="a"))
        await running.receive(zendesk.created(2, event="b"))
        await running.settled()
        assert (running.outcome("untagged"), running.outcome("known")) == (1, 1)

    play(tmp_path, zendesk, script)
    assert zendesk.calls == []


@pytest.mark.parametrize(("review_tag", "tags"), [(True, {"gap_review"}), (False, set())])
def test_what_a_person_should_look_at_is_tagged_if_that_is_wanted(zendesk, tmp_path, review_tag, tags):
    zendesk.open(1, "hmm")

    async def script(running):
        await running.receive(zendesk.created(1))
        await running.settled()

    play(tmp_path, zendesk, script, config={"review_tag": review_tag})
    assert zendesk.tags(1) == tags


def test_a_dry_run_decides_and_records_and_writes_nothing(zendesk, tmp_path):
    zendesk.open(1, TEXT)

    async def script(running):
        await running.receive(zendesk.created(1))
        await running.settled()
        with running.store.read() as conn:
            assert running.store.taggings.open_for(conn, "zendesk") == []
            rows = running.store.predictions.between(
                conn, since=datetime(2020, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC), limit=9
            )
        assert [set(row.labels) for row in rows] == [{"policy", "delivery"}]
        assert running.outcome("dry_run") == 1

    play(tmp_path, zendesk, script, config={"dry_run": True})
    assert zendesk.calls == []


@pytest.mark.parametrize("store_text", [True, False])
def test_the_text_is_kept_only_if_the_operator_asks_for_it(zendesk, tmp_path, store_text):
    zendesk.open(1, "so slow said the canary")

    async def script(running):
        await running.receive(zendesk.created(1))
        await running.settled()

    play(tmp_path, zendesk, script, store_text=store_text)
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))
    if store_text:
        assert b"canary" in kept
    else:
        store = Store.open(f"sqlite:///{tmp_path / 'store.db'}")
        with store.read() as conn:
            payloads = conn.exec_driver_sql("SELECT payload FROM deliveries").scalars().all()
            texts = conn.exec_driver_sql("SELECT text FROM predictions").scalars().all()
        store.close()
        assert (payloads, texts) == ([b""], [None])


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503])
def test_a_failed_write_is_tried_again(zendesk, tmp_path, status):
    zendesk.open(1, TEXT, tags=["vip"])
    zendesk.plan_write(status, **({"Retry_After": 0} if status == 429 else {}))

    async def script(running):
        await running.receive(zendesk.created(1))
        assert (await running.settled())["done"] == 1
        with running.store.read() as conn:
            taggings = running.store.taggings.open_for(conn, "zendesk")
        assert [set(tagging.tags) for tagging in taggings] == [TAGS]
        assert all(tagging.confirmed_at for tagging in taggings)
        assert running.outcome("retried") == 1

    play(tmp_path, zendesk, script)
    assert zendesk.tags(1) == {"vip"} | TAGS


def test_a_write_whose_answer_was_lost_is_ours_all_the_same(zendesk, tmp_path):
    """The tags are there at the second try, and still known as ours: the first try had noted them."""
    zendesk.open(1, TEXT)

    def lose(call):
        zendesk.after_write = lambda call: None
        raise_answer(502)

    zendesk.after_write = lose

    async def script(running):
        await running.receive(zendesk.created(1))
        await running.settled()
        with running.store.read() as conn:
            (tagging,) = running.store.taggings.open_for(conn, "zendesk")
        assert set(tagging.tags) == TAGS
        assert tagging.confirmed_at

    play(tmp_path, zendesk, script)
    assert len(zendesk.changes) == 2  # each tag came once


def raise_answer(status, body=None):
    from helpdesk_world import Answer

    raise Answer(status, body or {"error": "planned"})


@pytest.mark.parametrize("kind", sorted(DESKS.keys() - {"intercom"}))  # there the answer has an id that is needed
def test_a_write_that_is_answered_with_plain_words_is_done_and_ours(kind, tmp_path):
    with DESKS[kind]() as desk:
        ticket = "SUP-1" if kind == "jira" else "1"
        desk.open(ticket, TEXT)
        desk.after_write = lambda call: raise_answer(200, b"OK")

        async def script(running):
            await running.receive(notify(desk, ticket))
            assert (await running.settled())["done"] == 1
            with running.store.read() as conn:
                (tagging,) = running.store.taggings.open_for(conn, running.name)
            assert (set(tagging.tags), running.outcome("retried")) == (TAGS, None)

        play(tmp_path, desk, script)
        assert desk.tags(ticket) == TAGS


def test_a_page_instead_of_a_ticket_is_asked_for_again(zendesk, tmp_path):
    from helpdesk_world import Answer

    zendesk.open(1, TEXT)
    zendesk.planned.append(Answer(200, b"<html>back soon</html>"))

    async def script(running):
        await running.receive(zendesk.triggered(1))
        assert (await running.settled())["done"] == 1
        assert running.outcome("retried") == 1

    play(tmp_path, zendesk, script)
    assert zendesk.tags(1) == TAGS


def test_a_reading_is_of_the_model_that_the_texts_came_to(zendesk, tmp_path):
    zendesk.open(1, TEXT)

    async def script(running):
        tagger = running.helpdesk._worker._tagger
        before = tagger._fingerprint()
        zendesk.before_write = lambda call: setattr(tagger, "_fingerprint", lambda: "another model")
        await running.receive(zendesk.created(1))
        await running.settled()
        with running.store.read() as conn:
            (row,) = running.store.predictions.between(
                conn, since=datetime(2020, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC), limit=9
            )
        assert (row.fingerprint, tagger._fingerprint()) == (before, "another model")

    play(tmp_path, zendesk, script)


def test_a_tag_that_a_person_set_before_the_second_try_stays_theirs(zendesk, tmp_path):
    """The first try was refused for certain, so what is there at the second is not ours."""
    zendesk.open(1, TEXT)

    def set_by_hand(call):
        zendesk.before_write = lambda call: None
        zendesk.change_tags(1, add=["gap_policy"])  # the stamp no longer fits: 409

    zendesk.before_write = set_by_hand

    async def script(running):
        await running.receive(zendesk.created(1))
        await running.settled()
        with running.store.read() as conn:
            (tagging,) = running.store.taggings.open_for(conn, "zendesk")
        assert tagging.tags == ("gap_delivery",)

    play(tmp_path, zendesk, script)
    assert zendesk.tags(1) == TAGS


def test_being_asked_to_wait_is_waited_for(zendesk, tmp_path):
    zendesk.open(1, TEXT)
    zendesk.plan(429, Retry_After=1)

    async def script(running):
        await running.receive(zendesk.created(1))
        await running.settled()

    play(tmp_path, zendesk, script)
    first, second = (call.at for call in zendesk.calls[:2])
    assert second - first >= 1


def test_after_a_stated_number_of_tries_a_delivery_is_given_up_with_the_reason(zendesk, tmp_path):
    zendesk.open(1, "so slow said the canary")
    zendesk.plan(500, times=99)
    retry = RetryRules(first_seconds=0.01, longest_seconds=0.02, max_attempts=4)

    async def script(running):
        await running.receive(zendesk.created(1))
        assert (await running.settled())["given_up"] == 1
        with running.store.read() as conn:
            (error,) = conn.exec_driver_sql("SELECT error FROM deliveries").scalars().all()
        assert "answered 500" in error
        assert "canary" not in error
        assert (running.outcome("retried"), running.outcome("given_up")) == (3, 1)

    play(tmp_path, zendesk, script, rules=replace(QUICK, retry=retry))
    assert len(zendesk.calls) == 4


@pytest.mark.parametrize("trouble", ["unknown", "closed"])
def test_what_can_never_work_is_given_up_at_once(zendesk, tmp_path, trouble):
    zendesk.open(1, TEXT, status="closed")
    webhook = zendesk.created(1)
    if trouble == "unknown":
        zendesk.tickets.clear()

    async def script(running):
        await running.receive(webhook)
        assert (await running.settled())["given_up"] == 1
        with running.store.read() as conn:
            assert running.store.taggings.open_for(conn, "zendesk") == []

    play(tmp_path, zendesk, script)
    assert len(zendesk.calls) <= 2


def test_wrong_credentials_wait_to_be_mended(zendesk, tmp_path, monkeypatch):
    zendesk.open(1, TEXT)
    zendesk.plan(401, times=3)

    async def script(running):
        await running.receive(zendesk.created(1))
        assert (await running.settled())["done"] == 1

    play(tmp_path, zendesk, script)
    assert zendesk.tags(1) == TAGS


def test_what_was_given_up_can_be_put_back(zendesk, tmp_path):
    zendesk.open(1, TEXT, status="closed")

    async def script(running):
        await running.receive(zendesk.created(1))
        await running.settled()
        zendesk.tickets["1"]["status"] = "open"
        with running.store.begin() as conn:
            assert running.store.deliveries.revive(conn, "zendesk", now=datetime.now(UTC)) == 1
        assert (await running.settled())["done"] == 1

    play(tmp_path, zendesk, script)
    assert zendesk.tags(1) == TAGS


def test_what_came_while_the_service_was_down_is_done_after_the_start(zendesk, tmp_path):
    zendesk.open(1, TEXT)

    async def receive_only(running):
        await running.helpdesk._worker.stop()
        assert await running.receive(zendesk.created(1)) == "stored"

    play(tmp_path, zendesk, receive_only)
    assert zendesk.tags(1) == set()

    async def nothing(running):
        await running.settled()

    play(tmp_path, zendesk, nothing)
    assert zendesk.tags(1) == TAGS


def test_many_deliveries_of_many_tickets_are_each_done_once(zendesk, tmp_path):
    for number in range(1, 31):
        zendesk.open(number, f"{TEXT} {number}")

    async def script(running):
        webhooks = [zendesk.created(number, event=f"e{number}") for number in range(1, 31)]
        webhooks += [zendesk.triggered(number, invocation=f"i{number}") for number in range(1, 31)]
        await asyncio.gather(*(running.receive(webhook) for webhook in webhooks))
        assert (await running.settled(seconds=20))["done"] == 60
        assert (running.outcome("tagged"), running.outcome("known")) == (30, 30)

    play(tmp_path, zendesk, script)
    assert all(zendesk.tags(number) == TAGS for number in range(1, 31))
    assert len(zendesk.changes) == 60
    assert zendesk.violations == []


def test_two_services_share_the_work_and_do_none_of_it_twice(zendesk, tmp_path, store_url):
    for number in range(1, 21):
        zendesk.open(number, f"{TEXT} {number}")

    async def do():
        folders = [tmp_path / "a", tmp_path / "b"]
        for folder in folders:
            folder.mkdir()
        connectors = [connect(folder, zendesk) for folder in folders]
        async with (
            at_work(tmp_path, connectors[:1], url=store_url) as one,
            at_work(tmp_path, connectors[1:], url=store_url) as two,
        ):
            for number in range(1, 21):
                webhook = zendesk.created(number, event=f"e{number}")
                receipts = [await running.receive(webhook) for running in (one, two)]
                assert receipts == ["stored", "duplicate"]
            assert (await one.settled(seconds=20))["done"] == (await two.settled(seconds=20))["done"] == 20
            assert (one.outcome("tagged") or 0) + (two.outcome("tagged") or 0) == 20

    asyncio.run(do())
    assert all(zendesk.tags(number) == TAGS for number in range(1, 21))
    assert len(zendesk.changes) == 40


def test_a_fault_that_nobody_foresaw_harms_one_delivery_alone(zendesk, tmp_path, capsys):
    zendesk.open(1, "so slow said the canary")
    zendesk.open(2, TEXT)

    async def script(running):
        tagger = running.helpdesk._worker._tagger
        handle = tagger.handle

        async def fail_for_one(delivery):
            if delivery.ticket == "1":
                raise KeyError("canary")
            return await handle(delivery)

        tagger.handle = fail_for_one
        await running.receive(zendesk.created(1, event="a"))
        await running.receive(zendesk.created(2, event="b"))
        counts = await running.settled()
        assert (counts["done"], counts["given_up"]) == (1, 1)
        with running.store.read() as conn:
            errors = conn.exec_driver_sql("SELECT error FROM deliveries WHERE error IS NOT NULL").scalars().all()
        assert len(errors) == 1
        assert "KeyError" in errors[0]
        assert "canary" not in errors[0]

    retry = RetryRules(first_seconds=0.01, longest_seconds=0.01, max_attempts=2)
    play(tmp_path, zendesk, script, rules=replace(QUICK, retry=retry))


def test_a_helpdesk_that_does_not_answer_blocks_no_other(tmp_path):
    """Five deliveries hang, more than the worker does at a time; another helpdesk's tickets are tagged after."""
    with ZendeskDesk() as slow, FreshdeskDesk() as quick:
        slow.open(1, TEXT)
        quick.open(1, TEXT)
        slow.plan(503, times=50, Retry_After=60)

        async def do():
            (tmp_path / "a").mkdir()
            (tmp_path / "b").mkdir()
            connectors = [connect(tmp_path / "a", slow), connect(tmp_path / "b", quick)]
            async with at_work(tmp_path, connectors) as running:
                inbox = running.helpdesk.inbox
                for number in range(5):
                    await inbox.receive("zendesk", slow.created(1, event=f"e{number}"))
                await inbox.receive("freshdesk", quick.triggered(1))
                for _ in range(500):
                    await asyncio.sleep(0.01)
                    if quick.tags(1) == TAGS:
                        return
                raise AssertionError("the other helpdesk's ticket was not tagged")

        asyncio.run(do())


def test_a_helpdesk_that_takes_its_time_holds_up_no_other(tmp_path):
    """More deliveries hang in the middle than are under way at a time."""
    may_go = threading.Event()
    with ZendeskDesk() as slow, FreshdeskDesk() as quick:
        slow.before_write = lambda call: may_go.wait(10)
        for number in range(8):
            slow.open(number, TEXT)
        quick.open(1, TEXT)

        async def do():
            (tmp_path / "a").mkdir()
            (tmp_path / "b").mkdir()
            connectors = [connect(tmp_path / "a", slow), connect(tmp_path / "b", quick)]
            async with at_work(tmp_path, connectors) as running:
                inbox = running.helpdesk.inbox
                for number in range(8):
                    await inbox.receive("zendesk", slow.created(number, event=f"e{number}", invocation=f"i{number}"))
                while running.helpdesk.n_under_way < 4:
                    await asyncio.sleep(0.01)
                await inbox.receive("freshdesk", quick.triggered(1))
                while quick.tags(1) != TAGS:
                    await asyncio.sleep(0.01)
                assert not slow.changes
                assert running.helpdesk.n_under_way <= 5
                may_go.set()
                assert (await running.settled())["done"] == 9

        asyncio.run(asyncio.wait_for(do(), 9))


@pytest.mark.parametrize("n_attempts", [1, 2, 5, 11, 20, 60, 1000])
def test_waits_double_up_to_a_limit_and_are_never_shorter_than_asked_for(n_attempts):
    rules = RetryRules()
    longest = min(2 * 2 ** (n_attempts - 1), 3600)
    delays = [rules.delay(n_attempts) for _ in range(200)]
    assert longest / 2 <= min(delays) <= max(delays) <= longest
    assert len(set(delays)) > 100  # they do not come in step
    assert rules.delay(n_attempts, retry_after=5000) >= 5000


def test_twenty_attempts_are_spread_over_seven_hours():
    rules = RetryRules()
    hours = [sum(rules.delay(n) for n in range(1, rules.max_attempts)) / 3600 for _ in range(200)]
    assert 6.5 < sum(hours) / len(hours) < 7.5


@pytest.fixture
def default_logs():
    """Log as if nobody had asked for anything else, whatever other tests have set up."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("default_logs")
def test_nothing_that_is_secret_or_a_customers_is_logged(zendesk, tmp_path, capsys):
    zendesk.open(1, "so slow said the canary")
    zendesk.plan(500, times=2)

    async def script(running):
        await running.receive(zendesk.created(1))
        await running.settled()
        return running.metrics.render()[0].decode()

    metrics = play(tmp_path, zendesk, script)
    logged = "".join(capsys.readouterr())
    assert "retried" in logged
    for word in ("canary", TOKEN, SECRET, STANDARD_SECRET):
        assert word not in logged
        assert word not in metrics
