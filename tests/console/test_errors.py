"""An error of the admin API as its client sees it."""

from __future__ import annotations

from gateway.console.errors import AdminError, InvalidBody, StoreAway, StreamAway


def test_an_error_names_its_code_its_message_and_each_mistake() -> None:
    error = InvalidBody("2 mistakes", ["name: missing", "team: unknown"])
    assert (error.status, error.to_dict()) == (
        400,
        {"error": {"code": "invalid_request", "message": "2 mistakes", "mistakes": ["name: missing", "team: unknown"]}},
    )


def test_every_error_has_a_status_and_a_code_of_its_own() -> None:
    kinds = AdminError.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds) >= 8
    statuses = [kind.status for kind in kinds if kind not in (StoreAway, StreamAway)]
    assert len(set(statuses)) == len(statuses)
    assert (StoreAway.status, StreamAway.status) == (503, 503), "the store and the stream server, away alike"
