"""The record of guards' decisions, and the action that a ramp gives."""

from __future__ import annotations

import pytest

from gateway.core.guards import GuardDecision, GuardRamp, from_json, has_found, to_json
from gateway.core.randomization import keyed_draw

SECRET = b"a secret of this deployment"
HIT = GuardDecision("secrets", "answer", "block", "hit", True, 1.0, None, ("key",), 2, 0.001, "abc")
FAILED = GuardDecision("judge", "request", "observe", "failed", False, None, "timeout")


def test_decisions_survive_their_encoding() -> None:
    assert from_json(to_json([HIT, FAILED])) == (HIT, FAILED)


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '[{"guard":"x"}]', '{"guard":"x"}'])
def test_anything_but_a_decision_is_left_out(text: str | None) -> None:
    assert from_json(text) == ()


def test_members_of_a_newer_writer_are_ignored() -> None:
    newer = to_json([HIT]).replace('"guard":"secrets"', '"guard":"secrets","new":{"a":1}')
    assert from_json(newer) == (HIT,)


def test_a_record_says_whether_a_rule_matched() -> None:
    assert has_found(to_json([FAILED, HIT]))
    assert not has_found(to_json([FAILED]))


def test_a_ramp_gives_its_action_to_its_share_of_units() -> None:
    ramp = GuardRamp("block", "flag", 0.25, "guard own:abc", SECRET)
    drawn = {unit: keyed_draw(SECRET, "guard own:abc", unit) for unit in map(str, range(100))}
    assert {unit for unit in drawn if ramp.action_of(unit) == "block"} == {u for u, at in drawn.items() if at < 0.25}
    assert {ramp.action_of(unit) for unit in drawn} == {"block", "flag"}


def test_without_the_secret_no_share_is_drawn() -> None:
    assert {GuardRamp("block", "flag", 0.9, "d").action_of(str(i)) for i in range(100)} == {"flag"}
    assert GuardRamp("block", "flag", 1.0, "d").action_of("u") == "block"


def test_a_unit_is_named_only_while_its_ramp_counts() -> None:
    ramp = GuardRamp("block", "flag", 0.5, "d", SECRET, counted=True)
    assert len({ramp.digest_of(str(i)) for i in range(100)}) == 100
    assert "web" not in ramp.digest_of("web")
    assert GuardRamp("block", "flag", 0.5, "d", SECRET).digest_of("web") == ""
    assert GuardRamp("block", "flag", 0.5, "d", counted=True).digest_of("web") == ""
    assert "secret" not in repr(ramp).replace("secret=", "")
