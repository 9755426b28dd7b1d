"""The route that a verdict `ship_except` names: the segments that are worse stay with the control, the rest moves."""

from __future__ import annotations

import time
from dataclasses import replace

from gateway.config.config import Config
from gateway.core.learned_route import LearnedRoute, RouteLeaf, route_from_json
from gateway.core.request_features import SCRIPTS
from gateway.features.route.experiment import terms_of
from gateway.features.route.learning import NotLearnable
from gateway.features.route.model import RouteTerms
from gateway.reports.model import KeptTraffic
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import stored_plans
from gateway.store.query import Reading
from gateway.verdict.findings import Finding, finding


def segment_route(connection: Reading, config: Config, experiment: str, arm: str | None, name: str) -> LearnedRoute:
    """Raises NotLearnable where the verdict is another one."""
    terms = terms_of(connection, config, experiment, arm)
    [stored] = [each for each in stored_plans(connection, experiment) if each.hash == terms.plan_hash]
    found = finding(StoredEvidence(connection, stored), terms.candidate)
    kept = found.segments.kept if found.segments is not None else None
    if found.decision.verdict != "ship_except" or kept is None:
        verdict = found.decision.verdict.replace("_", " ")
        why = "" if terms.plan.segments else "; its plan declares no segments (`segments: {by: […]}`)"
        raise NotLearnable(
            f"{experiment}: the verdict is {verdict}, and only `ship except` names what stays with the control{why}. "
            f"gateway report {experiment} says what it waits for; gateway route learn {experiment} learns a route"
        )
    return _route(replace(terms, name=name), found, kept)


def _route(terms: RouteTerms, found: Finding, kept: KeptTraffic) -> LearnedRoute:
    segments = {} if found.segments is None else {each.name: each for each in found.segments.segments}
    primary = kept.metrics[0]
    rest = RouteLeaf(True, f"without {', '.join(kept.excepted)}", primary.pairs, kept.share, primary.difference.value)
    stays = [
        RouteLeaf(False, name, segments[name].pairs, segments[name].share, segments[name].difference.value)
        for name in kept.excepted
    ]
    route = LearnedRoute(
        name=terms.name,
        kind="tree",
        alias=terms.plan.model,
        control=terms.control,
        moved=terms.moved,
        trees=((-1, 0),),
        leaves=(rest, *stays),
        scripts=SCRIPTS,
        evidence={
            "experiment": terms.plan.name,
            "plan": terms.plan_hash,
            "candidate": terms.candidate,
            "primary": terms.plan.primary,
            "margin": terms.margin,
            "alpha": terms.plan.alpha,
            "verdict": found.decision.sentence,
            "learned_at": time.time(),
            "curve": [],
            "chosen": None,
        },
        segments=terms.plan.segments,
        kept=kept.excepted,
    )
    return route_from_json(route.to_json())
