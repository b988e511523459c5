"""Taking tags back: exactly those that were added, and nothing of anybody else's."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from helpdesk_world import DESKS, ZendeskDesk, connect

from serve.helpdesk import undo_taggings
from serve.store import Store

NOW = datetime.now(UTC)


@pytest.fixture
def store(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}")
    yield store
    store.close()


@pytest.fixture
def zendesk():
    with ZendeskDesk() as desk:
        yield desk


def note(store, ticket, tags, *, name="zendesk", at=NOW, delivery=None):
    """Note tags as written."""
    with store.begin() as conn:
        tagging = store.taggings.intend(
            conn, connector=name, ticket=ticket, tags=tags, delivery_id=delivery or f"d-{ticket}-{at}", now=at
        )
        store.taggings.confirm(conn, tagging.id, now=at)


def undo(folder, desk, store, **options):
    async def do():
        connector = connect(folder, desk)
        try:
            return await undo_taggings(connector, store, **options)
        finally:
            await connector.close()

    return asyncio.run(do())


@pytest.mark.parametrize("kind", DESKS)
def test_what_was_added_is_removed_and_all_else_stays(kind, store, tmp_path):
    with DESKS[kind]() as desk:
        name = "other" if kind == "standard" else kind
        ticket = "SUP-1" if kind == "jira" else "1"
        if kind == "intercom":
            desk.names |= {"2": "gap_delivery", "3": "gap_policy"}
        desk.open(ticket, "x", tags=["vip", "gap_delivery", "gap_policy"])
        note(store, ticket, ["gap_delivery"], name=name)
        (undone,) = undo(tmp_path, desk, store)
        assert (undone.removed, undone.error) == (("gap_delivery",), "")
        assert desk.tags(ticket) == {"vip", "gap_policy"}
        assert desk.violations == []
        assert undo(tmp_path, desk, store) == []


def test_a_dry_run_says_what_would_be_removed_and_changes_nothing(zendesk, store, tmp_path):
    zendesk.open(1, "x", tags=["gap_delivery"])
    note(store, "1", ["gap_delivery", "gap_policy"])
    for _ in range(2):
        (undone,) = undo(tmp_path, zendesk, store, dry_run=True)
        assert undone.removed == ("gap_delivery",)
    assert zendesk.tags(1) == {"gap_delivery"}
    assert all(call.method == "GET" for call in zendesk.calls)


def test_only_what_was_written_since_is_taken_back(zendesk, store, tmp_path):
    for number, hours in ((1, 30), (2, 1)):
        zendesk.open(number, "x", tags=["gap_delivery"])
        note(store, str(number), ["gap_delivery"], at=NOW - timedelta(hours=hours))
    undo(tmp_path, zendesk, store, since=NOW - timedelta(hours=2))
    assert zendesk.tags(1) == {"gap_delivery"}
    assert zendesk.tags(2) == set()


def test_one_ticket_alone_can_be_taken_back(zendesk, store, tmp_path):
    for number in (1, 2):
        zendesk.open(number, "x", tags=["gap_delivery"])
        note(store, str(number), ["gap_delivery"])
    undo(tmp_path, zendesk, store, ticket="2")
    assert zendesk.tags(1) == {"gap_delivery"}
    assert zendesk.tags(2) == set()


def test_what_is_gone_already_needs_no_call(zendesk, store, tmp_path):
    zendesk.open(1, "x", tags=["vip"])
    note(store, "1", ["gap_delivery"])
    note(store, "2", ["gap_delivery"])  # a ticket that was deleted
    results = undo(tmp_path, zendesk, store)
    assert [(result.removed, result.error) for result in results] == [((), ""), ((), "")]
    assert all(call.method == "GET" for call in zendesk.calls)
    assert undo(tmp_path, zendesk, store) == []


def test_a_ticket_that_changes_meanwhile_is_read_again(zendesk, store, tmp_path):
    zendesk.open(1, "x", tags=["gap_delivery"])
    note(store, "1", ["gap_delivery"])

    def change(call):
        zendesk.before_write = lambda call: None
        zendesk.change_tags(1, add=["urgent"])

    zendesk.before_write = change
    (undone,) = undo(tmp_path, zendesk, store)
    assert undone.removed == ("gap_delivery",)
    assert zendesk.tags(1) == {"urgent"}


def test_being_asked_to_wait_is_waited_for(zendesk, store, tmp_path):
    zendesk.open(1, "x", tags=["gap_delivery"])
    note(store, "1", ["gap_delivery"])
    zendesk.plan(429, Retry_After=1)
    (undone,) = undo(tmp_path, zendesk, store)
    assert undone.removed == ("gap_delivery",)
    assert zendesk.calls[1].at - zendesk.calls[0].at >= 1


def test_what_fails_is_told_and_can_be_tried_again_and_harms_no_other(zendesk, store, tmp_path):
    zendesk.open(1, "x", tags=["gap_delivery"], status="closed")
    zendesk.open(2, "x", tags=["gap_delivery"])
    note(store, "1", ["gap_delivery"])
    note(store, "2", ["gap_delivery"], at=NOW - timedelta(seconds=1))
    results = {result.tagging.ticket: result for result in undo(tmp_path, zendesk, store)}
    assert "422" in results["1"].error
    assert results["2"].removed == ("gap_delivery",)
    zendesk.tickets["1"]["status"] = "open"
    (again,) = undo(tmp_path, zendesk, store)
    assert again.removed == ("gap_delivery",)
    assert zendesk.tags(1) == set()


def test_two_taggings_of_one_ticket_are_both_taken_back(zendesk, store, tmp_path):
    zendesk.open(1, "x", tags=["vip", "gap_delivery", "gap_policy"])
    note(store, "1", ["gap_delivery"], delivery="a")
    note(store, "1", ["gap_policy"], delivery="b")
    assert len(undo(tmp_path, zendesk, store)) == 2
    assert zendesk.tags(1) == {"vip"}


def test_other_helpdesks_are_left_alone(zendesk, store, tmp_path):
    zendesk.open(1, "x", tags=["gap_delivery"])
    note(store, "1", ["gap_delivery"], name="another")
    assert undo(tmp_path, zendesk, store) == []
    assert zendesk.tags(1) == {"gap_delivery"}
