"""The learned route that chose a call's target, and whether a record is a copy of the served answer."""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("route", sa.Text))
    op.add_column("exchanges", sa.Column("tied", sa.Boolean))
