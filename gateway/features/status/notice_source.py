"""Notices of refused configs: one for a text that is refused, however many processes refuse it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from gateway.core.notice import SEVERITIES, Notice
from gateway.features.status.consumer_report import ConsumerReport
from gateway.features.task import TaskContext
from gateway.stream import Corridor

ALIVE_S = 30.0
"""Heartbeats come every few seconds; older ones say nothing about now."""
_DAY_S = 86_400


class ConfigNotices:
    """Notices from the heartbeats of gateways and consumers."""

    everywhere = False

    def __init__(self, context: TaskContext) -> None:
        self._corridor = context.corridor

    async def look(self, now: float) -> Sequence[Notice]:
        """Raises StreamDown."""
        return list(_notices(await config_refusals(self._corridor, now), now))


async def config_refusals(corridor: Corridor, now: float) -> list[tuple[str, str]]:
    """(process, why it refuses the newest gateway.yaml) of those that are alive. Raises StreamDown."""
    found = []
    for beat in (await corridor.state.gateways()).values():
        config = beat.get("config", {})
        if now - beat["at"] <= ALIVE_S and not config.get("ok", True):
            found.append((f"{beat['host']}/{beat['pid']}", str(config.get("refused") or "it does not say why")))
    for name, at in (await corridor.state.consumers()).items():
        report = ConsumerReport.from_json(await corridor.state.recall(f"report:{name}"))
        if now - at <= ALIVE_S and report.config_refused:
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
