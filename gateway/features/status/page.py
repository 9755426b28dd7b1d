"""The page System: does everything run, what is in force, what got stuck, and who changed what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.config.made_experiments import MadeExperiments, read_made
from gateway.console.errors import AdminError, NotThere
from gateway.console.forms import form_actor
from gateway.console.frame import Page, PageRoute, PageServices, redirect, render, services_of
from gateway.console.health_reasons import console_reasons
from gateway.core.conversation import turns
from gateway.core.errors import ConfigError
from gateway.core.exchange import Exchange
from gateway.features.keys import directory
from gateway.features.status.dead_letter_commands import first_letters, one_letter, replay_letters
from gateway.features.status.dead_letters import kind_of, record_of
from gateway.features.status.live_config import ConfigSection, live_config, read_text
from gateway.features.status.report import Status, consumer_trouble, look, upstream_states
from gateway.runtime.embedded_socket import stream_url
from gateway.store.directory import AuditRow
from gateway.store.engine import StoreUnavailable, default_url
from gateway.store.loss_accounting import Delivery, delivery
from gateway.store.reader_config import ReaderConfig
from gateway.stream import Corridor, DeadLetter

HOME = "/console/system"
LETTERS_SHOWN = 50
AUDIT_SHOWN = 50
MOST_SHOWN = 20_000
"""Characters of one field of a dead letter."""


async def status_page(request: Request) -> Response:
    services = services_of(request)
    status = await _status(services)
    alive = [] if status is None or status.stream is None else [g for g in status.stream.gateways if g.alive]
    publisher = services.admin.publisher
    return render(
        request,
        "system.html.jinja",
        found=status,
        upstreams=upstream_states(alive),
        rates=_rates(alive),
        publisher={"version": publisher.version},
        reasons=console_reasons(services.admin),
        config=services.admin.config(),
        trouble=consumer_trouble,
    )


async def _status(services: PageServices) -> Status | None:
    """None: this console has no stream server."""
    if services.corridor is None:
        return None
    config, store = services.admin.config(), services.admin.store

    async def stored() -> Delivery:
        try:
            return await store.read(delivery)
        except AdminError as error:
            raise StoreUnavailable(error.message) from None

    around = ReaderConfig(
        store=config.store.url or default_url(services.data),
        url=stream_url(config.stream.address, services.data),
        stream=config.stream,
        scorers=config.scorers,
        budgets={name: each.budget for name, each in config.experiments.items()},
    )
    return await look(around, services.corridor, services.admin.clock(), stored)


def _rates(alive: Sequence[Any]) -> dict[str, float]:
    """Calls a second of all gateway processes together, by stage."""
    return {stage: sum(g.rates.get(stage, 0.0) for g in alive) for stage in ("seen", "sampled", "enqueued", "dropped")}


async def config_page(request: Request) -> Response:
    services = services_of(request)
    config = services.admin.config()
    sections = await asyncio.to_thread(_sections, services)
    return render(
        request, "system_config.html.jinja", sections=sections, digest=config.digest,
        file=services.config_path.name,
    )  # fmt: skip


def _sections(services: PageServices) -> list[ConfigSection]:
    path = services.config_path
    try:
        made = read_made(path)
    except ConfigError:
        made = MadeExperiments(path)
    return live_config(read_text(path), path.name, made, services.admin.config())


async def dead_page(request: Request) -> Response:
    services = services_of(request)
    corridor, reason = _corridor(services), request.query_params.get("reason")
    letters = await first_letters(corridor, reason or None, LETTERS_SHOWN)
    return render(
        request, "system_dead.html.jinja",
        letters=[_listed(each) for each in letters], reasons=await corridor.dead_letters.by_reason(),
        reason=reason or "", most=LETTERS_SHOWN,
    )  # fmt: skip


def _listed(letter: DeadLetter) -> dict[str, Any]:
    record = record_of(letter)
    exchange = isinstance(record, Exchange)
    return {
        "id": letter.id, "url": f"{HOME}/dead/{quote(letter.id)}", "at": letter.added_at, "reason": letter.reason,
        "error": letter.error, "kind": kind_of(letter), "readable": record is not None,
        "what": f"{record.alias} → {record.target}" if isinstance(record, Exchange) else "",
        "exchange": record.id if exchange and isinstance(record, Exchange) else "",
    }  # fmt: skip


async def letter_page(request: Request) -> Response:
    """Its content is in the template only for those who may read it."""
    letter = await one_letter(_corridor(services_of(request)), request.path_params["id"])
    record = record_of(letter)
    said = [] if not isinstance(record, Exchange) else [*turns(record.request), ("response", _text(record.response))]
    fields = [(_text(name), _pretty(value)) for name, value in letter.fields.items()] if not said else []
    return render(request, "system_letter.html.jinja", letter=letter, listed=_listed(letter), said=said, fields=fields)


def _text(value: bytes) -> str:
    return value[: 4 * MOST_SHOWN].decode("utf-8", "replace")[:MOST_SHOWN]


def _pretty(value: bytes) -> str:
    try:
        return _text(orjson.dumps(orjson.loads(value), option=orjson.OPT_INDENT_2))
    except orjson.JSONDecodeError:
        return _text(value)


async def replay(request: Request) -> Response:
    form = await form_actor(request, "operator", "replay dead letters")
    services = services_of(request)
    reason = form.get("reason") or None
    ids = [] if reason else form.all("id")
    found = await replay_letters(services.admin, _corridor(services), form.actor, ids, reason)
    rest = "" if found.done == found.chosen else f" of {found.chosen}; the others had been removed meanwhile"
    return redirect(request, f"{HOME}/dead", f"{found.done} replayed{rest}")


async def audit_page(request: Request) -> Response:
    query = request.query_params
    before, subject = query.get("before"), query.get("subject")
    rows = await directory.read_audit(services_of(request).admin, before or None, AUDIT_SHOWN + 1, subject or None)
    shown = rows[:AUDIT_SHOWN]
    more = {"before": shown[-1].id, **({"subject": subject} if subject else {})} if len(rows) > len(shown) else {}
    return render(
        request, "system_audit.html.jinja", rows=[_audited(row) for row in shown], subject=subject or "",
        next_url=f"{HOME}/audit?{urlencode(more)}" if more else "", first_url=f"{HOME}/audit" if before else "",
    )  # fmt: skip


def _audited(row: AuditRow) -> dict[str, Any]:
    return {"row": row, "changes": changes(row), "subject_url": f"{HOME}/audit?{urlencode({'subject': row.subject})}"}


def changes(row: AuditRow) -> list[tuple[str, str, str]]:
    """(name, before, after) of what a change has changed; "" for what was not there."""
    before, after = dict(row.before or {}), dict(row.after or {})
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    return [
        (name, _shown(before.get(name)), _shown(after.get(name)))
        for name in names
        if name not in ("updated", "created")
    ]


def _shown(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()


def _corridor(services: PageServices) -> Corridor:
    if services.corridor is None:
        raise NotThere("this console has no stream server")
    return services.corridor


PAGE = Page(
    path=HOME,
    title="System",
    routes=(
        PageRoute(HOME, status_page),
        PageRoute(f"{HOME}/config", config_page),
        PageRoute(f"{HOME}/dead", dead_page),
        PageRoute(f"{HOME}/dead/replay", replay, methods=("POST",), role="operator"),
        PageRoute(f"{HOME}/dead/{{id}}", letter_page),
        PageRoute(f"{HOME}/audit", audit_page),
    ),
)
