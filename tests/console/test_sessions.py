"""Sessions hold over processes and restarts, and nobody guesses a form's token."""

from __future__ import annotations

from gateway.console.access import Actor
from gateway.console.sessions import Sessions, csrf_token, same_csrf


async def test_a_session_holds_in_another_process(pages):
    clock = pages.admin.clock
    first, second = (Sessions(pages.store, pages.admin.config, clock) for _ in range(2))
    cookie = await first.begin(Actor("eve", "viewer"))
    visitor = await second.visitor(cookie)
    assert visitor is not None
    assert (visitor.actor, visitor.csrf) == (Actor("eve", "viewer"), csrf_token(cookie))
    assert visitor.may("viewer")
    assert not visitor.may("viewer", content=True)
    assert not visitor.may("labeller")
    await first.end(cookie)
    assert await first.visitor(cookie) is None
    pages.clock[0] += 10
    assert await second.visitor(cookie) is None


async def test_a_link_is_used_up_for_every_process(pages):
    first, second = (Sessions(pages.store, pages.admin.config, pages.admin.clock) for _ in range(2))
    config = pages.config[-1]
    token = config.admin.tokens[0].sha256
    expires = pages.admin.clock() + 60
    assert await first.begin_with_link("one", expires, token) is not None
    assert await second.begin_with_link("one", expires, token) is None
    assert await second.begin_with_link("two", expires, "0" * 64) is None, "its token is not in the config"


def test_a_csrf_token_belongs_to_one_cookie():
    assert same_csrf("cookie", csrf_token("cookie"))
    assert not same_csrf("cookie", csrf_token("other"))
    assert not same_csrf("cookie", "")
    assert not same_csrf("cookie", "\udc80é")
