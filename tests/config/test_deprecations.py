"""Deprecated keys keep working, are named by `gateway check`, and no example of ours has one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.config_parts import is_config, read_part
from fixtures.pages import ROOT, blocks

from gateway.config.cautions import cautions
from gateway.config.deprecations import DEPRECATED, deprecated_keys, deprecations
from gateway.config.limits import LimitsConfig
from gateway.config.loading import parse

CONFIG = """
open: true
upstreams: {a: {kind: fake, breaker: {open_s: 5}}}
models: {m: {targets: [{upstream: a, model: m}]}}
teams: {search: {limits: {tokens_per_hour: 100, usd_per_month: 5, models: {m: {requests_per_week: 9}}}}}
"""
PAGES = [*ROOT.glob("docs/*.md"), ROOT / "README.md"]


def test_a_deprecated_key_works_and_is_named_with_its_path() -> None:
    config = parse(CONFIG)
    assert config.teams["search"].limits.tokens_per_hour == 100
    found = sorted(text for text in cautions(config) if "deprecated" in text)
    assert [text.partition(" is deprecated")[0] for text in found] == [
        "teams.search.limits.models.m.requests_per_week",
        "teams.search.limits.tokens_per_hour",
        "upstreams.a.breaker.open_s",
    ]
    assert "use the window `minute` or `day`" in found[0]


def test_every_deprecated_key_is_one_and_extends_to_sections_below() -> None:
    for section, keys in DEPRECATED.items():
        assert keys.keys() <= section.model_fields.keys(), section
    assert "gpu_seconds_per_week" in deprecated_keys(LimitsConfig)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_config_of_a_page_has_a_deprecated_key(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml" and not block.note and is_config(block.text):
            assert not [*deprecations(read_part(block.text))], block


def test_the_script_counts_the_keys_that_are_left() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "config_keys.py"], capture_output=True, text=True, check=True, timeout=100
    )
    every, deprecated, left = (int(part.split()[0]) for part in done.stdout.splitlines()[-1].split(", "))
    assert (every, deprecated >= 60) == (deprecated + left, True)
    assert " left   keys" in done.stdout
