"""The view `answers` tells the variants of a model apart."""

from alembic import op

revision = "0018"
down_revision = "0017"

ANSWERS = """
CREATE VIEW answers AS
SELECT id, COALESCE(pair, id) AS served_id, received, alias, upstream, model, variant,
    upstream || '/' || model || COALESCE('[' || variant || ']', '') AS target, caller, api, role, experiment, plan,
    COALESCE(arm, 'none') AS arm, cluster, outcome, status, finish_reason, text, reasoning, tool_calls, reference,
    input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd, first_token_s, total_s, stratum, pi,
    1.0 / pi AS weight
FROM exchanges
"""


def upgrade() -> None:
    op.execute("DROP VIEW answers")
    op.execute(ANSWERS)
