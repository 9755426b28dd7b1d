"""The person of a key, and of the calls that usage sums: a part of the key of `usage`, as the team is."""

import sqlalchemy as sa
from alembic import op

revision = "0057"
down_revision = "0056"

_KEY = "day incarnation key_id team organization tags alias upstream model experiment arm scorer"
_SUMS = "calls unpriced_calls estimated_calls input_tokens cached_input_tokens output_tokens reasoning_tokens nano_usd"
_LATER_SUMS = "nano_gpu_seconds tiered_calls"


def upgrade() -> None:
    op.add_column("keys", sa.Column("person", sa.Text))
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_usage()
        return
    op.add_column("usage", _person())
    op.drop_constraint("usage_pkey", "usage", type_="primary")
    op.create_primary_key("usage_pkey", "usage", [*_KEY.split(), "person"])


def _person() -> sa.Column[str]:
    return sa.Column("person", sa.Text, nullable=False, server_default="")


def _rebuild_usage() -> None:
    """SQLite cannot change the key of a table."""
    op.rename_table("usage", "usage_before_people")
    op.create_table(
        "usage",
        *(sa.Column(name, sa.Text, nullable=False) for name in _KEY.split()),
        _person(),
        sa.Column("key_name", sa.Text, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _SUMS.split()),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in _LATER_SUMS.split()),
        sa.PrimaryKeyConstraint(*_KEY.split(), "person"),
        sqlite_with_rowid=False,
    )
    names = ", ".join(f"{_KEY} key_name {_SUMS} {_LATER_SUMS}".split())
    op.execute(f"INSERT INTO usage ({names}) SELECT {names} FROM usage_before_people")  # noqa: S608
    op.drop_table("usage_before_people")
