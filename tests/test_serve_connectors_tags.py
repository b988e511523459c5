"""What every connector does with a ticket: reads the customer's words alone, adds tags, takes ours away again."""

import asyncio

import pytest
from helpdesk_world import DESKS, ENVIRON, connect

from serve.connectors import PayloadError, Tags
from serve.connectors.errors import (
    BusyError,
    ConflictError,
    DeniedError,
    RefusedError,
    UnknownTicketError,
    UnreachableError,
)
from serve.helpdesk.conversation import to_texts

KINDS = tuple(DESKS)


@pytest.fixture(params=KINDS)
def desk(request):
    with DESKS[request.param]() as desk:
        yield desk


@pytest.fixture
def ticket(desk):
    return "SUP-1" if desk.kind == "jira" else "1"


def run(folder, desk, work):
    """Do something with the connector to a stand-in."""

    async def do():
        connector = connect(folder, desk)
        try:
            return await work(connector)
        finally:
            await connector.close()

    return asyncio.run(do())


def say(desk, ticket, text, *, by="customer"):
    """Add a message to a ticket; `by` is customer, agent or note."""
    if desk.kind == "zendesk":
        desk.comment(ticket, text, author_id=7 if by == "customer" else 9, public=by != "note")
    elif desk.kind == "freshdesk":
        desk.reply(ticket, text, incoming=by == "customer", private=by == "note")
    elif desk.kind == "intercom":
        desk.reply(ticket, f"<p>{text}</p>", author="user" if by == "customer" else "admin")
    elif desk.kind == "jira":
        agent = {"author": "agent-1", "kind": "atlassian", "public": by != "note"}
        desk.comment(ticket, text, **({} if by == "customer" else agent))
    else:
        desk.reply(ticket, f"<p>{text}</p>", role=by)


async def read_texts(connector, ticket):
    return [text.words for text in to_texts(await connector.read_turns(ticket), max_characters=1000)]


def test_the_customers_turns_are_read_in_order_and_nobody_elses(desk, ticket, tmp_path):
    desk.open(ticket, "first words")
    say(desk, ticket, "an answer", by="agent")
    say(desk, ticket, "second words")
    say(desk, ticket, "a secret note", by="note")
    assert run(tmp_path, desk, lambda one: read_texts(one, ticket)) == ["first words", "second words"]


def test_long_tickets_are_read_page_by_page(desk, ticket, tmp_path):
    desk.open(ticket, "first words")
    for number in range(230):
        say(desk, ticket, f"answer {number}", by="agent")
    say(desk, ticket, "last words")
    texts = run(tmp_path, desk, lambda one: read_texts(one, ticket))
    assert texts == ["first words", "last words"]


def test_tags_are_added_to_those_that_people_have_set(desk, ticket, tmp_path):
    if desk.kind == "intercom":
        desk.names["2"] = "angry"
    desk.open(ticket, "so slow", tags=["vip", "angry"])

    async def add(connector):
        before = await connector.read_tags(ticket)
        await connector.add_tags(ticket, ["gap_policy", "gap_delivery"], before=before)
        return before

    assert run(tmp_path, desk, add).names == {"vip", "angry"}
    assert desk.tags(ticket) == {"vip", "angry", "gap_delivery", "gap_policy"}
    assert sorted(desk.changes) == [(ticket, "add", "gap_delivery"), (ticket, "add", "gap_policy")]
    assert desk.violations == []


def test_tags_that_are_there_already_do_no_harm(desk, ticket, tmp_path):
    if desk.kind == "intercom":
        desk.names["2"] = "gap_delivery"
    desk.open(ticket, "so slow", tags=["gap_delivery"])

    async def add(connector):
        await connector.add_tags(ticket, ["gap_delivery"], before=await connector.read_tags(ticket))

    run(tmp_path, desk, add)
    assert desk.tags(ticket) == {"gap_delivery"}
    assert desk.changes == []


def test_tags_are_removed_and_all_others_stay(desk, ticket, tmp_path):
    if desk.kind == "intercom":
        desk.names |= {"2": "gap_delivery", "3": "gap_policy"}
    desk.open(ticket, "so slow", tags=["vip", "gap_delivery", "gap_policy"])

    async def remove(connector):
        await connector.remove_tags(ticket, ["gap_delivery"], before=await connector.read_tags(ticket))

    run(tmp_path, desk, remove)
    assert desk.tags(ticket) == {"vip", "gap_policy"}
    assert desk.violations == []


@pytest.mark.parametrize("kind", ["zendesk", "freshdesk"])
@pytest.mark.parametrize("method", ["add_tags", "remove_tags"])
def test_nothing_is_written_to_a_ticket_that_has_changed_meanwhile(kind, method, tmp_path):
    with DESKS[kind]() as desk:
        desk.open("1", "so slow", tags=["vip", "gap_policy"])

        async def write_late(connector):
            before = await connector.read_tags("1")
            desk.change_tags("1", add=["urgent"])
            with pytest.raises(ConflictError) as caught:
                await getattr(connector, method)("1", ["gap_policy", "gap_delivery"], before=before)
            return caught.value

        assert not run(tmp_path, desk, write_late).may_have_worked
        assert desk.tags("1") == {"vip", "urgent", "gap_policy"}


def test_freshdesk_notices_that_its_tags_were_overwritten_at_the_same_moment(tmp_path):
    with DESKS["freshdesk"]() as desk:
        desk.open("1", "so slow", tags=["vip"])
        answer = desk.answer

        def overwritten(call):
            found = answer(call)
            if call.method == "PUT":
                desk.tickets["1"]["tags"] = ["vip", "urgent"]
                found.body = {**found.body, "tags": ["vip", "urgent"]}
            return found

        desk.answer = overwritten

        async def write(connector):
            with pytest.raises(ConflictError) as caught:
                await connector.add_tags("1", ["gap_delivery"], before=await connector.read_tags("1"))
            return caught.value

        assert run(tmp_path, desk, write).may_have_worked


def test_an_unknown_ticket_is_said_to_be_unknown(desk, ticket, tmp_path):
    for method in ("read_turns", "read_tags"):
        with pytest.raises(UnknownTicketError):
            run(tmp_path, desk, lambda one, method=method: getattr(one, method)(ticket))


def test_wrong_credentials_are_said_to_be_refused(desk, ticket, tmp_path, monkeypatch):
    desk.open(ticket, "so slow")
    monkeypatch.setitem(ENVIRON, "DESK_TOKEN", "another")
    with pytest.raises(DeniedError) as caught:
        run(tmp_path, desk, lambda one: one.read_tags(ticket))
    assert "another" not in str(caught.value)


def test_being_asked_to_wait_is_told_with_the_time(desk, ticket, tmp_path):
    desk.open(ticket, "so slow")
    desk.plan(429, Retry_After=37)
    with pytest.raises(BusyError) as caught:
        run(tmp_path, desk, lambda one: one.read_tags(ticket))
    assert caught.value.retry_after == 37
    assert not caught.value.may_have_worked


def test_a_failure_of_the_helpdesk_leaves_open_whether_it_has_worked(desk, ticket, tmp_path):
    desk.open(ticket, "so slow")
    desk.plan(502)
    with pytest.raises(UnreachableError) as caught:
        run(tmp_path, desk, lambda one: one.read_tags(ticket))
    assert caught.value.may_have_worked


def test_a_helpdesk_that_is_not_there_has_done_nothing(desk, ticket, tmp_path):
    desk.__exit__()
    with pytest.raises(BusyError) as caught:
        run(tmp_path, desk, lambda one: one.read_tags(ticket))
    assert not caught.value.may_have_worked


def test_redirects_are_not_followed(desk, ticket, tmp_path):
    desk.open(ticket, "so slow")
    with DESKS["zendesk"]() as elsewhere:
        desk.plan(302, Location=f"{elsewhere.url}/api/v2/tickets/1")
        with pytest.raises(RefusedError, match="redirect"):
            run(tmp_path, desk, lambda one: one.read_tags(ticket))
        assert elsewhere.calls == []


@pytest.mark.parametrize("kind", ["intercom", "standard"])
def test_a_failure_between_two_calls_leaves_open_whether_it_has_worked(kind, tmp_path):
    with DESKS[kind]() as desk:
        desk.open("1", "so slow")
        method = "POST" if kind == "intercom" else "DELETE"

        def refuse_second(call):
            if call.method == method and call.path.count("/") > 1:
                desk.plan_write(429)

        desk.after_write = refuse_second

        async def write(connector):
            before = await connector.read_tags("1")
            change = connector.add_tags if kind == "intercom" else connector.remove_tags
            with pytest.raises(BusyError) as caught:
                await change("1", ["gap_delivery", "gap_policy"], before=before)
            return caught.value

        assert run(tmp_path, desk, write).may_have_worked


def test_ids_that_could_lead_elsewhere_are_refused(desk, tmp_path):
    async def try_all(connector):
        for id_ in ("", "..", ".", "1/../2", "1?x=1", "a b", "1#", "%2e%2e", "é", "9" * 200, "1\n"):
            for work in (
                connector.read_turns(id_),
                connector.read_tags(id_),
                connector.add_tags(id_, ["gap_policy"], before=Tags(frozenset())),
                connector.remove_tags(id_, ["gap_policy"], before=Tags(frozenset({"gap_policy"}))),
            ):
                with pytest.raises(PayloadError):
                    await work

    run(tmp_path, desk, try_all)
    assert desk.calls == []


def test_intercom_tells_no_small_letters_from_capitals(tmp_path):
    with DESKS["intercom"]() as desk:
        desk.names["2"] = "Gap_Delivery"
        desk.open("1", "so slow", tags=["Gap_Delivery"])

        async def add(connector):
            before = await connector.read_tags("1")
            await connector.add_tags("1", ["gap_delivery"], before=before)
            return before

        assert run(tmp_path, desk, add).names == {"gap_delivery"}
        assert desk.changes == []
