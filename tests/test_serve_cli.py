import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from gapnlp.cli.main import _new_app
from gapnlp.errors import ConfigError
from gapnlp.text import hash_text
from serve.cli.keys import app as keys
from serve.cli.keys import create
from serve.cli.serve import serve
from serve.cli.settings import HIDDEN, settings, shown
from serve.cli.store import app as store
from serve.settings import Settings
from serve.store import Feedback, Origin, Store, StoredPrediction

NOW = datetime.now(UTC)
HEAVY = {
    "fastapi",
    "starlette",
    "sqlalchemy",
    "alembic",
    "pydantic",
    "structlog",
    "uvicorn",
    "numpy",
    "prometheus_client",
}

APP = _new_app()
APP.callback()(lambda: None)
APP.command()(serve)
APP.command()(settings)
APP.add_typer(keys, name="keys")
APP.add_typer(store, name="store")


@pytest.fixture(autouse=True)
def url(monkeypatch, tmp_path):
    """Set nothing but a store of this test; return its URL."""
    for name in list(os.environ):
        if name.startswith("GAPNLP_"):
            monkeypatch.delenv(name)
    url = f"sqlite:///{tmp_path / 'store.db'}"
    monkeypatch.setenv("GAPNLP_DATABASE_URL", url)
    monkeypatch.setenv("COLUMNS", "200")
    return url


@pytest.fixture
def opened(url):
    """The store that the commands use."""
    found = Store.open(url)
    yield found
    found.close()


def run(*args, status=0):
    """Run a command as `gapnlp` does; return what it prints on stdout and stderr."""
    done = CliRunner().invoke(APP, list(args))
    assert done.exit_code == status, done.output
    return done.stdout, done.stderr


def found(opened, token):
    with opened.read() as conn:
        return opened.keys.find(conn, token)


# gapnlp keys


def test_a_key_that_is_made_is_printed_alone_and_opens_what_it_says(opened):
    out, err = run("keys", "create", "helpdesk", "--scope", "metrics", "--scope", "classify")
    key = found(opened, out.strip())
    assert (key.name, key.scopes) == ("helpdesk", ("classify", "metrics"))
    assert f"gapnlp keys revoke {key.id}" in err


def test_a_key_allows_all_but_metrics_unless_told(opened):
    out, _ = run("keys", "create", "helpdesk", "--json")
    made = json.loads(out)
    assert made["scopes"] == ["classify", "prevalence", "feedback"]
    assert found(opened, made["key"]).id == made["id"]


def test_an_unknown_scope_makes_no_key(opened):
    _, err = run("keys", "create", "helpdesk", "--scope", "admin", status=2)
    assert "--scope admin: expected one of classify, prevalence, feedback, metrics" in err
    with opened.read() as conn:
        assert opened.keys.list(conn) == ()


def test_the_list_shows_keys_and_no_secret(opened):
    one, _ = run("keys", "create", "helpdesk")
    other, _ = run("keys", "create", "old one", "--scope", "classify")
    run("keys", "revoke", found(opened, other.strip()).id)
    out, _ = run("keys", "list")
    assert re.search(r"helpdesk\s+classify, prevalence, feedback\s.*in force", out)
    assert re.search(rf"old one\s+classify\s.*revoked {NOW:%Y}", out)
    listed = json.loads(run("keys", "list", "--json")[0])
    assert [key["name"] for key in listed] == ["helpdesk", "old one"]
    assert [key["revoked_at"] is None for key in listed] == [True, False]
    for token in (one, other):
        assert token.strip().rpartition("_")[2] not in out + json.dumps(listed)


def test_without_keys_the_list_says_how_to_make_one():
    out, err = run("keys", "list")
    assert out == ""
    assert "gapnlp keys create" in err


def test_a_revoked_key_opens_nothing(opened):
    token = run("keys", "create", "helpdesk")[0].strip()
    id_ = found(opened, token).id
    assert f"The key of helpdesk ({id_}) is revoked." in run("keys", "revoke", id_)[1]
    assert found(opened, token) is None
    again = run("keys", "revoke", id_)[1]
    assert re.search(rf"The key of helpdesk \({id_}\) was revoked already, on {NOW:%Y-%m-%d} at \d\d:\d\d UTC", again)
    assert "is revoked" not in again
    assert "no API key has this id" in run("keys", "revoke", "nobody", status=2)[1]


# gapnlp settings


def test_settings_tell_their_values_and_where_they_come_from(monkeypatch):
    monkeypatch.setenv("GAPNLP_PORT", "9000")
    monkeypatch.setenv("gapnlp_store_text", "1")
    told = {setting["variable"]: setting for setting in json.loads(run("settings", "--json")[0])}
    assert list(told) == [f"GAPNLP_{name.upper()}" for name in Settings.model_fields]
    assert (told["GAPNLP_PORT"]["value"], told["GAPNLP_PORT"]["source"]) == ("9000", "environment")
    assert (told["GAPNLP_STORE_TEXT"]["value"], told["GAPNLP_STORE_TEXT"]["source"]) == ("true", "environment")
    assert (told["GAPNLP_HOST"]["value"], told["GAPNLP_HOST"]["source"]) == ("127.0.0.1", "default")
    assert re.search(r"GAPNLP_PORT\s+9000\s+environment\s+Port to listen on", run("settings")[0])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://ada:s3cr3t@db.local:5432/gaps", "postgresql://ada:***@db.local:5432/gaps"),
        ("postgresql+psycopg://ada:s3cr3t@db.local/gaps", "postgresql://ada:***@db.local/gaps"),
        ("postgresql://db.local/gaps?user=ada&password=s3cr3t", f"postgresql://db.local/gaps?{HIDDEN}"),
        ("postgresql://ada:s3cr3t@2@db.local/gaps", HIDDEN),
        ("postgresql://ada:s3/cr3t@db.local/gaps", "postgresql://ada:***@db.local/gaps"),
        ("mysql://ada:s3cr3t@db.local/gaps", HIDDEN),
        ("s3cr3t", HIDDEN),
    ],
)
def test_the_password_of_the_store_is_never_shown(monkeypatch, url, expected):
    monkeypatch.setenv("GAPNLP_DATABASE_URL", url)
    told = {setting["variable"]: setting["value"] for setting in json.loads(run("settings", "--json")[0])}
    assert told["GAPNLP_DATABASE_URL"] == expected
    assert "s3" not in json.dumps(told) + "".join(run("settings"))


def test_any_other_secret_is_hidden_whole():
    assert shown("some_token", SecretStr("s3cr3t")) == HIDDEN


def test_a_variable_that_sets_nothing_is_named_with_what_it_may_mean(monkeypatch):
    monkeypatch.setenv("GAPNLP_PROT", "9000")
    assert "GAPNLP_PROT is set, but the service has no such setting; did you mean GAPNLP_PORT?" in run("settings")[1]


@pytest.mark.parametrize("command", [("settings",), ("keys", "list"), ("store", "migrate"), ("serve",)])
def test_every_command_tells_a_rate_that_cannot_be_read(monkeypatch, command):
    monkeypatch.setenv("GAPNLP_RATE_LIMIT", "10")
    _, err = run(*command, status=2)
    assert "GAPNLP_RATE_LIMIT: got '10', but expected a whole number" in err
    assert "Traceback" not in err


def test_a_value_that_cannot_be_used_is_told_by_its_variable(monkeypatch):
    monkeypatch.setenv("GAPNLP_PORT", "many")
    assert "GAPNLP_PORT" in run("settings", status=2)[1]


# gapnlp store


def add_prediction(opened, id_, *, days=0, text=None, kept=False):
    origin = Origin(
        id=id_,
        created_at=NOW - timedelta(days=days),
        text_hash=hash_text(text or id_),
        text=text if kept else None,
        source="api",
        fingerprint="tiny",
    )
    row = StoredPrediction(
        **{name: getattr(origin, name) for name in Origin.__slots__},
        labels=(),
        proba=(0.1,) * 5,
        evidence=(),
        review=False,
        truncated=False,
        model="tiny@1.0",
    )
    with opened.begin() as conn:
        opened.predictions.add(conn, [row])


def kept(opened, *ids):
    with opened.read() as conn:
        return [row.id for row in opened.predictions.get(conn, ids)]


def test_prune_deletes_what_is_older_than_the_settings_or_the_option_say(opened, monkeypatch):
    monkeypatch.setenv("GAPNLP_RETENTION_DAYS", "60")
    for days in (10, 50, 70):
        add_prediction(opened, f"day {days}", days=days)
    out, _ = run("store", "prune", "--json")
    assert json.loads(out)["predictions"] == 1
    assert sorted(kept(opened, "day 10", "day 50", "day 70")) == ["day 10", "day 50"]
    assert "older than 30 days: 1 predictions" in run("store", "prune", "--retention-days", "30")[1]
    assert kept(opened, "day 10", "day 50") == ["day 10"]


def test_feedback_comes_back_as_rows_to_train_on(opened, tmp_path):
    from training.corpus import read_examples
    from training.join import join_labels

    add_prediction(opened, "kept", text="They lost it.", kept=True)
    add_prediction(opened, "bare", text="A fee\nfor that?")
    add_prediction(opened, "none", text="Where is it?")
    with opened.begin() as conn:
        for id_, labels in (("kept", ("delivery",)), ("bare", ("policy",)), ("none", ())):
            given = Feedback(id=f"of {id_}", prediction_id=id_, created_at=NOW, labels=labels)
            opened.feedback.add(conn, given)
    out, err = run("store", "feedback")
    assert "3 rows; 2 without their texts" in err
    path, copy = tmp_path / "feedback.jsonl", tmp_path / "tickets.csv"
    path.write_text(out, encoding="utf-8")
    copy.write_text('text\n"A fee  for that?"\nWhere is it?\nThey lost it.\n', encoding="utf-8")
    joined = join_labels(path, [copy])
    assert {(row["text"], *row["labels"]) for row in joined.rows} == {
        ("They lost it.", "delivery"),
        ("A fee  for that?", "policy"),
        ("Where is it?",),
    }
    path.write_text("".join(line for line in out.splitlines(keepends=True) if "lost" in line), encoding="utf-8")
    assert [(e.text, e.labels) for e in read_examples([path])] == [("They lost it.", ("delivery",))]


def test_migrate_makes_the_tables(tmp_path):
    assert "has the tables of this version" in run("store", "migrate")[1]
    assert (tmp_path / "store.db").is_file()


def test_a_store_that_cannot_be_opened_is_told_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("GAPNLP_DATABASE_URL", f"sqlite:///{tmp_path / 'nowhere' / 'store.db'}")
    _, err = run("store", "migrate", status=2)
    assert "nowhere" in err
    assert "Traceback" not in err


# gapnlp serve


def test_options_go_before_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("GAPNLP_PORT", "9000")
    monkeypatch.setenv("GAPNLP_THREADS", "3")
    served = []
    monkeypatch.setattr("serve.server.run_server", served.append)
    run("serve", "--port", "0", "--model", str(tmp_path), "--engine", "onnx", "--host", "::1")
    (settings,) = served
    assert (settings.port, settings.threads, settings.engine) == (0, 3, "onnx")
    assert (settings.host, settings.model, settings.log_format) == ("::1", tmp_path, "json")


def test_a_person_at_a_terminal_reads_plain_lines_unless_told_otherwise(monkeypatch):
    served = []
    monkeypatch.setattr("serve.server.run_server", served.append)
    monkeypatch.setattr("serve.cli.serve.is_terminal", lambda: True)
    run("serve")
    monkeypatch.setenv("GAPNLP_LOG_FORMAT", "json")
    run("serve")
    assert [settings.log_format for settings in served] == ["console", "json"]


@pytest.mark.parametrize("module", ["access", "keys", "serve", "settings", "store"])
def test_the_commands_load_nothing_heavy_before_they_run(module):
    code = f"import sys, serve.cli.{module}; print({HEAVY!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("missing", "module", "call"),
    [
        ("pydantic_settings", "settings", "settings()"),
        ("sqlalchemy", "keys", "list_keys()"),
        ("uvicorn", "serve", "serve()"),
    ],
)
def test_without_the_extra_a_command_names_it(missing, module, call):
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from gapnlp.cli.console import presented_errors\n"
        f"from serve.cli import {module}\n"
        f"with presented_errors(): {module}.{call}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "pip install 'gapnlp[serve]'" in done.stderr


def test_a_key_needs_a_name():
    with pytest.raises(ConfigError, match="got an empty name for the key"):
        create(" ")
