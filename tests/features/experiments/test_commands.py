"""Experiments that are made, started and stopped in the console: what gateways read, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.loading import load_for_console
from gateway.config.made_experiments import made_path
from gateway.console.access import Actor
from gateway.console.admin import Admin
from gateway.console.errors import Conflict, InvalidBody, NotPermitted, NotThere
from gateway.features.experiments.commands import (
    ExperimentAdmin,
    ReadOnly,
    make_experiment,
    remove_experiment,
    start_experiment,
    stop_experiment,
    targets_of,
)
from gateway.features.keys.directory import read_audit
from gateway.stream import Corridor

NEW = {
    "name": "swap", "model": "chat", "control": "local/m", "upstream": "local", "candidate_model": "n",
    "share": "0.25", "primary": "error_rate", "margin": "0.05",
}  # fmt: skip


@pytest.fixture
async def of(admin: Admin, corridor: Corridor, tmp_path: Path) -> ExperimentAdmin:
    """The commands on a config that is read again as the console reads it."""
    path = tmp_path / "gateway.yaml"
    now = [load_for_console(path)]

    async def read() -> None:
        now[0] = load_for_console(path)

    live = Admin(admin.store, admin.publisher, lambda: now[0])
    return ExperimentAdmin(live, corridor.state, path, read)


async def test_one_is_made_started_stopped_and_removed_with_an_audit(of: ExperimentAdmin, ada: Actor) -> None:
    await make_experiment(of, ada, NEW)
    config = load_for_console(of.config_path)
    made = config.experiments["swap"]
    assert (made.shadow_share, made.primary, made.margin, made.start) == (0.25, "error_rate", 0.05, "manual")
    started = await start_experiment(of, ada, "swap")
    assert not started.was_running
    assert (await of.states.plans())["swap"].running
    assert (await start_experiment(of, ada, "swap")).was_running
    with pytest.raises(Conflict, match="stop it first"):
        await remove_experiment(of, ada, "swap")
    assert (await stop_experiment(of, ada, "swap")).running
    assert not (await of.states.plans())["swap"].running
    await remove_experiment(of, ada, "swap")
    assert not load_for_console(of.config_path).experiments
    rows = await read_audit(of.admin, None, 10, "swap")
    assert [row.action for row in rows] == ["delete", "stop", "start", "create"]
    assert {row.kind for row in rows} == {"experiment"}


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        ({"candidate_model": ""}, "candidate_model: is missing"),
        ({"upstream": ""}, "upstream: is missing"),
        ({"guard": "secrets"}, "candidate_model: the guard secrets is the candidate already"),
        ({"upstream": "locl"}, 'did you mean "local"'),
        ({"primary": "helpfull"}, "primary"),
        ({"share": "2"}, "share"),
        ({"margin": "wide"}, "margin"),
        ({"temperature": "9"}, "temperature"),
        ({"name": "a b"}, "name"),
    ],
)
async def test_mistakes_are_named_and_nothing_is_written(
    of: ExperimentAdmin, ada: Actor, change: dict[str, Any], mistake: str
) -> None:
    with pytest.raises(InvalidBody) as refused:
        await make_experiment(of, ada, {**NEW, **change})
    assert mistake in " ".join([refused.value.message, *refused.value.mistakes])
    assert not made_path(of.config_path).exists()


GUARDED = {
    "name": "guarded",
    "model": "chat",
    "control": "local/m",
    "guard": "secrets",
    "upstream": "local",
    "share": "1",
}


@pytest.fixture
def guard(of: ExperimentAdmin) -> None:
    """The config has a guard that observes, and a scorer of answers."""
    config = yaml.safe_load(of.config_path.read_text())
    more = {"guards": {"secrets": {"on": "answer", "scorer": "secrets"}}, "scorers": {"refusal": {}}}
    of.config_path.write_text(yaml.safe_dump(config | more))


@pytest.mark.usefixtures("guard")
async def test_a_guard_is_a_candidate_without_an_upstream(of: ExperimentAdmin, ada: Actor) -> None:
    await of.read_config()
    await make_experiment(of, ada, {**GUARDED, "primary": "refusal", "margin": "0.01"})
    made = load_for_console(of.config_path).experiments["guarded"]
    assert made.candidate is not None
    assert (made.candidate.guard, made.mode, made.shadow_share) == ("secrets", "shadow", 1.0)
    await start_experiment(of, ada, "guarded")
    plan = (await of.states.plans())["guarded"].plan
    assert str(plan.target("candidate")).startswith("guard/secrets[")


@pytest.mark.usefixtures("guard")
@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        ({"guard": "secret"}, 'no guard "secret"; did you mean "secrets"?'),
        ({"system": "Be brief."}, "a guard sends no request that could differ"),
        ({"mode": "split"}, "with a guard the mode is shadow"),
        ({"usd_per_day": "3"}, "budget: has no effect with a guard"),
        ({"primary": "error_rate"}, "name a scorer of answers"),
    ],
)
async def test_settings_that_do_not_fit_a_guard_are_named(
    of: ExperimentAdmin, ada: Actor, change: dict[str, Any], mistake: str
) -> None:
    with pytest.raises(InvalidBody) as refused:
        await make_experiment(of, ada, {**GUARDED, **change})
    assert mistake in " ".join([refused.value.message, *refused.value.mistakes])
    assert not made_path(of.config_path).exists()


async def test_a_name_that_is_taken_is_refused(of: ExperimentAdmin, ada: Actor) -> None:
    await make_experiment(of, ada, NEW)
    with pytest.raises(Conflict, match="already"):
        await make_experiment(of, ada, NEW)


async def test_the_text_is_shown_if_the_file_cannot_be_written(of: ExperimentAdmin, ada: Actor, tmp_path: Path) -> None:
    made_path(of.config_path).mkdir()  # nobody can replace a directory by a file, not even root
    with pytest.raises((ReadOnly, InvalidBody)) as refused:
        await make_experiment(of, ada, NEW)
    if isinstance(refused.value, ReadOnly):
        assert yaml.safe_load(refused.value.text)["experiments"]["swap"]["model"] == "chat"


async def test_roles_are_held(of: ExperimentAdmin, ada: Actor) -> None:
    with pytest.raises(NotPermitted):
        await make_experiment(of, Actor("otto", "operator"), NEW)
    await make_experiment(of, ada, NEW)
    with pytest.raises(NotPermitted):
        await start_experiment(of, Actor("vera", "viewer"), "swap")
    await start_experiment(of, Actor("otto", "operator"), "swap")
    with pytest.raises(NotThere):
        await stop_experiment(of, ada, "nobody")


async def test_controls_are_the_targets_without_a_variant(of: ExperimentAdmin) -> None:
    assert targets_of(of.admin.config()) == [("chat", "local/m"), ("small", "local/m")]
