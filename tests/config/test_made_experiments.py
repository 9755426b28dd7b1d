"""The file with the console's experiments is read with gateway.yaml, which wins, and is watched with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.loading import load
from gateway.config.made_experiments import file_text, made_path, read_made
from gateway.core.errors import ConfigError

GOOD = """
open: true
upstreams: {a: {kind: fake}}
models: {chat: {targets: [{upstream: a, model: m}]}}
"""
SECTION = {
    "model": "chat", "control": {"upstream": "a", "model": "m"}, "candidate": {"upstream": "a", "model": "n"},
    "primary": "error_rate",
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The path of a gateway.yaml without mistakes."""
    path = tmp_path / "gateway.yaml"
    path.write_text(GOOD)
    return path


def test_an_experiment_next_to_the_file_belongs_to_the_config(config: Path) -> None:
    before = load(config)
    read_made(config).with_experiment("swap", SECTION).write()
    after = load(config)
    assert (list(before.experiments), list(after.experiments)) == ([], ["swap"])
    assert after.digest != before.digest, "gateways that have not read it yet are told apart"
    assert made_path(config) in after.secret_files, "a change of it is a change of the config"
    assert made_path(config).name == "gateway.experiments.yaml"


def test_gateway_yaml_wins_where_a_name_is_in_both(config: Path) -> None:
    read_made(config).with_experiment("swap", SECTION).write()
    config.write_text(GOOD + file_text({"swap": {**SECTION, "margin": 0.5}}))
    assert load(config).experiments["swap"].margin == 0.5


def test_a_removed_experiment_is_gone_and_others_stay(config: Path) -> None:
    read_made(config).with_experiment("one", SECTION).with_experiment("two", SECTION).write()
    read_made(config).with_experiment("one", None).write()
    assert list(load(config).experiments) == ["two"]


@pytest.mark.parametrize("text", ["a: [", "upstreams: {}\n", "- x\n", "experiments: [1]\n"])
def test_a_file_with_anything_else_is_refused_by_its_name(config: Path, text: str) -> None:
    made_path(config).write_text(text)
    with pytest.raises(ConfigError, match=r"gateway\.experiments\.yaml"):
        load(config)


def test_text_that_looks_like_a_variable_is_a_text(config: Path) -> None:
    candidate = {**SECTION["candidate"], "system": "Say ${HOME}: 'yes'\n# no comment"}  # type: ignore[dict-item]
    read_made(config).with_experiment("swap", {**SECTION, "candidate": candidate}).write()
    found = load(config).experiments["swap"].candidate
    assert found is not None
    assert found.system == candidate["system"]
