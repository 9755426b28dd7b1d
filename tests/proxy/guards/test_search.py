"""Texts are searched where they are, and what is JSON stays JSON."""

from __future__ import annotations

import orjson
import pytest

from gateway.config.privacy import RULES
from gateway.proxy.guards.rules import FormRule
from gateway.proxy.guards.search import RuleHits, search
from gateway.proxy.guards.texts import Slot

MAIL = "ada@example.org"


@pytest.mark.parametrize("redacts", [False, True])
def test_hits_are_counted_whether_they_are_replaced_or_not(redacts: bool) -> None:
    hits = RuleHits(FormRule(RULES), redacts)
    holder = {"a": f"{MAIL} and {MAIL}", "b": "nothing"}
    assert search([Slot(holder, "a"), Slot(holder, "b")], [hits]) is redacts
    assert (hits.matches, list(hits.found)) == (2, ["email"])
    assert holder == {"a": "[email] and [email]" if redacts else f"{MAIL} and {MAIL}", "b": "nothing"}


def test_only_the_rules_that_redact_replace() -> None:
    mail, key = RuleHits(FormRule(["email"]), True), RuleHits(FormRule(["key"]), False)
    secret = "sk-" + "proj-" + "Ab3" * 14
    holder = {"a": f"{MAIL} {secret}"}
    assert search([Slot(holder, "a")], [mail, key])
    assert holder["a"] == f"[email] {secret}"
    assert (mail.matches, key.matches) == (1, 1)


def test_escapes_hide_nothing() -> None:
    hits = RuleHits(FormRule(RULES), True)
    holder = {"a": '{"to": "ada\\u0040example.org", "password": "x7"}'}
    assert search([Slot(holder, "a")], [hits])
    assert orjson.loads(holder["a"]) == {"to": "[email]", "password": "[secret]"}


def test_a_tools_input_is_searched_as_json() -> None:
    hits = RuleHits(FormRule(RULES), True)
    holder = {"input": {"to": [MAIL], "n": 4111111111111111, "ok": True}}
    assert search([Slot(holder, "input")], [hits])
    assert holder["input"] == {"to": ["[email]"], "n": "[card]", "ok": True}
