"""Whose content is kept whole, redacted or not at all."""

from __future__ import annotations

from hashlib import sha256

import yaml

from gateway.config.loading import parse
from gateway.proxy.recording.redaction.policy import redactors

BASE = {"upstreams": {"a": {"kind": "fake"}}, "models": {"m": {"targets": [{"upstream": "a", "model": "m"}]}}}


def table(before=None, **sections):
    found = redactors(parse(yaml.safe_dump({**BASE, **sections})), before or {})
    return {caller: redactor.content for caller, redactor in found.items()}


def key(name: str, **fields: str) -> dict[str, str]:
    return {"name": name, "sha256": sha256(name.encode()).hexdigest(), **fields}


def test_without_the_section_only_keys_that_say_so_are_redacted():
    assert table(keys=[key("a"), key("b", content="redacted"), key("c", content="metadata")]) == {
        "b": "redacted", "c": "metadata"}  # fmt: skip
    assert table(open=True) == {}


def test_the_section_redacts_every_key_that_does_not_say_otherwise():
    assert table(open=True, redaction={}, keys=[key("a"), key("b", content="full")]) == {
        "a": "redacted",
        "open": "redacted",
    }
    assert table(redaction={"default": "metadata"}, keys=[key("a"), key("b", content="redacted")]) == {
        "a": "metadata", "b": "redacted"}  # fmt: skip


def test_a_key_that_a_new_config_drops_keeps_its_rules_for_calls_under_way():
    before = redactors(
        parse(yaml.safe_dump({**BASE, "keys": [key("a", content="redacted"), key("b", content="redacted")]})), {}
    )
    assert table(before, keys=[key("b", content="full")]) == {"a": "redacted"}
