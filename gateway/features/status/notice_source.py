"""Notices of what heartbeats report: configs that are refused and work that has stopped itself (one for each cause,
however many processes name it), upstreams that refuse our key, and consumers that are gone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from gateway.core.errors import StreamDown
from gateway.core.notice import SEVERITIES, Notice
from gateway.features.consumer_report import SILENT_S, ConsumerReport, silent_consumers
from gateway.features.isolation import StoppedWork
from gateway.features.task import TaskContext
from gateway.stream import Corridor

_DAY_S = 86_400


class ConfigNotices:
    """Notices from the heartbeats of gateways and consumers."""

    everywhere = False

    def __init__(self, context: TaskContext) -> None:
        self._corridor, self._name, self._own_refusal = context.corridor, context.name, context.config_refused

    async def look(self, now: float) -> Sequence[Notice]:
        """Finds this consumer's own refusal even while the stream server is away. Raises StreamDown otherwise."""
        try:
            refused = await config_refusals(self._corridor, now)
        except StreamDown:
            if not self._own_refusal():
                raise
            refused = [(self._name, self._own_refusal())]
        return list(_notices(refused, now))


class KeyNotices:
    """Upstreams that refuse the gateway's key: once a day."""

    everywhere = False

    def __init__(self, context: TaskContext) -> None:
        self._corridor = context.corridor

    async def look(self, now: float) -> Sequence[Notice]:
        """Raises StreamDown."""
        refused: dict[str, str] = {}
        for beat in (await self._corridor.state.gateways()).values():
            upstreams = beat.get("upstreams", {}) if now - beat["at"] <= SILENT_S else {}
            refused |= {name: str(of["key_refused"]) for name, of in upstreams.items() if of.get("key_refused")}
        return [_key_notice(name, why, now) for name, why in sorted(refused.items())]


class ConsumerNotices:
    """Consumers that are gone and not replaced."""

    everywhere = False

    def __init__(self, context: TaskContext) -> None:
        self._state = context.corridor.state

    async def look(self, now: float) -> Sequence[Notice]:
        """Raises StreamDown."""
        beats = await self._state.consumers()
        reports = await self._state.recall_all([f"report:{name}" for name in beats])
        started = {name: ConsumerReport.from_json(report).started for name, report in zip(beats, reports, strict=True)}
        return [_consumer_notice(name, beats[name]) for name in silent_consumers(beats, started, now)]


def _key_notice(name: str, why: str, now: float) -> Notice:
    text = f"{why}. Calls to it fail or go to their fallbacks, until a call is answered again."
    id = f"upstream:{name}:key_refused:{int(now // _DAY_S)}"
    title, severity = f"upstream {name} refuses our key", SEVERITIES["upstream.key_refused"]
    return Notice(id, "upstream", title, text, now, "/console/system", severity, {"upstream": name, "cause": why})


def _consumer_notice(name: str, last_at: float) -> Notice:
    title = f"consumer {name} is gone"
    text = "It has sent no heartbeat for half a minute, and none has replaced it. Others claim its entries."
    id, severity = f"consumer:{name}:silent", SEVERITIES["consumer.silent"]
    return Notice(id, "consumer", title, text, last_at + SILENT_S, "/console/system", severity, {"consumer": name})


class WorkNotices:
    """Notices of work that has stopped itself, from the heartbeats of consumers."""

    everywhere = False

    def __init__(self, context: TaskContext) -> None:
        self._corridor = context.corridor

    async def look(self, now: float) -> Sequence[Notice]:
        """Raises StreamDown."""
        found: dict[str, Notice] = {}
        for name, at in (await self._corridor.state.consumers()).items():
            report = ConsumerReport.from_json(await self._corridor.state.recall(f"report:{name}"))
            for work, of in report.stopped.items() if now - at <= SILENT_S else ():
                found.setdefault(work, _stopped(work, of, name, now))
        return list(found.values())


def _stopped(work: str, of: StoppedWork, consumer: str, now: float) -> Notice:
    """The error's own text stays in `gateway status`: it may quote an answer."""
    id = f"feature:{hashlib.sha256(f'{work}|{of.kind}'.encode()).hexdigest()[:16]}:{int(now // _DAY_S)}"
    text = f"{of.kind}, at {consumer}; `gateway status` has the whole reason. To resume: {of.resume}."
    data = {"work": work, "reason": of.kind, "by": consumer}
    severity = SEVERITIES["feature.stopped"]
    return Notice(id, "feature", f"{work} is stopped", text, of.at, "/console/system", severity, data)


async def config_refusals(corridor: Corridor, now: float) -> list[tuple[str, str]]:
    """(process, why it refuses the newest gateway.yaml) of those that are alive. Raises StreamDown."""
    found = []
    for beat in (await corridor.state.gateways()).values():
        config = beat.get("config", {})
        if now - beat["at"] <= SILENT_S and not config.get("ok", True):
            found.append((f"{beat['host']}/{beat['pid']}", str(config.get("refused") or "it does not say why")))
    for name, at in (await corridor.state.consumers()).items():
        report = ConsumerReport.from_json(await corridor.state.recall(f"report:{name}"))
        if now - at <= SILENT_S and report.config_refused:
            found.append((name, report.config_refused))
    return found


def _notices(refused: Sequence[tuple[str, str]], now: float) -> Iterator[Notice]:
    """refused: (name of a process, why it refuses the newest gateway.yaml)."""
    by_text: dict[str, list[str]] = {}
    for name, why in refused:
        by_text.setdefault(why, []).append(name)
    for why, names in by_text.items():
        digest = hashlib.sha256(why.encode()).hexdigest()[:16]
        refuse = "1 process refuses" if len(names) == 1 else f"{len(names)} processes refuse"
        title = f"{refuse} the newest gateway.yaml"
        text = f"{why}\nThe previous one stays in force. {', '.join(sorted(names)[:5])}"
        id = f"config:{digest}:{int(now // _DAY_S)}"
        data = {"reason": why, "by": sorted(names)}
        yield Notice(id, "config", title, text, now, "/console/system", SEVERITIES["config.refused"], data)
