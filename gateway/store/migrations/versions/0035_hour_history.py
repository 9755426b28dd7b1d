"""Sums of past hours, so that Today knows the usual level."""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    op.create_table(
        "hour_history",
        sa.Column("begin", sa.Double, nullable=False),
        sa.Column("sums", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("begin"),
    )
