"""What webhooks say: which ticket, whose words, and which of them are about nothing that a customer wrote."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from helpdesk_world import DESKS, adf, connect

from serve.connectors import Event, PayloadError, Turn, Webhook
from serve.connectors.adf import adf_to_text

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def desks(tmp_path_factory):
    """Return each stand-in with one ticket, and the connector to it."""
    found = {}
    for kind, make in DESKS.items():
        desk = make()
        desk.open("SUP-1" if kind == "jira" else "1", "so slow")
        found[kind] = (desk, connect(tmp_path_factory.mktemp(kind), desk))
    yield found
    for desk, _ in found.values():
        desk.__exit__()


def test_zendesk_tells_what_a_customer_wrote_in_a_new_ticket(desks):
    desk, connector = desks["zendesk"]
    desk.open("2", "so slow", subject="My room")
    event = connector.read_event(desk.created("2", event="evt-9"))
    assert event == Event(ticket="2", delivery_id="evt-9", turn=Turn("so slow", subject="My room"))


def test_zendesk_leaves_a_ticket_that_an_agent_opened_to_be_read(desks):
    desk, connector = desks["zendesk"]
    assert connector.read_event(desk.created("1", by_agent=True)).turn is None


def test_zendesk_tells_what_a_customer_added(desks):
    desk, connector = desks["zendesk"]
    assert connector.read_event(desk.commented("1", "still slow")).turn == Turn("still slow")


def test_zendesk_comments_of_staff_and_our_own_tags_are_ignored(desks):
    desk, connector = desks["zendesk"]
    assert connector.read_event(desk.commented("1", "we are sorry", is_staff=True)) is None
    tagged = {"type": "zen:event-type:ticket.tags_changed", "id": "e", "subject": "zen:ticket:1", "detail": {"id": "1"}}
    assert connector.read_event(desk.webhook(tagged)) is None


def test_zendesk_triggers_name_a_ticket_and_the_call_has_the_id(desks):
    desk, connector = desks["zendesk"]
    assert connector.read_event(desk.triggered("1", invocation="i-7")) == Event(ticket="1", delivery_id="i-7")
    nested = desk.webhook({"ticket": {"id": 1}}, invocation="i-8")
    assert connector.read_event(nested) == Event(ticket="1", delivery_id="i-8")


@pytest.mark.parametrize(
    "body", [{}, {"ticket_id": "x"}, {"ticket_id": True}, {"ticket_id": ["1"]}, {"ticket_id": "1/2"}]
)
def test_zendesk_triggers_without_a_number_are_refused(desks, body):
    desk, connector = desks["zendesk"]
    with pytest.raises(PayloadError):
        connector.read_event(desk.webhook(body))


def test_freshdesk_takes_both_of_its_shapes(desks):
    desk, connector = desks["freshdesk"]
    assert connector.read_event(desk.triggered(1)).ticket == "1"
    assert connector.read_event(desk.webhook({"freshdesk_webhook": {"ticket_id": 1}})).ticket == "1"
    with pytest.raises(PayloadError):
        connector.read_event(desk.triggered("1/2"))


def test_freshdesk_deliveries_can_be_told_apart_only_with_the_time(desks):
    desk, connector = desks["freshdesk"]
    assert connector.read_event(desk.triggered(1)).delivery_id is None
    first = connector.read_event(desk.triggered(1, timestamp=NOW.isoformat()))
    again = connector.read_event(desk.triggered(1, timestamp=NOW.isoformat()))
    later = connector.read_event(desk.triggered(1, timestamp=(NOW + timedelta(seconds=1)).isoformat()))
    assert first.delivery_id == again.delivery_id != later.delivery_id


def test_intercom_tells_how_a_conversation_began_and_went_on(desks):
    desk, connector = desks["intercom"]
    desk.open("3", "<p>so slow</p>")
    event = connector.read_event(desk.notify("3"))
    assert event == Event(ticket="3", delivery_id="notif_1", turn=Turn("<p>so slow</p>", is_html=True))
    desk.reply("3", "<p>sorry</p>", author="admin")
    desk.reply("3", "<p>still slow</p>")
    event = connector.read_event(desk.notify("3", "conversation.user.replied"))
    assert event.turn == Turn("<p>still slow</p>", is_html=True)


def test_intercom_sends_a_retry_under_the_same_id(desks):
    desk, connector = desks["intercom"]
    first, again = (desk.notify("1", attempts=n, at=NOW) for n in (1, 2))
    assert first.body != again.body
    assert connector.read_event(first).delivery_id == connector.read_event(again).delivery_id


@pytest.mark.parametrize("topic", ["ping", "conversation.admin.replied", "conversation_part.tag.created"])
def test_intercom_notifications_of_no_customer_are_ignored(desks, topic):
    desk, connector = desks["intercom"]
    assert connector.read_event(desk.notify("1", topic)) is None


def test_intercom_conversations_that_we_began_are_left_to_be_read(desks):
    desk, connector = desks["intercom"]
    desk.open("4", "<p>How was your stay?</p>", author="admin")
    assert connector.read_event(desk.notify("4")).turn is None


def test_jira_names_the_request_and_the_signed_body_is_the_id(desks):
    desk, connector = desks["jira"]
    first, forged = (desk.notify("SUP-1", at=NOW, identifier=name) for name in ("id-1", "id-2"))
    event = connector.read_event(first)
    assert (event.ticket, event.turn) == ("SUP-1", None)
    # The header with Jira's own id is not signed: whoever replays a webhook may write another one there.
    assert connector.read_event(forged).delivery_id == event.delivery_id
    later = desk.notify("SUP-1", at=NOW + timedelta(seconds=1))
    assert connector.read_event(later).delivery_id != event.delivery_id


def test_jira_events_of_no_customer_are_ignored(desks):
    desk, connector = desks["jira"]
    assert connector.read_event(desk.notify("SUP-1", "jira:issue_updated")) is None  # what our own labels set off
    assert connector.read_event(desk.notify("SUP-1", "comment_created", account="app")) is None
    assert connector.read_event(desk.notify("SUP-1", "comment_created")).ticket == "SUP-1"


def test_a_mapping_says_where_any_other_helpdesk_has_what(desks):
    desk, connector = desks["standard"]
    event = connector.read_event(desk.notify("1", "<p>so slow</p>", msg="m-7"))
    assert event == Event(ticket="1", delivery_id="m-7", turn=Turn("<p>so slow</p>", is_html=True))
    assert connector.read_event(desk.notify("1", "x", kind="ticket.tagged")) is None
    assert connector.read_event(desk.notify("1", "x", role="agent")) is None
    assert connector.read_event(desk.notify("1", "")).turn is None


def test_what_is_kept_of_an_event_can_be_read_back():
    turn = Turn("so slow \ud800 \0 é", is_html=True, subject="x")
    assert Event.turn_of(Event(ticket="1", delivery_id=None, turn=turn).to_payload()) == turn
    assert Event.turn_of(Event(ticket="1", delivery_id=None).to_payload()) is None


def test_what_is_kept_of_an_event_has_nothing_of_the_customer_but_the_words(desks):
    desk, connector = desks["zendesk"]
    webhook = desk.created("1")
    body = json.loads(webhook.body)
    body["detail"]["requester"] = {"email": "jane@example.com"}
    event = connector.read_event(Webhook(webhook.headers, json.dumps(body).encode()))
    assert b"jane@example.com" not in event.to_payload()


def test_a_document_of_atlassian_becomes_text():
    content = [
        {"type": "paragraph", "content": [
            {"type": "text", "text": "Dear "},
            {"type": "mention", "attrs": {"text": "@desk"}},
            {"type": "hardBreak"},
            {"type": "text", "text": "it is  slow "},
            {"type": "emoji", "attrs": {"shortName": ":cry:", "text": "😢"}},
        ]},
        {"type": "blockquote", "content": [{"type": "paragraph", "content": [{"type": "text", "text": "said you"}]}]},
        {"type": "bulletList", "content": [
            {"type": "listItem", "content": [{"type": "paragraph", "content": [{"type": "text", "text": "one"}]}]},
            {"type": "listItem", "content": [{"type": "paragraph", "content": [{"type": "text", "text": "two"}]}]},
        ]},
        {"type": "table", "content": [{"type": "tableRow", "content": [
            {"type": "tableCell", "content": [{"type": "text", "text": "a"}]},
            {"type": "tableCell", "content": [{"type": "text", "text": "b"}]},
        ]}]},
        {"type": "mediaSingle", "content": [{"type": "media", "attrs": {"id": "x"}}]},
    ]  # fmt: skip
    document = {"type": "doc", "version": 1, "content": content}
    assert adf_to_text(document) == "Dear @desk\nit is slow 😢\none\ntwo\na b"


@pytest.mark.parametrize("document", [None, 5, [], {}, {"type": "doc"}, {"content": 5}, {"content": [None, 5, [], {}]}])
def test_what_is_no_document_is_no_text(document):
    assert adf_to_text(document) == ""


def test_documents_may_be_plain_text_or_nested_deeper_than_calls_go():
    assert adf_to_text("plain") == "plain"
    deep = {"type": "text", "text": "slow"}
    for _ in range(5000):
        deep = {"type": "panel", "content": [deep]}
    assert adf_to_text(deep) == "slow"
    wide = adf("\n".join(["x"] * 40_000))
    assert adf_to_text(wide).count("x") < 40_000  # it stops; it does not go on for ever
