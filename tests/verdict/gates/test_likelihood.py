"""Both engines must score the same tokens."""

from __future__ import annotations

import pytest

from gateway.verdict.gates.likelihood import likelihood_gate


@pytest.mark.parametrize(
    ("refused", "compared", "state"),
    [
        ({}, 0, 0),
        ({}, 5, 1),
        ({("tokenizers_differ", "candidate"): 1}, 999, -1),
        ({("no_prompt_logprobs", "candidate"): 1}, 0, -1),
        ({("not_aligned", "repeat"): 2}, 98, 1),
        ({("not_aligned", "repeat"): 12}, 88, -1),
    ],
)
def test_both_engines_must_score_the_same_tokens(
    refused: dict[tuple[str, str], int], compared: int, state: int
) -> None:
    gate = likelihood_gate(refused, compared)
    assert gate.state == state
    assert not refused or ("candidate" in gate.says or "repeat" in gate.says)
