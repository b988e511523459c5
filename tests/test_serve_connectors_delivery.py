"""`gapnlp connectors test`: a signed delivery to the running service, and what a person is told of it."""

import shutil
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from helpdesk_world import DESKS, ENVIRON, FreshdeskDesk, ZendeskDesk, new_classifier, write_config
from service_world import settings_for, wait_until
from typer.testing import CliRunner

from gapnlp.errors import ConfigError
from serve.app import create_app
from serve.cli.connectors import app
from serve.connectors.delivery import read_answer
from serve.connectors.errors import HelpdeskError
from serve.store import Store

TEXT = "so slow and against the rules"
TAGS = {"gap_policy", "gap_delivery"}


@pytest.fixture(autouse=True)
def environ(monkeypatch):
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


@contextmanager
def served(tmp_path, desk=None, **settings):
    """Run the service for a stand-in on a real port; yield its URL."""
    if desk:
        settings["connectors"] = shutil.copy(write_config(tmp_path, desk), tmp_path / "served.toml")
    service = create_app(settings_for(tmp_path, **settings), classifier=new_classifier())
    with at_http(uvicorn.Config(service, log_config=None)) as url:
        yield url


@contextmanager
def at_http(config):
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def run(tmp_path, name, *arguments):
    """Run the command and return what it says."""
    file = tmp_path / "connectors.toml"
    done = CliRunner().invoke(app, ["test", name, "--file", str(file), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def refusal(tmp_path, name, *arguments, error=HelpdeskError):
    with pytest.raises(error) as caught:
        run(tmp_path, name, *arguments)
    assert not any(secret in str(caught.value) for secret in ENVIRON.values())
    return str(caught.value)


def deliveries(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'service.db'}")
    with store.read() as conn:
        counts = store.deliveries.counts(conn)
    store.close()
    return sum(counts.values())


@pytest.mark.parametrize("kind", DESKS)
def test_a_test_is_accepted_and_touches_nothing_unless_it_names_a_ticket(tmp_path, kind):
    ticket, name = "SUP-1" if kind == "jira" else "1", "other" if kind == "standard" else kind
    with DESKS[kind]() as desk:
        desk.open(ticket, TEXT)
        with served(tmp_path, desk) as url:
            said = run(tmp_path, name, "--url", url)
            assert said.startswith(f"Accepted: the service knows {name}")
            assert "nothing was done" in said
            time.sleep(0.1)
            assert deliveries(tmp_path) == 0
            assert desk.calls == []
            assert f"ticket {ticket} is in its queue" in run(tmp_path, name, "--url", url, "--ticket", ticket)
            wait_until(lambda: desk.tags(ticket) == TAGS)


def test_a_test_goes_to_the_port_of_the_settings(tmp_path, monkeypatch):
    with ZendeskDesk() as desk, served(tmp_path, desk) as url:
        monkeypatch.setenv("GAPNLP_PORT", url.rpartition(":")[2])
        assert "Accepted" in run(tmp_path, "zendesk")
        monkeypatch.setenv("GAPNLP_PORT", "0")
        assert "--url" in refusal(tmp_path, "zendesk", error=ConfigError)


@pytest.mark.parametrize("desk_of", [ZendeskDesk, FreshdeskDesk])
def test_another_secret_is_told(tmp_path, monkeypatch, desk_of):
    with desk_of() as desk, served(tmp_path, desk) as url:
        monkeypatch.setenv("DESK_SECRET", "another-secret")
        said = refusal(tmp_path, desk.kind, "--url", url)
        assert "refused because of the signature" in said
        assert "webhook_secret_env" in said
        assert "another-secret" not in said


def test_a_service_without_this_helpdesk_is_told(tmp_path):
    with ZendeskDesk() as desk:
        with served(tmp_path, desk) as url:
            write_config(tmp_path, desk, name="zendesk-b")
            assert "no helpdesk 'zendesk-b'" in refusal(tmp_path, "zendesk-b", "--url", url)
        with served(tmp_path) as url:
            assert "GAPNLP_CONNECTORS" in refusal(tmp_path, "zendesk-b", "--url", url)


def test_nobody_and_somebody_else_are_told(tmp_path):
    async def other(scope, receive, send):
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b'{"detail": "log in"}'})

    with ZendeskDesk() as desk:
        write_config(tmp_path, desk)
        with socket.create_server(("127.0.0.1", 0)) as free:
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        said = refusal(tmp_path, "zendesk", "--url", url)
        assert "nobody listens at 127.0.0.1:" in said
        assert "gapnlp serve" in said
        with at_http(uvicorn.Config(other, log_config=None, lifespan="off")) as url:
            assert "something answered 401 that is not the service" in refusal(tmp_path, "zendesk", "--url", url)


@pytest.mark.parametrize("url", ["http://10.0.0.1", "https://desk.example?token=s3cr3t", "https://a:s3cr3t@b.example"])
def test_an_address_that_cannot_be_used_is_refused_and_not_repeated(tmp_path, url):
    with ZendeskDesk() as desk:
        write_config(tmp_path, desk)
        said = refusal(tmp_path, "zendesk", "--url", url, error=ConfigError)
    assert "--url: expected" in said
    assert "s3cr3t" not in said


def test_a_ticket_that_cannot_be_one_is_refused_before_anything_is_sent(tmp_path):
    with ZendeskDesk() as desk:
        write_config(tmp_path, desk)
        assert "--ticket 1/2: expected" in refusal(tmp_path, "zendesk", "--ticket", "1/2", error=ConfigError)


@pytest.mark.parametrize(
    ("left_out", "needs_ticket"),
    [
        (["event", "events"], False),  # who wrote it still tells
        (["author", "customers"], False),
        (["event", "events", "author", "customers"], True),
    ],
)
def test_a_mapping_that_takes_everything_needs_a_ticket(tmp_path, left_out, needs_ticket):
    with DESKS["standard"]() as desk:
        desk.open("1", TEXT)
        path = write_config(tmp_path, desk)
        head, webhook, rest = path.read_text(encoding="utf-8").partition("[other.webhook]")
        where, read, rest = rest.partition("[other.read]")
        lines = [line for line in where.splitlines() if line.partition(" ")[0] not in left_out]
        text = "\n".join([head, webhook, *lines, read, rest])
        path.write_text(text, encoding="utf-8")
        (tmp_path / "served.toml").write_text(text, encoding="utf-8")
        with served(tmp_path, connectors=tmp_path / "served.toml") as url:
            if needs_ticket:
                assert "--ticket" in refusal(tmp_path, "other", "--url", url, error=ConfigError)
            else:
                assert "nothing was done" in run(tmp_path, "other", "--url", url)
            assert "in its queue" in run(tmp_path, "other", "--url", url, "--ticket", "1")
            wait_until(lambda: desk.tags("1") == TAGS)


def test_any_other_answer_is_told_with_its_reason():
    document = {"type": "urn:gapnlp:problem:unavailable", "title": "It cannot now", "detail": "the store is full"}
    with pytest.raises(HelpdeskError, match=r"answered 503 \(It cannot now: the store is full\)"):
        read_answer(503, document, name="zendesk", ticket=None)
    assert "its own settings" in read_answer(202, {"status": "ignored"}, name="zendesk", ticket="1")
