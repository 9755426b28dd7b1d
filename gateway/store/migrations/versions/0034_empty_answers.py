"""Whether an answer is empty: HTTP 200 and nothing in it."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("empty", sa.Boolean))
