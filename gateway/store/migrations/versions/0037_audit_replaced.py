"""Rows of the audits that cannot be replaced or truncated either.

`INSERT OR REPLACE` of SQLite deletes the row in its way without firing a trigger, and TRUNCATE of PostgreSQL fires no
trigger of rows. A replayed event of a ramp is stored once: one with an id that is there is ignored and changes nothing.
"""

from alembic import op

revision = "0037"
down_revision = "0036"

_BY_ID = {"audit": "RAISE(ABORT, 'audit is append-only')", "ramp_events": "RAISE(IGNORE)"}


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table, refused in _BY_ID.items():
            there = f"SELECT 1 FROM {table} WHERE"  # noqa: S608 - of our own
            # The row id is -1 where a statement gives none; no row has one below 1 unless somebody gave it.
            op.execute(
                f"CREATE TRIGGER {table}_no_replace_row BEFORE INSERT ON {table} "
                f"WHEN NEW.rowid > 0 AND EXISTS ({there} rowid = NEW.rowid) "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
            op.execute(
                f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
                f"WHEN EXISTS ({there} id = NEW.id) BEGIN SELECT {refused}; END"
            )
        return
    for table, function in (("audit", "audit_is_append_only"), ("ramp_events", "ramp_events_are_append_only")):
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )
