"""The length of a request as its client sent it: an experiment may adjust for it, since no arm can change it."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("client_bytes", sa.BigInteger))
