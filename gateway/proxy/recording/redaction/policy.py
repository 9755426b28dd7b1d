"""Whose records are redacted, and how: one config as a table by caller. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config.derive import content_of
from gateway.config.models import Config
from gateway.config.privacy import Content, RedactionConfig
from gateway.proxy.recording.redaction.redactor import Redactor
from gateway.proxy.request.auth import OPEN


def redactors(config: Config, before: Mapping[str, Redactor]) -> dict[str, Redactor]:
    """By caller; one that is not there keeps its content whole.

    before: of the config in force until now. A caller that the new one no longer names keeps its rules: its calls may
    still be under way.
    """
    contents: dict[str, Content] = {key.name: content_of(key.content, config.redaction) for key in config.keys}
    if config.open:
        contents.setdefault(OPEN.name, content_of(None, config.redaction))
    rules = config.redaction or RedactionConfig()
    made = {content: Redactor(content, rules) for content in set(contents.values()) if content != "full"}
    gone = {caller: redactor for caller, redactor in before.items() if caller not in contents}
    return gone | {caller: made[content] for caller, content in contents.items() if content in made}
