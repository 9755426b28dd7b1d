"""The exchanges that have an answer, a text, an end."""

from __future__ import annotations

import pytest

from gateway.core.completion import Completion, ToolCall
from gateway.scorers.preconditions import INCOMPLETE, NO_ANSWER, NO_TEXT, require_answer, require_complete, require_text

CALL = Completion(tool_calls=(ToolCall("1", "f", "{}"),))


@pytest.mark.parametrize(
    ("answer", "fields", "expected"),
    [
        ("hi", {}, (None, None, None)),
        ("", {}, (None, NO_TEXT, None)),
        (CALL, {}, (None, NO_TEXT, None)),
        ("hi", {"api": "embeddings"}, (NO_ANSWER,) * 3),
        ("", {"status": 400}, (NO_ANSWER,) * 3),
        (Completion(error="overloaded"), {"outcome": "upstream_error"}, (NO_ANSWER,) * 3),
        (Completion("half", error="overloaded"), {"outcome": "cut"}, (None, None, None)),
        ("half", {"outcome": "client_gone"}, (None, None, INCOMPLETE)),
        ("half", {"truncated": True}, (None, None, INCOMPLETE)),
    ],
)
def test_a_rule_skips_what_has_nothing_for_it(subject, answer, fields, expected):
    of = subject(answer, **fields)
    assert (require_answer(of), require_text(of), require_complete(of)) == expected
