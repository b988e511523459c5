"""Bring a database to the tables of this version, with the migrations that the package carries."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from gapnlp import __version__
from serve.store.errors import StoreVersionError

VERSION_TABLE = "gapnlp_store_version"
"""Not Alembic's usual name: in a shared database that one may belong to another program."""

_LOCK = 0x6761706E  # any number that other programs are unlikely to lock


_one_at_a_time = threading.Lock()  # Alembic keeps what it works on in its modules


def migrate(begin: Callable[[], AbstractContextManager[Connection]]) -> None:
    """Apply the migrations that are missing, in one transaction: all of them or none.

    Processes that start together wait for each other: in SQLite the transaction holds the writer's lock. Threads wait
    before they connect: SQLite's patience with a new file is short.

    Args:
        begin: Opens a transaction.

    Raises:
        StoreVersionError: The database is of a newer version.
    """
    with _one_at_a_time, begin() as conn:
        _migrate(conn)


def _migrate(conn: Connection) -> None:
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    config = make_config(conn)
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    found = MigrationContext.configure(conn, opts={"version_table": VERSION_TABLE}).get_current_heads()
    if unknown := set(found) - known:
        raise StoreVersionError(
            f"the store is of version {', '.join(sorted(unknown))}, which gapnlp {__version__} does not know: a newer "
            "gapnlp has written it; upgrade gapnlp, or name another database in GAPNLP_DATABASE_URL"
        )
    if set(found) != set(script.get_heads()):
        command.upgrade(config, "head")


def make_config(conn: Connection) -> Config:
    """Return what Alembic needs to know: where the migrations are, and the connection to run them on."""
    config = Config()
    # A percent sign would be read as the start of a reference.
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    return config
