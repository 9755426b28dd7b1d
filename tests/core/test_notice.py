"""A notice survives its way through the store."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from gateway.core.notice import (
    SEVERITIES,
    Notice,
    Priority,
    Severity,
    Subject,
    notice_from_json,
    notice_to_json,
)

pytestmark = pytest.mark.quick


def test_a_notice_is_read_as_it_was_written() -> None:
    notice = Notice(
        "a:1", "budget", "title", "line\nline", 5.5, "/console/keys", "critical", {"spent": 1.5, "by": ["x"]}
    )
    assert notice_from_json(notice_to_json(notice)) == notice


def sent(subject: Subject, severity: Severity) -> str:
    notice = Notice("a:1", subject, "title", "text", 5.5, "/console", severity)
    return {Priority.AT_ONCE: "at once", Priority.LIMITED: "within `per_hour`", Priority.DIGEST: "hourly digest"}[
        notice.priority
    ]


def test_the_page_lists_every_severity_in_the_order_sent() -> None:
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    table = page.read_text().partition("### Severity")[2].partition("### Kinds")[0]
    rows = [tuple(cell.strip() for cell in line.split("|")[2:4]) for line in table.splitlines()[4:] if line]
    causes = [(severity, sent(cause.partition(".")[0], severity)) for cause, severity in SEVERITIES.items()]  # type: ignore[arg-type]
    assert sorted(rows) == sorted(causes)
    assert rows == sorted(rows, key=lambda row: ["at once", "within `per_hour`", "hourly digest"].index(row[1]))


def test_every_subject_has_a_cause_with_a_severity() -> None:
    assert {cause.partition(".")[0] for cause in SEVERITIES} == set(get_args(Subject))
