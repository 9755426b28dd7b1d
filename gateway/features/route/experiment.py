"""The experiment that a route is learned from: its plan, its two targets, and the reasons why it may not be used."""

from __future__ import annotations

from dataclasses import replace

from gateway.config.config import Config
from gateway.config.derive import target_of
from gateway.config.routes import is_route
from gateway.config.upstreams import TargetRef
from gateway.core.errors import CannotRun
from gateway.core.learned_route import RouteTarget
from gateway.core.plan import LIKELIHOOD_METRICS, UNBOUNDED_METRICS, StoredPlan, current_plan
from gateway.core.sequence import SequenceName
from gateway.features.route.learning import NotLearnable, learning_pairs
from gateway.features.route.model import LearningPairs, RouteTerms
from gateway.features.route.rows import stored_pairs
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import stored_plans
from gateway.store.query import Reading
from gateway.verdict.findings import finding

DEFAULT_ALPHA = 0.05


def terms_of(connection: Reading, config: Config, experiment: str, arm: str | None = None) -> RouteTerms:
    """Returns the terms of a route of this experiment, with the margin of its plan. arm: the cheaper target; None: the
    only candidate. Raises NotLearnable with the reason why none can be learned."""
    settings = config.experiments.get(experiment)
    if settings is None:
        known = ", ".join(sorted(config.experiments)) or "none"
        raise NotLearnable(f'no experiment "{experiment}" in the config; there are: {known}')
    stored = current_plan(stored_plans(connection, experiment))
    if stored is None:
        raise NotLearnable(f"{experiment} has not been started, so it has no pairs; gateway ab start {experiment}")
    plan, arms = stored.plan, [name for name, _ in stored.plan.candidates]
    if arm is None and len(arms) > 1:
        raise NotLearnable(f"{experiment} has several candidates; choose one with --arm: {', '.join(arms)}")
    candidate = arm or arms[0]
    if candidate not in arms or candidate not in settings.arms:
        raise NotLearnable(f'{experiment} has no candidate "{candidate}"; it has {", ".join(arms)}')
    _check_plan(stored, candidate)
    refs = settings.control, settings.arms[candidate]
    for ref, target in zip(refs, (plan.control, plan.target(candidate)), strict=True):
        if target_of(ref) != target:
            raise NotLearnable(f"{experiment}: its plan compares {target}, and the config has {target_of(ref)} now")
    control, moved = map(route_target_of, refs)
    return RouteTerms(f"{experiment}-route", plan, stored.hash, candidate, control, moved, plan.margin, DEFAULT_ALPHA)


def _check_plan(stored: StoredPlan, candidate: str) -> None:
    plan, name = stored.plan, stored.plan.name
    if plan.mode == "split" or not plan.shadow:
        raise NotLearnable(
            f"{name} has answers of one arm only for each request (`mode: split`); a route is learned from pairs: use "
            "`mode: shadow` or `both`"
        )
    if plan.likelihood or plan.primary in LIKELIHOOD_METRICS:
        raise NotLearnable(f"{name} compares likelihoods, and a route needs answers: use `mode: shadow`")
    if plan.primary is None or plan.primary in UNBOUNDED_METRICS or not plan.margin:
        raise NotLearnable(f"{name} needs a primary metric in [0, 1] with a margin; it has {plan.primary or 'none'}")
    if plan.guarded:
        raise NotLearnable(f"{name}: its candidate is a guard, and a route chooses between two targets")
    if is_route(plan.target(candidate)):
        raise NotLearnable(f"{name}: its candidate is a route already; learn from an experiment of the two targets")
    if plan.control.variant:
        raise NotLearnable(
            f"{name}: the control changes requests ({plan.control}), so the recorded ones are not what clients send"
        )


def route_target_of(ref: TargetRef) -> RouteTarget:
    settings = ref.model_dump(mode="json", include={"set", "system", "headers"}, exclude_defaults=True)
    return RouteTarget(ref.upstream, ref.model, settings)


def sequence_of(connection: Reading, terms: RouteTerms) -> SequenceName:
    """The primary's sequence, if the plan's gates allow a conclusion. Raises NotLearnable."""
    [stored] = [each for each in stored_plans(connection, terms.plan.name) if each.hash == terms.plan_hash]
    found = finding(StoredEvidence(connection, stored), terms.candidate)
    if red := [gate for gate in found.gates if gate.state < 0]:
        reasons = "; ".join(f"{gate.name}: {gate.says}" for gate in red)
        raise NotLearnable(f"the gates of {terms.plan.name} are red, so its pairs show nothing: {reasons}")
    name = found.names.get(str(terms.plan.primary))
    if name is None:
        raise NotLearnable(f"no pair of {terms.plan.name} has a value of {terms.plan.primary} yet")
    return name


def pairs_of(connection: Reading, terms: RouteTerms, after: int = 0) -> LearningPairs:
    """The pairs of the experiment from the one after this index on. Raises NotLearnable."""
    rows = stored_pairs(connection, sequence_of(connection, terms), after, answers=terms.cascade)
    return learning_pairs(rows, cascade=terms.cascade)


def with_choices(terms: RouteTerms, name: str | None, margin: float | None, alpha: float) -> RouteTerms:
    """Raises CannotRun."""
    if margin is not None and not 0 < margin < 1:
        raise CannotRun(f"--margin: {margin:g} is outside (0, 1); it is the largest loss over all traffic")
    if not 0 < alpha <= 0.5:
        raise CannotRun(f"--alpha: {alpha:g} is outside (0, 0.5]")
    return replace(terms, name=name or terms.name, margin=terms.margin if margin is None else margin, alpha=alpha)
