"""What the verbs that change keys and teams share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import typer

from gateway.features.keys.cli.admin import given, limits_of_options, state_of, worded

Run = Callable[..., CompletedProcess[str]]


def test_limits_are_numbers_texts_or_removed() -> None:
    options = ["usd_per_month=50.5", "requests_per_minute=60", "time_zone=Europe/Berlin", "concurrency="]
    assert limits_of_options(options) == {
        "usd_per_month": 50.5, "requests_per_minute": 60, "time_zone": "Europe/Berlin", "concurrency": None,
    }  # fmt: skip
    assert limits_of_options(None) == {}
    for wrong in ("fifty", "=5"):
        with pytest.raises(typer.BadParameter, match=f'"{wrong}" is no limit'):
            limits_of_options([wrong])


def test_values_are_worded_for_people() -> None:
    values = [{"usd_per_day": 5.0, "concurrency": 2}, ["a", "b"], [{"ends": None}], True, False, None, "x"]
    assert [worded(each) for each in values] == [
        "usd_per_day 5, concurrency 2",
        "a, b",
        "ends None",
        "yes",
        "",
        "",
        "x",
    ]
    assert [state_of({"deleted": d, "disabled": o}) for d, o in ((None, False), (None, True), ("2026", True))] == [
        "in force", "disabled", "deleted",
    ]  # fmt: skip
    assert given(a=1, b=None, c=[]) == {"a": 1, "c": []}


def test_without_a_token_or_a_console_the_remedy_is_said(gateway: Run, tmp_path: Path) -> None:
    finished = gateway("keys", "list")
    assert finished.returncode == 1
    assert finished.stderr.startswith("no admin token: set GATEWAY_ADMIN_TOKEN")
    (tmp_path / ".gateway").mkdir(exist_ok=True)
    (tmp_path / ".gateway" / "admin").write_text("http://127.0.0.1:1 token")
    finished = gateway("teams", "list")
    assert finished.returncode == 1
    assert finished.stderr.startswith("the console at http://127.0.0.1:1 cannot be reached: ")
    assert "token" not in finished.stderr.replace("$GATEWAY_ADMIN", "")
