"""The rate at which calls of a recorded run are scored by themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("score_rate", sa.Double))
