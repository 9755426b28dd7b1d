"""An error of the admin API as its client sees it."""

from __future__ import annotations

from gateway.console.errors import AdminError, InvalidBody


def test_an_error_names_its_code_its_message_and_each_mistake() -> None:
    error = InvalidBody("2 mistakes", ["name: missing", "team: unknown"])
    assert (error.status, error.to_dict()) == (
        400,
        {"error": {"code": "invalid_request", "message": "2 mistakes", "mistakes": ["name: missing", "team: unknown"]}},
    )


def test_every_error_has_a_status_and_a_code_of_its_own() -> None:
    kinds = AdminError.__subclasses__()
    assert len({kind.code for kind in kinds}) == len({kind.status for kind in kinds}) == len(kinds) >= 8
