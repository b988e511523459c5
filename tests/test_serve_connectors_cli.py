"""`gapnlp connectors`: what an operator types, and what is printed."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import typer
from helpdesk_world import ENVIRON, ZendeskDesk, new_classifier, write_config
from typer.testing import CliRunner

from gapnlp.classifier import GapClassifier
from gapnlp.cli.main import _move_example
from gapnlp.errors import ConfigError
from serve.cli.connectors import app, parse_since
from serve.connectors.errors import BusyError, DeniedError, UnknownTicketError
from serve.store import Delivery, Store

TEXT = "so slow and against the rules"


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Return a stand-in that the environment names, with one ticket."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GAPNLP_DATABASE_URL", f"sqlite:///{tmp_path / 'store.db'}")
    monkeypatch.setattr(GapClassifier, "load", lambda *args, **kwargs: new_classifier())
    with ZendeskDesk() as desk:
        desk.open(1, TEXT, tags=["vip", "gap_policy"])
        monkeypatch.setenv("GAPNLP_CONNECTORS", str(write_config(tmp_path, desk)))
        yield desk


def run(*arguments, expect=0):
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == expect, done.output
    return done


def test_list_shows_the_helpdesks_and_no_secret(desk):
    (row,) = json.loads(run("list", "--json").stdout)
    assert row["webhook_path"] == "/v1/webhooks/zendesk"
    assert row["tags"][-1] == "gap_review"
    shown = run("list").stdout
    assert "zendesk" in shown
    assert all(secret not in shown + json.dumps(row) for secret in ENVIRON.values())
    assert desk.calls == []


def test_list_says_what_is_missing(desk, monkeypatch):
    monkeypatch.delenv("DESK_TOKEN")
    with pytest.raises(ConfigError, match="DESK_TOKEN is not set"):
        run("list")
    monkeypatch.delenv("GAPNLP_CONNECTORS")
    with pytest.raises(ConfigError, match="GAPNLP_CONNECTORS"):
        run("list")


def test_check_shows_what_would_be_tagged_and_writes_nothing(desk, tmp_path):
    document = json.loads(run("check", "zendesk", "1", "--json").stdout)
    assert document["tags_present"] == ["gap_policy", "vip"]
    assert document["tags_wanted"] == ["gap_policy", "gap_delivery"]
    assert document["tags_added"] == ["gap_delivery"]
    (turn,) = document["turns"]
    assert (turn["text"], set(turn["labels"])) == (TEXT, {"policy", "delivery"})
    shown = run("check", "zendesk", "1").stdout
    assert "Would be added: gap_delivery" in shown
    assert all(call.method == "GET" for call in desk.calls)
    assert not (tmp_path / "store.db").exists()


def test_check_says_what_is_wrong(desk, monkeypatch):
    with pytest.raises(UnknownTicketError):
        run("check", "zendesk", "99")
    with pytest.raises(ConfigError, match="has: zendesk"):
        run("check", "freshdesk", "1")
    monkeypatch.setenv("DESK_TOKEN", "another")
    with pytest.raises(DeniedError, match="check the credentials"):
        run("check", "zendesk", "1")


def test_check_says_why_there_is_no_connection(desk, tmp_path, monkeypatch):
    monkeypatch.setenv("GAPNLP_CONNECTORS", str(write_config(tmp_path, desk, base_url="https://no-such.invalid")))
    with pytest.raises(BusyError, match=r"name of no-such\.invalid cannot be looked up: check") as caught:
        run("check", "zendesk", "1")
    assert all(secret not in str(caught.value) for secret in ENVIRON.values())


def test_list_says_what_to_do_about_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.toml: cannot be read .* name the TOML file .* with --file"):
        run("list", "--file", str(tmp_path / "no.toml"))


def note(folder, tags):
    store = Store.open(f"sqlite:///{folder / 'store.db'}")
    with store.begin() as conn:
        now = datetime.now(UTC)
        store.taggings.intend(conn, connector="zendesk", ticket="1", tags=tags, delivery_id="d", now=now)
    store.close()


def test_undo_takes_back_what_was_written_after_a_dry_run_that_does_not(desk, tmp_path):
    note(tmp_path, ["gap_policy"])
    done = run("undo", "zendesk", "--since", "1h", "--dry-run")
    assert "Tags would be removed: 1" in done.stderr
    assert desk.tags(1) == {"vip", "gap_policy"}
    (row,) = json.loads(run("undo", "zendesk", "--json").stdout)
    assert row["removed"] == ["gap_policy"]
    assert desk.tags(1) == {"vip"}
    assert "Tags removed: 0" in run("undo", "zendesk").stderr


def test_undo_exits_with_1_where_something_failed(desk, tmp_path):
    note(tmp_path, ["gap_policy"])
    desk.tickets["1"]["status"] = "closed"
    done = run("undo", "zendesk", expect=1)
    assert "1 could not be changed" in done.stderr


def test_retry_puts_back_what_was_given_up(desk, tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}")
    now = datetime.now(UTC)
    with store.begin() as conn:
        delivery = Delivery(id="a", connector="zendesk", delivery_id="b", ticket="1", payload=b"{}", received_at=now)
        store.deliveries.add(conn, delivery)
        store.deliveries.claim(conn, now=now, lease_seconds=9, limit=1)
        store.deliveries.give_up(conn, "a", error="x")
    assert "would be put back into the queue: 1" in run("retry", "zendesk", "--dry-run").stderr
    assert "put back into the queue: 1" in run("retry", "zendesk").stderr
    assert "put back into the queue: 0" in run("retry", "zendesk").stderr
    with store.read() as conn:
        assert store.deliveries.counts(conn)["waiting"] == 1
    store.close()


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("3 d", timedelta(days=3)),
        ("1w", timedelta(weeks=1)),
    ],
)
def test_since_takes_how_long_ago(text, ago):
    assert abs(datetime.now(UTC) - ago - parse_since(text)) < timedelta(seconds=5)


def test_since_takes_a_time():
    assert parse_since("2026-11-22T09:00:00+01:00") == datetime(2026, 11, 22, 8, tzinfo=UTC)
    assert parse_since("2026-11-22") == datetime(2026, 11, 22).astimezone(UTC)
    assert parse_since(None) is None


@pytest.mark.parametrize("text", ["", "yesterday", "2x", "-1h", "999999w", "2026-13-01"])
def test_since_refuses_anything_else(text):
    with pytest.raises(ConfigError, match="expected how long ago"):
        parse_since(text)


def test_every_command_ends_its_help_with_an_example():
    group = _move_example(typer.main.get_group(app))
    assert sorted(group.commands) == ["check", "list", "retry", "test", "undo"]
    for name, command in group.commands.items():
        assert re.search(rf"Example:\n +gapnlp connectors {name}\b", command.epilog), name
