"""Sections that need an extra are found by their path, and only where they are set."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core import extras
from gateway.core.extras import Extra, missing_extras


@pytest.mark.parametrize(
    ("section", "value", "config", "paths"),
    [
        ("jwt", "", {"jwt": {}}, []),
        ("jwt", "", {"jwt": {"sso": 1}}, ["jwt"]),
        ("admin.oidc", "", {"admin": None}, []),
        ("admin.oidc", "", {"admin": SimpleNamespace(oidc=None)}, []),
        ("store.url", "postgres", {"store": SimpleNamespace(url="sqlite:///a")}, []),
        ("store.url", "postgres", {"store": SimpleNamespace(url="postgresql://a")}, ["store.url"]),
        ("a.*.on", "", {"a": {"x": SimpleNamespace(on=True), "y": SimpleNamespace(on=False)}}, ["a.x.on"]),
    ],
)
def test_a_section_needs_its_extra_where_it_is_set(
    section: str, value: str, config: dict[str, Any], paths: list[str]
) -> None:
    extra = Extra("x", "X", ("no_such_module.inner",), section, value)
    found = missing_extras(SimpleNamespace(**config), [extra])
    command = 'pip install ".[x]" in a checkout (once it is on an index: pip install "assay-gateway[x]")'
    assert found == [f"{path}: needs X: {command}" for path in paths]


def test_an_extra_that_is_installed_is_not_missing() -> None:
    extra = Extra("x", "X", ("json.decoder",), "jwt")
    assert extra.installed
    assert missing_extras(SimpleNamespace(jwt=True), [extra]) == []


def test_no_other_module_writes_the_command_that_installs_an_extra() -> None:
    """Every message then also says how to install it from a checkout."""
    package = Path(extras.__file__).parents[1]
    texts = {path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")}
    assert [name for name, text in texts.items() if "assay-gateway[" in text] == ["core/extras.py"]
    assert (
        extras.install_command("jwt")
        == 'pip install ".[jwt]" in a checkout (once it is on an index: pip install "assay-gateway[jwt]")'
    )
