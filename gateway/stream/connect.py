"""Connections to the stream server: a single one, one behind sentinels, or a cluster.

The only module that makes a client and interprets its errors.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

import redis.asyncio as redis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError, SlotNotCoveredError

from gateway.core.errors import StreamDown

SOCKET_TIMEOUT_S = 1.0
SENTINEL_TIMEOUT_S = 0.5  # several are asked
VERB_TIMEOUT_S = 4.0  # a cluster's client asks several nodes before it gives up

Kind = Literal["one", "sentinel", "cluster"]
Client = Any  # redis.Redis or redis.RedisCluster: their verbs are the same, their types are not


@dataclass(frozen=True, slots=True)
class Credentials:
    """How one enters. None: as the URL says, or not at all. sentinel_*: for the sentinels themselves."""

    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    check_hostname: bool = True


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A URL, taken apart. service: what sentinels call the primary."""

    kind: Kind
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = None


def connect(url: str, access: Credentials) -> Client:
    """A client that has not connected yet: each verb does, when there is need."""
    if url.startswith("unix://"):
        return redis.Redis.from_url(url, retry=_once(), **_credentials(None, access), **_SOCKET)
    address = address_of(url)
    if address.kind == "sentinel":
        return _by_sentinel(address, access)
    return _cluster(address, access) if address.kind == "cluster" else _one(address, access)


def address_of(url: str) -> ServerAddress:
    """Of redis[s][+sentinel|+cluster]://[user:password@]host:port[,host:port…][/db or /service[/db]].

    Raises ValueError, with what is wrong; never with the password.
    """
    scheme, _, how = urlsplit(url).scheme.partition("+")
    if scheme not in ("redis", "rediss") or how not in ("", "sentinel", "cluster"):
        raise ValueError(f"no stream server is reached by {urlsplit(url).scheme}://")
    kind: Kind = "sentinel" if how == "sentinel" else "cluster" if how == "cluster" else "one"
    parts = urlsplit(url)
    user, places = _login(parts)
    hosts = tuple(_host(place, 26379 if kind == "sentinel" else 6379) for place in places.split(","))
    path = [p for p in parts.path.split("/") if p]
    service = path.pop(0) if kind == "sentinel" and path else ""
    if kind == "sentinel" and not service:
        raise ValueError("sentinels are asked for a service by its name: redis+sentinel://host:26379/NAME")
    if kind == "one" and len(hosts) > 1:
        raise ValueError("several hosts are those of sentinels (redis+sentinel://) or of a cluster (redis+cluster://)")
    return ServerAddress(kind, scheme == "rediss", hosts, service, _db(path), *user)


def described(url: str) -> str:
    """For people: which server, and never how one enters it."""
    if url.startswith("unix://"):
        return unquote(urlsplit(url).path)
    address = address_of(url)
    hosts = ", ".join(f"{host}:{port}" for host, port in address.hosts)
    what = {"one": "", "sentinel": f"{address.service}, by the sentinels ", "cluster": "cluster of "}[address.kind]
    return what + hosts + (" (TLS)" if address.tls else "")


def _login(parts: SplitResult) -> tuple[tuple[str | None, str | None], str]:
    login, at, places = parts.netloc.rpartition("@")
    name, colon, word = login.partition(":")
    return (unquote(name) or None if at else None, unquote(word) if colon else None), places


def _host(place: str, port: int) -> tuple[str, int]:
    host, colon, given = place.rpartition(":")
    if not colon or given.endswith("]"):  # an IPv6 address without a port
        host, given = place, str(port)
    if not host or not given.isdigit():
        raise ValueError(f"{place!r} is not host:port")
    return host.strip("[]"), int(given)


def _db(path: list[str]) -> int:
    if not path:
        return 0
    if not path[0].isdigit():
        raise ValueError(f"the path names a database by its number, not {path[0]!r}")
    return int(path[0])


_SOCKET: dict[str, Any] = {
    "socket_timeout": SOCKET_TIMEOUT_S,
    "socket_connect_timeout": SOCKET_TIMEOUT_S,
    "decode_responses": False,
}


def _once() -> Retry:
    """Reopens an idle connection that the server has closed. Other errors are raised; the caller tries again."""
    return Retry(NoBackoff(), 1)


def _credentials(address: ServerAddress | None, access: Credentials) -> dict[str, Any]:
    username = access.username or (address.username if address else None)
    password = access.password or (address.password if address else None)
    return {name: value for name, value in (("username", username), ("password", password)) if value is not None}


def _tls(access: Credentials) -> dict[str, Any]:
    return {
        "ssl_ca_certs": access.ca_file,
        "ssl_certfile": access.cert_file,
        "ssl_keyfile": access.key_file,
        "ssl_check_hostname": access.check_hostname,
    }


def _one(address: ServerAddress, access: Credentials) -> Client:
    host, port = address.hosts[0]
    tls = {"ssl": True, **_tls(access)} if address.tls else {}
    credentials = _credentials(address, access)
    return redis.Redis(host=host, port=port, db=address.db, retry=_once(), **credentials, **tls, **_SOCKET)


def _by_sentinel(address: ServerAddress, access: Credentials) -> Client:
    tls = {"ssl": True, **_tls(access)} if address.tls else {}
    entry = {"username": access.sentinel_username, "password": access.sentinel_password}
    ask = {"socket_timeout": SENTINEL_TIMEOUT_S, "socket_connect_timeout": SENTINEL_TIMEOUT_S, "retry": _once()}
    known = {name: value for name, value in entry.items() if value}
    sentinel = Sentinel(address.hosts, sentinel_kwargs={**ask, **tls, **known})  # type: ignore[no-untyped-call]
    more = {**_credentials(address, access), **tls, **_SOCKET}
    client = sentinel.master_for(address.service, db=address.db, retry=_once(), **more)
    client.sentinels = sentinel.sentinels  # closed with it
    return client


def _cluster(address: ServerAddress, access: Credentials) -> Client:
    tls = {"ssl": True, **_tls(access)} if address.tls else {}
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    retry = Retry(ConstantBackoff(0.05), 2)
    # One slot without a node stops that shard alone.
    return redis.RedisCluster(
        startup_nodes=nodes, require_full_coverage=False, retry=retry, **_credentials(address, access), **tls, **_SOCKET
    )


def is_cluster(client: Client) -> bool:
    return isinstance(client, redis.RedisCluster)


async def node_of(client: Client, key: str) -> Any:
    """The node of a cluster that holds a key now. Raises SlotNotCoveredError while none does."""
    await client.initialize()
    try:
        return client.get_node_from_key(key)
    except SlotNotCoveredError:
        await client.nodes_manager.initialize()  # redis-py looks again by itself only after a command
        raise


async def close(client: Client) -> None:
    for each in (client, *getattr(client, "sentinels", ())):
        await each.aclose()


async def ask(command: Awaitable[Any], no_group: Callable[[], Awaitable[None]] | None = None) -> Any:
    """The reply to a command. Raises StreamDown when there is none to be had now, ResponseError only for a group that
    is there already and a key that is not. no_group: makes the group that a server has lost."""
    task = asyncio.current_task()
    cancelling = task.cancelling() if task else 0
    try:
        return await _reply(command, no_group)
    finally:
        if task and task.cancelling() > cancelling:
            # redis-py sends with asyncio.wait_for, which in Python 3.11 may swallow a cancellation (cpython #86296);
            # what follows may be a reply or, from a connection that is given up, an error.
            raise asyncio.CancelledError


async def _reply(command: Awaitable[Any], no_group: Callable[[], Awaitable[None]] | None) -> Any:
    try:
        async with asyncio.timeout(VERB_TIMEOUT_S):
            return await command
    except ResponseError as error:
        if "BUSYGROUP" in str(error) or "no such key" in str(error):
            raise
        if "NOGROUP" in str(error) and no_group is not None:
            await no_group()
            raise StreamDown("stream server: it came back without its data; reading begins anew") from error
        # Full, read-only, cannot persist. Not `from error`: redis-py's text holds the command, and so what was asked.
        raise StreamDown(f"stream server: it refuses: {_bare(error)}") from None
    except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
        raise StreamDown(f"stream server: {type(error).__name__}: {_bare(error)}") from None
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        # What redis-py's cluster client makes of nodes that go while it looks at them.
        raise StreamDown(f"stream server: {type(error).__name__}: {error}") from error


_COMMAND = re.compile(r"^Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)


def _bare(error: Exception) -> str:
    """What the server says, without the command that redis-py puts before it."""
    return _COMMAND.sub("", str(error)).strip("(),'\"")
