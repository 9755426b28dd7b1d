"""Reloads a changed gateway.yaml while calls are in flight: read, built and swapped as a whole, or refused."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.config.changes import changes
from gateway.config.config import Config
from gateway.config.environment import shared_metrics
from gateway.config.extras import OF_GATEWAY, require_extras
from gateway.config.loading import file_stamp, load
from gateway.config.made_experiments import made_path
from gateway.config.retirements import RetiringTarget, day_of, due, retiring_models
from gateway.config.routes import read_routes, route_path
from gateway.core.errors import ConfigError
from gateway.core.exchange import Target
from gateway.core.reasons import one_line
from gateway.proxy.app import App, Gateway
from gateway.proxy.build import ProcessParts, build, build_keys, close
from gateway.proxy.http.auth.authorized import AuthorizedTransport
from gateway.proxy.http.auth.renewal import keep_fresh
from gateway.proxy.http.server.drain import until_idle
from gateway.proxy.request.auth import KeyRing
from gateway.proxy.routing.probes import probe_idle, scrape, watch

log = logging.getLogger("gateway")

_CHECK_S = 1.0  # between two checks of the config file


def load_served(path: Path) -> Config:
    """A config that may be served. Raises ConfigError."""
    config = load(path)
    require_extras(config, OF_GATEWAY)
    if not config.keys and not config.open and config.admin is None and not config.jwt:
        raise ConfigError(
            [
                f"{path.name}: keys: none. Add one (name and sha256), add `admin` to make keys while the gateway "
                "runs, add `jwt` to accept tokens, or set `open: true` to let everyone in"
            ]
        )
    return config


def keep_in_force(path: Path) -> None:
    """Keeps a copy for workers that start later, when the file itself may hold a config that was refused."""
    kept = in_force()
    if kept is not None:
        _copy(path, kept)
        with contextlib.suppress(FileNotFoundError):  # the console has made no experiment
            _copy(made_path(path), made_path(kept))
        for name in read_routes(path).texts:
            _copy(route_path(path, name), route_path(kept, name))


def _copy(path: Path, to: Path) -> None:
    own = to.with_suffix(f".{os.getpid()}")
    shutil.copyfile(path, own)
    own.replace(to)


def in_force() -> Path | None:
    """The file in which workers keep the config in force; None if there is only one process."""
    shared = shared_metrics()
    return None if shared is None else shared / "gateway.yaml"


def log_retirements(targets: Sequence[RetiringTarget]) -> None:
    """Announces models that their providers soon stop serving, or have."""
    today = day_of(time.time())
    for model in due(retiring_models(targets), today):
        log.warning("%s", model.announced(today))


class Reload:
    """Puts a changed gateway.yaml in force. A config that is refused leaves the previous one in force."""

    def __init__(self, path: Path, app: App, parts: ProcessParts) -> None:
        self._path = path
        self._app = app
        self._parts = parts
        self._begun = app.gateway.config
        self._asked = asyncio.Event()
        self._looking = self._look_at(app.gateway)

    async def watch(self) -> None:
        """Checks the file each second, and at once on SIGHUP. Runs until cancelled."""
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked.set)
        seen = self._stamps()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_S):
                    await self._asked.wait()
            stamp = self._stamps()
            if any(seen.get(path) != at for path, at in stamp.items()) or self._asked.is_set():
                self._asked.clear()
                await self.now()
                seen = {**self._stamps(), **stamp}

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        """Stamps of the file, of those that its secrets and the console's experiments were read from, and of
        certificates and keys for upstreams."""
        config = self._app.gateway.config
        return {path: file_stamp(path) for path in (self._path, *config.secret_files, *config.tls_files)}

    async def now(self) -> None:
        try:
            config, keys = await asyncio.to_thread(self._read)
            gateway = build(config, self._parts, keys, self._app.gateway)
        except Exception as error:  # the watch must survive whatever is wrong with one file
            log.error("the new config is refused; the previous one stays in force:\n%s", error)
            self._parts.metrics.config_ok.set(0)
            self._app.config_refused = one_line(error)
            return
        if self._parts.issuers is not None:
            self._parts.issuers.follow(config.jwt)
        old = self._app.change(gateway)
        self._stop_looking()
        self._looking = self._look_at(gateway)
        self._parts.metrics.config_ok.set(1)
        self._app.config_refused = ""
        self._parts.tasks.start(_close_when_unused(self._app, old), "old config")
        await asyncio.to_thread(keep_in_force, self._path)
        changed = await asyncio.to_thread(changes, old.config, gateway.config)
        log.info("config reloaded (%s): %s; changed: %s", config.digest, gateway.config.summary(), changed)
        log_retirements(gateway.retiring)
        if later := _for_the_next_start(self._begun, gateway.config):
            log.warning("changed settings that need a restart to take effect: %s", ", ".join(later))

    def _read(self) -> tuple[Config, KeyRing]:
        """Reads the config in a thread, with the garbage collector off: it would stop all threads to scan the new
        objects."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            config = load_served(self._path)
            return config, build_keys(config, self._parts)
        finally:
            if collecting:
                gc.enable()

    def _look_at(self, gateway: Gateway) -> list[asyncio.Task[None]]:
        upstreams, start = gateway.upstreams.values(), self._parts.tasks.start
        authorized = (u.transport for u in upstreams if isinstance(u.transport, AuthorizedTransport))
        renewals = {id(t.credential.renewal): t.credential.renewal for t in authorized}
        return [
            start(watch(upstreams), "health"),
            start(scrape(upstreams, gateway.router.target_states), "load"),
            start(probe_idle(lambda: gateway.router.target_states, self._candidates), "probes"),
            start(keep_fresh(renewals.values()), "credentials"),
        ]

    def _candidates(self) -> set[Target]:
        """The candidates of the ramps in force."""
        plans = (state.plan for state in self._parts.plans.values())
        return {plan.candidates[0][1] for plan in plans if plan.ramp is not None}

    def _stop_looking(self) -> None:
        for task in self._looking:
            task.cancel()

    async def stop(self) -> None:
        self._stop_looking()


def _for_the_next_start(begun: Config, now: Config) -> list[str]:
    """The settings that differ and that a reload cannot change."""
    pairs = {
        "stream": (begun.stream, now.stream),
        "cors": (begun.cors, now.cors),
        "log.format": (begun.log.format, now.log.format),
        "otel": (begun.otel, now.otel),
        "log.level": (begun.log.level, now.log.level),
        "metrics.bind": (begun.metrics.bind, now.metrics.bind),
        "limits.drain_s": (begun.limits.drain_s, now.limits.drain_s),
    }
    return [name for name, (before, after) in pairs.items() if before != after]


async def _close_when_unused(app: App, old: Gateway) -> None:
    """Closes a gateway's connections once its last call has ended, at the latest when the process stops."""
    try:
        await until_idle(lambda: old.in_use, 0.2)
    finally:
        app.forget(old)
        await close(old, app.gateways)
