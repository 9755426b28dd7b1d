"""Every notice becomes one message: one subject line, no markup of its own, and a bounded length."""

from __future__ import annotations

import json
import re
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


@given(TEXT, TEXT)
def test_teams_gets_no_link_or_emphasis_that_is_not_ours(title: str, text: str) -> None:
    card = json.loads(teams_body([a_notice(title, text)], ""))["attachments"][0]["content"]
    for block in card["body"]:
        bare = re.sub(r"\\[^\n]", "", block["text"])
        assert not set(bare) & set("\\`*_[]~")
        assert not re.search(r"^[ \t]*([-+#>]|\d+[.)])", block["text"], re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("[pay](https://evil.example)", r"\[pay\](https://evil.example)"),
        ("web_*bold*", r"web\_\*bold\*"),
        ("1. first\n- second", "1\\. first\n\\- second"),
        ("gpt-5.4 used 50 %", "gpt-5.4 used 50 %"),
    ],
)
def test_a_name_in_a_teams_card_is_text(name: str, shown: str) -> None:
    card = json.loads(teams_body([a_notice("t", name)], ""))["attachments"][0]["content"]
    assert card["body"][1]["text"] == shown


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
