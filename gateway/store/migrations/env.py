"""Run by Alembic: applies the numbered migrations on the connection that engine.migrate hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
