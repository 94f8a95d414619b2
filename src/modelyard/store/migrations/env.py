"""Alembic's entry: online migrations on the URL that `store.schema` hands over."""

from alembic import context

from modelyard.store.engine import make_engines
from modelyard.store.tables import metadata

writes, reads = make_engines(context.config.attributes["url"])
with writes.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
writes.dispose()
reads.dispose()
