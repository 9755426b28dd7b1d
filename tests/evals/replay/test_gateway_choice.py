"""Which gateway is asked: the one that is named, one that runs, or one of the replay's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config.environment import write_evals_access
from gateway.config.loading import load
from gateway.evals.replay.design import TargetError
from gateway.evals.replay.gateway_choice import GatewayLocation, GatewayUnreachable, reached, store_of
from gateway.fake import FakeUpstream

DEAD = "http://127.0.0.1:9/v1"


@pytest.fixture
async def running() -> AsyncIterator[FakeUpstream]:
    """It answers /health, as a gateway does."""
    async with FakeUpstream() as fake:
        yield fake


async def asked(place: GatewayLocation, *names: str) -> tuple[str, str | None, list[str]]:
    said: list[str] = []
    async with reached(place, names, said.append) as (gateway, targets):
        assert [t.name for t in targets] == list(names)
        return gateway.base_url, gateway.api_key, said


async def test_the_one_that_is_named_is_asked_and_gets_no_key_of_another(
    place: GatewayLocation, running: FakeUpstream
) -> None:
    place.data.mkdir()
    write_evals_access(place.data, DEAD)
    named = replace(place, url=running.origin)
    assert await asked(named, "one", "two/m") == (running.base_url, None, [f"asking the gateway at {running.base_url}"])


async def test_the_one_of_gateway_up_is_asked_with_the_key_it_made(
    place: GatewayLocation, running: FakeUpstream
) -> None:
    place.data.mkdir()
    told = write_evals_access(place.data, running.base_url)
    url, key, _ = await asked(place, "one")
    assert (url, key) == (running.base_url, told.partition(" ")[2])


async def test_one_that_is_named_and_silent_is_a_mistake(place: GatewayLocation) -> None:
    with pytest.raises(
        GatewayUnreachable, match=r"no gateway answers at http://127\.0\.0\.1:9/v1; start it, or leave it out"
    ):
        await asked(replace(place, url=DEAD), "one")


async def test_a_wrong_target_of_a_named_gateway_is_a_mistake(place: GatewayLocation, running: FakeUpstream) -> None:
    with pytest.raises(TargetError, match="one/other"):
        await asked(replace(place, url=running.base_url), "one/other")


def test_answers_lie_in_the_store_of_the_config_or_of_the_data_directory(gateway_yaml, tmp_path: Path) -> None:
    path = gateway_yaml(store={"url": "sqlite:////elsewhere.db"})
    assert store_of(GatewayLocation(path, load(path), tmp_path)) == "sqlite:////elsewhere.db"
    path = gateway_yaml()
    assert store_of(GatewayLocation(path, load(path), tmp_path)).startswith(f"sqlite:///{tmp_path}")
