"""The program `gateway serve`: one process, or several workers behind one socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from prometheus_client import CollectorRegistry
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process as UvicornWorker

from gateway.config.config import Config
from gateway.config.environment import (
    WorkerEnvironment,
    count_restart,
    debuggable,
    export_to_workers,
    restarts,
    shared_metrics,
    worker_environment,
)
from gateway.config.loading import load
from gateway.config.retirements import retiring_targets
from gateway.core.backoff import Backoff
from gateway.core.errors import CannotRun, ConfigError, StreamDown
from gateway.core.networks import is_loopback
from gateway.core.reasons import on_page, one_line
from gateway.observability import logging as log_format
from gateway.observability.exemplars import ExemplarFiles
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.app import App
from gateway.proxy.build import ProcessParts, build, close
from gateway.proxy.directory.poller import DirectoryPoller
from gateway.proxy.endpoints.health import GatewayReasons
from gateway.proxy.endpoints.pages import OtherPages
from gateway.proxy.experiments.engines import Engines
from gateway.proxy.experiments.plan_poller import PLANS_EVERY_S, PlanPoller
from gateway.proxy.experiments.shadow import ShadowState
from gateway.proxy.guards.ramp_poller import GUARD_RAMPS_EVERY_S, GuardRampPoller
from gateway.proxy.http.server.connection_limits import (
    REASONS,
    BodyMemory,
    ConnectionLimits,
    OpenFiles,
    raise_file_limit,
)
from gateway.proxy.http.server.cors import DirectAppWithCors, pages_with_cors
from gateway.proxy.http.server.drain import until_idle
from gateway.proxy.http.server.protocol import DirectApp, HttpProtocol
from gateway.proxy.http.server.tls import CertificateFiles
from gateway.proxy.http.server.uvicorn_server import BoundedApp, GatewayServer, ReusePortSocket, page_settings
from gateway.proxy.limits.book import WAIT_S, LeaseBook
from gateway.proxy.limits.estimate import OUTPUTS_EVERY_S, OutputTokenPoller
from gateway.proxy.limits.exchange import LeaseExchange
from gateway.proxy.limits.kept_leases import KeptLeases, settle_killed
from gateway.proxy.recording.access_log import AccessLog
from gateway.proxy.recording.heartbeat import EVERY_S as HEARTBEAT_S
from gateway.proxy.recording.heartbeat import Heartbeat
from gateway.proxy.recording.last_counts import kept_counts, report_killed
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.relay.deadlines import Ticker
from gateway.proxy.reload import Reload, in_force, keep_in_force, load_served, log_retirements
from gateway.proxy.routing.response_affinity import ResponseAffinity
from gateway.proxy.routing.response_ids import ResponseIds
from gateway.proxy.signing_keys import ASKED_S, SigningKeyPoller
from gateway.proxy.websocket.endpoint import WebSocketResponses
from gateway.runtime.confinement import hide_memory
from gateway.runtime.directory_snapshot import DirectorySnapshot
from gateway.runtime.embedded_redis import keep
from gateway.runtime.progress import work_done
from gateway.runtime.tasks import Tasks
from gateway.stream import Corridor
from gateway.stream.leases import LeaseServer

if TYPE_CHECKING:
    from gateway.proxy.recording.spans import Spans

log = logging.getLogger("gateway")

_SECRET_S = 0.5  # how long a start waits for the shared secret; it is usually there in a millisecond
_SECRET_AGAIN = Backoff(first_s=0.5, most_s=10.0)
_SETTLE_S = 1.0  # how long a stopping process waits for calls that it has cancelled
_WORKER_TIMEOUT_S = 30.0  # without an answer or, of one that starts, without progress: the parent kills the worker
_UNSEEN_START_S = 300.0  # the same where the system does not tell what a process has done
_SWITCH_S = 0.0005  # how long the loop waits for a busy thread (a scrape, a redaction), a tenth of Python's default


def run(
    config_path: Path,
    host: str,
    port: int,
    workers: int,
    data: Path,
    tls: tuple[Path | None, Path | None] = (None, None),
) -> None:
    """Serves until SIGINT or SIGTERM. Raises ConfigError for a config that may not be served.

    tls: PEM files of a certificate and its key; without them plain HTTP is served.
    """
    config = load_served(config_path)
    files = CertificateFiles.of_options(*tls)
    served = WorkerEnvironment(config_path, data, is_loopback(host), f"{host}:{port}", workers)
    log_format.begin(config.log)
    raise_file_limit()
    if not debuggable():
        hide_memory()
    if files is None and not served.loopback:
        log.warning(
            "listening on %s without TLS: API keys and prompts travel in clear; give --tls-cert and --tls-key, or put "
            "a proxy with TLS in front and listen on 127.0.0.1",
            host,
        )
    log_retirements(retiring_targets(config))
    try:
        if workers == 1:
            GatewayServer(server_settings(Process(served, config), config, host, port, 1, files)).run()
        else:
            _several(server_settings("gateway.proxy.serve:create", config, host, port, workers, files), served)
    except SystemExit as error:  # uvicorn has logged the reason
        sys.exit(1 if error.code else 0)


def _several(settings: uvicorn.Config, served: WorkerEnvironment) -> None:
    with tempfile.TemporaryDirectory(prefix="gateway-workers-", ignore_cleanup_errors=True) as shared:
        export_to_workers(served, Path(shared))
        keep_in_force(served.config)
        with ReusePortSocket(fileno=settings.bind_socket().detach()) as address:
            workers = _Workers(settings, [address])
            workers.run()
    if any(w.exitcode == STARTUP_FAILURE for w in workers.processes):
        sys.exit(STARTUP_FAILURE)


class WorkerProcess(UvicornWorker):
    """One worker process, seen from its parent and, once pickled, from itself.

    It answers pings once its modules are loaded, which takes a second of CPU time: minutes on a machine that has none
    to spare. So until its first answer the work that it has done counts, and afterwards the time.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._answered = self._asked = False
        self._well_at: float | None = None  # the parent's clock at its last answer, or its last progress
        self._work: int | None = None

    def trouble(self, now: float) -> str:
        """The reason why it must be replaced; "" if there is none. Does not wait. now: monotonic seconds."""
        if not self.process.is_alive():
            return f"died ({_how(self.exitcode)})"
        well = self._has_answered() or self._has_worked()
        if well or self._well_at is None:
            self._well_at = now
        silent_s = now - self._well_at
        if silent_s < (_WORKER_TIMEOUT_S if self._answered or self._work is not None else _UNSEEN_START_S):
            return ""
        if self._answered:
            return f"has not answered for {silent_s:.0f} s and is killed"
        return f"has not started and is killed: it made no progress for {silent_s:.0f} s"

    def _has_answered(self) -> bool:
        """Whether an answer has come since the last look. Asks again after each."""
        came = False
        with contextlib.suppress(OSError, EOFError):
            while self.parent_conn.poll():
                self.parent_conn.recv()
                came, self._asked = True, False
            if not self._asked:
                self.parent_conn.send(b"ping")
                self._asked = True
        self._answered = self._answered or came
        return came

    def _has_worked(self) -> bool:
        """Whether a worker that is starting has done anything since the last look."""
        if self._answered or self.pid is None:
            return False
        before, self._work = self._work, work_done(self.pid)
        return self._work != before

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = GatewayServer(self.config)
        return self._server


class _Workers(Multiprocess):
    processes: list[WorkerProcess]  # type: ignore[assignment]

    def init_processes(self) -> None:
        self.processes = [self._started() for _ in range(self.processes_num)]

    def handle_ttin(self) -> None:
        self.processes_num += 1
        self.processes.append(self._started())

    def _started(self) -> WorkerProcess:
        worker = WorkerProcess(self.config, self.sockets)
        worker.start()
        return worker

    def keep_subprocess_alive(self) -> None:
        """Replaces workers that have died or hang. A worker that could not start would fail again, and stops the
        parent."""
        for index, worker in enumerate(self.processes):
            trouble = "" if self.should_exit.is_set() else worker.trouble(time.monotonic())
            if not trouble:
                continue
            worker.kill()
            worker.join()
            if worker.exitcode == STARTUP_FAILURE:
                log.error("worker %s failed to start; the parent process stops", worker.pid)
                self.should_exit.set()
            elif not self.should_exit.is_set():
                log.warning("worker %s %s; another one starts", worker.pid, trouble)
                if (shared := shared_metrics()) is not None:
                    count_restart(shared)
                self.processes[index] = self._started()

    def handle_hup(self) -> None:
        """Ignores the signal: each worker reloads the config itself; uvicorn would restart the workers and wait for
        their streams to end."""
        for worker in self.processes:
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGHUP)


def _how(exitcode: int | None) -> str:
    """Describes how a process ended, for people: "SIGKILL" or "exit code 1"."""
    if exitcode is None or exitcode >= 0:
        return f"exit code {exitcode}"
    return signal.Signals(-exitcode).name if -exitcode in set(signal.Signals) else f"signal {-exitcode}"


def server_settings(
    app: Any, config: Config, host: str, port: int, workers: int, tls: CertificateFiles | None = None
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        workers=workers,
        factory=isinstance(app, str),
        loop="uvloop",
        http=HttpProtocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        headers=[("server", "assay-gateway")],
        backlog=4096,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(config.limits.drain_s)),
    )


def create() -> Process:
    """The ASGI application of a worker, whose parent has put the settings into the environment."""
    process = Process(worker_environment())
    log_format.begin(process.config.log)
    if not debuggable():
        hide_memory()
    return process


class Process:
    """The ASGI application of one process: `lifespan.startup` opens everything, `lifespan.shutdown` closes it."""

    def __init__(
        self,
        served: WorkerEnvironment,
        config: Config | None = None,
        flush_s: float = 5.0,
        heartbeat_s: float = HEARTBEAT_S,
        limits_shift_s: float = 0.0,
        limits_wait_s: float = WAIT_S,
        keys_asked_s: float = ASKED_S,
        passed_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """config: None: the file's, or if that is refused, the one of the other workers. flush_s: time in which a
        stopping process tries to append its records. heartbeat_s: between heartbeats. limits_shift_s: seconds by which
        windows of limits begin earlier than by the stream server's clock. limits_wait_s: the longest that a call waits
        for the stream server. keys_asked_s: least time between two reads of an issuer's keys that tokens ask for.
        passed_s: seconds by which the clocks of circuit breakers and heartbeats are ahead."""
        self._passed_s = passed_s
        self._keys_asked_s = keys_asked_s
        self._limits_shift_s = limits_shift_s
        self._limits_wait_s = limits_wait_s
        self._flush_s = flush_s
        self._heartbeat_s = heartbeat_s
        self._served = served
        self.config, self._refused = self._load(served.config) if config is None else (config, "")
        self.app: App | None = None
        self.direct: DirectApp | None = None
        """The app, which answers the hot path without ASGI; behind CORS if that is configured."""
        self.websockets: WebSocketResponses | None = None
        """The responses over WebSocket."""
        self.access: AccessLog | None = None
        self.connections: ConnectionLimits | None = None
        """The limits that the server asks for each new connection."""
        self.bodies: BodyMemory | None = None
        """The count of the request bodies that the server holds."""
        self._pages: Any = None  # the ASGI application of all other paths, built at the same time

    def _load(self, path: Path) -> tuple[Config, str]:
        """(config, refused). refused: the reason why the config of the other workers is used, and not the file's; "" if
        the file's is."""
        try:
            return load(path), ""
        except ConfigError as error:
            kept = in_force()
            if kept is None or not kept.exists():
                raise
            log.error("the config is refused; this worker uses the one of the other workers:\n%s", error)
            return load(kept), one_line(error)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if self._pages is not None and scope["type"] == "http":
            await self._pages(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        async with contextlib.AsyncExitStack() as stack:
            try:
                self.app = await stack.enter_async_context(self.opened())
            except (ConfigError, CannotRun, OSError) as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            origins = self.config.cors
            self._pages = pages_with_cors(self.app.pages, origins) if origins else self.app.pages
            self.direct = DirectAppWithCors(self.app, origins) if origins else self.app
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[App]:
        """The application, ready to answer; closed with the context."""
        registry = CollectorRegistry()
        metrics = ProxyMetrics(registry)
        stream = self.config.stream
        async with (
            keep(self.config, self._served.data) as url,
            contextlib.aclosing(Corridor.of(stream, url)) as corridor,
            Tasks() as tasks,  # ended before the corridor is closed, which some of them use
            contextlib.AsyncExitStack() as last,
        ):
            recorder = Recorder(corridor, metrics, buffer_bytes=int(stream.buffer_mb * 1e6))
            last.enter_context(kept_counts(self._served.data, recorder))
            self.access = access = AccessLog(log_format.is_json(self.config.log))
            affinity = ResponseAffinity(corridor.state, tasks)
            sharing = tasks.start(_share_secret(corridor, affinity.ids), "shared secret")
            await asyncio.wait({sharing}, timeout=_SECRET_S)
            kept = KeptLeases(self._served.data, recorder.incarnation)
            book = LeaseBook(workers=self._served.workers, wait_s=self._limits_wait_s, kept=kept)
            lease_server = LeaseServer(corridor.client, stream.name, recorder.incarnation, self._limits_shift_s)
            exchange = LeaseExchange(book, lease_server, metrics)
            exchanging = tasks.start(exchange.run(), "limits")
            tasks.start(settle_killed(self._served.data, lease_server), "leases of killed processes")
            parts = ProcessParts(
                recorder,
                metrics,
                tasks,
                affinity,
                Ticker(),
                access,
                spans=_spans(self.config),
                directory_path=self._served.config.parent,
                leases=book,
                exchanges=exchange,
                clock=lambda: time.monotonic() + self._passed_s(),
                shadows=ShadowState(engines=Engines(corridor.state)),
            )
            tasks.start(access.run(), "access log")
            app = App(build(self.config, parts))
            here, recall = self._served.loopback, corridor.state.recall
            reasons = GatewayReasons(app, recorder, exchange)
            app.failing_parts = lambda: len(reasons())
            pages = OtherPages(lambda: app.gateway, app.show, registry, loopback=here, recall=recall, reasons=reasons)
            app.pages = pages.app()
            self.websockets = websockets = WebSocketResponses(app)
            app.open_websockets = lambda: websockets.sessions.number
            self.bodies = app.bodies
            self._limit_connections(app, tasks, metrics)
            metrics.config_ok.set(not self._refused)
            app.config_refused = self._refused
            reload = Reload(self._served.config, app, parts)
            tasks.start(reload.watch(), "config")
            await self._follow(corridor, app, parts, reasons)
            if shared_metrics() is not None:
                tasks.start(_show(app), "shared metrics")
            writing = tasks.start(recorder.run(), "recorder")
            tasks.start(report_killed(self._served.data, corridor), "counts of killed processes")
            heartbeat = reasons.heartbeat = self._heartbeat(corridor, app, parts, reasons)
            tasks.start(heartbeat.run(), "presence")
            async with self._metrics_listener(pages):
                _tune_interpreter()
                yield app
            await reload.stop()
            await _settled(app)
            exchanging.cancel()
            await exchange.leave()
            kept.close()
            await _flush(recorder, writing, self._flush_s)
            await heartbeat.leave()
            await close(app.gateway)
            await asyncio.to_thread(_hand_over, access, parts.spans)

    def _limit_connections(self, app: App, tasks: Tasks, metrics: ProxyMetrics) -> None:
        files = OpenFiles(partial(_count_failure, metrics))
        for reason in REASONS:  # both begin at 0, so that the first failure is a rise
            metrics.accept_failures.labels(reason)
        self.connections = ConnectionLimits(partial(_connection_limits, app), app.count_refused, files)
        tasks.start(files.watch(), "open files")

    async def _follow(self, corridor: Corridor, app: App, parts: ProcessParts, reasons: GatewayReasons) -> None:
        """Reads plans, keys, issuers' keys and output tokens once; tasks then keep them up to date."""
        following = PlanPoller(
            corridor.state,
            app.experiments,
            parts.plans,
            parts.shadows,
            parts.metrics,
            corridor.ramps,
            parts.ramps,
            parts.health,
            parts.secret,
        )
        guard_ramps = GuardRampPoller(
            corridor.state, corridor.ramps, lambda: app.gateway.config, parts.guard_ramps, parts.secret, parts.metrics
        )
        snapshot = DirectorySnapshot(self._served.data)
        keys = DirectoryPoller(corridor.directory, parts.directory, snapshot, parts.metrics, app.end_calls)
        parts.issuers = SigningKeyPoller(
            parts.signing_keys, parts.directory.touch, parts.tasks, parts.resolver, asked_s=self._keys_asked_s
        )
        reasons.plans, reasons.keys, reasons.issuers, reasons.guard_ramps = following, keys, parts.issuers, guard_ramps
        outputs = OutputTokenPoller(corridor.state.recall, lambda: app.gateway.limiter.estimates_by_request)
        await asyncio.gather(
            following.look(), guard_ramps.look(), keys.start(), parts.issuers.start(self.config.jwt), outputs.look()
        )
        parts.tasks.repeat(following.look, PLANS_EVERY_S, "experiments")
        parts.tasks.repeat(guard_ramps.look, GUARD_RAMPS_EVERY_S, "ramps of guards")
        parts.tasks.repeat(outputs.look, OUTPUTS_EVERY_S, "output tokens")
        parts.tasks.start(keys.run(), "keys")

    def _heartbeat(self, corridor: Corridor, app: App, parts: ProcessParts, reasons: GatewayReasons) -> Heartbeat:
        return Heartbeat(
            corridor.state,
            parts.recorder,
            lambda: time.time() + self._passed_s(),
            report=lambda: {
                **app.report(),
                "address": self._served.address,
                "reasons": on_page(reasons(but_config=True), causes=True),
                "directory": parts.directory.report(),
                "candidates": parts.health.reports(
                    each.plan for each in app.gateway.router.experiments.in_force.values()
                ),
            },
            every_s=self._heartbeat_s,
        )

    @contextlib.asynccontextmanager
    async def _metrics_listener(self, pages: OtherPages) -> AsyncIterator[None]:
        """The separate listener for /metrics and /ready, if it is configured; it is open to everyone who reaches it.

        With several workers each tries to bind it and the first succeeds; a scrape returns the total of all workers.
        """
        bind = self.config.metrics.bind
        if bind is None:
            yield
            return
        sock = _listener(bind)
        if sock is None:
            yield
            return
        server = GatewayServer(page_settings(BoundedApp(pages.private())), announced=False)
        async with Tasks() as tasks:
            serving = tasks.start(server._serve([sock]), "metrics listener")
            yield
            server.should_exit = True
            await serving


async def _share_secret(corridor: Corridor, ids: ResponseIds) -> None:
    """Gets the secret that other workers and gateways seal ids with, as soon as the stream server answers."""
    tries = 0
    while True:
        try:
            ids.share(await corridor.state.secret())
            return
        except (StreamDown, ValueError) as error:
            tries += 1
            if tries == 1:
                log.warning(
                    "ids of responses are valid in this process only until the stream server answers: %s", error
                )
        await asyncio.sleep(_SECRET_AGAIN.wait_s(tries))


def _connection_limits(app: App) -> tuple[int | None, int | None]:
    limits = app.gateway.config.limits
    return limits.connections, limits.connections_per_address


def _count_failure(metrics: ProxyMetrics, reason: str) -> None:
    metrics.counts.of(metrics.accept_failures, reason).n += 1


def _spans(config: Config) -> Spans | None:
    if config.otel is None:
        return None
    from gateway.proxy.recording.spans import Spans  # its SDK is imported only if spans are configured

    return Spans(config.otel)


def _hand_over(access: AccessLog, spans: Spans | None) -> None:
    access.flush()
    if spans is not None:
        spans.close()


def _tune_interpreter() -> None:
    gc.freeze()  # objects from start-up stay for good, so the collector can skip them
    # The rest is small; full collections are frequent enough that cycles of exceptions do not pile up.
    gc.set_threshold(20_000, 10, 5)
    sys.setswitchinterval(_SWITCH_S)


async def _show(app: App) -> None:
    """Keeps this worker's metrics up to date for the other workers, which answer scrapes for all.

    Stops the worker when its parent is gone: nothing else would stop it, and it would keep the port. The parent may
    have been killed before this worker had started.
    """
    parent, shared = parent_process(), shared_metrics()
    files = None if shared is None else ExemplarFiles(shared)
    while parent is None or os.getppid() == parent.pid:
        app.show()
        if shared is not None and files is not None:
            metrics = app.gateway.metrics
            files.write(metrics.counts.exemplars())
            metrics.counts.set(metrics.worker_restarts, restarts(shared))
        await asyncio.sleep(0.5)
    log.error("the parent process is gone; this worker stops")
    os.kill(os.getpid(), signal.SIGTERM)


def _listener(bind: str) -> socket.socket | None:
    """Returns None if another worker has the address. Raises ConfigError."""
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Listen at once: until one of them listens, two workers can bind the same port.
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and shared_metrics() is not None:
            return None
        raise ConfigError([f"metrics.bind: {bind} cannot be bound: {error.strerror}"]) from error


async def _settled(app: App) -> None:
    """Waits for the calls that were cancelled after drain_s, and for guards that judge ended calls, so that they are
    recorded too. Guards that take longer are not waited for."""
    for gateway in app.gateways:
        gateway.shadow.give_up()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SETTLE_S):
            await until_idle(lambda: any(g.calls.total() or g.judging for g in app.gateways), 0.01)
    late = [judged for gateway in app.gateways for judged in gateway.judging]
    for judged in late:
        judged.cancel()
    await asyncio.gather(*late, return_exceptions=True)


async def _flush(recorder: Recorder, writing: asyncio.Task[None], timeout_s: float) -> None:
    recorder.close()
    _, late = await asyncio.wait({writing}, timeout=timeout_s)
    if late:
        writing.cancel()
        recorder.give_up()
