"""The networks from which keys may be used: of keys and teams that are made while the gateways run."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    for table in ("teams", "keys"):
        op.add_column(table, sa.Column("networks", sa.Text))
