"""Properties that the relay expects of every dialect and reader, for every provider and client."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.config.upstreams import Upstream
from gateway.core.errors import UpstreamFailed
from gateway.core.providers import PROVIDERS
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.dialects.types import Cut, Dialect
from gateway.proxy.request.call import Call

MakeCall = Callable[..., Call]


@pytest.fixture(params=sorted(PROVIDERS))
def dialect(request: pytest.FixtureRequest, make_upstream: Callable[..., Upstream]) -> Dialect:
    """The dialect of each kind of upstream."""
    kind = request.param
    return build_dialect(make_upstream(kind, base_url=PROVIDERS[kind].base_url or "https://name.example.com/openai/v1"))


@pytest.mark.parametrize("api", ["chat", "messages"])
def test_a_new_reader_has_seen_nothing(dialect: Dialect, make_call: MakeCall, api: str) -> None:
    reader = dialect.reader(make_call(api, stream=True), True)
    assert (reader.first_content, reader.finished, reader.complete) == (False, False, False)
    assert (reader.error, reader.usage, reader.text) == (None, None, "")


@pytest.mark.parametrize("api", ["chat", "messages"])
@pytest.mark.parametrize("stream", [b"", b": comment\n\n"])
def test_a_stream_without_a_finish_is_cut(dialect: Dialect, make_call: MakeCall, api: str, stream: bytes) -> None:
    reader = dialect.reader(make_call(api, stream=True), False)
    reader.feed(stream)
    with pytest.raises(Cut):
        reader.end()
    assert reader.end() == b"", "a second call owes nothing"


@pytest.mark.parametrize("api", ["chat", "messages"])
def test_an_error_event_is_separated_from_half_an_event(dialect: Dialect, make_call: MakeCall, api: str) -> None:
    event = dialect.broken(make_call(api, stream=True), UpstreamFailed("no"))
    assert event.startswith(b"\n\n")
    assert event.endswith(b"\n\n")
    assert b"[DONE]" not in event
