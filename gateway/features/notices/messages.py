"""Notices as Slack, Teams, mail and webhooks carry them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import orjson

from gateway.config.notify import NotifyTarget
from gateway.core.notice import Notice
from gateway.reports.number_format import rfc3339

MOST_LISTED = 20
"""Notices of one message that are written out."""
_SIGNS = {"info": "ℹ️", "warning": "⚠️", "critical": "🔴"}


def title_of(notices: Sequence[Notice]) -> str:
    """One line, whatever the notices hold."""
    first = _line(notices[0].title)
    return first if len(notices) == 1 else f"{len(notices)} notices: {first} …"


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:300]


def link_of(notice: Notice, console_url: str) -> str:
    """The console's page about it; "" if the console's URL is unknown."""
    return f"{console_url.rstrip('/')}{notice.path}" if console_url else ""


def plain_text(notices: Sequence[Notice], console_url: str) -> str:
    """Renders all messages for a mail."""
    parts = []
    for notice in notices[:MOST_LISTED]:
        link = link_of(notice, console_url)
        head = [] if len(notices) == 1 else [_line(notice.title)]
        parts.append("\n".join([*head, notice.text, *([link] if link else [])]))
    return "\n\n".join([*parts, *_more(notices)]) + "\n"


def _more(notices: Sequence[Notice]) -> list[str]:
    return [f"and {len(notices) - MOST_LISTED} more"] if len(notices) > MOST_LISTED else []


def slack_body(notices: Sequence[Notice], console_url: str) -> bytes:
    """The body for an incoming webhook of Slack: text in its own notation, in which three characters are special."""
    lines = []
    for notice in notices[:MOST_LISTED]:
        link, title = link_of(notice, console_url), _escaped(_line(notice.title))
        shown = f"<{link}|{title.replace('|', '∣')}>" if link else f"*{title}*"
        lines.append(f"{_SIGNS[notice.severity]} {shown}\n{_escaped(notice.text)}")
    return orjson.dumps({"text": "\n\n".join([*lines, *_more(notices)])})


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_MARKS = re.compile(r"[\\`*_\[\]~]")
_LIST_MARK = re.compile(r"^([ \t]*\d*)([-+#>.)])")


def _without_markdown(text: str) -> str:
    """The text for a TextBlock of an adaptive card, which is Markdown: names in it make no link and no list."""
    lines = (_MARKS.sub(r"\\\g<0>", line) for line in text.splitlines())
    return "\n".join(_LIST_MARK.sub(r"\1\\\2", line) for line in lines)


def teams_body(notices: Sequence[Notice], console_url: str) -> bytes:
    """The body for a workflow of Teams: one adaptive card."""
    blocks: list[dict[str, Any]] = []
    actions: list[dict[str, Any]] = []
    for notice in notices[:MOST_LISTED]:
        title = f"{_SIGNS[notice.severity]} {_without_markdown(_line(notice.title))}"
        blocks.append({"type": "TextBlock", "weight": "Bolder", "wrap": True, "text": title})
        blocks.append({"type": "TextBlock", "wrap": True, "text": _without_markdown(notice.text)})
        if link := link_of(notice, console_url):
            actions.append({"type": "Action.OpenUrl", "title": "Open the console", "url": link})
    blocks += [{"type": "TextBlock", "text": each} for each in _more(notices)]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
    }
    card |= {"body": blocks, "actions": actions[:1]}
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return orjson.dumps({"type": "message", "attachments": [attachment]})


def webhook_body(notices: Sequence[Notice], console_url: str) -> bytes:
    """`notice.SUBJECT` with one notice, `notices` with several."""
    found = [asdict(each) | {"url": link_of(each, console_url) or None, "at": rfc3339(each.at)} for each in notices]
    at = rfc3339(max(each.at for each in notices))
    if len(found) == 1:
        return orjson.dumps({"type": f"notice.{notices[0].subject}", "timestamp": at, "data": found[0]})
    return orjson.dumps({"type": "notices", "timestamp": at, "data": {"notices": found}})


def mail_of(id: str, notices: Sequence[Notice], console_url: str, target: NotifyTarget, at: float) -> EmailMessage:
    """The mail. Its Message-ID is the same at each attempt, so that a server which took one knows it again."""
    message = EmailMessage()
    message["Subject"] = f"[gateway] {title_of(notices)}"
    message["From"], message["To"] = target.sender, ", ".join(target.to)
    message["Date"] = format_datetime(datetime.fromtimestamp(at, UTC))
    message["Message-ID"] = f"<{re.sub(r'[^A-Za-z0-9.-]', '-', id)}@{(target.sender or '').partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no absence notes
    message.set_content(plain_text(notices, console_url))
    return message
