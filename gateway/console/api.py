"""Parts of the admin API: operations with the schemas of their answers. Features declare theirs, app.py serves
them, and openapi.py describes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
import orjson

from gateway.config.admin import Role
from gateway.console.access import Actor
from gateway.console.admin import Admin
from gateway.console.errors import InvalidBody
from gateway.features import FEATURES
from gateway.features.manifest import in_order, load
from gateway.reports.output_schema import schema_of

Method = Literal["GET", "POST", "PATCH", "DELETE"]
Schema = dict[str, Any]
MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class ShownSecret:
    """A secret that a caller sent in place of an admin token, and that has not been checked yet."""

    secret: str = field(repr=False)
    address: str
    """The client's address."""


@dataclass(frozen=True, slots=True)
class AdminCall:
    """A request, after authentication."""

    admin: Admin
    actor: Actor
    path: Mapping[str, str]
    """The parameters in the path."""
    query: Mapping[str, str]
    body: Mapping[str, Any]
    """Empty if the request has no body."""
    shown: ShownSecret | None = None
    """The caller's secret, of an operation for callers alone."""


@dataclass(frozen=True, slots=True)
class AdminAnswer:
    body: Any
    """A text is CSV; everything else becomes JSON."""
    status: int = 200


Handler = Callable[[AdminCall], Awaitable[AdminAnswer]]


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A parameter in the query, for the reader and for the description."""

    name: str
    schema: Mapping[str, Any]
    about: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path."""

    method: Method
    path: str
    """The URL path, with {id} in place of a name."""
    about: str
    role: Role
    handler: Handler
    answer: str
    """The name of the answer's schema, one of AdminOperations.schemas."""
    body: type[Any] | None = None
    """The model of the body; None if it takes none."""
    patch: bool = False
    """The body is a JSON merge patch of the model: every part may be left out, and null removes a value."""
    query: tuple[QueryParameter, ...] = ()
    status: int = 200
    errors: tuple[int, ...] = field(default=(400, 404, 409))
    basic: bool = False
    """The token may also be the password of HTTP's Basic authentication: for callers that know no other."""
    csv: bool = False
    """Whether it can also answer with CSV."""
    scoped: bool = False
    """Whether it is also for rights that are limited to a team or an organization. It reads with AdminCall.admin alone,
    which has nothing of others; changes of keys and teams are checked in their transaction."""
    of_key: bool = False
    """Whether it is for callers. The token is the secret of a key, which the handler checks; no role is needed."""


@dataclass(frozen=True, slots=True)
class AdminOperations:
    operations: tuple[Operation, ...]
    schemas: Callable[[Mapping[str, Schema]], Mapping[str, Schema]]
    """Returns the schemas of the answers by name, from those of the models in the bodies."""


def collected_operations() -> tuple[AdminOperations, ...]:
    """The operations of all features, in the order of the description."""
    found = in_order(addition for feature in FEATURES for addition in feature.operations)
    return tuple(load(addition.entry) for addition in found)


LIMIT = QueryParameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100}, "Rows of one page."
)
BEFORE = QueryParameter("before", {"type": "string"}, "The `next` of the previous page.")


def limit_of(query: Mapping[str, str]) -> int:
    """The parameter LIMIT. Raises InvalidBody."""
    text = query.get("limit", "100")
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidBody(f"limit: expected a number from 1 to {MAX_LIMIT}, got {text[:20]!r}")
    return int(text)


def flag_of(query: Mapping[str, str], name: str) -> bool | None:
    """A parameter that is true or false; None means that it is left out. Raises InvalidBody."""
    text = query.get(name)
    if text not in (None, "true", "false"):
        raise InvalidBody(f"{name}: expected true or false, got {text[:20]!r}")
    return None if text is None else text == "true"


Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""A time of day and its date, in a typed dictionary of an answer."""
MOMENT: Schema = {"type": ["string", "null"], "format": "date-time"}


def object_schema(properties: Mapping[str, Schema]) -> Schema:
    closed = {"type": "object", "additionalProperties": False}
    return closed | {"required": list(properties), "properties": dict(properties)}


def page_schema(item: Schema) -> Schema:
    more = {"type": ["string", "null"], "description": "Where the next page begins; null: this is the last one."}
    return object_schema({"data": {"type": "array", "items": item}, "next": more})


def typed_schemas(**answers: type) -> dict[str, Schema]:
    """The schemas of answers by name, from their typed dictionaries, and those of the types within them."""
    found: dict[str, Schema] = {}
    for name, kind in answers.items():
        moved = orjson.dumps(schema_of(kind)).replace(b"#/$defs/", b"#/components/schemas/")
        made: Schema = orjson.loads(moved)
        del made["$schema"]
        found |= made.pop("$defs", {}) | {name: made}
    return found


def reference(name: str) -> Schema:
    """A reference to the schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}
