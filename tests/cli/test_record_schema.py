"""`gateway schema --output record`: what the schema takes, consumers read, and what it refuses, they refuse."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from gateway.cli.record_schema import record_schema
from gateway.core.exchange import Attempt, Count, Exchange, Feedback, Tally, Target, Usage, from_fields
from gateway.core.request_delta import BaseReference, RequestOutline, as_delta
from gateway.core.usage import UsageCell, UsageCount, UsageSums

DOCS = Path(__file__).parents[2] / "docs"
USAGE = Usage(3, 5, 1, None)
CALL = Exchange(
    id="01a21079-7ac5-75dc-a455-7225d7e418f1", received=1.5, caller="web", api="chat", alias="chat",
    target=Target("u", "m"), stream=False, request=b'{"messages":[]}', response=b"{}", status=200, outcome="ok",
    total_s=1.0, unit="x", u=0.5, pi=1.0, stratum="default", incarnation="i", seq=1, usage=USAGE,
    attempts=(Attempt(Target("u", "m", "v"), None, "no", 0.1, USAGE), Attempt(Target("u", "m"), 200, None, 0.2)),
)  # fmt: skip
CELL = UsageCell("2026-11-26", "k", "web", "", "", "", "chat", "u", "m", "", "", "")
COUNT = Count("default", "chat", "u/m", "", 3)
LEFT_OUT = Count("default", "chat", "u/m", "", 1, "buffer_full")
TALLY = Tally("i", 1.5, 1, (COUNT,), dropped=(LEFT_OUT,), usage=(UsageCount(CELL, UsageSums(1)),))
FEEDBACK = Feedback("id", "f", "web", 1.5, "thumbs", 1.0)
Entry = dict[str, Any]


def a_delta() -> dict[bytes, bytes]:
    """The entry of a call that repeats an earlier one's request, and more."""
    base = json.dumps({"messages": [{"role": "user", "content": f"line {n}\n" * 40} for n in range(60)]}).encode()
    longer = base[:-2] + b',{"role":"user","content":"more"}]}'
    outlines = [RequestOutline.of(str(n), body) for n, body in enumerate((base, longer))]
    entry = as_delta({**CALL.to_fields(), b"req": longer}, outlines[1], outlines[0])
    assert entry[b"kind"] == b"delta"
    return entry


ENTRIES = {
    "exchange": CALL.to_fields(),
    "delta": a_delta(),
    "tally": TALLY.to_fields(),
    "feedback": FEEDBACK.to_fields(),
}
SCHEMA = json.loads(json.dumps(record_schema()))
validator = jsonschema_rs.validator_for(SCHEMA)


def parsed(fields: dict[bytes, bytes]) -> Entry:
    """An entry in the form that the schema describes."""
    texts = {name.decode(): value.decode() for name, value in fields.items()}
    return {**texts, "head": json.loads(texts["head"])}


def stored(entry: Entry) -> dict[bytes, bytes]:
    return {name.encode(): (json.dumps(v) if name == "head" else v).encode() for name, v in entry.items()}


def is_read(entry: Entry) -> bool:
    """Whether a consumer reads it; otherwise the entry becomes a dead letter."""
    try:
        if entry["kind"] == "delta":
            BaseReference.read(stored(entry))
        from_fields(stored(entry))
    except ValueError:
        return False
    return True


def test_the_schema_is_a_valid_one() -> None:
    jsonschema_rs.meta.validate(SCHEMA)
    assert SCHEMA["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("kind", ENTRIES)
def test_every_kind_of_entry_has_its_schema(kind: str) -> None:
    entry = parsed(ENTRIES[kind])
    assert entry["kind"] == kind
    validator.validate(entry)
    assert is_read(entry)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects within a value, itself included."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(part)


@pytest.mark.parametrize("kind", ENTRIES)
def test_members_that_nobody_knows_are_ignored_everywhere(kind: str) -> None:
    entry = parsed(ENTRIES[kind])
    for part in list(objects(entry)):
        part["unheard_of"] = {"of": [1]}
    entry["unheard_of"] = "a field of the entry"
    for count in entry["head"].get("usage") or () if kind == "tally" else ():
        count["cell"].append("new")
        count["sums"].append(1)
    validator.validate(entry)
    assert from_fields(stored(entry)) == from_fields(ENTRIES[kind])


@pytest.mark.parametrize("kind", ENTRIES)
def test_members_with_a_default_may_be_absent_and_no_others(kind: str) -> None:
    entry = parsed(ENTRIES[kind])
    record = {"tally": Tally, "feedback": Feedback}.get(kind, Exchange)
    defaults = {f.name: f.default for f in fields(record) if f.default is not MISSING}
    schema = SCHEMA["$defs"][record.__name__]["properties"]
    for name in [*entry["head"]]:
        without = {**entry, "head": {n: value for n, value in entry["head"].items() if n != name}}
        optional = name in defaults and name != "v"
        assert validator.is_valid(without) == is_read(without) == optional, name
        if optional:
            assert json.loads(json.dumps(defaults[name])) == schema[name]["default"], name


@pytest.mark.parametrize("kind", ["", "exchanges", "score", "EXCHANGE"])
def test_a_kind_that_nobody_knows_is_no_record(kind: str) -> None:
    entry = {**parsed(ENTRIES["exchange"]), "kind": kind}
    assert not validator.is_valid(entry)
    assert not is_read(entry)


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("version", [-1, 3, 99, "1", None])
def test_a_version_that_nobody_knows_is_refused(kind: str, version: Any) -> None:
    entry = parsed(ENTRIES[kind])
    entry["head"]["v"] = version
    assert not validator.is_valid(entry)
    assert not is_read(entry)


def test_each_member_of_a_head_has_a_meaning() -> None:
    heads = {name: SCHEMA["$defs"][name]["properties"] for name in ("Exchange", "Tally", "Feedback", "BaseNote")}
    bare = [(head, name) for head, members in heads.items() for name in members if "description" not in members[name]]
    assert bare == [], "write a comment or a docstring at the field"


def test_an_exchanges_head_has_every_field_but_the_bodies() -> None:
    named = set(SCHEMA["$defs"]["Exchange"]["properties"])
    written = set(parsed(CALL.to_fields())["head"])
    assert named == {f.name for f in fields(Exchange)} - {"request", "response"} == written


def test_the_pages_tables_are_the_schema() -> None:
    spec = importlib.util.spec_from_file_location("record_table", DOCS / "record_table.py")
    assert spec is not None
    assert spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    assert table.page() == (DOCS / "sampling-and-stream.md").read_text("utf-8"), "run `python docs/record_table.py`"


def test_the_command_prints_it(gateway: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert json.loads(gateway("schema", "--output", "record").stdout) == SCHEMA
