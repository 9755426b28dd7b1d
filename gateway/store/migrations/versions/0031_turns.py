"""The turns of conversations of the last day, for implicit feedback."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    op.create_table(
        "turns",
        sa.Column("exchange_id", sa.Text, primary_key=True),
        sa.Column("received", sa.Double, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("scope", sa.Text),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("reply_to", sa.Text),
        sa.Column("signs", sa.Text, nullable=False),
        sa.Column("parent", sa.Text),
    )
    for column in ("received", "answer", "reply_to", "parent"):
        op.create_index(f"turns_{column}", "turns", [column])
