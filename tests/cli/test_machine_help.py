"""`gateway … --help --json`: what a program reads of the command line, and that it is what a person reads."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import app
from gateway.cli.machine_help import UnknownVerb, described, words_before

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--help --json", []),
        ("ab power --json -h", ["ab", "power"]),
        ("status --json", None),
        ("--help", None),
        ("serve --help", None),
    ],
)
def test_both_words_ask_for_it_in_any_order(line: str, words: list[str] | None) -> None:
    assert words_before(line.split()) == words


def test_every_verb_is_there_with_what_its_help_shows() -> None:
    verbs = {each["verb"]: each for each in described(app, [])["verbs"]}
    assert {"serve", "ab start", "ab power", "replay", "compare", "keys create", "skill"} <= verbs.keys()
    assert "engine" not in verbs, "it is hidden"
    for name, verb in verbs.items():
        assert verb["help"].strip(), name
        assert verb["example"].startswith(f"gateway {name}"), name
        for option in verb["options"]:
            assert option["help"], (name, option)
            assert all(each.startswith("-") for each in option["names"]), (name, option)


def test_types_bounds_and_defaults_are_those_of_the_verb() -> None:
    def options(verb: str) -> dict[str, dict[str, Any]]:
        [found] = described(app, verb.split())["verbs"]
        return {each["name"]: each for each in found["options"]}

    alpha, port = options("ab power")["alpha"], options("serve")["port"]
    assert (alpha["type"], alpha["min"], alpha["max"], alpha["required"]) == ("number", 1e-06, 0.5, False)
    assert "default" not in alpha
    assert (port["type"], port["min"], port["max"], port["default"]) == ("integer", 1, 65535, 8000)
    assert (options("ab power")["config"]["type"], options("ab power")["config"]["default"]) == ("path", "gateway.yaml")
    [samples] = described(app, ["ab", "start"])["verbs"]
    assert [(each["name"], each["required"]) for each in samples["arguments"]] == [("name", True)]


def test_an_argument_that_may_be_repeated_is_named() -> None:
    [compare] = described(app, ["compare"])["verbs"]
    [files] = compare["arguments"]
    assert (files["name"], files["type"], files["multiple"]) == ("files", "string", True)


def test_a_verb_that_there_is_not_names_those_that_there_are(gateway: Run) -> None:
    with pytest.raises(UnknownVerb, match="no verb 'sttaus' below gateway; there are: up, serve"):
        described(app, ["sttaus"])
    done = gateway("ab", "strat", "--help", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no verb 'strat' below gateway ab; there are: start, stop" in done.stderr


def test_it_is_one_json_object(gateway: Run, tmp_path: Path) -> None:
    found = json.loads(gateway("ab", "--help", "--json").stdout)
    assert {each["verb"].split()[0] for each in found["verbs"]} == {"ab"}
    assert gateway("skill", "--out", "skills").returncode == 0
    text = (tmp_path / "skills" / "assay-gateway" / "SKILL.md").read_text()
    assert text.startswith("---\nname: assay-gateway\ndescription: ")
    assert "left as it is" in gateway("skill", "--out", "skills").stderr
