"""The audit of ramps: every change of a candidate's share, with its reason and the evidence of that moment."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "ramp_events",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("experiment", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
    )
    op.create_index("ramp_events_experiment", "ramp_events", ["experiment", "version"])
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER ramp_events_no_{verb.lower()} BEFORE {verb} ON ramp_events "
                "BEGIN SELECT RAISE(ABORT, 'ramp_events is append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION ramp_events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'ramp_events is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER ramp_events_append_only BEFORE UPDATE OR DELETE ON ramp_events "
        "FOR EACH ROW EXECUTE FUNCTION ramp_events_are_append_only()"
    )
