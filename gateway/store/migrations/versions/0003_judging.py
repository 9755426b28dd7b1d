"""Judging: people's labels, and what judges spent."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "labels",
        sa.Column("label_id", sa.Text, primary_key=True),
        sa.Column("scorer", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Text, nullable=False),
        sa.Column("labeller", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("label", sa.Text),
        sa.Column("comment", sa.Text),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("config_hash", sa.Text, nullable=False),
        sa.Column("pool", sa.Text, nullable=False),
        sa.Column("favour", sa.Double, nullable=False),
        sa.Column("threshold", sa.Double),
        sa.Column("share", sa.Double),
        sa.Column("horizon", sa.Double, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("labels_subject", "labels", ["scorer", "subject_id"])
    op.create_table(
        "score_costs",
        sa.Column("scorer", sa.Text, primary_key=True),
        sa.Column("usd", sa.Double, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
    )
    op.add_column("scores", sa.Column("distribution", sa.Text))
