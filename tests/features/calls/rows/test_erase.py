"""All data of one caller, user or call are deleted, and nothing of any other. On both databases."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.exchange import Exchange, Feedback, user_digest
from gateway.features.calls.rows.erase import (
    ERASED,
    ErasureRequest,
    count,
    erase,
    erase_loose_feedback,
    find,
    note_erasure,
)
from gateway.features.labels.rows import Label, save_labels

Make = Callable[..., Exchange]


def label(exchange_id: str) -> Label:
    return Label("stated", "exchange", exchange_id, "ada", 1.0, None, "zoe", "1", "c1", "", 1.0, None, None, 0.0, 1.0)


@pytest.fixture
def later() -> float:
    """More than an hour after what the test stores."""
    return time.time() + 4000


@pytest.fixture
def found(store: Any) -> Callable[[ErasureRequest], set[str]]:
    """The ids of the exchanges that an erasure request finds."""
    return lambda request: set(store.run(lambda c: list(find(c, request))))


def ids(store: Any, table: str = "exchanges", column: str = "id") -> set[str]:
    return {row[0] for row in store.sql(f"SELECT {column} FROM {table}")}  # noqa: S608


def test_a_callers_calls_go_with_all_that_belongs_to_them(store: Any, exchange: Make, found: Any, later: float) -> None:
    hers, his = exchange("0.5", caller="ada"), exchange("1", caller="bob")
    shadow = exchange("0.25", caller="ada", pair=hers.id, role="shadow")
    store.write(hers, his, shadow, *(Feedback(e.id, e.id, e.caller, 1.0, "thumb", 1.0) for e in (hers, his)))
    store.write(Feedback("nothing here", "lost", "ada", 1.0, "thumb", 1.0, comment="zoe"))
    store.run(lambda c: save_labels(c, [label(hers.id), label(his.id)]))
    request = ErasureRequest("caller", "ada")
    assert found(request) == {hers.id, shadow.id}
    counted = store.run(lambda c: count(c, request)).n
    assert (counted["exchanges"], counted["labels"], counted["feedback"]) == (2, 1, 1)
    assert counted["feedback without an exchange"] == 1
    before = store.snapshot().cells
    done = store.run(lambda c: erase(c, list(find(c, request)), later)).n
    assert (done["exchanges deleted"], done["exchanges emptied"], done["feedback"], done["labels"]) == (2, 0, 1, 1)
    assert store.run(lambda c: erase_loose_feedback(c, request)) == 1
    assert ids(store) == {his.id}
    assert ids(store, "scores", "exchange_id") == {his.id}
    assert ids(store, "feedback", "exchange_id") == ids(store, "labels", "subject_id") == {his.id}
    assert store.snapshot().cells == before, "sums stay"
    assert found(request) == set()


def test_a_user_is_found_by_the_digest_and_in_older_bodies(store: Any, exchange: Make, found: Any) -> None:
    by_digest = exchange(user_digest=user_digest("alice"))
    bodies = (b'{"user":"alice"}', b'{"safety_identifier":"alice"}', b'{"metadata":{"user_id":"alice"}}')
    older = [exchange(request=body) for body in bodies]
    others = [
        exchange(user_digest=user_digest("bob"), request=b'{"user":"alice"}'),  # the header wins over the body
        exchange(request=b'{"user":"alice2"}'),
        exchange(request=b'{"messages":[{"role":"user","content":"\\"user\\":\\"alice\\""}]}'),
        exchange(request=b'{"user":"alice"'),
    ]
    store.write(by_digest, *older, *others)
    assert found(ErasureRequest("user", "alice")) == {by_digest.id, *(e.id for e in older)}


def test_more_users_than_a_page_are_found(store: Any, exchange: Make, found: Any) -> None:
    sent = [exchange(user_digest=user_digest("u" if n % 2 else "v")) for n in range(1100)]
    store.write(*sent)
    assert found(ErasureRequest("user", "u")) == {e.id for e in sent[1::2]}


def test_one_call_goes_with_its_shadows(store: Any, exchange: Make, found: Any, later: float) -> None:
    served, other = exchange(), exchange()
    store.write(served, other, exchange(pair=served.id, role="shadow"))
    request = ErasureRequest("exchange", served.id)
    assert len(found(request)) == 2
    store.run(lambda c: erase(c, list(find(c, request)), later))
    assert ids(store) == {other.id}


@pytest.mark.parametrize("why", ["experiment", "recent"])
def test_rows_that_must_stay_keep_numbers_only(store: Any, exchange: Make, found: Any, later: float, why: str) -> None:
    trial = {"experiment": "swap", "plan": "p", "arm": "control"} if why == "experiment" else {}
    hers = exchange(
        "0.5", caller="ada", client_id="zoe", reference="zoe", cluster="c", unit="zoe's talk",
        user_digest=user_digest("zoe"), upstream_id="resp_1", prompt_digest="hers", **trial,
    )  # fmt: skip
    store.write(hers, Feedback(hers.id, "f", "ada", 1.0, "thumb", 1.0, label="zoe was unkind", comment="zoe"))
    request = ErasureRequest("caller", "ada")
    done = store.run(lambda c: erase(c, list(find(c, request)), later if why == "experiment" else time.time())).n
    assert (done["exchanges deleted"], done["exchanges emptied"]) == (0, 1)
    (row,) = store.sql(
        "SELECT caller, unit, client_id, reference, cluster, user_digest, prompt_digest, upstream_id, text, "
        "total_s, pi FROM exchanges"
    )
    assert row == (ERASED, ERASED, None, None, None, None, None, None, "", 0.5, 1.0)
    assert set(store.sql("SELECT explanation, detail FROM scores")) == {(None, None)}
    given = store.sql("SELECT value, label FROM scores WHERE kind = 'feedback'")
    assert given == [(1.0, None)], "a label of feedback is any text that its caller writes"
    for each in (request, ErasureRequest("user", "zoe"), ErasureRequest("exchange", hers.id)):
        assert found(each) == set(), "once"


def test_the_audit_names_a_digest_only(store: Any) -> None:
    request = ErasureRequest("user", "alice@example.org")
    store.run(lambda c: note_erasure(c, request, "command line (root)", {"exchanges deleted": 3}, 5.0))
    (row,) = store.sql("SELECT at, actor, action, kind, subject, after FROM audit")
    assert row == (5.0, "command line (root)", "erase", "user", request.digest, '{"exchanges deleted":3}')
    assert request.digest != ErasureRequest("caller", "alice@example.org").digest
