"""`gateway schema --output VERB`: a schema for everything that `--json` prints, held against real outputs."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from fixtures.json_outputs import conforms

from gateway.cli import app
from gateway.cli.json_outputs import NoJsonOutput, declared, output_schema
from gateway.cli.machine_help import described

TESTS = Path(__file__).parents[1]
Run = Callable[..., subprocess.CompletedProcess[str]]


def with_json() -> set[str]:
    """The verbs that have the option `--json`, from the help that programs read."""
    verbs = described(app, [])["verbs"]
    return {each["verb"] for each in verbs if any("--json" in option["names"] for option in each["options"])}


def test_every_verb_with_json_has_a_schema_and_no_other() -> None:
    without = with_json() - set(declared())
    assert without == set(), "declare what it prints as a JsonOutput in the manifest of its feature"
    assert set(declared()) - with_json() == {"help"}, "no verb prints that: remove its JsonOutput"


def test_the_help_says_where_the_schema_is() -> None:
    verbs = {each["verb"]: each.get("output_schema") for each in described(app, [])["verbs"]}
    assert verbs["ab status"] == 'gateway schema --output "ab status"'
    assert {verb for verb, command in verbs.items() if command} == with_json()


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """The parts of a schema that describe an object by its members."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and "type" in schema:
            yield schema
        for each in schema.values():
            yield from objects(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from objects(each)


@pytest.mark.parametrize("verb", sorted(declared()))
def test_a_schema_is_valid_complete_and_closed(verb: str) -> None:
    """An object with named members allows no others, and each reference leads somewhere."""
    schema = output_schema(verb)
    jsonschema_rs.meta.validate(schema)
    jsonschema_rs.validator_for(schema)
    found = list(objects(schema))
    assert found
    assert [each for each in found if each.get("additionalProperties") is not False] == []
    assert [each for each in found if not set(each.get("required", [])) <= set(each["properties"])] == []
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validator_for(schema).validate({"unheard_of": 1})


@cache
def validated() -> set[str]:
    """The verbs whose output a test hands to `conforms`."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "conforms(" in text else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "conforms":
                verb = node.args[0]
                assert isinstance(verb, ast.Constant), f"{path.name}: the verb is not a literal"
                found.add(verb.value)
    return found


def test_the_real_output_of_every_verb_is_validated() -> None:
    """The tests of each feature do so, which run it in the states that matter, with the store and servers it needs."""
    assert set(declared()) - validated() == set(), "hand its output to `conforms` in a test of its feature"
    assert validated() - set(declared()) == set()


def test_a_schema_is_printed_by_the_verb(gateway: Run) -> None:
    printed = gateway("schema", "--output", "ab gate")
    assert json.loads(printed.stdout) == output_schema("ab gate")
    help_schema = json.loads(gateway("schema", "--output", "help").stdout)
    assert help_schema["title"] == "gateway --help --json"
    assert conforms("help", gateway("--help", "--json").stdout)["program"] == "gateway"
    wrong = gateway("schema", "--output", "ab statsu")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert 'no verb "ab statsu" prints JSON; did you mean "ab status"?' in " ".join(wrong.stderr.split())


def test_a_verb_without_json_names_those_that_have_it() -> None:
    with pytest.raises(NoJsonOutput, match='no verb "follow" prints JSON; those that do: ab gate, ab history'):
        output_schema("follow")
