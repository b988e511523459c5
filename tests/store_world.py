"""Stores to test with: an SQLite file, and a real PostgreSQL that starts with the first test that asks for it.

A test module imports the fixtures `store`, `store_url` and `postgres_url` by the names of their functions:

    from store_world import fixture_postgres_url, fixture_store, fixture_store_url  # noqa: F401
"""

import atexit
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text

from serve.store import Store, StoredPrediction

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GIVEN_URL = "GAPNLP_TEST_POSTGRES_URL"
BACKENDS = ("sqlite", "postgresql")


class NoPostgresError(Exception):
    """There is no PostgreSQL to test with; the message says why."""


def postgres_binaries():
    """Return the folder with initdb and pg_ctl: the newest one installed, or that of the PATH."""
    installed = Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")
    newest = sorted(installed, key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0)
    on_path = shutil.which("pg_ctl")
    candidates = [path.parent for path in reversed(newest)] + ([Path(on_path).parent] if on_path else [])
    for folder in candidates:
        if (folder / "initdb").exists():
            return folder
    raise NoPostgresError(f"no PostgreSQL: install it (initdb, pg_ctl), or name a server in {GIVEN_URL}")


class Cluster:
    """A temporary PostgreSQL that listens on a Unix socket alone."""

    def __init__(self):
        binaries = postgres_binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="gapnlp-pg-"))
        self._pg_ctl = str(binaries / "pg_ctl")
        # The server refuses to run as root.
        self._as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        if self._as_user:
            try:
                account = pwd.getpwnam("postgres")
            except KeyError:
                raise NoPostgresError("PostgreSQL does not run as root, and there is no user postgres") from None
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        try:
            self._run(
                str(binaries / "initdb"), "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"
            )
            self.start()
        except subprocess.CalledProcessError as exc:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise NoPostgresError(f"PostgreSQL does not start: {exc.stdout}{exc.stderr}") from None

    @property
    def data(self):
        return str(self.folder / "data")

    @property
    def url(self):
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self):
        # Tests end processes of ours, not the machine: the server need not wait for the disk.
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=50"
        self._run(
            self._pg_ctl, "-D", self.data, "-w", "-t", "60", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self):
        self._run(self._pg_ctl, "-D", self.data, "-w", "-m", "immediate", "stop")

    def remove(self):
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *command):
        # Output to a file: the server keeps what it inherits, and a pipe would never end.
        with tempfile.TemporaryFile("w+") as told:
            done = subprocess.run(
                command, stdout=told, stderr=told, stdin=subprocess.DEVNULL, cwd="/", check=False, **self._as_user
            )
            told.seek(0)
            if done.returncode:
                raise subprocess.CalledProcessError(done.returncode, command, told.read(), "")


@cache
def _start_cluster():
    """Start the one cluster of the test session; it ends with the process."""
    try:
        cluster = Cluster()
    except NoPostgresError as exc:
        return str(exc)
    atexit.register(cluster.remove)
    return cluster


def postgres_server():
    """Return the URL of a server, or end the test: skipped on a machine without one, failed in CI."""
    if given := os.environ.get(GIVEN_URL):
        return given
    cluster = _start_cluster()
    if isinstance(cluster, Cluster):
        return cluster.url
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"CI must test PostgreSQL: {cluster}")
    return pytest.skip(cluster)


def execute_on(url, statement):
    """Run one statement outside the store, as another program would."""
    with psycopg.connect(url, autocommit=True) as conn:
        return conn.execute(statement)


@pytest.fixture(name="postgres_url")
def fixture_postgres_url():
    """Return the URL of an empty schema of its own on a real server."""
    server = postgres_server()
    schema = f"test_{secrets.token_hex(8)}"
    execute_on(server, f"CREATE SCHEMA {schema}")
    own = conninfo_to_dict(server).get("options", "")
    joined = "&" if "?" in server else "?"
    yield f"{server}{joined}options={own.replace(' ', '%20')}-csearch_path%3D{schema}"
    execute_on(server, f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(name="store_url", params=BACKENDS)
def fixture_store_url(request, tmp_path):
    """Return the URL of a store that does not exist yet, once per database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture(name="store")
def fixture_store(store_url):
    """Open an empty store, once per database."""
    opened = Store.open(store_url)
    yield opened
    opened.close()


def ping(store):
    """Ask the database for an answer."""
    with store.read() as conn:
        conn.execute(text("SELECT 1"))


def prediction(id_="p1", **changes):
    """Return a prediction to store."""
    values = {
        "id": id_,
        "created_at": NOW,
        "text_hash": "5f2c",
        "text": None,
        "source": "api",
        "labels": ("delivery", "communication"),
        "proba": (0.01, 0.02, 0.9, 0.7, 0.04),
        "evidence": (("delivery", 4, 17),),
        "review": False,
        "truncated": True,
        "model": "tiny@1.0",
        "fingerprint": "abc",
    }
    return StoredPrediction(**values | changes)
