"""A request as guards judge it: its texts, what cannot be judged, and the request with other texts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.core.errors import BadRequest, NotAllowed
from gateway.proxy.dialects import lenient_json
from gateway.proxy.guards.coverage import MOST_DEPTH, unreadable_member
from gateway.proxy.guards.judged_json import NestedTooDeeply, RepeatedMember, judged_object, unambiguous_object
from gateway.proxy.guards.judging import request_input
from gateway.proxy.guards.texts import NameSlot, Slot, request_slots
from gateway.proxy.request.call import Call


class JudgedRequest:
    """The texts of one request, and the call with the texts as guards have left them."""

    __slots__ = ("_body", "_call", "_fields", "slots")

    def __init__(self, call: Call, body: bytes, guard: str | None) -> None:
        """body: of the call, with its changes. guard: as in read_request, which says what is raised."""
        self._call = call
        self._body = body
        self._fields, self.slots = read_request(body, guard)

    def input(self) -> Mapping[str, Any]:
        """The input of a scorer, with the texts as they are now."""
        return request_input(self._call, self.slots)

    def as_it_came(self, *, searched: bool) -> tuple[list[Slot], Mapping[str, Any]]:
        """The texts and the scorers' input, for guards that judge while others replace texts. searched: by a rule."""
        slots = request_slots(judged_object(self._body) or {}) if searched else self.slots
        return slots, self.input()

    def changed_call(self) -> Call:
        return with_texts(self._call, self._fields, self.slots)


def read_request(body: bytes, guard: str | None) -> tuple[dict[str, Any], list[Slot]]:
    """The members of a request, and its texts. guard: one that is enforced; None if all only observe.

    Raises BadRequest for a request that the guard and its upstream could read differently, and NotAllowed for one that
    no guard can read.
    """
    try:
        read, most_depth = (judged_object, None) if guard is None else (unambiguous_object, MOST_DEPTH)
        fields = read(body) or {}
        slots = request_slots(fields, most_depth)
    except RepeatedMember as error:
        raise BadRequest(
            f'an object in the request has more than one member "{error.name[:100]}", of which servers read one or the '
            f'other, and the guard "{guard}" judges the request; send one',
            param=error.name[:100],
        ) from None
    except NestedTooDeeply:
        raise BadRequest(
            f"the request has more than {MOST_DEPTH} objects and lists within each other, and the guard "
            f'"{guard}" judges no deeper one; send a flatter one'
        ) from None
    if guard is not None and (unread := unreadable_member(fields)) is not None:
        raise NotAllowed(
            f'the guard "{guard}" judges the requests of this key and model, and cannot read "{unread}"; send the text',
            retry=False,
        )
    return fields, slots


def with_texts(call: Call, fields: dict[str, Any], slots: Iterable[Slot]) -> Call:
    """The call with the texts of these fields in place of its own, which are not kept anywhere."""
    slots = tuple(slots)
    names: Iterable[str] = {slot.root: None for slot in slots if slot.changed and slot.root}
    if any(isinstance(slot, NameSlot) and slot.changed for slot in slots):
        names = dict.fromkeys(name for name in (*fields, *call.slices()) if name != "model")
    given = {name: lenient_json.dumps(fields[name]) if name in fields else None for name in names}
    body = call.body_with(given)
    kept = {name: value for name, value in call.fields.items() if given.get(name, b"") is not None}
    seen: dict[str, Any] = {
        name: fields[name] if kept.get(name) is not ... else ... for name in names if name in fields
    }
    return call.with_body(body, {**kept, **seen})
