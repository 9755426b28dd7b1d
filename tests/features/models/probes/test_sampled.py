"""Requests from recorded traffic: what their keys allow, one of each conversation, and the same ones in each round."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.config.loading import parse
from gateway.features.models.probes.model import MOST_TOKENS, ProbeAnswer, ProbeRound
from gateway.features.models.probes.sampled import MOST_REQUESTS, sampled_requests
from gateway.store.query import reading

DIGESTS = [f"{n:063x}a" for n in range(4)]
CONFIG = f"""
keys:
  - {{name: web, sha256: {DIGESTS[0]}}}
  - {{name: private, sha256: {DIGESTS[1]}, content: metadata}}
  - {{name: evals, sha256: {DIGESTS[2]}, sample: never}}
  - {{name: gone, sha256: {DIGESTS[3]}, disabled: true}}
upstreams: {{a: {{kind: fake}}}}
models: {{chat: {{targets: [{{upstream: a, model: m}}]}}}}
"""


def body(text: str, **more: Any) -> bytes:
    return json.dumps(
        {"model": "chat", "stream": True, "messages": [{"role": "user", "content": text}], **more}
    ).encode()


@pytest.fixture
def choose(keep: Callable[..., str], exchange: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Chooses among calls, which are fields of exchanges in order of arrival."""

    def run(*calls: dict[str, Any], config: str = CONFIG) -> list[Any]:
        made = [
            exchange("1", **{"caller": "web", "alias": "chat", "received": 1000.0 + at, "cluster": f"c{at}", **call})
            for at, call in enumerate(calls)
        ]
        with reading(keep(made)) as connection:
            return sampled_requests(connection, parse(config), "chat", None)

    return run


def texts(found: list[Any]) -> set[str]:
    return {request.request["messages"][0]["content"] for request in found}


def test_only_what_a_key_allows_now_is_asked(choose: Callable[..., list[Any]]) -> None:
    """A call of a key that nobody knows is left out, too."""
    calls = [{"caller": name, "request": body(name)} for name in ("web", "private", "evals", "gone", "nobody", "open")]
    assert texts(choose(*calls)) == {"web"}
    assert texts(choose(*calls, config="open: true\n" + CONFIG[CONFIG.index("upstreams") :])) == {"open"}


def test_content_that_the_deployment_does_not_record_is_not_asked(choose: Callable[..., list[Any]]) -> None:
    assert choose({"request": body("old")}, config="redaction: {default: metadata}\n" + CONFIG) == []


def test_a_conversation_gives_one_request(choose: Callable[..., list[Any]]) -> None:
    """Equal requests count once; images, and what is too long or not whole, cannot be asked."""
    image = "sha256=" + "0" * 64 + ";bytes=7;type=image/png"
    found = choose(
        {"request": body("first"), "cluster": "one"},
        {"request": body("second"), "cluster": "one"},
        {"request": body("twice"), "cluster": "two"},
        {"request": body("twice"), "cluster": "three"},
        {"request": body(image)},
        {"request": body("x" * 20_000)},
        {"request": body("cut")[:30], "truncated": True},
        {"request": body("failed"), "outcome": "upstream_error"},
        {"request": body("other"), "alias": "mail"},
    )
    assert texts(found) == {"second", "twice"}
    assert {request.limit for request in found} == {MOST_TOKENS}
    assert all("stream" not in request.request for request in found)


def test_requests_stay_while_their_records_do(keep: Callable[..., str], exchange: Callable[..., Any]) -> None:
    """The newest call takes the place of one whose record was deleted."""
    made = [
        exchange("1", caller="web", alias="chat", received=1000.0 + n, cluster=f"c{n}", request=body(f"question {n}"))
        for n in range(2 * MOST_REQUESTS)
    ]
    asked = [ProbeAnswer(each.id, "exact", "d", (), 1, 1, None) for each in made[: MOST_REQUESTS - 1]]
    deleted = ProbeAnswer("deleted", "exact", "d", (), 1, 1, None)
    before = ProbeRound("chat", "a/m", 1.0, "d", "baseline", answers=(*asked, deleted))
    with reading(keep(made)) as connection:
        found = sampled_requests(connection, parse(CONFIG), "chat", before)
    numbers = {int(text.split()[1]) for text in texts(found)}
    assert numbers == {*range(MOST_REQUESTS - 1), 2 * MOST_REQUESTS - 1}
