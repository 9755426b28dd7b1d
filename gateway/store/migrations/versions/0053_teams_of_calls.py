"""The team of a call's caller, and the team or organization to which a session's rights are limited."""

import sqlalchemy as sa
from alembic import op

revision = "0053"
down_revision = "0052"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("team", sa.Text))
    has_team = sa.text("team IS NOT NULL")
    op.create_index(
        "exchanges_team", "exchanges", ["team", "received", "id"], sqlite_where=has_team, postgresql_where=has_team
    )
    for name in ("team", "organization"):
        op.add_column("console_sessions", sa.Column(name, sa.Text))
