"""The JSON Schema of what each verb prints with `--json`, from the declarations of the features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from gateway.core.did_you_mean import did_you_mean
from gateway.features import FEATURES
from gateway.features.manifest import JsonOutput, load

Schema = dict[str, Any]
_OWN = (JsonOutput("help", "gateway.cli.machine_help:HelpOutput"),)  # of `gateway --help --json`
_COMPONENTS = "#/components/schemas/"


class NoJsonOutput(Exception):
    """The message names the verbs that have one."""


def declared() -> Mapping[str, list[JsonOutput]]:
    """The forms by verb, in the order of the features."""
    found: dict[str, list[JsonOutput]] = {}
    for each in (*_OWN, *(output for feature in FEATURES for output in feature.outputs)):
        found.setdefault(each.verb, []).append(each)
    return found


def output_schema(verb: str) -> Schema:
    """A schema, draft 2020-12. verb: its words, as in "ab status". Raises NoJsonOutput."""
    from gateway import __version__
    from gateway.reports.output_schema import DIALECT

    known, verb = declared(), verb.removeprefix("gateway ")
    forms = known.get(verb)
    if forms is None:
        hint = did_you_mean(verb, known) or f"; those that do: {', '.join(sorted(known))}"
        raise NoJsonOutput(f'no verb "{verb}" prints JSON{hint}')
    defined: Schema = {}
    parts = [_form(each, defined) for each in forms]
    whole = parts[0] if len(parts) == 1 else {"anyOf": parts}
    title = f"gateway {'--help' if verb == 'help' else verb} --json"
    head = {"$schema": DIALECT, "$comment": f"gateway {__version__}"}
    return {**head, **whole, "title": title, **({"$defs": defined} if defined else {})}


def _form(of: JsonOutput, defined: Schema) -> Schema:
    """One form, whose definitions go to `defined`."""
    made = _admin_schema(of.admin) if of.admin else _schema_of(load(of.entry))
    defined |= made.pop("$defs", {}) if "$id" not in made else {}
    schema = {name: value for name, value in made.items() if name != "$schema"}
    if of.listed:
        schema = {"type": "array", "items": schema}
    return {"description": of.when, **schema} if of.when else schema


def _schema_of(entry: Any) -> Schema:
    from gateway.reports.output_schema import schema_of

    made: Schema = schema_of(entry) if isinstance(entry, type) else entry()
    return dict(made)


def _admin_schema(name: str) -> Schema:
    """A schema of the admin API with those that it refers to."""
    schemas = _admin_schemas()
    needed, found = [name], dict[str, Any]()
    while needed:
        each = needed.pop()
        if each not in found:
            found[each] = _moved(schemas[each])
            needed += _named(schemas[each])
    return {**found.pop(name), **({"$defs": found} if found else {})}


@cache
def _admin_schemas() -> Schema:
    from gateway.console.api import collected_operations
    from gateway.console.openapi import describe

    schemas: Schema = describe(collected_operations())["components"]["schemas"]
    return schemas


def _named(schema: Any) -> Iterator[str]:
    """The schemas that a schema of the admin API refers to."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].removeprefix(_COMPONENTS)
        for each in schema.values():
            yield from _named(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _named(each)


def _moved(schema: Any) -> Any:
    """The schema with its references to where a JSON Schema has its definitions."""
    if isinstance(schema, dict):
        return {n: f"#/$defs/{v.removeprefix(_COMPONENTS)}" if n == "$ref" else _moved(v) for n, v in schema.items()}
    return [_moved(each) for each in schema] if isinstance(schema, list) else schema
