"""The paths outside the routed endpoints that a key may use."""

import sqlalchemy as sa
from alembic import op

revision = "0050"
down_revision = "0049"


def upgrade() -> None:
    op.add_column("keys", sa.Column("paths", sa.Text))
