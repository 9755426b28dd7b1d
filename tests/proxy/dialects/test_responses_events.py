"""The parts of events that are read, whatever an upstream puts into them."""

from __future__ import annotations

import pytest

from gateway.proxy.dialects.responses_events import done_item, ended_response, kind_of, read_response

DEEP = b"[" * 100_000


@pytest.mark.parametrize("event", [b"", b"no", b"[]", b'{"response":3,"item":', DEEP])
def test_anything_but_an_event_is_read_as_nothing(event: bytes) -> None:
    assert (kind_of(event), done_item(event), ended_response(event), read_response(event)) == ("", b"", None, None)


def test_a_type_that_is_not_text_is_none() -> None:
    assert kind_of(b'{"type":3}') == ""


@pytest.mark.parametrize("output", [b"null", b"[]", b"3", b"[ ]"])
def test_a_response_without_output_has_no_items(output: bytes) -> None:
    response = ended_response(b'{"response":{"id":"r","output":' + output + b"}}")
    assert response is not None
    assert (response.id, response.items) == ("r", b"")


def test_items_stay_as_they_came() -> None:
    response = ended_response(b'{"response":{"output": [ {"a" : 1.0e2},2 ] ,"id":"r"}}')
    assert response is not None
    assert response.items == b'{"a" : 1.0e2},2'
