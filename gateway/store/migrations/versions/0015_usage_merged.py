"""Which processes' usage has been merged into rows that belong to no process."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("ledgers", sa.Column("usage_merged", sa.Boolean, nullable=False, server_default=sa.false()))
