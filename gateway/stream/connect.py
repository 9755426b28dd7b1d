"""Connections to the stream server: a single server, one behind Redis Sentinel, or a cluster.

Only this module creates clients and interprets their errors.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import redis.asyncio as redis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    MasterDownError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.config.stream import StreamConfig
from gateway.core.errors import StreamDown

SOCKET_TIMEOUT_S = 1.0
SENTINEL_TIMEOUT_S = 0.5  # for each sentinel; several are tried
VERB_TIMEOUT_S = 4.0  # a cluster's client asks several nodes before it gives up
_MANY_ARGUMENTS = 16

Kind = Literal["one", "sentinel", "cluster"]
Client = Any  # redis.Redis or redis.RedisCluster: their verbs are the same, their types are not


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The parts of a stream server's URL."""

    kind: Kind
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    service: str = ""  # the sentinels' name of the primary
    db: int = 0
    username: str | None = None
    password: str | None = None


def connect(url: str, access: StreamConfig) -> Client:
    """A client that is not connected yet: it connects when the first command is sent.

    access: log-in and TLS files. A user name or password there takes precedence over the URL's."""
    if url.startswith("unix://"):
        return _client(_UnixConnection, {**_credentials(None, access), **_unix(url)})
    address = address_of(url)
    if address.kind == "sentinel":
        return _by_sentinel(address, access)
    return _cluster(address, access) if address.kind == "cluster" else _one(address, access)


def address_of(url: str) -> ServerAddress:
    """Parses redis[s][+sentinel|+cluster]://[user:password@]host:port[,host:port…][/db or /service[/db]].

    Raises ValueError, whose message names the error but never the password.
    """
    name, netloc, rest = _parts(url)
    scheme, _, topology = name.partition("+")
    if scheme not in ("redis", "rediss") or topology not in ("", "sentinel", "cluster"):
        raise ValueError(
            f"{name}:// is not a stream server's scheme; "
            "expected unix, redis or rediss, alone or with +sentinel or +cluster"
        )
    kind: Kind = "sentinel" if topology == "sentinel" else "cluster" if topology == "cluster" else "one"
    login, host_list = _login(netloc)
    hosts = tuple(_host(host, 26379 if kind == "sentinel" else 6379) for host in host_list.split(","))
    path = [p for p in rest.split("/") if p]
    service = path.pop(0) if kind == "sentinel" and path else ""
    if kind == "sentinel" and not service:
        raise ValueError("a sentinel URL must end in the name of the service: redis+sentinel://host:26379/NAME")
    if kind == "one" and len(hosts) > 1:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    return ServerAddress(kind, scheme == "rediss", hosts, service, _db(path), *login)


def described(url: str) -> str:
    """The server for messages to people, without user name and password."""
    if url.startswith("unix://"):
        return unquote(urlsplit(url).path)
    address = address_of(url)
    hosts = ", ".join(f"{host}:{port}" for host, port in address.hosts)
    prefix = {"one": "", "sentinel": f"{address.service}, by the sentinels ", "cluster": "cluster of "}[address.kind]
    return prefix + hosts + (" (TLS)" if address.tls else "")


def _parts(url: str) -> tuple[str, str, str]:
    """Scheme, place and path. Python's own function refuses an IPv6 address in a list of hosts, from 3.13 on."""
    scheme, _, rest = re.split("[?#]", url, maxsplit=1)[0].partition(":")
    netloc, _, path = rest.removeprefix("//").partition("/")
    return scheme.lower(), netloc, path


def _login(netloc: str) -> tuple[tuple[str | None, str | None], str]:
    login, at, hosts = netloc.rpartition("@")
    name, colon, password = login.partition(":")
    return (unquote(name) or None if at else None, unquote(password) if colon else None), hosts


def _host(text: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):  # an IPv6 address without a port
        host, port = text, str(default_port)
    if not host or not port.isdigit():
        raise ValueError(f"{text!r} is not host:port")
    return host.strip("[]"), int(port)


def _db(path: list[str]) -> int:
    if not path:
        return 0
    if not path[0].isdigit():
        raise ValueError(f"{path[0]!r} is not a database; expected its number, such as /0")
    return int(path[0])


_SOCKET: dict[str, Any] = {
    "socket_timeout": SOCKET_TIMEOUT_S,
    "socket_connect_timeout": SOCKET_TIMEOUT_S,
    "decode_responses": False,
}


def _once() -> Retry:
    """One immediate retry, which reopens an idle connection that the server has closed. Callers retry other errors.

    Nothing is repeated after a timeout: a reply that came too late may have held entries, which are delivered once.
    """
    return Retry(NoBackoff(), 1, (RedisConnectionError,))


def _credentials(address: ServerAddress | None, access: StreamConfig) -> dict[str, Any]:
    username = access.username or (address.username if address else None)
    password = access.password or (address.password if address else None)
    return {name: value for name, value in (("username", username), ("password", password)) if value is not None}


def _tls(access: StreamConfig) -> dict[str, Any]:
    return {
        "ssl_ca_certs": access.ca_file,
        "ssl_certfile": access.cert_file,
        "ssl_keyfile": access.key_file,
        "ssl_check_hostname": access.check_hostname,
    }


class _Lifetime:
    """Whether a client has been closed. Its connections share it."""

    closed = False


class _WhileOpen:
    """A connection that opens no more once its client is closed.

    redis-py closes the connections that exist at that moment. A command in progress would open its connection again, or
    finish opening it, and nothing would close it.
    """

    def __init__(self, *, lifetime: _Lifetime, **options: Any) -> None:
        self._lifetime = lifetime
        super().__init__(**options)

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        await self._give_up_if_closed()
        await super().connect_check_health(*args, **options)  # type: ignore[misc]
        await self._give_up_if_closed()

    async def _give_up_if_closed(self) -> None:
        if self._lifetime.closed:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise RedisConnectionError("the client is closed")


class _Packed:
    """A connection that packs the commands of many arguments by itself: appends of records.

    redis-py encodes and joins argument by argument, which takes as long as the rest of an append.
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        if len(args) < _MANY_ARGUMENTS:
            packed: list[bytes] = super().pack_command(*args)  # type: ignore[misc]
            return packed
        encode: Callable[[Any], bytes] = self.encoder.encode  # type: ignore[attr-defined]
        words = [arg if type(arg) is bytes else encode(arg) for arg in args]
        return [b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])]


class _AfterFailover:
    """A connection that closes when its server takes no writes any more, or not yet.

    After a fail-over behind one name, the old primary keeps its connections and refuses each command. The next command
    opens a new connection and so resolves the name again.
    """

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except (ReadOnlyError, MasterDownError, BusyLoadingError):
            await self._drop()
            raise
        except ResponseError as error:
            if str(error).startswith("NOREPLICAS"):
                await self._drop()
            raise

    async def _drop(self) -> None:
        await self.disconnect(nowait=True)  # type: ignore[attr-defined]


class _Connection(_Packed, _WhileOpen, _AfterFailover, redis.Connection):
    pass


class _TlsConnection(_Packed, _WhileOpen, _AfterFailover, redis.SSLConnection):
    pass


class _UnixConnection(_Packed, _WhileOpen, redis.UnixDomainSocketConnection):
    pass


class _SentinelConnection(_Packed, _WhileOpen, SentinelManagedConnection):
    pass


class _SentinelTlsConnection(_Packed, _WhileOpen, SentinelManagedSSLConnection):
    pass


def _client(kind: type[Any], options: dict[str, Any]) -> Client:
    lifetime = _Lifetime()
    pool = redis.ConnectionPool(connection_class=kind, lifetime=lifetime, retry=_once(), **options, **_SOCKET)
    client: Client = redis.Redis.from_pool(pool)
    client.lifetime = lifetime  # for close()
    return client


def _unix(url: str) -> dict[str, Any]:
    """The options in a unix:// URL: path, db, username and password."""
    options: dict[str, Any] = {**parse_url(url)}
    return {name: value for name, value in options.items() if name != "connection_class"}


def _one(address: ServerAddress, access: StreamConfig) -> Client:
    host, port = address.hosts[0]
    kind, tls = (_TlsConnection, _tls(access)) if address.tls else (_Connection, {})
    return _client(kind, {"host": host, "port": port, "db": address.db, **_credentials(address, access), **tls})


def _by_sentinel(address: ServerAddress, access: StreamConfig) -> Client:
    tls = {"ssl": True, **_tls(access)} if address.tls else {}
    given = {"username": access.sentinel_username, "password": access.sentinel_password}
    connection = {"socket_timeout": SENTINEL_TIMEOUT_S, "socket_connect_timeout": SENTINEL_TIMEOUT_S, "retry": _once()}
    login = {name: value for name, value in given.items() if value}
    sentinel = Sentinel(address.hosts, sentinel_kwargs={**connection, **tls, **login})  # type: ignore[no-untyped-call]
    lifetime = _Lifetime()
    kind = _SentinelTlsConnection if address.tls else _SentinelConnection
    options = {"connection_class": kind, "lifetime": lifetime, **_credentials(address, access), **tls, **_SOCKET}
    client: Client = sentinel.master_for(address.service, db=address.db, retry=_once(), **options)
    client.lifetime, client.sentinels = lifetime, sentinel.sentinels  # for close()
    return client


def _cluster(address: ServerAddress, access: StreamConfig) -> Client:
    tls = {"ssl": True, **_tls(access)} if address.tls else {}
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    retry = Retry(ConstantBackoff(0.05), 2)
    # Without full coverage, a slot without a node stops only the shard in that slot.
    return redis.RedisCluster(
        startup_nodes=nodes, require_full_coverage=False, retry=retry, **_credentials(address, access), **tls, **_SOCKET
    )


def is_cluster(client: Client) -> bool:
    return isinstance(client, redis.RedisCluster)


async def node_of(client: Client, key: str) -> Any:
    """The node of a cluster that holds a key now. Raises SlotNotCoveredError while no node does."""
    await client.initialize()
    try:
        return client.get_node_from_key(key)
    except SlotNotCoveredError:
        await client.nodes_manager.initialize()  # redis-py refreshes its node list by itself only after a command
        raise


async def close(client: Client) -> None:
    """Closes all connections. Commands that are still in progress fail, and later ones too, except on a cluster: there,
    none may be in progress."""
    if hasattr(client, "lifetime"):
        client.lifetime.closed = True
    for each in (client, *getattr(client, "sentinels", ())):
        await each.aclose()


async def ask(command: Awaitable[Any], no_group: Callable[[], Awaitable[None]] | None = None) -> Any:
    """The reply to a command.

    no_group: creates the consumer group again if the server has lost it. Raises StreamDown if the command fails;
    ResponseError only if a group already exists or a key does not.
    """
    task = asyncio.current_task()
    cancelling = task.cancelling() if task else 0
    try:
        return await _reply(command, no_group)
    finally:
        if task and task.cancelling() > cancelling:
            # redis-py sends with asyncio.wait_for, which in Python 3.11 may swallow a cancellation (cpython #86296);
            # the command then returns a reply, or an error from a connection that was given up.
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
            raise StreamDown(
                "stream server: it restarted without its data; reading starts from the beginning"
            ) from error
        # Out of memory, read-only, or unable to persist. Not `from error`: redis-py's message contains the command, and
        # so the content of records.
        raise StreamDown(f"stream server: the command was refused: {_without_command(error)}") from None
    except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
        raise StreamDown(f"stream server: {type(error).__name__}: {_without_command(error)}") from None
    except (AttributeError, IndexError, KeyError, RuntimeError, ValueError) as error:
        # redis-py's cluster client raises these if nodes disappear while it refreshes its node list; RuntimeError is
        # uvloop's, for a connection that is closed meanwhile.
        raise StreamDown(f"stream server: {type(error).__name__}: {error}") from error


_COMMAND = re.compile(r"^Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)


def _without_command(error: Exception) -> str:
    """The server's message, without the command that redis-py puts before it."""
    return _COMMAND.sub("", str(error)).strip("(),'\"")
