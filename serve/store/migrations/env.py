"""What Alembic runs to apply migrations: on the connection it is given, in the transaction that is open."""

from alembic import context

from serve.store.migrate import VERSION_TABLE
from serve.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
