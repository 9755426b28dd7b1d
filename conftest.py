"""Settings of every test, below tests/ and bench/, and the files of fixtures that all of them can use."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
from typing import Any

import httpcore2
import pytest
import redis.utils
import uvicorn.server
import yaml
from hypothesis import settings

# Until the tests are collected (fixtures/memory.py): loading modules makes no garbage, and looking for it takes a third
# of the time.
gc.disable()

PLUGINS = (
    "fixtures.annotation",
    "fixtures.compiled_statements",
    "fixtures.console_pages",
    "fixtures.consoles",
    "fixtures.dialect",
    "fixtures.durations",
    "fixtures.experiment_reports",
    "fixtures.exports",
    "fixtures.html_reader",
    "fixtures.litellm_database",
    "fixtures.mail_server",
    "fixtures.memory",
    "fixtures.open_connections",
    "fixtures.open_files",
    "fixtures.outbound_proxy",
    "fixtures.ramps",
    "fixtures.rooms",
    "fixtures.scoring",
    "fixtures.stores",
    "fixtures.vanishing",
    "fixtures.verb_gateways",
    "fixtures.verbs",
    "fixtures.webhooks",
    "fixtures.work",
)


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Registers PLUGINS. For `pytest_plugins`, pytest reads the metadata of all installed packages 25 times."""
    for name in PLUGINS:
        pluginmanager.import_plugin(name)


# How long one example takes says nothing on a shared machine. Other examples are drawn in each run: many runs of 30 see
# what one of 100 sees. `make test-long` has 100, as have tests that state a number of their own.
settings.register_profile("each run", deadline=None, max_examples=30)
settings.register_profile("long", deadline=None, max_examples=100)
settings.load_profile("each run")

os.environ["GATEWAY_DEBUGGABLE"] = "1"  # tests look into the processes that they start
# To load the authorities takes 4 ms, for each of the thousands of clients, none of which shows a certificate.
httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)  # type: ignore[misc]
# redis-py looks its own version up in its metadata, at each connection.
redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)
yaml.SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # type: ignore[misc]  # a sixth of the time, for thousands of configs


LONG_S = 3600
"""Seconds that a test of a stated duration may take on a busy machine, unless it says so itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_S))


class _Hurried:
    """Module asyncio as uvicorn.server sees it: its waits of 0.1 s at every start and stop are 5 ms in this process."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


uvicorn.server.asyncio = _Hurried()  # type: ignore[attr-defined]
