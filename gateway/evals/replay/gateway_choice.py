"""Which gateway a replay asks: the one that is named, one that runs already, or one of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.config.environment import resolve_evals
from gateway.config.models import Config
from gateway.config.scorers import EvalsConfig
from gateway.core.errors import CannotRun
from gateway.evals.http_client import HttpConnections
from gateway.evals.replay.design import ReplayTarget, TargetError, contenders
from gateway.evals.replay.own_gateway import ReachedGateway, answers, own_gateway
from gateway.evals.store.engine import default_url

Say = Callable[[str], None]
OWN = "replay"  # in the data directory: what the replay's own gateway keeps


class GatewayUnreachable(CannotRun):
    """The gateway that was named does not answer."""


@dataclass(frozen=True, slots=True)
class GatewayLocation:
    """What the command line says of the gateway. config: the gateway.yaml, read from path. url: of a gateway; None:
    not said."""

    path: Path
    config: Config
    data: Path
    url: str | None = None


def store_of(place: GatewayLocation) -> str:
    """Where answers are kept, and where the log is: a URL."""
    return place.config.store.url or default_url(place.data)


@asynccontextmanager
async def reached(
    place: GatewayLocation, names: Sequence[str], say: Say
) -> AsyncIterator[tuple[ReachedGateway, tuple[ReplayTarget, ...]]]:
    """The gateway, while the context is open, and the targets as it knows them. Raises NoGateway, WrongTarget."""
    running, targets = await _running(place, names)
    if running is not None:
        say(f"asking the gateway at {running.base_url}")
        yield running, targets
        return
    targets = contenders(names, place.config, own=True)
    say("starting a gateway for this replay")
    async with own_gateway(place.path, place.config, targets, place.data / OWN) as own:
        yield own, targets


async def _running(
    place: GatewayLocation, names: Sequence[str]
) -> tuple[ReachedGateway | None, tuple[ReplayTarget, ...]]:
    """A gateway that runs and knows these targets; None: there is none."""
    evals = resolve_evals(place.config.evals, place.data)
    url = place.url or evals.base_url
    if url is None:
        return None, ()
    gateway = ReachedGateway(_v1(url), _key(evals, place, url))
    if not await _answers(gateway):
        if place.url or place.config.evals.base_url:
            raise GatewayUnreachable(f"no gateway answers at {gateway.base_url}; start it, or leave it out")
        return None, ()  # that of a `gateway up` that has ended
    try:
        return gateway, contenders(names, place.config, own=False)
    except TargetError:
        if place.url or place.config.evals.base_url:
            raise
        return None, ()


def _key(evals: EvalsConfig, place: GatewayLocation, url: str) -> str | None:
    """A key goes only to the gateway that it is for."""
    known = evals.base_url or ""
    return evals.api_key if place.url is None or _v1(known) == _v1(url) or place.config.evals.api_key else None


def _v1(url: str) -> str:
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


async def _answers(gateway: ReachedGateway) -> bool:
    async with HttpConnections() as connections:
        return await answers(gateway.base_url.removesuffix("/v1"), connections)
