"""One pair that was treated otherwise is enough."""

from __future__ import annotations

import pytest

from gateway.verdict.gates.path import PathChecks, path_gate


@pytest.mark.parametrize(
    ("checks", "state", "says"),
    [
        (PathChecks(same=40), 1, "all 40 requests to shadow arms equal the served ones"),
        (PathChecks(same=40, rescored=4), 1, "; 4 stored answers were scored again, with the same result"),
        (PathChecks(translated=7), 1, "no request could be compared; 7 were sent in another API's format"),
        (PathChecks(same=40, different=1, differs="x7"), -1, "1 of 41 requests to shadow arms differ from the served"),
        (
            PathChecks(same=40, rescored=4, disagreed=1, disagrees="x8"),
            -1,
            "1 of 4 answers of the control get a different",
        ),
    ],
)
def test_one_pair_that_was_treated_otherwise_makes_the_path_red(checks: PathChecks, state: int, says: str) -> None:
    gate = path_gate(checks)
    assert (gate.name, gate.state) == ("path", state)
    assert says in gate.says
    assert all(exchange in gate.says for exchange in (checks.differs, checks.disagrees) if exchange)


def test_requests_that_differ_by_their_variants_are_said_to() -> None:
    equal = "all 3 requests to shadow arms equal the served ones"
    assert path_gate(PathChecks(same=3)).says == equal
    assert path_gate(PathChecks(same=3), varied=True).says == f"{equal}, apart from what the variants change"
    assert path_gate(PathChecks(same=2, different=1), varied=True).state == -1
