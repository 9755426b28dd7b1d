"""The operations for callers: their own key, by its secret and without an admin token."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.console.api import (
    MOMENT,
    AdminAnswer,
    AdminCall,
    AdminOperations,
    Operation,
    Schema,
    object_schema,
    reference,
)
from gateway.features.own_key.holder import KeyHolder, holder_by_secret, read_own_key, rotate_own_key, rotated_view


async def _read(call: AdminCall) -> AdminAnswer:
    return AdminAnswer((await read_own_key(call.admin, await _holder(call))).to_dict())


async def _rotate(call: AdminCall) -> AdminAnswer:
    return AdminAnswer(rotated_view(await rotate_own_key(call.admin, await _holder(call))))


async def _holder(call: AdminCall) -> KeyHolder:
    assert call.shown is not None  # noqa: S101 - every operation for callers has one
    return await holder_by_secret(call.admin, call.shown.secret, call.shown.address)


def _schemas(models: Mapping[str, Schema]) -> dict[str, Schema]:
    return {"own_key": _own_key_schema(), "rotated_own_key": _rotated_schema()}


def _own_key_schema() -> Schema:
    text: Schema = {"type": "string"}
    maybe: Schema = {"type": ["string", "null"]}
    number: Schema = {"type": "number"}
    texts: Schema = {"type": "array", "items": text}
    amounts = dict.fromkeys(("amount", "used", "spent", "reserved", "remaining"), number)
    limit = {"scope": text, "limit": text, **amounts, "reset": MOMENT}
    return object_schema(
        {
            "id": text,
            "name": text,
            "team": maybe,
            "organization": maybe,
            "person": maybe,
            "models": {"anyOf": [texts, {"type": "null"}]},
            "tags": texts,
            "expires": MOMENT,
            "secret_ends": {
                **MOMENT,
                "description": "When the secret that was sent stops opening the key; null: never.",
            },
            "rotates": {"type": "boolean", "description": "The secret that was sent can be replaced now."},
            "limits": {"type": "array", "items": object_schema(limit)},
            "limits_known": {"type": "boolean", "description": "false: the stream server does not answer."},
            "usage": {**reference("usage"), "description": "This month, by day and model name."},
        }
    )


def _rotated_schema() -> Schema:
    ends = {**MOMENT, "description": "When the secret that was sent stops opening the key."}
    text: Schema = {"type": "string"}
    secret = {"type": "string", "description": "Shown once, and stored nowhere."}
    return object_schema(
        {
            "id": text,
            "name": text,
            "secret": secret,
            "earlier_secret_ends": ends,
            "published": {"type": "boolean", "description": "Gateways accept it within a second."},
        }
    )


_READ = "Read the caller's own key: its use of this month, and what is left of its limits."
_ROTATE = "Replace the secret that was sent by a new one, which is shown once; the present one stays for the grace."
OPERATIONS = AdminOperations(
    (
        Operation("GET", "/me/v1/key", _READ, "viewer", _read, "own_key", errors=(404,), of_key=True),
        Operation(
            "POST", "/me/v1/key/rotate", _ROTATE, "viewer", _rotate, "rotated_own_key", errors=(404, 409), of_key=True
        ),
    ),
    _schemas,
)
