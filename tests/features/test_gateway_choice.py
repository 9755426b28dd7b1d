"""A replay finds a running gateway or starts its own."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.learned_routes import a_route

from gateway.config.environment import write_evals_access
from gateway.config.loading import load
from gateway.config.routes import route_path
from gateway.core.errors import CannotRun
from gateway.core.learned_route import RouteTarget
from gateway.fake import FakeUpstream
from gateway.features.gateway_choice import GatewayLocation, answers, gateway_yaml, own_gateway, reached, store_of
from gateway.features.targets import TargetError, resolve_targets
from gateway.scoring.http_client import GatewayClient, HttpConnections

pytestmark = pytest.mark.usefixtures("forked_children")

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
    """The path of a gateway.yaml that names a secret of the environment."""
    monkeypatch.setenv("REPLAY_TEST_SECRET", "not-to-be-written")
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG)
    return file


def test_the_own_gateways_config_has_no_secret(path: Path) -> None:
    targets = resolve_targets(["chat", "local/other"], load(path), own=True)
    text = gateway_yaml(path, targets, "cd" * 32, {"mine": 5555})
    assert "not-to-be-written" not in text
    made = yaml.safe_load(text)
    assert made["upstreams"]["local"]["api_key"] == "${REPLAY_TEST_SECRET}"
    assert made["upstreams"]["mine"] == {"kind": "llamacpp", "base_url": "http://127.0.0.1:5555/v1"}
    assert made["models"]["replay-target-2"] == {"targets": [{"upstream": "local", "model": "other"}]}
    assert made["keys"] == [{"name": "replay", "sha256": "cd" * 32, "sample": "never", "allow": ["target"]}]
    assert (made["sampling"], "scorers" in made) == ({"rate": 0.0}, False)


@pytest.fixture
async def upstreams() -> AsyncIterator[dict[str, FakeUpstream]]:
    """Two doubles, `one` and `two`."""
    async with FakeUpstream() as one, FakeUpstream() as two:
        yield {"one": one, "two": two}


@pytest.fixture
def write_config(tmp_path: Path, upstreams: dict[str, FakeUpstream]) -> Callable[..., Path]:
    """Writes the config of the doubles: a model of each, of one target. more: further sections."""

    def write(**more: Any) -> Path:
        config = {
            "open": True,
            "upstreams": {name: {"kind": "fake", "base_url": fake.base_url} for name, fake in upstreams.items()},
            "models": {name: {"targets": [{"upstream": name, "model": "m"}]} for name in upstreams},
            **more,
        }
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return write


@pytest.fixture
def place(write_config: Callable[..., Path], tmp_path: Path) -> GatewayLocation:
    """The location of the replay's gateway: the config and a data directory."""
    path = write_config()
    return GatewayLocation(path, load(path), tmp_path / "data")


async def test_the_own_gateway_stops_with_the_context(place, tmp_path: Path, upstreams) -> None:
    directory = tmp_path / "own"
    directory.mkdir()
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await killed.wait()
    (directory / f"gateway-{killed.pid}.yaml").write_text("of a replay that was killed")
    another = directory / f"gateway-{os.getppid()}.yaml"
    another.write_text("of a replay that runs")
    targets = resolve_targets(["one", "two/other"], place.config, own=True)
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


async def test_a_gateway_that_does_not_start_shows_its_output(path: Path, tmp_path: Path, monkeypatch) -> None:
    config = load(path)
    monkeypatch.delenv("REPLAY_TEST_SECRET")
    with pytest.raises(CannotRun, match="REPLAY_TEST_SECRET"):
        async with own_gateway(path, config, resolve_targets(["chat"], config, own=True), tmp_path / "own"):
            pytest.fail("it has no key for its upstream")
    assert list((tmp_path / "own").glob("*.yaml")) == []


DEAD = "http://127.0.0.1:9/v1"


@pytest.fixture
async def running() -> AsyncIterator[FakeUpstream]:
    """Server that answers /health like a gateway."""
    async with FakeUpstream() as fake:
        yield fake


async def asked(place: GatewayLocation, *names: str) -> tuple[str, str | None, list[str]]:
    notes: list[str] = []
    async with reached(place, names, notes.append) as (gateway, targets):
        assert [t.name for t in targets] == list(names)
        return gateway.base_url, gateway.api_key, notes


async def test_a_named_gateway_gets_no_other_gateways_key(place: GatewayLocation, running: FakeUpstream) -> None:
    place.data.mkdir()
    write_evals_access(place.data, DEAD)
    named = replace(place, url=running.origin)
    assert await asked(named, "one", "two/m") == (running.base_url, None, [f"using the gateway at {running.base_url}"])


async def test_the_gateway_of_gateway_up_gets_its_own_key(place: GatewayLocation, running: FakeUpstream) -> None:
    place.data.mkdir()
    access = write_evals_access(place.data, running.base_url)
    url, key, _ = await asked(place, "one")
    assert (url, key) == (running.base_url, access.partition(" ")[2])


async def test_a_named_gateway_that_does_not_answer_is_an_error(place: GatewayLocation) -> None:
    with pytest.raises(
        CannotRun, match=r"no gateway answers at http://127\.0\.0\.1:9/v1; start it, or leave out --gateway"
    ):
        await asked(replace(place, url=DEAD), "one")


async def test_a_wrong_target_of_a_named_gateway_is_an_error(place: GatewayLocation, running: FakeUpstream) -> None:
    with pytest.raises(TargetError, match="one/other"):
        await asked(replace(place, url=running.base_url), "one/other")


def test_answers_are_in_the_configured_or_the_default_store(write_config: Any, tmp_path: Path) -> None:
    path = write_config(store={"url": "sqlite:////elsewhere.db"})
    assert store_of(GatewayLocation(path, load(path), tmp_path)) == "sqlite:////elsewhere.db"
    path = write_config()
    assert store_of(GatewayLocation(path, load(path), tmp_path)).startswith(f"sqlite:///{tmp_path}")


async def test_a_replay_works_next_to_a_learned_route(write_config: Any, tmp_path: Path) -> None:
    """The own gateway reads the route under its own config's name, and watches nothing: it has no scorers."""
    learned = a_route(control=RouteTarget("one", "m"), moved=RouteTarget("two", "m"))
    path = tmp_path / "gateway.yaml"
    route_path(path, learned.name).write_bytes(learned.to_json())
    write_config(models={"chat": {"targets": [{"route": learned.name}]}}, scorers={"valid_json": {}})
    config, directory = load(path), tmp_path / "own"
    [target] = resolve_targets(["chat"], config, own=True)
    async with HttpConnections() as connections, own_gateway(path, config, [target], directory) as own:
        body = {"model": target.alias, "messages": [{"role": "user", "content": "question 1"}]}
        reply = await GatewayClient(own.base_url, own.api_key, connections).ask(
            "/chat/completions", body, deadline_s=10
        )
    assert reply.status == 200
    assert list(directory.glob("gateway-*")) == []
