"""Run by alembic: applies the revisions on the connection that `opening.upgrade` passes, all or nothing."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
