"""Adds the unit of calls judged by a guard whose ramp takes its steps, and a digest of the prompt."""

import sqlalchemy as sa
from alembic import op

revision = "0052"
down_revision = "0051"


def upgrade() -> None:
    op.add_column("guard_decisions", sa.Column("unit", sa.Text))
    op.add_column("guard_decisions", sa.Column("asked", sa.Text))
