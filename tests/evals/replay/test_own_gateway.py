"""A gateway of the replay's own: the same upstreams, no secret in its file, gone with the replay."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from pathlib import Path

import pytest
import yaml

from gateway.config.loading import load
from gateway.core.errors import CannotRun
from gateway.evals.http_client import GatewayClient, HttpConnections
from gateway.evals.replay.design import contenders
from gateway.evals.replay.own_gateway import answers, gateway_yaml, own_gateway

CONFIG = """
keys: [{name: web, sha256: "%s"}]
upstreams:
  local: {kind: fake, base_url: "http://127.0.0.1:9/v1", api_key: "${REPLAY_TEST_SECRET}"}
  mine: {kind: llamacpp, run: {engine: llamacpp}}
models: {chat: {targets: [{upstream: local, model: small}]}}
scorers: {length: {}}
sampling: {rate: 1.0}
""" % ("ab" * 32)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REPLAY_TEST_SECRET", "not-to-be-written")
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG)
    return file


def test_its_file_has_the_upstreams_and_models_and_no_secret(path: Path) -> None:
    targets = contenders(["chat", "local/other"], load(path), own=True)
    text = gateway_yaml(path, targets, "cd" * 32, {"mine": 5555})
    assert "not-to-be-written" not in text
    made = yaml.safe_load(text)
    assert made["upstreams"]["local"]["api_key"] == "${REPLAY_TEST_SECRET}"
    assert made["upstreams"]["mine"] == {"kind": "llamacpp", "base_url": "http://127.0.0.1:5555/v1"}
    assert made["models"]["replay-target-2"] == {"targets": [{"upstream": "local", "model": "other"}]}
    assert made["keys"] == [{"name": "replay", "sha256": "cd" * 32, "sample": "never", "allow": ["target"]}]
    assert (made["sampling"], "scorers" in made) == ({"rate": 0.0}, False)


async def test_it_answers_while_it_is_open_and_is_gone_afterwards(place, tmp_path: Path, upstreams) -> None:
    directory = tmp_path / "own"
    directory.mkdir()
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await killed.wait()
    (directory / f"gateway-{killed.pid}.yaml").write_text("of a replay that was killed")
    another = directory / f"gateway-{os.getppid()}.yaml"
    another.write_text("of a replay that runs")
    targets = contenders(["one", "two/other"], place.config, own=True)
    async with HttpConnections() as connections:
        async with own_gateway(place.path, place.config, targets, directory) as own:
            [file] = set(directory.glob("*.yaml")) - {another}
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            body = {"model": targets[1].alias, "messages": [{"role": "user", "content": "question 1"}]}
            reply = await GatewayClient(own.base_url, own.api_key, connections).ask(
                "/chat/completions", body, deadline_s=10
            )
            assert reply.status == 200
            stranger = await GatewayClient(own.base_url, "sk-wrong", connections).ask(
                "/chat/completions", body, deadline_s=10
            )
            assert stranger.status == 401
        assert not await answers(own.base_url.removesuffix("/v1"), connections)
    assert upstreams["two"].calls[0].json["model"] == "other"
    assert list(directory.glob("*.yaml")) == [another]


async def test_one_that_does_not_start_says_what_it_said(path: Path, tmp_path: Path, monkeypatch) -> None:
    config = load(path)
    monkeypatch.delenv("REPLAY_TEST_SECRET")
    with pytest.raises(CannotRun, match="REPLAY_TEST_SECRET"):
        async with own_gateway(path, config, contenders(["chat"], config, own=True), tmp_path / "own"):
            pytest.fail("it has no key for its upstream")
    assert list((tmp_path / "own").glob("*.yaml")) == []
