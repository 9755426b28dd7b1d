"""Keeping: feedback that meets its exchange, by either id."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("feedback", sa.Column("data_type", sa.Text, nullable=False, server_default="numeric"))
    op.add_column("feedback", sa.Column("resolved", sa.Text))
    where = sa.text("resolved IS NULL")
    op.create_index("feedback_unmet", "feedback", ["at"], sqlite_where=where, postgresql_where=where)
    op.create_index("feedback_resolved", "feedback", ["resolved"])
    where = sa.text("upstream_id IS NOT NULL")
    op.create_index("exchanges_upstream_id", "exchanges", ["upstream_id"], sqlite_where=where, postgresql_where=where)
