"""A notice survives its way through the store."""

from __future__ import annotations

import pytest

from gateway.core.notice import Notice, notice_from_json, notice_to_json

pytestmark = pytest.mark.quick


def test_a_notice_is_read_as_it_was_written() -> None:
    notice = Notice(
        "a:1", "budget", "title", "line\nline", 5.5, "/console/keys", "critical", {"spent": 1.5, "by": ["x"]}
    )
    assert notice_from_json(notice_to_json(notice)) == notice
