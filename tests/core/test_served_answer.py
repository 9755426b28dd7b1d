"""Whose answer a recorded answer is: of the arm's own target, or of a fallback."""

from __future__ import annotations

from dataclasses import replace

from gateway.core.exchange import Target
from gateway.core.learned_route import ROUTE
from gateway.core.served_answer import ServedAnswer

ANSWER = ServedAnswer("x", "candidate", "u", ("candidate", "chat", "a/m", "all"), "ok", 200, 1.0, None, 1, None, 1.0, 9)


def test_an_answer_of_another_target_is_a_fallbacks() -> None:
    assert ANSWER.is_own(Target("a", "m"))
    assert not ANSWER.is_own(Target("b", "m"))


def test_a_learned_route_owns_what_it_chose_itself() -> None:
    route = Target(ROUTE, "cheap")
    assert replace(ANSWER, route="cheap/3", fell_back=False).is_own(route)
    assert not replace(ANSWER, route="cheap/3", fell_back=True).is_own(route)
    assert not replace(ANSWER, route="other/3", fell_back=False).is_own(route)
