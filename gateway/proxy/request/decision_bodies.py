"""The format of a decision's request: OpenAI's Decisions API, or System One's. The body says which, not the path.

Sources: openai-python 3.57, DecisionCreateParams; TypeSafe's System One API reference, "Decisions".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Raw, Struct, ValidationError
from msgspec.json import Decoder

from gateway.core.errors import BadRequest
from gateway.proxy.request.call import Api
from gateway.proxy.request.json_members import Members

DECISION_PATHS: Mapping[Api, bytes] = {"decisions": b"/decisions", "systemone": b"/systemone"}
"""Path of each API below the version; a body of one may arrive on the other's."""


_ABSENT = Raw()


class _Question(Struct):
    """One question, of which only what tells SGLang's own form is read."""

    instructions: Raw = _ABSENT
    question: Raw = _ABSENT


_list = Decoder(list[_Question]).decode
_map = Decoder(dict[str, _Question]).decode
_FIRST_NAMES = {b"{": "an object", b"[": "an array", b'"': "a string", b"t": "a boolean", b"f": "a boolean"}
_SGLANG = (
    "this is SGLang's own form of a decision, which clients cannot send here; send OpenAI's (`input`, and a list of "
    "`questions` with `type` and `instructions`) or System One's (`state`, and a map of `questions`)"
)


def decision_api(members: Members, fields: Mapping[str, Any]) -> Api:
    """The API whose format this body has. fields: of the same body, as read_object has them. Raises BadRequest for a
    body of none."""
    with_input = "input" in fields and fields["input"] is not None
    with_state = "state" in fields and fields["state"] is not None
    if "questions" not in fields or fields["questions"] is None:
        raise _missing("questions")
    if with_input and with_state:
        raise BadRequest("a decision has `input` (OpenAI) or `state` (System One), not both", param="state")
    questions = members["questions"]
    try:
        asked = list(_map(questions).values()) if with_state else _list(questions)
    except ValidationError as error:
        raise _unreadable(questions, str(error), with_state=with_state, with_input=with_input) from None
    if not asked:
        raise BadRequest("questions must not be empty", param="questions")
    if asked[0].question is not _ABSENT and asked[0].instructions is _ABSENT:
        raise BadRequest(_SGLANG, param="questions")
    if not with_input and not with_state:
        raise _missing("input")
    return "systemone" if with_state else "decisions"


def question_count(members: Mapping[str, Raw]) -> int:
    """The number of questions of a request in either format; 0 for what is not one."""
    questions = members.get("questions")
    if questions is None:
        return 0
    try:
        return len(_list(questions) if bytes(memoryview(questions)[:1]) == b"[" else _map(questions))
    except ValidationError:
        return 0


def repeated_bytes(members: Mapping[str, Raw]) -> int:
    """Bytes that an engine reads again for each question after the first: some bill the input once for each."""
    shared = members.get("state", members.get("input"))
    return 0 if shared is None else len(memoryview(shared)) * max(0, question_count(members) - 1)


def _missing(name: str) -> BadRequest:
    return BadRequest(f"missing required parameter: {name}", param=name, code="missing_required_parameter")


def _unreadable(questions: Raw, error: str, *, with_state: bool, with_input: bool) -> BadRequest:
    """error: msgspec's, which names the place, as "Expected `object`, got `str` - at `$[1]`"."""
    first = bytes(memoryview(questions)[:1])
    if first == b"{" and not with_state and not with_input:
        return _missing("state")
    form, name, expected = ("System One's", "state", b"{") if with_state else ("OpenAI's", "input", b"[")
    if first != expected:
        return BadRequest(
            f"questions must be {_FIRST_NAMES[expected]} in {form} format, which a body with `{name}` has, not "
            f"{_FIRST_NAMES.get(first, 'a number')}",
            param="questions",
        )
    place = error.partition("$[")[2].partition("]")[0]
    return BadRequest(
        "each question must be an object", param=f"questions[{place}]" if place.isdecimal() else "questions"
    )
