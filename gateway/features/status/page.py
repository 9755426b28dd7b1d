"""The page System: the state of all processes, the config in force, dead letters, and the audit of changes.

The config in force is shown with the source of each value: the file, an environment variable, a secret's file, the
console's experiments, or the default. Secrets are never in it: a value that comes from a variable or a file is shown as
its name, since any of them may be a secret.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from gateway.config.config import Config
from gateway.config.made_experiments import SECTION, MadeExperiments, read_made
from gateway.config.retirements import day_of
from gateway.config.yaml_text import yaml_sections
from gateway.console.errors import AdminError, NotThere
from gateway.console.filters import shortened
from gateway.console.forms import form_actor
from gateway.console.frame import Page, PageRoute, PageServices, redirect, render, services_of
from gateway.core.conversation import turns
from gateway.core.errors import ConfigError
from gateway.core.exchange import Exchange
from gateway.features.keys import directory
from gateway.features.retirement.notices import NoticeCache
from gateway.features.retirement.traffic import DailyCalls, daily_calls
from gateway.features.status.dead_letters import first_letters, kind_of, one_letter, record_of, replay_letters
from gateway.features.status.report import Status, consumer_trouble, look, upstream_states
from gateway.reports import number_format as say
from gateway.reports import sample_components
from gateway.reports.charts import Drawing, share_bar
from gateway.runtime.embedded_socket import stream_url
from gateway.store.directory import AuditRow
from gateway.store.engine import StoreUnavailable
from gateway.store.location import default_url
from gateway.store.loss_accounting import Delivery, delivery
from gateway.store.reader_config import ReaderConfig
from gateway.stream import Corridor, DeadLetter

HIDDEN = "(hidden)"
MOST_VALUES = 200
"""Values shown of one section; the rest is counted."""
_SECRET_NAME = re.compile(r"api_key|sha256|password|secret|authorization|cookie|token$|key_id$", re.IGNORECASE)
_SECRET_PARENTS = ("headers", "environ", "args")
_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_LISTS = ("keys", "upstreams", "models", "scorers", "experiments", "people", "teams", "organizations", "prices")
"""Sections whose entries are named by people: of them, defaults are not shown."""


@dataclass(frozen=True, slots=True)
class ConfigValue:
    path: str
    """The path, as in messages about mistakes: `models.chat.targets[0].upstream`."""
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class ConfigSection:
    name: str
    values: tuple[ConfigValue, ...]
    more: int = 0
    """Values that are left out, because there are many."""


def live_config(text: str, name: str, made: MadeExperiments, config: Config) -> list[ConfigSection]:
    """The sections in the order of the documentation. text: of the file; name: the file's. config: the one in force,
    which may be older than the text if that was refused. A text that cannot be read has no values of its own."""
    raw: Mapping[str, Any] = {}
    experiments: Mapping[str, Any] = {}
    with suppress(ConfigError):
        raw = yaml_sections(text, name)
    with suppress(ConfigError):
        experiments = made.sections()
    found = []
    for section in Config.model_fields:
        values = list(_given(section, raw.get(section), name)) if section in raw else []
        if section == SECTION:
            own = raw.get(SECTION) or {}
            others = {each: value for each, value in experiments.items() if each not in own}
            values += _given(SECTION, others, made.path.name) if others else []
        known = {value.path for value in values}
        values += [each for each in _defaults(section, getattr(config, section)) if each.path not in known]
        if values:
            found.append(ConfigSection(section, tuple(values[:MOST_VALUES]), max(0, len(values) - MOST_VALUES)))
    return found


def _given(path: str, value: Any, source: str, *, hidden: bool = False) -> Iterator[ConfigValue]:
    """The values that a file sets."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            below = hidden or name in _SECRET_PARENTS or bool(_SECRET_NAME.search(str(name)))
            yield from _given(f"{path}.{name}", each, source, hidden=below)
    elif isinstance(value, list) and value:
        for i, each in enumerate(value):
            yield from _given(f"{path}[{i}]", each, source, hidden=hidden)
    else:
        yield _leaf(path, value, source, hidden)


def _leaf(path: str, value: Any, source: str, hidden: bool) -> ConfigValue:
    references = _REFERENCE.findall(value) if isinstance(value, str) else []
    if references:
        named = [r.removeprefix("file:") if r.startswith("file:") else f"${r}" for r in references]
        kind = "file" if references[0].startswith("file:") else "environment"
        return ConfigValue(path, ", ".join(named), f"{kind}, by {source}")
    return ConfigValue(path, HIDDEN if hidden and value not in (None, "") else shown(value), source)


def shown(value: Any) -> str:
    """The value as in YAML; a URL without its user and password."""
    if isinstance(value, str):
        return _without_password(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{', '.join(shown(each) for each in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _without_password(text: str) -> str:
    if "://" not in text or "@" not in text:
        return text
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return HIDDEN
    return parts._replace(netloc=f"…@{host}").geturl()


def _defaults(path: str, value: Any) -> Iterator[ConfigValue]:
    """The values of a section that are defaults."""
    if path.partition(".")[0] in _LISTS or isinstance(value, dict):
        return
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            inner, is_set = getattr(value, name), name in value.model_fields_set
            if isinstance(inner, BaseModel) if is_set else not _SECRET_NAME.search(name):
                yield from _defaults(f"{path}.{name}", inner)
    elif value is not None and value != ():
        yield ConfigValue(path, shown(value), "default")


def read_text(path: Path) -> str:
    """The text of the file; "" where it cannot be read: the config in force is still shown."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


HOME = "/console/system"
MOST = 90
"""Characters of a headline."""
LETTERS_SHOWN = 50
AUDIT_SHOWN = 50
MOST_SHOWN = 20_000
"""Characters of one field of a dead letter."""


async def status_page(request: Request) -> Response:
    services = services_of(request)
    status = await _status(services)
    today = day_of(services.admin.clock())
    alive = [] if status is None or status.stream is None else [g for g in status.stream.gateways if g.alive]
    publisher = services.admin.publisher
    kept: NoticeCache = services.kept.setdefault("retirements", NoticeCache())
    return render(
        request,
        "system.html.jinja",
        headline=headline(status, [str(each) for each in services.admin.reasons()]),
        found=status,
        flow=None if status is None or status.delivery is None else call_flow(status.delivery),
        upstreams=upstream_states(alive),
        rates=_rates(alive),
        publisher={"version": publisher.version},
        reasons=services.admin.reasons(),
        config=services.admin.config(),
        trouble=consumer_trouble,
        retirements=kept.get(services.admin.config(), await _daily_calls(services, today), today),
    )


def headline(status: Status | None, reasons: Sequence[str]) -> str:
    """The page in a sentence: that everything runs, or the first problem and how many more there are."""
    problems = [*(status.problems if status else ()), *reasons]
    if problems:
        more = f", and {say.counted(len(problems) - 1, 'more problem')}" if len(problems) > 1 else ""
        first = shortened(problems[0], MOST - len(more) - 1)
        return f"{first[0].upper()}{first[1:]}{more}"
    if status is None or status.stream is None:
        return "This console sees neither gateways nor consumers"
    gateways = [each for each in status.stream.gateways if each.alive]
    rate = _rates(gateways)["seen"]
    both = f"{say.counted(len(gateways), 'gateway')}, {say.counted(len(status.stream.consumers), 'consumer')}"
    return f"Everything runs: {both}, {rate:.1f} calls a second"


@dataclass(frozen=True, slots=True)
class CallFlow:
    """The course of the calls that gateways have seen."""

    bar: Drawing
    parts: tuple[tuple[str, str, int], ...]
    """Parts as (look, words, calls)."""


def call_flow(of: Delivery) -> CallFlow | None:
    """Counts of calls by what became of them; None if no call was seen yet."""
    lost = sum(of.dropped.values()) + sum(of.lost.values()) + of.unaccounted
    parts = (
        ("wins", "stored, or a dead letter", of.settled),
        ("ties", "under way", of.in_flight + of.waiting),
        ("losses", "not recorded: sampling", sum(of.unsampled.values())),
        ("lost", "dropped, lost or unaccounted for", lost),
    )
    if not of.seen:
        return None
    return CallFlow(share_bar([(n, look) for look, _, n in parts]), tuple(part for part in parts if part[2]))


async def _daily_calls(services: PageServices, today: date) -> DailyCalls | None:
    """Calls by day; None if the store cannot be read."""
    try:
        return await services.admin.store.read(lambda connection: daily_calls(connection, today))
    except AdminError:
        return None


async def _status(services: PageServices) -> Status | None:
    """The status; None if this console has no stream server."""
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
    name = services.config_path.name
    return render(request, "system_config.html.jinja", sections=sections, digest=config.digest, file=name)


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
        request,
        "system_dead.html.jinja",
        letters=[_listed(each) for each in letters],
        reasons=await corridor.dead_letters.by_reason(),
        reason=reason or "",
        most=LETTERS_SHOWN,
    )


def _listed(letter: DeadLetter) -> dict[str, Any]:
    record = record_of(letter)
    exchange = record if isinstance(record, Exchange) else None
    return {
        "id": letter.id,
        "url": f"{HOME}/dead/{quote(letter.id)}",
        "at": letter.added_at,
        "reason": letter.reason,
        "error": letter.error,
        "kind": kind_of(letter),
        "readable": record is not None,
        "what": f"{exchange.alias} → {exchange.target}" if exchange else "",
        "exchange": exchange.id if exchange else "",
    }


async def letter_page(request: Request) -> Response:
    """Shows one dead letter. Its content is in the template only for those who may read it."""
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
        request,
        "system_audit.html.jinja",
        rows=[_audited(row) for row in shown],
        subject=subject or "",
        next_url=f"{HOME}/audit?{urlencode(more)}" if more else "",
        first_url=f"{HOME}/audit" if before else "",
    )


async def design_page(request: Request) -> Response:
    """Shows every component with sample values."""
    made = (
        sample_components.line_with_band(),
        sample_components.course(),
        sample_components.timeline(),
        sample_components.amounts(),
        sample_components.pareto(),
    )
    return render(
        request,
        "system_design.html.jinja",
        charts=[chart for chart in made if chart is not None],
        forest=sample_components.forest(),
        colours=sample_components.COLOURS,
    )


def _audited(row: AuditRow) -> dict[str, Any]:
    return {"row": row, "changes": changes(row), "subject_url": f"{HOME}/audit?{urlencode({'subject': row.subject})}"}


def changes(row: AuditRow) -> list[tuple[str, str, str]]:
    """Lists (name, before, after) of the values that a change has changed; "" for one that was not there."""
    before, after = dict(row.before or {}), dict(row.after or {})
    names = [name for name in dict.fromkeys([*before, *after]) if name not in ("updated", "created")]
    values = ((name, before.get(name), after.get(name)) for name in names)
    return [(name, _shown(old), _shown(new)) for name, old, new in values if old != new]


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
        PageRoute(f"{HOME}/audit", audit_page, scoped=True),
        PageRoute(f"{HOME}/design", design_page),
    ),
)
