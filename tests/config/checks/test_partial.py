"""All mistakes come at once, and none that only follows from a value that is not valid."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gateway.config.checks.partial import Invalid, partial_config, readable
from gateway.config.loading import parse
from gateway.core.errors import ConfigError

pytestmark = pytest.mark.quick
GOOD: dict[str, Any] = {
    "keys": [{"name": "web", "sha256": "0" * 64, "models": ["chat"]}],
    "upstreams": {"a": {"kind": "fake"}, "b": {"kind": "fake"}},
    "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
    "scorers": {"refusal": {}},
    "experiments": {
        "swap": {
            "model": "chat",
            "control": {"upstream": "a", "model": "m"},
            "candidate": {"upstream": "b", "model": "n"},
            "primary": "refusal",
            "guardrails": {"error_rate": 0.1},
        }
    },
}


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """GOOD with other values at these paths, such as keys.0.name."""
    raw: dict[str, Any] = yaml.safe_load(yaml.safe_dump(GOOD))
    for path, value in changes:
        *within, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
        section: Any = raw
        for step in within:
            section = section[step]
        section[last] = value
    return raw


def mistakes(*changes: tuple[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(yaml.safe_dump(changed(*changes)), "f.yaml", {})
    return [mistake.removeprefix("f.yaml: ") for mistake in caught.value.mistakes]


def test_a_section_that_is_not_valid_hides_no_other_mistake_in_it() -> None:
    found = mistakes(
        ("keys.0", {"name": "web", "sha256": "no", "models": [7, "chta"], "team": "ops"}),
        ("upstreams.a.queue", "long"),
        ("upstreams.a.kind", "faek"),
        ("models.chat.targets", [{"upstream": "a", "model": "m", "weight": "half"}, {"upstream": "c"}]),
        ("experiments.swap.margin", "small"),
        ("experiments.swap.primary", "refusals"),
    )
    assert [mistake.split(";")[0] for mistake in found] == [
        "experiments.swap.margin: expected a number, got 'small'",
        'experiments.swap.primary: no scorer and no metric "refusals"',
        "keys[0].models[0]: input should be a valid string, got 7",
        'keys[0].models[1]: no model "chta"',
        "keys[0].sha256: expected the SHA-256 of a key: 64 hexadecimal digits in lower case",
        'keys[0].team: no team "ops"',
        "models.chat.targets[0].weight: expected a number, got 'half'",
        "models.chat.targets[1].model: missing",
        'models.chat.targets[1].upstream: no upstream "c"',
        'upstreams.a.kind: no kind "faek"',
        "upstreams.a.queue: input should be a valid integer, unable to parse string as an integer, got 'long'",
    ]


@pytest.mark.parametrize(
    "change",
    [
        ("upstreams", 3),
        ("upstreams.a", []),
        ("upstreams.b", None),
        ("models", ["chat"]),
        ("models.chat", 3),
        ("models.chat.targets", 3),
        ("models.chat.targets.0.upstream", 3),
        ("scorers", "refusal"),
        ("scorers.refusal", 3),
        ("experiments.swap.control.model", None),
        ("experiments.swap.allow", 3),
        ("experiments.swap.mode", "spilt"),
        ("keys.0.models", {}),
        ("keys.0", 3),
    ],
)
def test_nothing_is_reported_that_only_follows(change: tuple[str, Any]) -> None:
    """A name of a section that is not valid is right, as far as anybody knows."""
    assert len(found := mistakes(change)) == 1, found


@pytest.mark.parametrize("path", ["keys.0.sha256", "experiments.swap.primary", "experiments.swap.candidate.upstream"])
def test_a_list_in_place_of_a_name_is_a_mistake_as_any_other(path: str) -> None:
    assert mistakes((path, ["x"])) != []


def test_a_number_as_a_name_hides_no_other_mistake() -> None:
    found = mistakes(("experiments", {3: {**GOOD["experiments"]["swap"], "model": "chta"}}))
    assert 'experiments.3.model: no model "chta"; did you mean "chat"?' in found
    assert "experiments[3].[key]: input should be a valid string, got 3" in found


def test_options_of_a_scorer_may_have_any_name() -> None:
    options = {"cls": 1, "_fields_set": 2, 3: 4, "unit": "run", "share": "all"}
    found = mistakes(("scorers.refusal", options), ("keys.0.team", "ops"))
    assert "keys[0].team" in found[1]
    assert "experiments.swap.primary: refusal is of whole runs" in found[0]


def test_an_item_keeps_its_place() -> None:
    valid = partial_config(changed(("keys.0.models", [1, "chat"]), ("experiments.swap.guardrails", {"refusal": "x"})))
    assert isinstance(valid.config.keys[0].models, tuple)
    assert [type(name) for name in valid.config.keys[0].models] == [Invalid, str]
    assert list(valid.config.experiments["swap"].guardrails) == ["refusal"]
    assert valid.experiments == {}, "none is valid as a whole"


def test_a_check_that_reads_an_unknown_field_raises() -> None:
    config = partial_config(changed(("models", 3))).config
    assert list(readable(str(len(config.models)) for _ in (1,))) == []
    with pytest.raises(AttributeError, match="nonexistent"):
        list(readable(getattr(config, "nonexistent") for _ in (1,)))  # noqa: B009 - as a typo would
