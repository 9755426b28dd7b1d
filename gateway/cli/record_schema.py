"""The JSON Schema of the stream's entries, for readers in other languages, from the types that the programs share."""

from __future__ import annotations

from typing import Any

from gateway.core.exchange import DELTA, IMPORTED_VERSION, VERSION, Exchange, Feedback, Tally
from gateway.core.request_delta import DeltaHead
from gateway.reports.output_schema import DIALECT, Schema, open_schema_of

RECORD = "record"
"""The name by which `gateway schema --output` prints it."""
_BODIES = ("request", "response")  # fields of an exchange that are values of their own in an entry
_REQ = "What went upstream, as JSON. `{}` where no content is recorded."
_OWN_REQ = "The bytes of the request that its base does not have; `parts` says where they go."
_RES = (
    "What the client got, by `form`. raw: the JSON body, or the server-sent events. assembled: JSON with the answer's "
    "text, reasoning, refusal, tool_calls, finish_reason, usage, …. Empty where no content is recorded."
)


def record_schema() -> Schema:
    """Describes each entry with `head` as the object that its JSON text stands for, and `req` and `res` as text."""
    from gateway import __version__

    defined: Schema = {}
    exchange, delta, tally, feedback = (_head(kind, defined) for kind in (Exchange, DeltaHead, Tally, Feedback))
    entries = [
        _entry("exchange", exchange, req=_REQ, res=_RES),
        _entry(DELTA.decode(), {"allOf": [exchange, delta]}, req=_OWN_REQ, res=_RES),
        _entry("tally", tally),
        _entry("feedback", feedback),
    ]
    about = {"title": "an entry of the stream", "$comment": f"gateway {__version__}"}
    return {"$schema": DIALECT, **about, "oneOf": entries, "$defs": dict(sorted(defined.items()))}


def _head(kind: type, defined: Schema) -> Schema:
    """A reference to the schema of a head, which goes to `defined` with those that it refers to."""
    made = open_schema_of(kind)
    defined |= made.pop("$defs", {})
    head = {name: value for name, value in made.items() if name != "$schema"}
    for body in _BODIES if kind is Exchange else ():
        del head["properties"][body]
        head["required"].remove(body)
    if "v" in head["properties"]:  # it has a default for those who make records; every entry has it
        head["required"].append("v")
        del head["properties"]["v"]["default"]
        head["properties"]["v"]["enum"] = [VERSION, IMPORTED_VERSION] if kind is Exchange else [VERSION]
    defined[kind.__name__] = head
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _entry(kind: str, head: Schema, **bodies: str) -> Schema:
    texts = {name: {"type": "string", "description": about} for name, about in bodies.items()}
    properties: dict[str, Any] = {"kind": {"const": kind}, "head": head, **texts}
    return {"title": kind, "type": "object", "properties": properties, "required": list(properties)}
