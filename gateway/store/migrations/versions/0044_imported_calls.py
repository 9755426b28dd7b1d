"""Imported calls, whose probability of having been recorded may be unknown: `pi` may be NULL.

SQLite has no statement for that, and a copy of the tables takes minutes and twice their space. The constraint is taken
out of the stored definition: it does not describe the data on the disk. Source: sqlite.org, "ALTER TABLE", section 7,
the procedure for changes that do not affect on-disk content.
"""

from alembic import op

revision = "0044"
down_revision = "0043"

_TABLES = ("exchanges", "scores")


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        for table in _TABLES:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN pi DROP NOT NULL")
        return
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    for table in _TABLES:
        changed = connection.exec_driver_sql(
            "UPDATE sqlite_schema SET sql = replace(sql, 'pi DOUBLE NOT NULL', 'pi DOUBLE') "
            "WHERE type = 'table' AND name = ? AND sql LIKE '%pi DOUBLE NOT NULL%'",
            (table,),
        )
        if changed.rowcount != 1:
            raise RuntimeError(f"the table {table} is not as version {down_revision} made it: it has no column pi")
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")
