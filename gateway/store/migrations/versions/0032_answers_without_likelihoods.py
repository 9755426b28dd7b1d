"""The views leave out requests for the likelihood of an answer, which have no answer."""

from alembic import op

revision = "0032"
down_revision = "0031"

ANSWERS = """
CREATE VIEW answers AS
SELECT id, COALESCE(pair, id) AS served_id, received, alias, upstream, model, variant,
    upstream || '/' || model || COALESCE('[' || variant || ']', '') AS target, caller, api, role, experiment, plan,
    COALESCE(arm, 'none') AS arm, cluster, outcome, status, finish_reason, text, reasoning, tool_calls, reference,
    input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd, first_token_s, total_s, stratum, pi,
    1.0 / pi AS weight
FROM exchanges WHERE likelihood IS NULL
"""

_BOTH = """
    a.id AS pair, b.experiment, b.plan, b.arm, b.role, a.received, a.cluster, p.place, p.state,
    a.id AS control_id, b.id AS arm_id, a.text AS control_text, b.text AS arm_text, a.reference,
    a.outcome AS control_outcome, b.outcome AS arm_outcome, a.total_s AS control_total_s, b.total_s AS arm_total_s,
    a.cost_usd AS control_cost_usd, b.cost_usd AS arm_cost_usd, a.output_tokens AS control_output_tokens,
    b.output_tokens AS arm_output_tokens, b.pi
"""
_FROM = """
FROM exchanges b JOIN exchanges a ON a.id = b.pair LEFT JOIN pairs p ON p.id = a.id
"""

PAIRS = f"""
CREATE VIEW pairs_wide AS
SELECT {_BOTH}, sb.scorer, sb.version, sb.config_hash, sa.status AS control_status, sb.status AS arm_status,
    sa.value AS control_value, sb.value AS arm_value, CAST(NULL AS DOUBLE PRECISION) AS preference, 'answer' AS compares
{_FROM} LEFT JOIN scores sb ON sb.exchange_id = b.id
    LEFT JOIN scores sa ON sa.exchange_id = a.id AND sa.scorer = sb.scorer AND sa.version = sb.version
        AND sa.config_hash = sb.config_hash
WHERE b.likelihood IS NULL
UNION ALL
SELECT {_BOTH}, s.scorer, s.version, s.config_hash, NULL, s.status, NULL, NULL, s.value, 'pair'
{_FROM} JOIN pair_scores s ON s.exchange_id = b.id AND s.pair = a.id
WHERE b.likelihood IS NULL
"""


def upgrade() -> None:
    for view, statement in (("pairs_wide", PAIRS), ("answers", ANSWERS)):
        op.execute(f"DROP VIEW {view}")
        op.execute(statement)
