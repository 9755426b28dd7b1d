"""Usage and cost by day, key, team, organization, tags, model, experiment and scorer."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_KEY = (
    "day", "incarnation", "key_id", "team", "organization", "tags", "alias", "upstream", "model", "experiment", "arm",
    "scorer",
)  # fmt: skip
_SUMS = (
    "calls", "unpriced_calls", "estimated_calls", "input_tokens", "cached_input_tokens", "output_tokens",
    "reasoning_tokens", "nano_usd",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "usage",
        *(sa.Column(name, sa.Text, nullable=False) for name in _KEY),
        sa.Column("key_name", sa.Text, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint(*_KEY),
        sqlite_with_rowid=False,
    )
