"""Every notice becomes one message: one subject line, no markup of its own, and a bounded length."""

from __future__ import annotations

import json
from email import message_from_bytes, policy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.notify import NotifyTarget
from gateway.core.notice import Notice
from gateway.features.notices.messages import MOST_LISTED, link_of, mail_of, slack_body, teams_body, title_of

pytestmark = pytest.mark.quick
AT = 1_790_000_000.0
MAIL = NotifyTarget(kind="mail", smtp="h", sender="gw@example.org", to=("a@example.org",))
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)


def a_notice(title: str, text: str = "text") -> Notice:
    return Notice("id:1", "budget", title, text, AT, "/console", "info")


@given(TEXT, TEXT)
def test_a_mail_has_the_headers_that_it_is_given_and_no_others(title: str, text: str) -> None:
    raw = mail_of("id:1", [a_notice(title, text)], "", MAIL, AT).as_bytes()
    read: Any = message_from_bytes(raw, policy=policy.default)
    names = {name.lower() for name in read}
    assert names <= {
        "subject", "from", "to", "date", "message-id", "auto-submitted", "content-type", "content-transfer-encoding",
        "mime-version",
    }  # fmt: skip
    assert read["to"] == "a@example.org"


@given(TEXT, TEXT)
def test_slack_gets_no_link_or_mention_that_is_not_ours(title: str, text: str) -> None:
    body = json.loads(slack_body([a_notice(title, text)], "https://c.example.org"))["text"]
    assert body.count("<") == body.count(">") == 1


@given(st.lists(TEXT, min_size=1, max_size=60))
def test_a_message_of_many_notices_is_bounded(titles: list[str]) -> None:
    notices = [a_notice(title) for title in titles]
    card = json.loads(teams_body(notices, ""))["attachments"][0]["content"]
    assert len(card["body"]) <= 2 * MOST_LISTED + 1
    assert len(title_of(notices)) <= 330


def test_links_lead_to_the_console_with_or_without_a_slash() -> None:
    for url in ("https://c.example.org", "https://c.example.org/"):
        assert link_of(a_notice("t"), url) == "https://c.example.org/console"
    assert link_of(a_notice("t"), "") == ""
