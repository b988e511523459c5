"""Webhooks over HTTP (R12): refused or taken, quickly, and with one effect however often they come."""

import asyncio
import gzip
import time
from datetime import UTC, datetime, timedelta

import pytest
from helpdesk_world import DESKS, ENVIRON, ZendeskDesk, new_classifier, write_config
from service_world import running, settings_for, shipped_world, wait_until

from serve.app import create_app
from serve.connectors.zendesk import TEST_SECRET
from serve.store import StoreFullError

TEXT = "so slow and against the rules"
TAGS = {"gap_policy", "gap_delivery"}
PATH = "/v1/webhooks/zendesk"


@pytest.fixture
def desk():
    with ZendeskDesk() as desk:
        yield desk


@pytest.fixture
def environ(monkeypatch):
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def world(desk, environ, tmp_path):
    settings = settings_for(tmp_path, connectors=write_config(tmp_path, desk))
    with running(create_app(settings, classifier=new_classifier())) as world:
        yield world


def send(world, webhook, path=PATH):
    return world.post(path, content=webhook.body, headers=dict(webhook.headers))


def is_problem(response, status, slug):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == f"urn:gapnlp:problem:{slug}"


@pytest.mark.parametrize("kind", DESKS)
def test_a_webhook_is_answered_202_and_the_ticket_is_tagged(kind, environ, tmp_path):
    with DESKS[kind]() as desk:
        ticket = "SUP-1" if kind == "jira" else "1"
        name = "other" if kind == "standard" else kind
        desk.open(ticket, TEXT)
        webhook = {
            "zendesk": lambda: desk.created(1),
            "freshdesk": lambda: desk.triggered(1),
            "standard": lambda: desk.notify("1", TEXT),
        }.get(kind, lambda: desk.notify(ticket))()
        settings = settings_for(tmp_path, connectors=write_config(tmp_path, desk))
        with running(create_app(settings, classifier=new_classifier())) as world:
            response = send(world, webhook, f"/v1/webhooks/{name}")
            assert (response.status_code, response.json()) == (202, {"status": "stored"})
            wait_until(lambda: desk.tags(ticket) == TAGS)


def test_a_webhook_needs_no_api_key_where_others_do(desk, environ, tmp_path):
    desk.open(1, TEXT)
    settings = settings_for(tmp_path, connectors=write_config(tmp_path, desk), require_keys=True)
    with running(create_app(settings, classifier=new_classifier())) as world:
        assert world.post("/v1/classify", json={"text": "x"}).status_code == 401
        assert send(world, desk.created(1)).status_code == 202


@pytest.mark.parametrize(
    "options",
    [
        {"secret": "another"},
        {"secret": TEST_SECRET},
        {"at": timedelta(minutes=-6)},
        {"at": timedelta(days=-400)},
        {"at": timedelta(minutes=6)},
        {"sign_as": b"another body"},
    ],
    ids=["secret", "published secret", "old", "very old", "future", "body"],
)
def test_what_cannot_be_trusted_is_answered_401_and_not_kept(desk, world, options):
    desk.open(1, TEXT)
    if "at" in options:
        options = {"at": datetime.now(UTC) + options["at"]}
    response = send(world, desk.created(1, **options))
    is_problem(response, 401, "bad-signature")
    assert TEXT not in response.text
    with world.service.store.read() as conn:
        assert sum(world.service.store.deliveries.counts(conn).values()) == 0
    assert desk.calls == []


def test_a_replay_ten_times_has_one_effect(desk, world):
    desk.open(1, TEXT)
    webhook = desk.created(1)
    answers = [send(world, webhook).json()["status"] for _ in range(5)]
    wait_until(lambda: desk.tags(1) == TAGS)
    answers += [send(world, webhook).json()["status"] for _ in range(5)]
    assert answers == ["stored"] + ["duplicate"] * 9
    assert len(desk.changes) == 2
    assert sum(call.method == "PUT" for call in desk.calls) == 1


def test_ten_copies_at_once_have_one_effect(desk, world):
    desk.open(1, TEXT)
    webhook = desk.created(1)

    async def all_at_once():
        posts = [world.client.post(PATH, content=webhook.body, headers=dict(webhook.headers)) for _ in range(10)]
        return [response.json()["status"] for response in await asyncio.gather(*posts)]

    assert sorted(world.run(all_at_once())) == ["duplicate"] * 9 + ["stored"]


def test_what_no_customer_wrote_is_taken_and_ignored(desk, world):
    desk.open(1, TEXT)
    assert send(world, desk.commented(1, "we are sorry", is_staff=True)).json() == {"status": "ignored"}
    with world.service.store.read() as conn:
        assert sum(world.service.store.deliveries.counts(conn).values()) == 0


def test_what_is_signed_but_not_understood_is_answered_422(desk, world):
    for body in (b"", b"[]", b"{", b'{"ticket_id": "x"}', b"\xff"):
        is_problem(send(world, desk.webhook(body)), 422, "invalid")


def test_helpdesks_that_are_not_in_the_file_are_not_there(desk, world):
    desk.open(1, TEXT)
    for name in ("freshdesk", "..", "Zendesk", "zendesk%2f"):
        assert send(world, desk.created(1), f"/v1/webhooks/{name}").status_code == 404
    assert world.get(PATH).status_code == 405


def test_an_address_can_be_looked_at_before_it_is_used(world):
    """Intercom asks so when the address is entered."""
    assert world.run(world.client.head(PATH)).status_code == 200
    assert world.run(world.client.head("/v1/webhooks/nothing")).status_code == 404


def test_bodies_are_bounded_also_when_packed_or_in_pieces(desk, environ, tmp_path):
    desk.open(1, TEXT)
    settings = settings_for(tmp_path, connectors=write_config(tmp_path, desk), max_body_bytes=5000)
    with running(create_app(settings, classifier=new_classifier())) as world:
        large = desk.webhook({"ticket_id": "1", "x": "y" * 5000})
        is_problem(send(world, large), 413, "too-large")
        packed = dict(large.headers) | {"content-encoding": "gzip"}
        is_problem(world.post(PATH, content=gzip.compress(large.body), headers=packed), 413, "too-large")

        async def pieces():
            for start in range(0, len(large.body), 100):
                yield large.body[start : start + 100]

        is_problem(world.post(PATH, content=pieces(), headers=dict(large.headers)), 413, "too-large")
        assert send(world, desk.created(1)).status_code == 202


def test_a_long_webhook_is_read_beside_the_loop(desk, world):
    desk.open(1, f"{TEXT} " * 4000)
    assert send(world, desk.created(1)).status_code == 202

    def truncated():
        with world.service.store.read() as conn:
            return conn.exec_driver_sql("SELECT truncated FROM predictions").scalars().all()

    wait_until(truncated)
    assert truncated() == [1]  # 20,000 characters are read, and it is said that there were more
    assert desk.tags(1) == TAGS


def test_what_cannot_be_kept_is_asked_for_again(desk, world, monkeypatch):
    desk.open(1, TEXT)

    def refuse(*args):
        raise StoreFullError("the store's disk is full")

    monkeypatch.setattr(world.service.store.deliveries, "add", refuse)
    response = send(world, desk.created(1))
    is_problem(response, 503, "unavailable")
    assert "retry-after" in response.headers


def test_at_20_a_second_acknowledgements_take_less_than_half_a_second(desk, world):
    for number in range(1, 61):
        desk.open(number, f"{TEXT} {number}")

    async def post(webhook, at):
        await asyncio.sleep(at - time.monotonic())
        start = time.monotonic()
        response = await world.client.post(PATH, content=webhook.body, headers=dict(webhook.headers))
        assert response.status_code == 202
        return time.monotonic() - start

    async def all_of_them():
        start = time.monotonic() + 0.1
        webhooks = [desk.created(number, event=f"e{number}") for number in range(1, 61)]
        return await asyncio.gather(*(post(webhook, start + n / 20) for n, webhook in enumerate(webhooks)))

    seconds = sorted(world.run(all_of_them()))
    assert seconds[-1] <= 0.5, f"the slowest took {seconds[-1]:.3f} s"
    wait_until(lambda: all(desk.tags(number) == TAGS for number in range(1, 61)))
    assert len(desk.changes) == 120


def test_with_the_shipped_model_a_complaint_gets_its_gap(desk, environ, tmp_path):
    complaint = "The parcel was promised for Monday and came on Friday, with half of the order missing."
    desk.open(1, complaint)
    with shipped_world(tmp_path, connectors=write_config(tmp_path, desk)) as world:
        expected = set(world.service.model.classifier.predict([complaint])[0].labels)
        assert send(world, desk.created(1)).status_code == 202
        wait_until(lambda: bool(desk.tags(1)))
        assert {f"gap_{label}" for label in expected} <= desk.tags(1)
        assert expected
