"""Opening a store: addresses, migrations, versions, and what an error may tell."""

import re
import sqlite3
import traceback
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import psycopg
import pytest
import store_world
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from store_world import NOW, fixture_postgres_url, fixture_store, fixture_store_url, ping, prediction  # noqa: F401

from serve.store import Store, StoreError, StoreVersionError, migrate
from serve.store.errors import StoreReadOnlyError, StoreUnreachableError
from serve.store.migrate import VERSION_TABLE, make_config
from serve.store.tables import metadata

PASSWORD = "s3cr@t:pa/ss?w%rd"


def test_the_migrated_tables_are_those_of_the_code(store):
    with store.begin() as conn:
        options = {"compare_type": True, "compare_server_default": True, "version_table": VERSION_TABLE}
        differences = compare_metadata(MigrationContext.configure(conn, opts=options), metadata)
        names = set(conn.dialect.get_table_names(conn))
    assert differences == []
    assert names == {*metadata.tables, VERSION_TABLE}


def test_a_table_that_differed_would_be_found(store):
    with store.begin() as conn:
        conn.execute(text("ALTER TABLE predictions ADD COLUMN stray INTEGER"))
        context = MigrationContext.configure(conn, opts={"version_table": VERSION_TABLE})
        assert [change[0] for change in compare_metadata(context, metadata)] == ["remove_column"]


def test_a_store_that_is_there_keeps_its_rows(store, store_url):
    with store.begin() as conn:
        store.predictions.add(conn, [prediction()])
        row, token = store.keys.create(conn, "ops", scopes=["admin"], now=NOW)
    store.close()
    for _ in range(2):
        again = Store.open(store_url)
        with again.read() as conn:
            assert again.predictions.get(conn, ["p1"]) == [prediction()]
            assert again.keys.find(conn, token) == row
        again.close()


NEXT_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.add_column("predictions", sa.Column("language", sa.Text))
    {then}
"""


def open_with_next_migration(store_url, monkeypatch, tmp_path, *, then="pass"):
    """Open the store as the version after this one would."""
    (tmp_path / "next.py").write_text(NEXT_MIGRATION.format(then=then), encoding="utf-8")
    made = make_config

    def with_next(conn):
        config = made(conn)
        versions = f"{ScriptDirectory.from_config(config).dir}/versions"
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", f"{versions}\n{tmp_path}")
        return config

    monkeypatch.setattr(migrate, "make_config", with_next)
    try:
        return Store.open(store_url)
    finally:
        monkeypatch.undo()


def test_the_next_version_migrates_and_keeps_the_rows_and_this_one_then_refuses(
    store, store_url, monkeypatch, tmp_path
):
    with store.begin() as conn:
        store.predictions.add(conn, [prediction()])
    store.close()
    newer = open_with_next_migration(store_url, monkeypatch, tmp_path)
    with newer.read() as conn:
        assert conn.execute(text("SELECT id, language FROM predictions")).all() == [("p1", None)]
    newer.close()
    with pytest.raises(StoreVersionError, match=r"of version 0002, which gapnlp .* does not know.*upgrade gapnlp"):
        Store.open(store_url)


def test_a_migration_that_fails_leaves_the_store_as_it_was(store, store_url, monkeypatch, tmp_path):
    with store.begin() as conn:
        store.predictions.add(conn, [prediction()])
    store.close()
    with pytest.raises(StoreError):
        open_with_next_migration(store_url, monkeypatch, tmp_path, then='op.execute("SELECT * FROM nowhere")')
    again = Store.open(store_url)
    with again.begin() as conn:
        assert again.predictions.get(conn, ["p1"]) == [prediction()]
        assert compare_metadata(MigrationContext.configure(conn, opts={"version_table": VERSION_TABLE}), metadata) == []
    again.close()


def test_stores_are_made_at_the_same_time_without_harm(tmp_path):
    names = [f"s{n}.db" for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda name: Store.open(f"sqlite:///{tmp_path / name}"), names))
    for store in stores:
        with store.begin() as conn:
            store.predictions.add(conn, [prediction()])
        store.close()


def test_processes_wait_for_the_one_that_migrates(postgres_url):
    with psycopg.connect(postgres_url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [migrate._LOCK])
        opening = pool.submit(Store.open, postgres_url)
        with pytest.raises(TimeoutError):
            opening.result(timeout=0.7)
        other.rollback()
        opening.result(timeout=10).close()


def test_the_version_of_another_program_in_the_same_database_is_left_alone(store_url):
    first = Store.open(store_url)
    with first.begin() as conn:
        conn.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        conn.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
    first.close()
    again = Store.open(store_url)
    with again.read() as conn:
        assert conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "theirs"
    again.close()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_name_of_postgresql_means_the_same_driver(postgres_url, scheme):
    store = Store.open(postgres_url.replace("postgresql", scheme, 1))
    assert (store._engine.dialect.name, store._engine.dialect.driver) == ("postgresql", "psycopg")
    ping(store)
    store.close()


@pytest.mark.parametrize(
    "scheme", ["mysql", "mysql+pymysql", "mariadb", "oracle", "postgresql+psycopg2", "mongodb", "http"]
)
def test_other_databases_are_refused_in_a_sentence(scheme):
    with pytest.raises(StoreError, match=rf"got a URL of {re.escape(scheme)}, .*expected sqlite:///FILE or postgresql"):
        Store.open(f"{scheme}://user:{quote(PASSWORD, safe='')}@localhost/db")


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"]
)
def test_a_store_in_memory_is_refused(url):
    with pytest.raises(StoreError, match="outlive the process"):
        Store.open(url)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match="the folder 'missing'"):
        Store.open(f"sqlite:///{tmp_path / 'missing' / 's.db'}")


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but long enough to have a header " * 40, encoding="utf-8")
    before = file.read_bytes()
    with pytest.raises(StoreError, match="no SQLite database"):
        Store.open(f"sqlite:///{file}")
    assert file.read_bytes() == before
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(f"sqlite:///{tmp_path}")


def test_a_damaged_database_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 's.db'}"
    Store.open(url).close()
    (tmp_path / "s.db").write_bytes((tmp_path / "s.db").read_bytes()[:5000])
    with pytest.raises(StoreError, match="damaged"):
        Store.open(url)


def test_a_store_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 's.db'}"
    with sqlite3.connect(tmp_path / "s.db") as empty:
        empty.execute("PRAGMA user_version = 1")
    empty.close()
    from serve.store import engine

    monkeypatch.setattr(engine, "_PRAGMAS", (*engine._PRAGMAS, "PRAGMA query_only = ON"))
    with pytest.raises(StoreReadOnlyError, match="may not be written"):
        Store.open(url)


ENCODED = quote(PASSWORD, safe="")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ada:{ENCODED}@127.0.0.1:1/db",
        f"postgresql://ada@127.0.0.1:1/db?password={ENCODED}",
        "postgresql://ada:s3cr@t-pass@127.0.0.1:1/db",
        "postgresql://ada:s3cr/t@127.0.0.1:1/db",
        "postgresql://ada:s3cr:pass@127.0.0.1:pass/db",
        "postgresql://ada:s3cr@127.0.0.1:1/db?no_such_option=pass",
        "postgresql:/ada:s3cr@127.0.0.1/db",
        "ada:s3cr@127.0.0.1",
        "mysql://ada:s3cr@127.0.0.1/db",
        "postgresql://ada:s3cr@[::1/db",
        "sqlite:///missing-folder/s3cr.db",
        "",
    ],
)
def test_no_error_tells_a_password(url):
    with pytest.raises(StoreError) as caught:
        Store.open(url)
    told = "".join(traceback.format_exception(caught.value))
    for part in (PASSWORD, ENCODED, "s3cr", "t-pass", ":pass"):
        assert part not in str(caught.value), part
        # The source lines of this test stand in the traceback, but none of them holds the URL.
        assert part not in told, part


def test_an_unencoded_sign_in_a_password_is_explained():
    with pytest.raises(StoreError, match="'@' in the password as %40"):
        Store.open("postgresql://ada:s3cr@t-pass@127.0.0.1:1/db")


def test_a_server_that_is_not_there_is_said_to_be_unreachable():
    with pytest.raises(StoreUnreachableError, match="cannot be reached"):
        Store.open("postgresql://ada:x@127.0.0.1:1/db")


def test_a_user_that_is_not_there_is_said_to_be_refused(postgres_url):
    with pytest.raises(StoreUnreachableError):
        Store.open(re.sub("//[^@]*@", "//nobody-here:s3cr@", postgres_url))


def test_without_postgresql_tests_skip_but_fail_in_ci(monkeypatch):
    monkeypatch.delenv(store_world.GIVEN_URL, raising=False)
    monkeypatch.setattr(store_world, "_start_cluster", lambda: "no PostgreSQL: install it")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install it"):
        store_world.postgres_server()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI must test PostgreSQL: no PostgreSQL: install it"):
        store_world.postgres_server()


def test_a_server_that_is_named_is_used(monkeypatch):
    monkeypatch.setenv(store_world.GIVEN_URL, "postgresql://there/db")
    assert store_world.postgres_server() == "postgresql://there/db"
