"""The webhooks that are to be sent, have been, or were given up."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("event", sa.Text, primary_key=True),
        sa.Column("webhook", sa.Text, primary_key=True),
        sa.Column("experiment", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("ended", sa.Double),
        sa.Column("error", sa.Text),
    )
    op.create_index("webhook_deliveries_due", "webhook_deliveries", ["state", "due"])
