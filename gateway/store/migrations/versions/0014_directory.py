"""Keys, teams and organizations that are made while the gateways run, and the audit of their changes."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "directory_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_table("organizations", *_common())
    op.create_index("organizations_version", "organizations", ["version"])
    op.create_table(
        "teams",
        *_common(),
        sa.Column("organization", sa.Text),
        sa.Column("models", sa.Text),
        sa.Column("tags", sa.Text, nullable=False),
    )
    op.create_index("teams_version", "teams", ["version"])
    op.create_index("teams_organization", "teams", ["organization"])
    _keys()
    _audit()


def _common() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("updated", sa.Double, nullable=False),
        sa.Column("deleted", sa.Double),
        sa.Column("version", sa.BigInteger, nullable=False),
    )


def _keys() -> None:
    op.create_table(
        "keys",
        *_common(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("team", sa.Text),
        sa.Column("models", sa.Text),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("allow", sa.Text, nullable=False),
        sa.Column("sample", sa.Text, nullable=False),
        sa.Column("content", sa.Text),
        sa.Column("expires", sa.Double),
        sa.Column("end_streams", sa.Boolean, nullable=False),
        sa.Column("digests", sa.Text, nullable=False),
    )
    op.create_index("keys_version", "keys", ["version"])
    op.create_index("keys_team", "keys", ["team"])
    live = sa.text("deleted IS NULL")
    op.create_index("keys_name", "keys", ["name"], unique=True, sqlite_where=live, postgresql_where=live)


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
    )
    op.create_index("audit_subject", "audit", ["subject", "id"])
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()"
    )
