"""The credential of an upstream in what it says: each spelling is hidden, in any split of the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.upstreams import Upstream
from gateway.proxy.http.auth.secret_mask import MaskedStream, SecretMask

KEY = "sk/of+the/gateway"
MASK = SecretMask(
    Upstream(kind="openai", api_key=KEY, headers={"x-team": "short", "x-key": "Bearer another-long-secret"}),
    lambda: [b"token/of/a/cloud"],
)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("bad key sk/of+the/gateway", "bad key [key]"),
        ("bad key sk\\/of+the\\/gateway", "bad key [key]"),
        ("bad key sk\\u002fof+the\\u002fgateway", "bad key [key]"),
        ("?key=sk%2Fof%2Bthe%2Fgateway&", "?key=[key]&"),
        ("another-long-secret", "[key]"),
        ("token\\/of\\/a\\/cloud", "[token]"),
        ("a short answer", "a short answer"),
    ],
)
def test_every_spelling_is_hidden(said: str, shown: str) -> None:
    assert MASK.text(said) == shown
    assert MASK(said.encode()) == shown.encode()


def test_an_upstream_without_credentials_has_nothing_to_hide() -> None:
    mask = SecretMask(Upstream(kind="openai", base_url="http://h/v1"))
    assert (mask(b"any"), mask.longest) == (b"any", 0)


@given(st.lists(st.integers(0, 60), max_size=6), st.text(max_size=8), st.text(max_size=8))
def test_a_stream_is_masked_in_any_split(cuts: list[int], before: str, after: str) -> None:
    body = f"{before}{KEY}{after}{KEY}".encode()
    stream, out, at = MaskedStream(MASK), b"", 0
    for cut in sorted(cuts):
        out += stream.feed(body[at:cut])
        at = max(at, cut)
    out += stream.feed(body[at:]) + stream.end()
    assert out == f"{before}[key]{after}[key]".encode()
