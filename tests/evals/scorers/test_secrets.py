"""Secrets in an answer are counted by kind and never repeated."""

from __future__ import annotations

import pytest

from gateway.core.completion import Completion, ToolCall
from gateway.evals.scorers.secrets import Secrets
from gateway.evals.scoring.types import Score, Skipped

RULE = Secrets("secrets")
MAIL = "ada@example.org"


def test_the_explanation_names_kinds_and_never_what_was_found(ask, subject):
    said = ask(RULE, subject(f"Write to {MAIL} or bob@example.org, card 4111 1111 1111 1111."))
    assert said == Score(1.0, "card+email", "found 1 card, 2 email", {"card": 1.0, "email": 2.0})


def test_arguments_of_calls_are_read_too(ask, subject):
    call = Completion(tool_calls=(ToolCall("1", "send", f'{{"to": "{MAIL}"}}'),))
    assert ask(RULE, subject(call)).label == "email"


@pytest.mark.parametrize(("kinds", "value"), [(("email",), 1.0), (("card", "key"), 0.0), ((), 0.0)])
def test_only_the_chosen_kinds_count(ask, subject, kinds, value):
    assert ask(Secrets("secrets", kinds=kinds), subject(MAIL)).value == value


def test_a_failed_call_holds_nothing(ask, subject):
    assert isinstance(ask(RULE, subject(Completion(error=MAIL), status=500)), Skipped)
