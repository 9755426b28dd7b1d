"""Reports of learned routes: for the terminal, as JSON, and the curve of share moved against quality lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NotRequired, TypedDict, cast

from gateway.core.learned_route import Kind, LearnedRoute, RouteLeaf
from gateway.core.plan import Population
from gateway.features.route.model import LearnedChoice, RouteTerms
from gateway.features.route.verification import State, Verification
from gateway.reports.number_format import number
from gateway.statistics.route_choice import Bounded
from gateway.statistics.score_interval import FEW_CLUSTERS


class RoutePairsOutput(TypedDict):
    learned: int
    """Pairs that the groups were found on."""
    chosen: int
    """Newer pairs, on which the share was chosen."""


class RouteBoundsOutput(TypedDict):
    value: float
    low: float | None
    """Lower end of the interval; None if there are too few pairs for one."""
    high: float | None


class RoutePointOutput(TypedDict):
    """One route of the nested family."""

    leaves: list[int]
    """The leaves that it moves."""
    share: float
    """The share of the traffic that it moves."""
    p: float
    """P-value of "it loses more than the margin"."""
    loss: RouteBoundsOutput
    """Mean loss over all traffic."""
    saved: RouteBoundsOutput | None
    """The share of the control's cost that it saves; None if costs are unknown."""


RouteEvidenceOutput = TypedDict(
    "RouteEvidenceOutput",
    {
        "experiment": NotRequired[str],
        "plan": NotRequired[str],
        "candidate": NotRequired[str],
        "primary": str,
        "margin": float,
        "alpha": float,
        "pairs": NotRequired[RoutePairsOutput],
        "population": NotRequired[Population],
        "units": NotRequired[float],
        "last_place": NotRequired[int],
        "from": NotRequired[float],
        "to": NotRequired[float],
        "learned_at": NotRequired[float],
        "accept": NotRequired[str],
        "verdict": NotRequired[str],
        "chosen": int | None,
        "curve": list[RoutePointOutput],
    },
)
"""Evidence by which a route was learned and chosen. Times in Unix seconds; chosen: an index of the curve, None if no
share can be moved. units: the effective number of users (conversations, keys) of the newer pairs; population: whether
the route is shown for others like them. accept: the rule of a cascade that gateway.yaml holds. verdict: the sentence
that a route by segment follows."""


class LearnedChoiceOutput(TypedDict):
    """The learned route, and the share that may be moved."""

    name: str
    kind: Kind
    cascade: bool
    """The cheaper target is asked first, and its answer decides as well."""
    digest: str | None
    learned: bool
    """Whether a route was learned; False if no share is shown to lose at most the margin, so there is no route and no
    digest."""
    leaves: list[RouteLeaf]
    evidence: RouteEvidenceOutput


class RouteFileOutput(TypedDict):
    """A frozen route, as its file has it."""

    format: int
    features: str
    """The set of features that its trees read."""
    cascade: NotRequired[bool]
    """Whether the moved target is asked first, and its answer decides as well."""
    segments: NotRequired[dict[str, Any]]
    """The declared segments of the plan, which decide instead of trees."""
    kept: NotRequired[list[str]]
    """Names of the segments that stay with the control."""
    name: str
    kind: Kind
    alias: str
    control: dict[str, Any]
    """The control as a target of gateway.yaml."""
    moved: dict[str, Any]
    scripts: list[str]
    """Scripts of the requests that it was learned from."""
    baseline: float
    cuts: list[float]
    trees: list[list[list[float]]]
    """The nodes of each tree: [feature, threshold, index of the node for at most that, index for more], or [leaf]."""
    leaves: list[RouteLeaf]
    evidence: RouteEvidenceOutput
    digest: str


class VerifiedLeafOutput(TypedDict):
    leaf: int
    """Index of the leaf; -1: requests that are unlike those that the route was learned from."""
    pairs: int
    moved: bool
    says: str
    loss: RouteBoundsOutput | None
    """Mean loss of the cheaper target here; None if there is no pair."""


class RouteVerificationOutput(TypedDict):
    """The loss of a route on new pairs."""

    state: State
    pairs: int
    share: float
    """The share of the traffic that it moves."""
    loss: RouteBoundsOutput
    """Loss over all traffic."""
    saved: RouteBoundsOutput | None
    """The share of the control's cost that it saves; None if costs are unknown."""
    leaves: list[VerifiedLeafOutput]


def choice_dict(terms: RouteTerms, choice: LearnedChoice) -> dict[str, Any]:
    route = choice.route
    return {
        "name": terms.name,
        "kind": terms.kind,
        "cascade": terms.cascade,
        "digest": None if route is None else route.digest,
        "learned": route is not None,
        "leaves": [asdict(leaf) for leaf in choice.leaves],
        "evidence": choice.evidence,
    }


def choice_text(terms: RouteTerms, choice: LearnedChoice) -> str:
    """Describes the learned route, or the reason why nothing may be moved."""
    lines = [_sentence(terms, choice), "", *leaf_lines(choice.leaves), "", *curve_lines(choice.evidence)]
    return "\n".join(lines)


def _sentence(terms: RouteTerms, choice: LearnedChoice) -> str:
    name, evidence, at = terms.name, choice.evidence, choice.curve.chosen
    margin, primary = evidence["margin"], evidence["primary"]
    if at is None:
        first = choice.curve.points[0] if choice.curve.points else None
        tested = "no group has enough pairs" if first is None else f"moving {first.share:.0%} has p = {first.p:.2g}"
        return (
            f"{name}: no share can be moved: none is shown to lose at most {margin:g} of {primary} ({tested})"
            f"{_population(evidence)}"
        )
    point, moves = choice.curve.points[at], "the first answer is served for" if terms.cascade else "moves"
    saved = "" if point.saved is None else f" and saves {_percent(point.saved)} of the cost"
    return (
        f"{name}: {moves} {point.share:.0%} of the traffic{saved}, at a loss of {_interval(point.loss)} {primary}; "
        f"the margin is {margin:g}{_population(evidence)}"
    )


def _population(evidence: Mapping[str, Any]) -> str:
    """The clause about whom a route is shown for; "" where enough users say so."""
    if "population" not in evidence:
        return ""
    if evidence["population"] == "these":
        return f"; for the users and keys seen ({evidence['units']:.1f} effective), as they use it now"
    if evidence["units"] < FEW_CLUSTERS:
        return f"; by Student's t over {evidence['units']:.1f} effective users: more users would show more"
    return ""


def leaf_lines(leaves: Sequence[RouteLeaf]) -> list[str]:
    """A heading, and a line for each leaf. The loss has the sign that `verify` and the curve give it."""
    return [
        "leaf  goes to     share    pairs     loss  requests",
        *(
            f"  {i:>2}  {'→ moved  ' if leaf.moved else '  control'}  {leaf.share:>6.0%}  {leaf.pairs:>7}  "
            f"{number(None if leaf.difference is None else -leaf.difference, 3, signed=True):>7}  {leaf.says}"
            for i, leaf in enumerate(leaves)
        ),
    ]


def curve_lines(evidence: Mapping[str, Any]) -> list[str]:
    """The curve as a table: share moved, money saved, quality lost."""
    lines = ["  moved   saved   loss (band of the whole curve)        p"]
    for i, point in enumerate(evidence["curve"]):
        saved = "     –" if point["saved"] is None else f"{point['saved']['value']:>6.0%}"
        loss = _interval(Bounded(**point["loss"]))
        mark = "  ← chosen" if i == evidence["chosen"] else ""
        lines.append(f"  {point['share']:>5.0%}  {saved}   {loss:<32}  {point['p']:.2g}{mark}")
    return lines


def route_text(route: LearnedRoute) -> str:
    """`gateway route show`."""
    of = route.evidence
    if "experiment" not in of:
        first = f"{route.name} (digest {route.digest}) for calls of {route.alias}: a cascade that gateway.yaml holds"
        return "\n".join([first, *_asked(route), "", *leaf_lines(route.leaves)])
    if route.segments is not None:
        first = f"{route.name} (by segment, digest {route.digest}) for calls of {route.alias}"
        return "\n".join(
            [first, *_asked(route), f"of {of['experiment']}: {of['verdict']}", "", *leaf_lines(route.leaves)]
        )
    days = [datetime.fromtimestamp(of[at], UTC).strftime("%Y-%m-%d %H:%M") for at in ("from", "to")]
    head = [
        f"{route.name} ({route.kind}, digest {route.digest}) for calls of {route.alias}",
        *_asked(route),
        f"learned from {of['experiment']} (plan {of['plan']}): {of['pairs']['learned']} pairs to learn, "
        f"{of['pairs']['chosen']} newer ones to choose, {days[0]} to {days[1]} UTC",
        f"scripts: {', '.join(route.scripts)}; calls in others go to the control",
    ]
    return "\n".join([*head, "", *leaf_lines(route.leaves), "", *curve_lines(of)])


def _asked(route: LearnedRoute) -> list[str]:
    """The two targets of a route."""
    if not route.cascade:
        return [f"control {route.control.target}, moved to {route.moved.target}"]
    return [f"asks {route.moved.target} first, and {route.control.target} where that answer is not accepted"]


def verification_dict(found: Verification) -> RouteVerificationOutput:
    """Infinite bounds become null."""
    return cast(RouteVerificationOutput, asdict(found))


def verification_text(route: LearnedRoute, found: Verification, margin: float) -> str:
    saved = "" if found.saved is None else f", saves {_percent(found.saved)} of the cost"
    lines = [
        f"{route.name}: {found.state}: on {found.pairs} pairs it moves {found.share:.0%}{saved} and loses "
        f"{_interval(found.loss)}; the margin is {margin:g}",
        "",
        f"leaf  goes to      pairs  {'loss':<24}  requests",
    ]
    for leaf in found.leaves:
        name = "–" if leaf.leaf < 0 else str(leaf.leaf)
        loss = "–" if leaf.loss is None else _interval(leaf.loss)
        goes = "→ moved  " if leaf.moved else "  control"
        lines.append(f"  {name:>2}  {goes}  {leaf.pairs:>7}  {loss:<24}  {leaf.says}")
    return "\n".join(lines)


def yaml_lines(route: LearnedRoute, primary: str, margin: float) -> str:
    """The experiment that proves the route, for gateway.yaml."""
    control = ", ".join(f"{key}: {value}" for key, value in route.control.section.items())
    return (
        f"  {route.name}:\n    model: {route.alias}\n    control: {{{control}}}\n"
        f"    candidate: {{route: {route.name}}}\n    primary: {primary}\n    margin: {margin:g}\n    ramp: {{}}"
    )


def _interval(of: Bounded) -> str:
    value, low, high = (number(bound, 3, signed=True) for bound in (of.value, of.low, of.high))
    return f"{value} [{low}, {high}]"


def _percent(of: Bounded) -> str:
    return f"{of.value:.0%} [{of.low:.0%}, {of.high:.0%}]"
