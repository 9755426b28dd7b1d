"""The segments of a call in an experiment that declares some."""

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("segments", sa.Text))
