"""Plans as they were frozen, the secret that keys their draws, and the lease of the consumer that advances them."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, or_, select

from gateway.core.plan import PlanState, StoredPlan, plan_from_json
from gateway.store.engine import insert, replacing
from gateway.store.tables import deployment_secrets, exchanges, leases, plans


def save_plans(connection: Connection, states: Iterable[PlanState], now: float) -> None:
    """Stores every plan with its newest state."""
    names = ("json", "state", "since")
    statement = replacing(connection.dialect, plans, names, lambda given: plans.c.since <= given.since)
    for each in states:
        state = {"state": each.state, "since": each.since, "first_seen": now}
        plan = {"plan": each.plan.hash, "experiment": each.plan.name, "json": each.plan.to_json().decode()}
        connection.execute(statement, {**plan, **state})


def stored_plans(connection: Connection, experiment: str | None = None) -> list[StoredPlan]:
    """The plans, oldest first; those that this version cannot read are left out. experiment: None: all."""
    query = select(plans).order_by(plans.c.since, plans.c.plan)
    if experiment is not None:
        query = query.where(plans.c.experiment == experiment)
    found = []
    for row in connection.execute(query):
        try:
            found.append(StoredPlan(plan_from_json(row.json), row.plan, row.state, row.since))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def experiment_names(connection: Connection) -> list[str]:
    """The names of all experiments with a plan or an exchange."""
    named = set(connection.execute(select(plans.c.experiment).distinct()).scalars())
    seen = select(exchanges.c.experiment).where(exchanges.c.experiment.is_not(None)).distinct()
    return sorted(named | set(connection.execute(seen).scalars()))


def hold_lease(connection: Connection, name: str, holder: str, now: float, keep_s: float) -> bool:
    """Takes or renews a lease for keep_s seconds. False if another holder has it."""
    free = or_(leases.c.holder == holder, leases.c.expires <= now)
    statement = replacing(connection.dialect, leases, ("holder", "expires"), lambda _: free)
    connection.execute(statement.values(name=name, holder=holder, expires=now + keep_s))
    found = connection.execute(select(leases.c.holder).where(leases.c.name == name)).scalar_one()
    return bool(found == holder)


def release_lease(connection: Connection, name: str, holder: str) -> None:
    """Gives a lease back, so that the next one need not wait for it to expire."""
    connection.execute(leases.delete().where(leases.c.name == name, leases.c.holder == holder))


DRAWS = "draws"
"""The name of the secret that keys the draws of experiments."""


def deployment_secret(connection: Connection, name: str, new: bytes) -> bytes:
    """The secret of this name. new: the secret to store where there is none yet; of two at the same time, the first is
    stored."""
    t = deployment_secrets
    made = {"name": name, "value": new.hex()}
    connection.execute(insert(connection.dialect, t).values(made).on_conflict_do_nothing())
    return bytes.fromhex(connection.execute(select(t.c.value).where(t.c.name == name)).scalar_one())
