"""The class of a key's calls: the order in which they are served where they have to wait."""

import sqlalchemy as sa
from alembic import op

revision = "0047"
down_revision = "0046"


def upgrade() -> None:
    op.add_column("keys", sa.Column("traffic_class", sa.Text, nullable=False, server_default="normal"))
