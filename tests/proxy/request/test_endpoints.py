"""The table of what is routed by model."""

from __future__ import annotations

from typing import get_args

from gateway.proxy.request.call import Api
from gateway.proxy.request.endpoints import (
    AT_ROOT,
    ENDPOINTS,
    OUTSIDE,
    VENDORS,
    read_form,
    read_form_or_json,
    read_json,
)


def test_every_api_but_passthrough_has_a_path() -> None:
    assert {e.api for e in (ENDPOINTS | OUTSIDE | VENDORS).values()} == set(get_args(Api)) - {"passthrough"}


def test_only_what_says_something_is_recorded_for_evaluation() -> None:
    recorded = {e.api for e in ENDPOINTS.values() if e.carries_text}
    assert recorded == {"chat", "completions", "responses", "messages", "decisions", "systemone"}


def test_only_json_answers_are_held_until_complete() -> None:
    passing = {e.api for e in ENDPOINTS.values() if not e.json_answer}
    assert passing == {"transcriptions", "translations", "speech"}
    assert {e.read for e in ENDPOINTS.values()} == {read_json, read_form, read_form_or_json}


def test_every_path_is_served_below_the_version() -> None:
    assert all(p.startswith(b"/") and not p.startswith(b"/v1") and not p.endswith(b"/") for p in ENDPOINTS)
    assert set(ENDPOINTS) >= AT_ROOT
