"""Decisions of guards: with the exchange, and one row each."""

import sqlalchemy as sa
from alembic import op

revision = "0048"
down_revision = "0047"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("guards", sa.Text))
    op.create_table(
        "guard_decisions",
        sa.Column("exchange_id", sa.Text, nullable=False),
        sa.Column("guard", sa.Text, nullable=False),
        sa.Column("on_side", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("acted", sa.Boolean, nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("failure", sa.Text),
        sa.Column("found", sa.Text, nullable=False),
        sa.Column("matches", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("config_hash", sa.Text, nullable=False),
        sa.Column("pi", sa.Double, nullable=False),
        sa.Column("stratum", sa.Text, nullable=False),
        sa.Column("received", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("exchange_id", "guard", "on_side"),
    )
    op.create_index("guard_decisions_newest", "guard_decisions", ["guard", "received"])
