"""The cheaper tier that a call went to, and GPU-seconds of the user's own engines."""

import sqlalchemy as sa
from alembic import op

revision = "0054"
down_revision = "0053"


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("tier", sa.Text))
    op.add_column("exchanges", sa.Column("gpu_seconds", sa.Double))
    op.add_column("usage", sa.Column("nano_gpu_seconds", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("usage", sa.Column("tiered_calls", sa.BigInteger, nullable=False, server_default="0"))
