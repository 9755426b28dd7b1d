"""Rounds of probes, so that a model is compared with its own past."""

import sqlalchemy as sa
from alembic import op

revision = "0062"
down_revision = "0061"


def upgrade() -> None:
    op.create_table(
        "probe_rounds",
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("asked", sa.Double, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("usd", sa.Double, nullable=False),
        sa.Column("round", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("target", "asked"),
    )
