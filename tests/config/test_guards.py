"""The section `guards`: what it may hold, and a mistake's words."""

from __future__ import annotations

import sys
from typing import Any, get_args

import pytest
import yaml

from gateway.config.config import Config
from gateway.config.guards import GuardConfig
from gateway.config.loading import parse
from gateway.config.scorers import ScorerConfig
from gateway.core.errors import ConfigError
from gateway.core.guards import GuardAction

BASE = """
open: true
upstreams: {u: {kind: openai, api_key: sk}}
models: {chat: {targets: [{upstream: u, model: m}]}}
"""


def config_of(guard: dict[str, Any], **sections: Any) -> Config:
    return parse(BASE + yaml.safe_dump({"guards": {"g": guard}, **sections}), "f.yaml", {})


def mistakes(guard: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config_of(guard, **sections)
    return "\n".join(m.removeprefix("f.yaml: ") for m in caught.value.mistakes)


SECRETS = {"on": "answer", "scorer": "secrets"}
HASHES = {"pass": "b369e08dd2f6", "block": "757def46680c"}
OWN = {"on": "answer", "scorer": "patterns"}


def test_a_guard_observes_unless_configured_otherwise() -> None:
    guard = config_of(SECRETS).guards["g"]
    assert (guard.action, guard.if_late, guard.deadline_ms, guard.record) == ("observe", None, 1000.0, 1.0)
    assert guard.in_process
    assert guard.section is None


@pytest.mark.parametrize(
    ("guard", "before"),
    [
        ({"on": "request", "scorer": "secrets", "action": "block"}, True),
        ({"on": "request", "scorer": "personal_data", "action": "block"}, True),
        ({"on": "request", "scorer": "prompt_injection", "action": "block"}, False),
        ({"on": "request", "scorer": "prompt_injection", "action": "redact"}, True),
        ({"on": "request", "scorer": "secrets", "action": "block", "before": False}, False),
    ],
)
def test_some_guards_decide_before_the_request_is_sent(guard: dict[str, Any], before: bool) -> None:
    assert config_of(guard).guards["g"].decides_before is before


@pytest.mark.parametrize(
    ("guard", "expected"),
    [
        ({"on": "answer", "scorer": "secret"}, 'guards.g.scorer: no rule or scorer "secret"; did you mean "secrets"?'),
        ({**SECRETS, "keys": ["x"]}, 'guards.g.keys[0]: no key "x"'),
        ({**SECRETS, "models": ["chatt"]}, 'guards.g.models[0]: no model "chatt"; did you mean "chat"?'),
        ({**SECRETS, "teams": ["x"]}, 'guards.g.teams[0]: no team "x"'),
        (
            {"on": "answer", "scorer": "length", "max_chars": 9, "action": "redact"},
            "action redact needs a rule that knows",
        ),
        ({"on": "answer", "scorer": "length"}, "max_chars is missing; the rule length needs it"),
        ({**SECRETS, "max_chars": 9}, "max_chars is an option of the rule length; this guard's scorer is secrets"),
        ({"on": "request", "scorer": "tools", "tools": {"forbid": ["x"]}}, "judges the calls of an answer"),
        ({**SECRETS, "before": True}, "before is an option of guards on requests"),
        ({"on": "request", "scorer": "secrets", "action": "redact", "before": False}, "before: false cannot redact"),
        ({**SECRETS, "text": "see {secret}"}, "only {subject}, {guard} and {id} may stand in braces"),
        ({**SECRETS, "near": 0.9}, "near 0.9 is above the threshold 0.5"),
        ({**OWN, "patterns": [{"name": "a", "regex": "a+b"}]}, "has no longest match"),
        (
            {**OWN, "patterns": [{"name": "a", "regex": "a{9}b{900}"}], "max_match_chars": 64},
            "has matches of up to 909",
        ),
        ({**OWN, "patterns": [{"name": "a", "regex": "(?=a)b"}]}, "is not valid in RE2"),
        ({**OWN, "patterns": [{"name": "a", "regex": "\\pL{3}"}]}, "cannot be measured"),
        ({"on": "answer", "scorer": "topics", "topics": {"model": "embed", "examples": ["x"]}}, 'no model "embed"'),
        ({"on": "answer", "scorer": "topics", "topics": {"model": "chat", "examples": ["x"]}}, "set `evals: {base_url"),
        ({"on": "answers", "scorer": "secrets"}, "guards.g.on: input should be 'request' or 'answer'"),
        ({**SECRETS, "deadline_ms": 0}, "guards.g.deadline_ms: input should be greater than 0"),
    ],
)
def test_a_mistake_says_what_is_expected(guard: dict[str, Any], expected: str) -> None:
    assert expected in mistakes(guard)


def test_a_section_of_scorers_with_a_rules_name_has_a_name_of_its_own() -> None:
    guard = config_of({"on": "answer", "scorer": "scorers.secrets"}, scorers={"secrets": {}}).guards["g"]
    assert (guard.rule, guard.section, guard.in_process) == (None, "secrets", False)


def test_redaction_without_re2_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    assert 'pip install "assay-gateway[redaction]"' in mistakes({**SECRETS, "action": "redact"})
    assert 'pip install "assay-gateway[redaction]"' in mistakes({**OWN, "patterns": [{"name": "a", "regex": "ab"}]})


def test_the_hash_changes_with_what_decides_a_hit() -> None:
    def hashed(**more: Any) -> str:
        return GuardConfig.model_validate({"on": "answer", "scorer": "length", "max_chars": 9, **more}).config_hash({})

    assert hashed() == hashed(action="block", deadline_ms=5.0, near=0.25)
    assert len({hashed(), hashed(max_chars=10), hashed(threshold=0.6), hashed(near=0.4)}) == 4


def test_the_hash_changes_with_the_options_of_the_scorer() -> None:
    guard = GuardConfig.model_validate({"on": "answer", "scorer": "own"})

    def hashed(**section: Any) -> str:
        return guard.config_hash({"own": ScorerConfig.model_validate(section)})

    one = {"use": "contains", "texts": ["a"]}
    assert hashed(**one) == hashed(**one, share=0.5, concurrency=2)
    assert len({hashed(**one), hashed(use="contains", texts=["b"]), hashed(use="refusal")}) == 3


@pytest.mark.parametrize(
    ("if_late", "refuses"),
    [(None, {"redact", "block"}), ("block", {"redact", "block"}), ("pass", set())],
)
def test_without_a_score_the_action_decides_unless_told(if_late: str | None, refuses: set[str]) -> None:
    guard = config_of(SECRETS if if_late is None else {**SECRETS, "if_late": if_late}).guards["g"]
    actions: tuple[GuardAction, ...] = get_args(GuardAction)
    assert {action for action in actions if guard.blocks_late(action)} == refuses


def test_an_explicit_if_late_keeps_its_hashes() -> None:
    """Versions before wrote the hash of `pass` into ramps and plans, also for guards in which it was not set."""
    guards = {late: config_of({**SECRETS, "if_late": late}).guards["g"] for late in ("pass", "block")}
    assert {late: guard.judged_hash({}) for late, guard in guards.items()} == HASHES
    unset = config_of(SECRETS).guards["g"]
    assert unset.judged_hash({}) not in HASHES.values()
    assert unset.begun_as({}, HASHES["pass"]) == guards["pass"]
    assert unset.begun_as({}, HASHES["block"]) is None
    assert unset.begun_as({}, unset.judged_hash({})) is unset
    assert guards["block"].begun_as({}, HASHES["pass"]) is None
