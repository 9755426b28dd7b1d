"""Requests of a run in chunks that are stored once."""

import sqlalchemy as sa
from alembic import op

revision = "0049"
down_revision = "0048"


def upgrade() -> None:
    op.create_table(
        "run_chunks",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("chunk", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "chunk"),
    )
    op.create_index("run_chunks_digest", "run_chunks", ["run_id", "digest", "chunk"])
    op.add_column("exchanges", sa.Column("request_chunks", sa.Text))
    op.add_column("exchanges", sa.Column("request_bytes", sa.BigInteger))
    op.add_column("runs", sa.Column("chunk_bytes", sa.BigInteger, nullable=False, server_default="0"))
