"""Statuses by which an upstream refuses the request itself, and those by which the upstream fails. Pure.

| status of the upstream | subject | in an experiment | |---|---|---| | 400, 413, 415, 422 | the request: not valid, too
large, of a form that the model does not take | refused | | 401, 402, 403 | the gateway: its credential, its account,
what the account may do | failed | | 404, 405, 410 | the config: a model or a path that the upstream does not have |
failed | | 408, 409, 425, 429, any other 4xx | the upstream: its timeouts, its limits, or unknown | failed | | 5xx, no
answer, an answer that ends early | the upstream | failed |

A refusal is not a failure of its arm: it is in no other metric, and the share of refusals is one of its own, REFUSED.

A caller can send as many requests that are not valid as it likes, in conversations of either arm. Whether a candidate
refuses what the control accepts (a shorter context, a parameter it does not know) shows in shadow pairs: the control
has answered that very request, so a refusal of the candidate is its failure there.
"""

from __future__ import annotations

from typing import Final

REFUSED: Final = "request_refused"
"""The metric: the share of requests that an arm's upstream refused."""
REFUSING_STATUSES: Final = frozenset({400, 413, 415, 422})
REFUSALS_APART_RULES: Final = 2
"""The first rules of a plan that count refusals apart; by earlier ones they are failures."""
