"""Finds upstreams: servers on the usual local ports, and providers whose key is in the environment.

The only request is for the list of models. A local port is never sent a key. starter_config.py writes a gateway.yaml
with the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson

from gateway.config.environment import api_key_of, providers_with_keys
from gateway.core.json_values import as_object
from gateway.core.providers import PROVIDERS, Provider

PORT_TIMEOUT_S = 0.5
PROVIDER_TIMEOUT_S = 3.0
MAX_ANSWER_BYTES = 4_000_000
OURS = "assay-gateway"

# The `owned_by` of a server's models, where it identifies the server. Ollama: "library", for its own models.
OWNERS = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llamacpp": "llamacpp",
    "me": "llama_cpp_python",
    "library": "ollama",
    "organization_owner": "lmstudio",
}
UNNAMED = PROVIDERS["openai"]  # speaks OpenAI's dialect, and cannot be identified further


@dataclass(frozen=True, slots=True)
class DiscoveredUpstream:
    provider: Provider
    port: int | None = None
    """The port of a local server; None: a provider with a key in the environment."""
    models: tuple[str, ...] = ()
    """The upstream's own names."""
    trouble: str | None = None
    """Reason why the upstream did not list its models; None if it did."""

    @property
    def where(self) -> str:
        return f"port {self.port}" if self.port else f"${self.provider.key_env}"


class NoModelList(Exception):
    """An answer without a list of models. status: the HTTP status; 200: the body could not be read."""

    def __init__(self, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.status = status


def usual_ports() -> list[int]:
    return sorted({port for provider in PROVIDERS.values() for port in provider.ports})


async def look(
    ports: Iterable[int] | None = None,
    providers: Sequence[Provider] | None = None,
    port_timeout_s: float = PORT_TIMEOUT_S,
    provider_timeout_s: float = PROVIDER_TIMEOUT_S,
) -> list[DiscoveredUpstream]:
    """Finds upstreams, local servers first; by default on the usual ports and of all providers with a key."""
    ports = usual_ports() if ports is None else ports
    providers = providers_with_keys() if providers is None else providers
    # trust_env: neither a proxy nor a .netrc of the environment may see or add anything on loopback.
    async with (
        httpx2.AsyncClient(timeout=port_timeout_s, trust_env=False, verify=False) as local,
        httpx2.AsyncClient(timeout=provider_timeout_s) as remote,
    ):
        probes = [
            *(_port(local, port, port_timeout_s) for port in ports),
            *(_provider(remote, provider, provider_timeout_s) for provider in providers),
        ]
        found = await asyncio.gather(*probes)
    return [each for each in found if each is not None]


async def _port(client: httpx2.AsyncClient, port: int, timeout_s: float) -> DiscoveredUpstream | None:
    """The server on a port; None: no server with this API, or a gateway of this kind."""
    origin = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(2 * timeout_s):
            server, listed = await _models(client, f"{origin}/v1/models", {})
            if OURS in (server, *(owner for _, owner in listed)):
                return None
            known = next((PROVIDERS[OWNERS[owner]] for _, owner in listed if owner in OWNERS), None)
            provider = known or await _by_version(client, origin) or UNNAMED
    except NoModelList as error:
        return DiscoveredUpstream(UNNAMED, port, trouble="it requires a key") if error.status == 401 else None
    except (httpx2.HTTPError, TimeoutError):
        return None
    return DiscoveredUpstream(provider, port, tuple(model for model, _ in listed))


async def _provider(client: httpx2.AsyncClient, provider: Provider, timeout_s: float) -> DiscoveredUpstream:
    key = api_key_of(provider)
    headers = {"authorization": f"Bearer {key}"}
    if provider.dialect == "anthropic":
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    try:
        async with asyncio.timeout(timeout_s):
            _, listed = await _models(client, f"{provider.base_url}/models", headers)
    except NoModelList as error:
        return DiscoveredUpstream(provider, trouble=str(error))
    except TimeoutError:
        return DiscoveredUpstream(provider, trouble=f"no answer within {timeout_s:g} s")
    except (httpx2.HTTPError, UnicodeEncodeError) as error:
        return DiscoveredUpstream(provider, trouble=f"{type(error).__name__}: {error}".replace(key, "…"))
    return DiscoveredUpstream(provider, models=tuple(model for model, _ in listed))


async def _models(client: httpx2.AsyncClient, url: str, headers: dict[str, str]) -> tuple[str, list[tuple[str, str]]]:
    """The `server` header, and each model with its owner. Raises NoModelList."""
    server, answer = await _json(client, url, headers)
    data = as_object(answer).get("data")
    if not isinstance(data, list):
        raise NoModelList("an answer that lists no models")
    return server, [
        (model["id"], str(model.get("owned_by")))
        for model in data
        if isinstance(model, dict) and isinstance(model.get("id"), str)
    ]


async def _json(client: httpx2.AsyncClient, url: str, headers: dict[str, str]) -> tuple[str, Any]:
    """The `server` header and the body of an answer, of bounded size, with status 200. Raises NoModelList."""
    async with client.stream("GET", url, headers=headers) as answer:
        server = answer.headers.get("server", "")
        if answer.status_code != 200:
            # Our own gateway answers 401 here too.
            raise NoModelList(f"HTTP {answer.status_code}", 404 if server == OURS else answer.status_code)
        body = bytearray()
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > MAX_ANSWER_BYTES:
                raise NoModelList("an endless answer")
    try:
        return server, orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NoModelList("an answer that is not JSON") from error


async def _by_version(client: httpx2.AsyncClient, origin: str) -> Provider | None:
    """Ollama, if the server has /api/version, which no other has; else None."""
    try:
        _, answer = await _json(client, f"{origin}/api/version", {})
    except (NoModelList, httpx2.HTTPError):
        return None
    return PROVIDERS["ollama"] if isinstance(answer, dict) and "version" in answer else None
