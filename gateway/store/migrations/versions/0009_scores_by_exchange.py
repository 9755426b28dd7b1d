"""Scores lie in the order of their exchanges: found by exchange and id, they need no index beside the table."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("scores_pkey", "scores", type_="primary")
        op.create_primary_key("scores_pkey", "scores", ["exchange_id", "score_id"])
        op.drop_index("scores_exchange", "scores")
        return
    _moved()


def _moved() -> None:
    """SQLite cannot change what a table lies in the order of: its rows go into another one, which takes its name."""
    there = sa.Table("scores", sa.MetaData(), autoload_with=op.get_bind())
    columns = [sa.Column(c.name, c.type, nullable=c.nullable) for c in there.columns]
    key = sa.PrimaryKeyConstraint("exchange_id", "score_id")
    op.create_table("scores_by_exchange", *columns, key, sqlite_with_rowid=False)
    names = ", ".join(c.name for c in columns)
    op.execute(
        f"INSERT INTO scores_by_exchange ({names}) SELECT {names} FROM scores ORDER BY exchange_id, score_id"  # noqa: S608
    )
    op.drop_table("scores")
    op.rename_table("scores_by_exchange", "scores")
