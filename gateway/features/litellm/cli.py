"""`gateway import litellm`: the config of a LiteLLM proxy as a gateway.yaml, and its database as keys and teams."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options import Data, example, note, progress, show

if TYPE_CHECKING:
    from gateway.config.import_litellm import ImportedConfig, ImportNote
    from gateway.features.litellm.apply import ImportStep
    from gateway.features.litellm.plan import ImportPlan
    from gateway.features.litellm.rows import LiteLLMDatabase

_WORDS = {
    "make": "new",
    "update": "spend updated",
    "keep": "there already",
    "revoked": "revoked here, left so",
    "refused": "refused",
}

verbs = typer.Typer()
importing = typer.Typer(
    epilog=example("gateway import litellm config.yaml --out gateway.yaml"),
    no_args_is_help=True,
    help="Take over the config, keys, teams and budgets of another gateway.",
)
verbs.add_typer(importing, name="import")


@dataclass(frozen=True, slots=True)
class Translation:
    """The gateway.yaml, and the records of the database; None if no database was named."""

    config: ImportedConfig
    text: str
    plan: ImportPlan | None


@importing.command(epilog=example("gateway import litellm config.yaml --database-url postgresql://… --apply"))
def litellm(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", exists=True, dir_okay=False, help="LiteLLM's config.yaml.")
    ],
    out: Annotated[Path | None, typer.Option(help="Where to write; must not exist yet. Default: stdout.")] = None,
    database_url: Annotated[
        str | None, typer.Option(help="LiteLLM's database: read its keys, teams, budgets and models, too.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write keys, teams and budgets through the console; else they are listed.")
    ] = False,
    data: Data = None,
) -> None:
    """Translate the config of a LiteLLM proxy to a gateway.yaml, and take over the contents of its database.

    Settings without an equivalent are listed line by line on stderr, and at the top of the file. Exit code 1: the
    result needs to be mended before `gateway check` accepts it.
    """
    if apply and database_url is None:
        raise typer.BadParameter("needs --database-url", param_hint="--apply")
    done = _translate(config, database_url)
    mistakes = _report(done)
    if out is not None:
        _write_private(out, done.text)
    if apply:
        assert done.plan is not None  # noqa: S101 - there is a database
        _apply(done.plan, data)
        return
    if done.plan is not None:
        _preview(done.plan, data)
    if out is None:
        show(done.text)
    if mistakes:
        raise typer.Exit(1)


def _translate(path: Path, database_url: str | None) -> Translation:
    """Raises CannotRun if nothing can be translated, or the database has an unknown form."""
    from gateway.config.import_litellm import from_litellm, read_litellm, to_yaml
    from gateway.core.errors import CannotRun

    raw: Mapping[str, Any] = read_litellm(path)
    database: LiteLLMDatabase | None = None
    more: list[ImportNote] = []
    if database_url is not None:
        from gateway.features.litellm.encrypted import with_stored_models
        from gateway.features.litellm.rows import read_database

        database = read_database(database_url)
        raw, more = with_stored_models(raw, database, _salt(raw))
    done = from_litellm(raw, date.today())
    done.notes += more
    plan = None if database is None else _plan(raw, database, done)
    if plan is not None and plan.people:
        done.sections = {"people": plan.people, **done.sections}
    if not done.translated:
        for each in done.notes:
            note(str(each))
        raise CannotRun(f"{path}: none of its {done.deployments} deployments can be translated")
    return Translation(done, to_yaml(done, path.name), plan)


def _salt(raw: Mapping[str, Any]) -> str:
    from gateway.config.environment import litellm_salt_key

    return litellm_salt_key(_general(raw).get("master_key"))


def _general(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = raw.get("general_settings")
    return settings if isinstance(settings, Mapping) else {}


def _plan(raw: Mapping[str, Any], database: LiteLLMDatabase, done: ImportedConfig) -> ImportPlan:
    from gateway.features.litellm.encrypted import groups_of
    from gateway.features.litellm.plan import KnownModels, plan_of

    models = KnownModels(tuple(done.sections["models"]), groups_of(raw, database))
    of_team_keys = _general(raw).get("apply_user_budget_to_team_keys") is True
    plan = plan_of(database, models, datetime.now(UTC), of_team_keys=of_team_keys)
    for warning in database.warnings:
        plan.note("database", "changed", warning)
    return plan


def _report(done: Translation) -> tuple[str, ...]:
    """Prints the notes. Returns the mistakes of the new gateway.yaml."""
    from gateway.config.import_litellm import remaining_mistakes, summary

    for each in (*done.config.notes, *(done.plan.notes if done.plan else ())):
        note(str(each))
    mistakes = remaining_mistakes(done.text)
    for mistake in mistakes:
        note(f"to be corrected in the result: {mistake}")
    note(summary(done.config))
    return mistakes


def _preview(plan: ImportPlan, data: Path | None) -> None:
    """Prints what --apply would do: compared with the console's records, if it can be reached."""
    from gateway.core.errors import CannotRun

    try:
        with _target(data) as target:
            steps = target.steps(plan)
    except CannotRun as error:
        note(_counted(plan))
        note(f"not compared with the existing records: {error}")
    else:
        _show_steps(steps)
    note("nothing was written; --apply writes it")


def _apply(plan: ImportPlan, data: Path | None) -> None:
    if plan.people:
        note(f"people: {len(plan.people)}, in `people` of the new gateway.yaml, which the console needs first")
    with _target(data) as target:
        steps = target.steps(plan)
        _show_steps(steps)
        with progress("importing") as bar:
            target.write(steps, lambda n: bar(n, len(steps)))
    show(_summed(steps))


def _target(data: Path | None) -> Any:
    """The records behind the console's admin API, over one connection."""
    from contextlib import contextmanager

    from gateway.features.keys.cli import admin_client
    from gateway.features.litellm.apply import ImportTarget

    @contextmanager
    def opened() -> Any:
        client = admin_client(data)
        with client.connected():
            yield ImportTarget(client)

    return opened()


def _show_steps(steps: list[ImportStep]) -> None:
    for each in steps:
        if each.left:
            note(f"left as it is  {each.record}: {', '.join(each.left)} differ here")
        if each.step in ("update", "revoked", "refused"):
            note(f"{_WORDS[each.step]}  {each.record}" + (f": {each.refusal}" if each.refusal else ""))
    note(_summed(steps))


def _summed(steps: list[ImportStep]) -> str:
    """The number of records by kind and step, as in "organizations: 2 new; teams: 40 new; keys: 400 new"."""
    counted: Counter[tuple[str, str]] = Counter((each.record.kind, each.step) for each in steps)
    lines = []
    for kind in ("organization", "team", "key"):
        found = [f"{counted[kind, step]} {text}" for step, text in _WORDS.items() if counted[kind, step]]
        lines.append(f"{kind}s: {', '.join(found) or 'none'}")
    return "; ".join(lines)


def _counted(plan: ImportPlan) -> str:
    kinds = [f"{kind}s: {len(plan.of(kind))}" for kind in ("organization", "team", "key")]
    return "; ".join([*kinds, f"people: {len(plan.people)}"] if plan.people else kinds)


def _write_private(out: Path, text: str) -> None:
    """A new file that its owner alone can read: the config may hold the keys of upstreams."""
    from gateway.core.errors import CannotRun

    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CannotRun(f"{out} exists already; move it away, or give another --out") from None
