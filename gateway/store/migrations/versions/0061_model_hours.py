"""Which model and which server answered in each hour, so that a new one is noticed."""

import sqlalchemy as sa
from alembic import op

revision = "0061"
down_revision = "0060"


def upgrade() -> None:
    op.create_table(
        "model_hours",
        sa.Column("hour", sa.BigInteger, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("hour"),
    )
