"""What can be done about a change: keep, compare again, or switch; its commands are understood."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.exchange import Target
from gateway.core.prices import Price, Prices
from gateway.core.retirements import Retirement
from gateway.core.usage import UsageCell, UsageSums
from gateway.features.models.plan import ChangedModel, plans_for
from gateway.store import engine
from gateway.store.events import DeploymentEvent, add_events
from gateway.store.tables import usage

BIG, MID, SMALL = (Target("a", name) for name in ("big", "mid", "small"))
PRICES = Prices({"big": Price(10, 10), "mid": Price(6, 6), "small": Price(1, 1)})
SUMS = UsageSums(100, input_tokens=1_000_000, output_tokens=1_000)
CONFIG = """
upstreams: {up: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: k}}
models:
  chat: {targets: [{upstream: up, model: big}]}
  mail: {targets: [{upstream: up, model: small}]}
prices: {as_of: 2026-12-01, models: {big: {input: 10, output: 10}, small: {input: 1, output: 1}}}
"""


def plans(**fields: Any) -> list[tuple[str, str]]:
    given = {"retirement": None, "experiment": None, "is_probed": False, **fields}
    found = plans_for(ChangedModel("chat", BIG, SUMS, **given), [BIG, MID, SMALL], PRICES)
    return [(plan.kind, plan.command) for plan in found]


def test_a_change_may_be_kept_compared_or_left() -> None:
    """The cheaper model is the one that is closest in price."""
    switch = ("switch", "gateway ab draft a/big --successor a/mid")
    assert plans() == [("keep", ""), switch]
    assert plans(is_probed=True, experiment="swap") == [
        ("keep", "gateway models probe"), ("compare", "gateway ab start swap"), switch,
    ]  # fmt: skip


def test_a_model_that_retires_is_not_kept() -> None:
    day = date(2027, 1, 1)
    cheaper = ("switch", "gateway ab draft a/big --successor a/mid")
    assert plans(retirement=Retirement(day, "new")) == [("switch", "gateway ab draft a/big"), cheaper]
    assert plans(retirement=Retirement(day)) == [("switch", "gateway ab draft a/big --successor NAME"), cheaper]
    assert plans(retirement=Retirement(day, "mid")) == [("switch", "gateway ab draft a/big")]


def test_without_a_price_nothing_is_cheaper() -> None:
    changed = ChangedModel("chat", Target("a", "unknown"), SUMS, None, None, False)
    assert [plan.kind for plan in plans_for(changed, [BIG, MID], PRICES)] == ["keep"]


def test_the_plan_stands_with_its_change(keep: Callable[..., str], exchange: Any, tmp_path: Path) -> None:
    """The command drafts the experiment as it is printed; a model without a change has no plan."""
    now = time.time()
    url, day = keep([exchange("1", received=now)]), datetime.fromtimestamp(now, UTC).date().isoformat()
    with engine.writer(url).begin() as connection:
        for alias, model in (("chat", "big"), ("mail", "small")):
            cell = UsageCell(day, "k1", "app", "", "", "", alias, "up", model, "", "", "")
            connection.execute(usage.insert().values(incarnation="i", **cell._asdict(), **SUMS._asdict()))
        add_events(connection, [DeploymentEvent("model:probe:x:1", now, "model", "first up/big[t]", "it changed")])
    path = tmp_path / "gateway.yaml"
    path.write_text(f"open: true\nstore: {{url: '{url}'}}\n{CONFIG}")
    run = CliRunner().invoke
    shown = run(app, ["models", "--config", str(path)])
    assert "chat, up/big: keep: nothing to do" in shown.stdout, shown.output
    found = conforms("models", run(app, ["models", "--json", "--config", str(path)]).stdout)
    by_alias = {line["alias"]: line for line in found["models"]}
    assert by_alias["chat"]["change"] == "it changed", "probes ask through another name of the same target"
    assert by_alias["mail"]["plans"] == []
    command = by_alias["chat"]["plans"][-1]["command"]
    assert command == "gateway ab draft up/big --successor up/small"
    drafted = run(app, [*shlex.split(command)[1:], "--config", str(path)])
    assert drafted.exit_code == 0, drafted.output
    assert "model: small" in drafted.stdout
