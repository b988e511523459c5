"""Webhooks that prove where they come from, and those that do not (R12)."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from helpdesk_world import DESKS, SECRET, STANDARD_SECRET, connect

from serve.connectors import PayloadError, SignatureError, Webhook, zendesk
from serve.connectors.jira import OLDEST
from serve.connectors.signature import is_same, parse_time

KINDS = tuple(DESKS)
NOW = datetime.now(UTC)


@pytest.fixture(scope="module", params=KINDS)
def desk(request):
    with DESKS[request.param]() as desk:
        desk.open("SUP-1" if desk.kind == "jira" else "1", "so slow")
        yield desk


@pytest.fixture(scope="module")
def connector(desk, tmp_path_factory):
    return connect(tmp_path_factory.mktemp("config"), desk)


def send(desk, **options):
    """Return a webhook of a new ticket, signed as the real helpdesk signs it."""
    if desk.kind == "zendesk":
        return desk.created("1", **options)
    if desk.kind == "freshdesk":
        at = options.pop("at", None)
        fields = {"timestamp": at.isoformat()} if at else {}
        return desk.webhook({"ticket_id": 1, **fields}, **options)
    if desk.kind == "standard":
        return desk.notify("1", "so slow", **options)
    return desk.notify("SUP-1" if desk.kind == "jira" else "1", **options)


def check(connector, webhook):
    connector.check_signature(webhook, now=datetime.now(UTC))


def test_a_webhook_of_the_helpdesk_is_taken(desk, connector):
    check(connector, send(desk))


def test_a_webhook_with_another_secret_is_refused(desk, connector):
    secret = STANDARD_SECRET.replace("MDEy", "OTk5") if desk.kind == "standard" else SECRET + "x"
    with pytest.raises(SignatureError):
        check(connector, send(desk, secret=secret))


def test_a_webhook_whose_body_was_changed_by_one_byte_is_refused(desk, connector):
    webhook = send(desk)
    reformatted = json.dumps(json.loads(webhook.body), separators=(",", ":")).encode()
    assert reformatted != webhook.body
    for body in (webhook.body + b" ", reformatted):
        changed = Webhook(webhook.headers, body)
        if desk.kind == "freshdesk":  # it signs nothing: its secret vouches for who sends, not for what is sent
            check(connector, changed)
        else:
            with pytest.raises(SignatureError):
                check(connector, changed)


def test_a_webhook_without_headers_is_refused(desk, connector):
    with pytest.raises(SignatureError):
        check(connector, Webhook({}, send(desk).body))


JUNK = ("", "x", "v1,", "v1", "v1,%%%", "sha1=", "sha256=", "é", "\udcff", "1e999", "nan", "9" * 400)


@pytest.mark.parametrize("value", JUNK)
def test_headers_of_any_kind_are_refused_without_a_crash(desk, connector, value):
    webhook = send(desk)
    for name in webhook.headers:
        if name in {"content-type", "x-zendesk-webhook-invocation-id", "x-atlassian-webhook-identifier"}:
            continue
        with pytest.raises(SignatureError):
            check(connector, Webhook({**webhook.headers, name: value}, webhook.body))


def test_a_webhook_is_taken_for_five_minutes_and_refused_after(desk, connector):
    oldest = OLDEST if desk.kind == "jira" else timedelta(minutes=5)
    now = datetime.now(UTC)
    check(connector, send(desk, at=now - oldest + timedelta(seconds=30)))
    with pytest.raises(SignatureError, match="old"):
        check(connector, send(desk, at=now - oldest - timedelta(seconds=30)))


def test_a_webhook_from_the_future_is_refused(desk, connector):
    now = datetime.now(UTC)
    check(connector, send(desk, at=now + timedelta(minutes=4)))
    with pytest.raises(SignatureError, match=r"new|future"):
        check(connector, send(desk, at=now + timedelta(minutes=6)))


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b"{", b"\xff", b"[" * 100_000, b'"\\ud800"'])
def test_a_signed_body_that_cannot_be_read_is_refused_or_ignored(desk, connector, body):
    webhook = sign(desk, body)
    try:
        check(connector, webhook)
        event = connector.read_event(webhook)
    except (SignatureError, PayloadError):
        event = None
    assert event is None


SIGNED = {
    "x-zendesk-webhook-signature",
    "x-zendesk-webhook-signature-timestamp",
    "x-gapnlp-secret",
    "x-hub-signature",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
}


@pytest.mark.parametrize("about", ["a ticket", "nothing"])
def test_a_test_is_signed_as_the_helpdesk_signs_and_says_what_it_is_to_say(desk, connector, about):
    ticket = None if about == "nothing" else "SUP-1" if desk.kind == "jira" else "1"
    made = connector.make_test(ticket, now=datetime.now(UTC))
    stand_in = sign(desk, made.body, id_=made.headers.get("webhook-id", "m"), at=sent_at(made))
    names = SIGNED & set(stand_in.headers)
    assert names
    assert {name: made.headers.get(name) for name in names} == {name: stand_in.headers[name] for name in names}
    check(connector, made)
    event = connector.read_event(made)
    assert (event and (event.ticket, event.turn)) == (ticket and (ticket, None))


def test_no_two_tests_are_one_delivery(desk, connector):
    if desk.kind == "freshdesk":  # what it sends has no id: every delivery is another
        return
    ticket = "SUP-1" if desk.kind == "jira" else "1"
    now = datetime.now(UTC)
    moments = (now, now + timedelta(milliseconds=1))
    ids = {connector.read_event(connector.make_test(ticket, now=moment)).delivery_id for moment in moments}
    assert len(ids) == 2


def sent_at(webhook):
    """Return when a webhook says it was sent, where a header says so."""
    if told := webhook.headers.get("x-zendesk-webhook-signature-timestamp"):
        return datetime.fromisoformat(told)
    if told := webhook.headers.get("webhook-timestamp"):
        return datetime.fromtimestamp(int(told), UTC)
    return None


def sign(desk, body, *, id_="m", at=None):
    """Sign any bytes."""
    if desk.kind == "zendesk":
        return desk.webhook(body, at=at)
    if desk.kind in {"freshdesk", "jira"}:
        return desk.webhook(body)
    if desk.kind == "intercom":
        return Webhook({"x-hub-signature": "sha1=" + hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()}, body)
    timestamp = str(int((at or datetime.now(UTC)).timestamp()))
    key = base64.b64decode(STANDARD_SECRET.removeprefix("whsec_"))
    signed = base64.b64encode(hmac.new(key, f"{id_}.{timestamp}.".encode() + body, hashlib.sha256).digest()).decode()
    headers = {"webhook-id": id_, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signed}"}
    return Webhook(headers, body)


def test_zendesks_published_test_secret_is_refused_and_named(tmp_path):
    with DESKS["zendesk"]() as desk:
        desk.open("1", "so slow")
        connector = connect(tmp_path, desk)
        with pytest.raises(SignatureError, match="tests"):
            check(connector, desk.created("1", secret=zendesk.TEST_SECRET))


def test_zendesks_signature_is_made_as_its_manual_shows():
    secret, timestamp = "HRkRd4BeOAoUkfZr-mhauJT64rvBASlJRoIyPsd3zeA=", "2021-07-25T10:00:00Z"
    body = b'{"say": "hello"}'
    # The first edition of the manual put the body first and printed this signature; the order was turned round since.
    first_edition = "tRDSF7URY8BLCDlaBcQ7FHu051Zk+aAB0NKMP53teMw="
    assert zendesk.sign(secret, "", body + timestamp.encode()) == first_edition
    assert zendesk.sign(secret, timestamp, body) == zendesk.sign(secret, "", timestamp.encode() + body)


def test_freshdesk_takes_its_secret_as_a_password_too(tmp_path):
    with DESKS["freshdesk"]() as desk:
        connector = connect(tmp_path, desk)
        check(connector, desk.webhook({"ticket_id": 1}, header="authorization"))
        with pytest.raises(SignatureError):
            check(connector, desk.webhook({"ticket_id": 1}, header="authorization", secret="guess"))


def test_secrets_are_compared_whole():
    assert is_same("abc", "abc")
    assert not is_same("abc", "abcd")
    assert not is_same("", "abc")
    assert not is_same("\udcff", "\udcfe")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-22T09:00:00Z", datetime(2026, 11, 22, 9, tzinfo=UTC)),
        ("2026-11-22T10:00:00+01:00", datetime(2026, 11, 22, 9, tzinfo=UTC)),
        ("2026-11-22T09:00:00", datetime(2026, 11, 22, 9, tzinfo=UTC)),
        (1795338000, datetime(2026, 11, 22, 9, tzinfo=UTC)),
        ("1795338000", datetime(2026, 11, 22, 9, tzinfo=UTC)),
        (1795338000123, datetime(2026, 11, 22, 9, 0, 0, 123000, tzinfo=UTC)),
    ],
)
def test_times_are_read_in_the_forms_that_helpdesks_write(value, expected):
    assert parse_time(value) == expected


@pytest.mark.parametrize("value", [None, "", "soon", "nan", [], {}, 1e400, "9" * 30, -1e30])
def test_what_is_no_time_is_refused(value):
    with pytest.raises(SignatureError):
        parse_time(value)
