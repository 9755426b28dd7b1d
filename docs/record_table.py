"""Writes the table of docs/sampling-and-stream.md from the schema of the record: `python docs/record_table.py`.

A test fails when the page is not what this makes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from gateway.cli.record_schema import record_schema

PAGE = Path(__file__).with_name("sampling-and-stream.md")
BEGIN, END = "<!-- docs/record_table.py writes what follows -->", "<!-- docs/record_table.py wrote what is above -->"
_HEADS = {
    "Exchange": "`head` of an `exchange` and a `delta`",
    "BaseNote": "`base`, in the head of a `delta`",
    "Target": "`target`",
    "Usage": "`usage` of a call",
    "Attempt": "one of `attempts`",
    "Tally": "`head` of a `tally`",
    "Count": "one of a tally's counts",
    "UsageCell": "`cell` in a tally's `usage`, an array",
    "UsageSums": "`sums` in a tally's `usage`, an array",
    "Feedback": "`head` of a `feedback`",
}


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    head, _, after = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = after.partition(END)
    defined = record_schema()["$defs"]
    tables = "\n\n".join("\n".join(_table(title, defined[name])) for name, title in _HEADS.items())
    return f"{head}{BEGIN}\n\n{tables}\n\n{END}{tail}"


def _table(title: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"| {title} | type | default | meaning |"
    yield "|---|---|---|---|"
    members = schema.get("properties") or {item["title"]: item for item in schema["prefixItems"]}
    for name, member in members.items():
        default = f"`{orjson.dumps(member['default']).decode()}`" if "default" in member else "–"
        meaning = member.get("description", "").replace("|", "\\|")
        yield f"| `{name}` | {_type(member)} | {default} | {meaning} |"


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    return f"array of {_type(schema['items'])}" if "items" in schema else str(schema["type"])


if __name__ == "__main__":
    main()
