"""Reads the plans in force, the steps of their ramps, and the certificates that cascades and targets obey, from the
stream server, twice a second, off the hot path.

Until they have been read there is no shadow and no split; while the server is unreachable, the last known plans stay in
force. A config whose experiment has `start: auto` (or a time) publishes its plan once for each load of the file, so
that two gateways with different files do not replace each other's plan again and again. An experiment that a command
has stopped stays stopped until a command starts it. A gateway does not know how many calls came in the last day, so a
consumer spreads the pairs of such a plan over its hours, as a command does before the start.

A plan whose draws are keyed also waits for the deployment's secret, which consumers keep on the stream server. A
process that has read it keeps it, so that a server that loses its data moves no unit; one that starts before a consumer
has put the secret back serves the control, and sends no shadow.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.config.derive import cautions
from gateway.core.errors import StreamDown
from gateway.core.learned_route import RETURNED, returned_from_json
from gateway.core.plan import Plan, PlanState, running_rival, still_shipped
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.experiments.candidate_health import CandidateHealth
from gateway.proxy.experiments.ramp_shares import RampShares
from gateway.proxy.experiments.shadow import ShadowState
from gateway.proxy.routing.assignment import KEYED_RULES, ExperimentAssignments, KnownSecret
from gateway.stream.ramps import RampStream
from gateway.stream.shared_state import SharedState

log = logging.getLogger(__name__)

PLANS_EVERY_S = 0.5


@dataclass
class PlanPoller:
    """One process's view of the plans."""

    shared: SharedState
    experiments: Callable[[], Sequence[ExperimentAssignments]]
    states: dict[str, PlanState]
    shadow_state: ShadowState
    metrics: ProxyMetrics
    ramps: RampStream
    shares: RampShares
    """Receives the shares of ramps."""
    health: CandidateHealth
    secret: KnownSecret
    """Receives the secret that keys draws."""
    clock: Callable[[], float] = time.time
    trouble: str = field(default="", init=False)
    """Reason why experiments continue with the last known plans; "" if plans are read."""
    _published: ExperimentAssignments | None = field(default=None, init=False)
    """The config whose plans have been offered."""
    _waiting: frozenset[str] = field(default=frozenset(), init=False)
    """Experiments for whose secret a line was logged."""

    async def look(self) -> None:
        """Reads and publishes plans, puts the known ones in force, and shares what shadows have spent."""
        present = self.experiments()[-1]
        if present.learned.by_name:
            await self._take_back(present)
        if present.claims:
            await self._certify()
        if present.plans or present.decides:
            try:
                await self._exchange(present)
            except StreamDown as error:
                if not self.trouble:
                    log.warning("%s; experiments continue with the last known plans", error)
                self.trouble = str(error)
                self.shares.unreadable(self.states)
        self._put_in_force()

    async def _take_back(self, present: ExperimentAssignments) -> None:
        """Applies the leaves of learned routes that a consumer has taken back. Without an entry, the known ones
        stay."""
        try:
            text = await self.shared.recall(RETURNED)
            returned = None if text is None else returned_from_json(text)
        except (StreamDown, ValueError):
            return
        if returned is not None:
            for experiments in self.experiments():
                experiments.learned.take_back(returned)
        for route in present.learned.by_name.values():
            self.metrics.routes_returned.labels(route.learned.name).set(len(route.returned))

    async def _certify(self) -> None:
        """Applies the certificates that a consumer has found in force. While the server is unreachable, the known ones
        hold until they are too old."""
        from gateway.core.certificate import SHARED_NAME, certificate_from_json

        loaded = self.experiments()
        claims = sorted({claim for experiments in loaded for claim in experiments.claims})
        try:
            texts = await self.shared.recall_all([SHARED_NAME + claim for claim in claims])
        except StreamDown:
            return
        known = {claim: certificate_from_json(text) for claim, text in zip(claims, texts, strict=True) if text}
        in_force = {claim: certificate for claim, certificate in known.items() if certificate is not None}
        for experiments in loaded:
            experiments.certify(in_force, self.clock())

    async def _exchange(self, present: ExperimentAssignments) -> None:
        states = await self.shared.plans()
        if self._published is not present and await self._publish(present, states):
            self._published = present
            states = await self.shared.plans()
        self.states.clear()
        self.states.update(states)
        if any(state.plan.rules >= KEYED_RULES for state in states.values()):
            self.secret.value = await self.shared.draw_secret() or self.secret.value
        if any(state.plan.ramp for state in states.values()):
            self.shares.read(await self.ramps.records(), states)
        self.trouble = ""
        await self.shadow_state.spending.share(self.shared, list(present.plans))

    async def _publish(self, present: ExperimentAssignments, states: Mapping[str, PlanState]) -> bool:
        """Publishes plans that differ. False if another process changed one in between, so the next poll tries
        again.
        """
        done = True
        for name, plan in present.plans.items():
            known = states.get(name)
            if known is not None and known.plan.same_design(plan):
                done &= await self._paced(known, plan)
                continue
            if not present.starts_itself(name):
                continue
            if known is not None and plan.continues(known.plan):
                if known.running:
                    log.info(
                        "experiment %s continues with the plan it started with; `gateway ab start` starts the new one",
                        name,
                    )
                continue
            if known is not None and not known.running:
                log.warning("experiment %s is stopped and its plan has changed; `gateway ab start` starts it", name)
                continue
            rival = running_rival(plan, states, present.plans)
            if rival is not None:
                log.warning("experiment %s does not start: %s is running on %s; stop that one", name, rival, plan.model)
                continue
            if refusal := present.refusal(plan):
                log.warning("%s; it does not start", refusal)
                continue
            shipped = still_shipped(known, plan)
            started = PlanState(plan, "running", self.clock(), unpaced=plan.reads_traffic, shipped=shipped)
            if await self.shared.set_plan(started, known):
                log.info("experiment %s runs with plan %s%s", name, plan.hash, _replaced(known))
                for caution in cautions(plan):
                    log.warning("%s", caution)
            else:
                done = False
        return done

    async def _paced(self, known: PlanState, plan: Plan) -> bool:
        """Applies changes to a running plan that do not affect its results. False if another process changed it in
        between."""
        if not known.running or known.plan.after_verdict == plan.after_verdict:
            return True
        paced = replace(known.plan, after_verdict=plan.after_verdict)
        return await self.shared.set_plan(replace(known, plan=paced), known)

    def _put_in_force(self) -> None:
        now = self.clock()
        for name, state in self.states.items():
            if not state.running:
                self.shadow_state.kill(name)
        plans = [state.plan for state in self.states.values() if state.running]
        shares = self.health.applied(self.shares.by_plan, plans)
        for experiments in self.experiments():
            experiments.follow(self.states, now, shares, self.secret.value, self.shares.kept)
        self._tell_waiting(self.experiments()[-1].without_secret)
        for gate in self.shadow_state.gates.values():
            gate.tick(now)
        self._show(self.experiments()[-1])

    def _tell_waiting(self, waiting: frozenset[str]) -> None:
        """Logs the experiments that wait for the secret, once."""
        for name in sorted(waiting - self._waiting):
            log.warning(
                "experiment %s waits, and clients get the control: the stream server does not hold the secret that "
                "keys its draws; a running consumer (gateway evaluate) puts it there",
                name,
            )
        self._waiting = waiting

    def _show(self, present: ExperimentAssignments) -> None:
        m, shadow_state = self.metrics, self.shadow_state
        for name, plan in present.plans.items():
            if not present.enabled(name):
                shadow_state.kill(name)
            m.experiment_running.labels(name).set(name in present.in_force)
            m.shadow_running.labels(name).set(shadow_state.running[name])
            m.shadow_paused.labels(name).set(shadow_state.gates[name].paused)
            running = present.in_force.get(name)
            used = None if running is None else shadow_state.spending.used(name, running.settings.budget)
            if used is not None:
                m.shadow_budget.labels(name).set(used)
            if plan.finds_best:
                for arm, _ in plan.candidates:
                    m.shadow_dropped.labels(name, arm).set(running is not None and arm in running.dropped)
            if plan.ramp is not None:
                m.ramp_share.labels(name).set(0.0 if running is None else running.share or 0.0)
                m.ramp_stale.labels(name).set(name in self.shares.stale)


def _replaced(known: PlanState | None) -> str:
    return f", which replaces {known.plan.hash}" if known is not None else ""
