"""Whether another target than the one that a learned route chose has answered."""

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0045"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("fell_back", sa.Boolean))
