from __future__ import annotations

from typing import Any

import pytest
import yaml

from gateway.config.derive import target_of
from gateway.config.loading import parse
from gateway.config.upstreams import TargetRef
from gateway.core.errors import ConfigError

DECIDER = {"upstream": "small", "model": "decider", "as": "decision"}
LARGE = {"upstream": "big", "model": "large"}


def mistakes_of(
    target: dict[str, Any] | None = None, candidate: dict[str, Any] | None = None, **swap: Any
) -> list[str]:
    targets = [LARGE] if target is None else [target]
    config: dict[str, Any] = {
        "open": True,
        "upstreams": {
            "big": {"kind": "openai", "api_key": "k"},
            "small": {"kind": "openai", "api_key": "k"},
            "other": {"kind": "groq", "api_key": "k"},
            "claude": {"kind": "anthropic", "api_key": "k"},
        },
        "models": {"chat": {"targets": targets, "fallback": [LARGE] if target else []}},
    }
    if candidate is not None:
        config["experiments"] = {"swap": {"model": "chat", "control": LARGE, "candidate": candidate, **swap}}
    try:
        parse(yaml.safe_dump(config), "f.yaml", {})
    except ConfigError as error:
        return [mistake.removeprefix("f.yaml: ") for mistake in error.mistakes]
    return []


def test_a_target_for_decisions_is_valid_with_a_model_after_it() -> None:
    assert mistakes_of(DECIDER) == []
    assert mistakes_of({**DECIDER, "facade": "unproved"}) == []
    assert mistakes_of(candidate=DECIDER) == []
    assert mistakes_of(candidate=DECIDER, mode="split") == []


@pytest.mark.parametrize(("target", "mistake"), [
    ({**DECIDER, "upstream": "other"}, "models.chat.targets[0].as: the upstream other has no API of decisions"),
    ({**DECIDER, "set": {"temperature": 0}}, "models.chat.targets[0].set: a decision has no parameters"),
    ({**LARGE, "facade": "unproved"}, "models.chat.targets[0].facade: has a meaning only with `as: decision`"),
    ({**DECIDER, "facade": "proved"}, "models.chat.targets[0].facade: "),
    ({**LARGE, "accept": "certificate x"}, "models.chat.targets[0].accept: has a meaning only with `as: decision`"),
    ({**DECIDER, "accept": "p >= 0.9"}, "models.chat.targets[0].accept: expected `certificate NAME`, or several"),
    ({**DECIDER, "accept": "certificate x and p >= 0.9"}, "models.chat.targets[0].accept: expected `certificate NAME`"),
    ({**DECIDER, "accept": "certificate refund"}, 'models.chat.targets[0].accept: no certificate "refund"'),
    ({**DECIDER, "as": "chat"}, "models.chat.targets[0].as: "),
])  # fmt: skip
def test_another_target_is_refused_for_its_reason(target: dict[str, Any], mistake: str) -> None:
    assert any(found.startswith(mistake) for found in mistakes_of(target)), mistakes_of(target)


READ = {**DECIDER, "upstream": "other", "reading": "words", "probed": "2026-12-03"}


def test_a_probed_reading_of_a_chat_engine_is_valid() -> None:
    assert mistakes_of(READ) == []
    assert mistakes_of(candidate=READ) == []


@pytest.mark.parametrize(("target", "mistake"), [
    ({**READ, "probed": None}, "probed: missing; a reading can be noise although its answers look healthy: give other"),
    ({**READ, "reading": "slot"}, "reading: slot needs a server that continues a last assistant message"),
    ({**READ, "upstream": "claude"}, "reading: an upstream of kind anthropic shows no log-probabilities"),
    ({**READ, "reading": "native"}, "reading: "),
    ({**LARGE, "reading": "words"}, "reading: has a meaning only with `as: decision`"),
    ({**DECIDER, "probed": "2026-12-03"}, "probed: has a meaning only with `reading`"),
])  # fmt: skip
def test_another_reading_is_refused_for_its_reason(target: dict[str, Any], mistake: str) -> None:
    found = mistakes_of(target)
    assert any(one.startswith(f"models.chat.targets[0].{mistake}") for one in found), found


def test_targets_with_other_readings_are_other_targets() -> None:
    """Probabilities of two readings mean different things: an experiment with one proves nothing about the other."""
    one, other = (TargetRef.model_validate({**READ, "reading": reading}) for reading in ("words", "letters"))
    assert str(target_of(one)) == "other/decider[decision,reading=words]"
    assert target_of(one) != target_of(other)
    assert target_of(one).decides


def test_a_model_needs_a_target_for_other_requests() -> None:
    alone = {"targets": [DECIDER], "fallback": []}
    text = f"""
open: true
upstreams: {{small: {{kind: openai, api_key: k}}}}
models: {{chat: {alone}}}
"""
    with pytest.raises(ConfigError, match=r"models\.chat\.targets\[0\]\.as: no target answers requests"):
        parse(text.replace("'", ""), "f.yaml", {})


def test_a_decision_has_no_likelihood() -> None:
    [mistake] = mistakes_of(candidate=DECIDER, mode="likelihood")[:1]
    assert mistake.startswith("experiments.swap.candidate.as: a decision has no likelihood")


def test_one_target_obeys_one_rule_wherever_it_is_named() -> None:
    """Two rules of one target would contradict each other."""
    found = mistakes_of({**DECIDER, "accept": "certificate refund"}, candidate=DECIDER)
    assert any("candidate.accept: small/decider[decision] has another one elsewhere" in mistake for mistake in found)
