"""Retention: how much each exchange takes, so that the oldest can go when it is too much."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_TEXTS = ("request", "response", "text", "reasoning", "refusal", "tool_calls", "attempts")


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"))
    exchanges = sa.table("exchanges", sa.column("bytes"), *(sa.column(name) for name in _TEXTS))
    words = sum((sa.func.length(exchanges.c[name]) for name in _TEXTS), sa.literal(2048))
    op.execute(exchanges.update().values(bytes=words))
    op.drop_index("exchanges_received", "exchanges")
    op.create_index("exchanges_received", "exchanges", ["received", "bytes"])
