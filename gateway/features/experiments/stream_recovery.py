"""Keeps the plans and the secret of draws in the store, and restores them when the stream server has lost them.

Nothing removes a plan from the server: one that ends stays there as stopped. So the server has lost any plan that only
the store has. Gateways would otherwise serve the control, and send no shadow, until a config is loaded or somebody
starts the experiment again; one that was stopped would start itself at the next load.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from gateway.core.plan import PlanState, StoredPlan
from gateway.core.randomization import SECRET_BYTES
from gateway.features.experiments.rows.dropped import dropped_of
from gateway.store.harm_stops import harm_of, keep_harm
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import DRAWS, deployment_secret, save_plans, stored_plans
from gateway.store.query import Reading
from gateway.store.store import Store
from gateway.stream.shared_state import SharedState
from gateway.verdict.findings import findings

log = logging.getLogger(__name__)


def shipped_arms(connection: Reading, plan: StoredPlan) -> tuple[str, ...]:
    """The candidates with `as: decision` whose verdict is to ship them."""
    decides = [arm for arm, target in plan.plan.candidates if target.decides]
    known = findings(StoredEvidence(connection, plan)) if decides else {}
    return tuple([arm for arm in decides if arm in known and known[arm].decision.verdict == "ship"])


class PlanKeeper:
    """The plans of one deployment, as a consumer knows them. clock: Unix time in seconds."""

    def __init__(self, store: Store, state: SharedState, clock: Callable[[], float]) -> None:
        self._store, self._state, self._clock = store, state, clock
        self._known: frozenset[str] | None = None  # experiments that have a plan
        self._cleared: dict[str, float] = {}  # plans whose cleared stop for harm is stored, with its time

    async def keep(self) -> None:
        """Stores what the server has, and puts back what it lacks. Raises StreamDown and StoreDown."""
        there = await self._state.plans()
        known = [state for state in there.values() if not state.unpaced]  # the engine spreads the pairs of others first
        if known:
            await self._store.run(lambda connection: save_plans(connection, known, self._clock()))
        await self._keep_cleared(known)
        if self._known is None or not self._known <= there.keys():
            newest = _newest(await self._store.run(stored_plans))
            await self._put_back([plan for name, plan in newest.items() if name not in there])
            self._known = frozenset(newest)
        self._known |= there.keys()

    async def _keep_cleared(self, known: Sequence[PlanState]) -> None:
        """Stores the stops for harm that somebody has cleared on the stream server."""
        for state in known:
            stop = state.harm
            if stop is None or stop.cleared is None or self._cleared.get(state.plan.hash) == stop.cleared:
                continue
            await self._store.run(lambda c, s=state, h=stop: keep_harm(c, s.plan.hash, h, self._clock()))  # type: ignore[misc]
            self._cleared[state.plan.hash] = stop.cleared

    async def _put_back(self, lost: Sequence[StoredPlan]) -> None:
        for plan in lost:
            dropped = await self._store.look(lambda c, plan=plan: tuple(dropped_of(c, plan.hash)))  # type: ignore[misc]
            running = plan.state == "running"
            harm = await self._store.look(lambda c, plan=plan: harm_of(c, plan.hash))  # type: ignore[misc]
            shipped = await self._store.look(lambda c, plan=plan: shipped_arms(c, plan))  # type: ignore[misc]
            to: Literal["running", "stopped"] = "running" if running else "stopped"
            state = PlanState(plan.plan, to, plan.since, dropped=dropped, harm=harm, shipped=shipped)
            if await self._state.set_plan(state):  # False: somebody has just put a plan there
                log.warning(
                    "experiment %s: the stream server had lost its plan %s, which was restored as %s",
                    plan.plan.name,
                    plan.hash,
                    state.state,
                )


def _newest(plans: Sequence[StoredPlan]) -> Mapping[str, StoredPlan]:
    """The plan of each experiment that got its state last. plans: oldest first."""
    return {plan.plan.name: plan for plan in plans}


class DrawSecret:
    """The secret of one deployment, as a consumer knows it."""

    def __init__(self, store: Store, state: SharedState) -> None:
        self._store, self._state = store, state
        self._secret: bytes | None = None

    async def keep(self) -> None:
        """Puts the store's secret on the server if another one, or none, is there. Raises StreamDown and StoreDown.

        A store that has none yet takes over the server's, so that a store that was lost moves no unit.
        """
        there = await self._state.draw_secret()
        if self._secret is None:
            new = there or secrets.token_bytes(SECRET_BYTES)
            self._secret = await self._store.run(lambda connection: deployment_secret(connection, DRAWS, new))
        if there == self._secret:
            return
        await self._state.set_draw_secret(self._secret)
        if there is None:
            log.info("the secret of draws was put on the stream server")
        else:
            log.warning(
                "the stream server had the secret of another store; this store's replaces it, so units of running "
                "experiments may change their arm"
            )
