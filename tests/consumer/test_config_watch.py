"""A changed file is read once, and one that cannot be used leaves the config in force."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from gateway.config.loading import load_for_consumer
from gateway.consumer.config_watch import ConfigWatch

TEXT = """
open: true
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}
models: {chat: {targets: [{upstream: local, model: small}]}}
"""
MORE = TEXT + "scorers: {length: {}}\n"


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "gateway.yaml"
    file.write_text(TEXT)
    return file


def watch(path, check_s=0.01):
    return ConfigWatch(path, load_for_consumer(path), check_s=check_s)


async def test_a_changed_file_is_the_next_config(path):
    watching = watch(path)
    path.write_text(MORE)
    async with asyncio.timeout(30):
        assert list((await watching.changed()).scorers) == ["length"]
    assert watching.refused == ""


async def test_a_refused_file_is_named_until_it_is_mended(path, caplog):
    watching = watch(path)
    path.write_text(TEXT + "scorers: {lenght: 3}\n")
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(30):
        changed = tasks.create_task(watching.changed())
        while not watching.refused:
            await asyncio.sleep(0.01)
        assert "scorers.lenght" in watching.refused
        path.write_text(MORE)
        await changed
    assert watching.refused == ""
    assert "the previous one stays in force" in caplog.text


async def test_a_signal_reads_the_file_at_once_and_the_same_text_is_no_change(path):
    watching = watch(path, check_s=3600)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(30):
        changed = tasks.create_task(watching.changed())
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.2)
        assert not changed.done()
        path.write_text(MORE)
        os.kill(os.getpid(), signal.SIGHUP)
        assert list((await changed).scorers) == ["length"]
