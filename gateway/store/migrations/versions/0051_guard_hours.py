"""Adds guards' decisions by the hour, and an index of the decisions that pages list."""

import sqlalchemy as sa
from alembic import op

revision = "0051"
down_revision = "0050"


def upgrade() -> None:
    op.create_table(
        "guard_hours",
        sa.Column("guard", sa.Text, nullable=False),
        sa.Column("begin", sa.Double, nullable=False),
        sa.Column("read_at", sa.Double, nullable=False),
        sa.Column("sums", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("guard", "begin"),
    )
    marked = sa.text("result <> 'pass'")
    op.create_index(
        "guard_decisions_marked",
        "guard_decisions",
        ["guard", "received"],
        sqlite_where=marked,
        postgresql_where=marked,
    )
