"""Sessions and used links. On both databases."""

from __future__ import annotations

from gateway.store.sessions import SessionRow, add_session, delete_session, find_session, use_link


def a_session(digest="d1", expires=100.0):
    return SessionRow(digest, "ada", "owner", True, "t", 1.0, expires)


def test_a_session_is_found_until_it_is_deleted(store):
    store.run(lambda c: add_session(c, a_session(), 1.0))
    assert store.run(lambda c: find_session(c, "d1")) == a_session()
    assert store.run(lambda c: find_session(c, "d2")) is None
    store.run(lambda c: delete_session(c, "d1"))
    assert store.run(lambda c: find_session(c, "d1")) is None


def test_expired_sessions_are_removed_with_the_next_login(store):
    store.run(lambda c: add_session(c, a_session(expires=10.0), 1.0))
    store.run(lambda c: add_session(c, a_session("d2"), 10.0))
    assert store.run(lambda c: find_session(c, "d1")) is None


def test_a_link_is_used_once(store):
    assert store.run(lambda c: use_link(c, "l", 100.0, 1.0))
    assert not store.run(lambda c: use_link(c, "l", 100.0, 2.0))
    assert store.run(lambda c: use_link(c, "m", 100.0, 200.0))
