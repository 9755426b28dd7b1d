"""The order in which messages for people are sent, whatever the order in which they were made."""

import sqlalchemy as sa
from alembic import op

revision = "0056"
down_revision = "0055"


def upgrade() -> None:
    op.add_column("webhook_deliveries", sa.Column("priority", sa.Integer, nullable=False, server_default="1"))
