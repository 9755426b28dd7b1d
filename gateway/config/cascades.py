"""The section `cascades` of gateway.yaml: a cheaper target answers first, and a rule, or for decisions a certificate,
says whether its answer is served.

A cascade that is written by hand is a route like a learned one: its rule becomes the tree, so that it is served, named
in records, and a candidate of experiments by the same code.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from gateway.config.types import Name, NonEmpty, Section, Share
from gateway.config.upstreams import TargetRef, certificates_in, named_certificates
from gateway.core.answer_features import CASCADE_FEATURES
from gateway.core.did_you_mean import did_you_mean
from gateway.core.learned_route import (
    MOST_SPLITS,
    STREAM,
    LearnedRoute,
    Node,
    RouteLeaf,
    RouteTarget,
    route_from_json,
)
from gateway.core.request_features import SCRIPTS

ACCEPTED, DECLINED, STREAMED = range(3)
"""Leaves of a cascade that was written by hand."""
MOST_CONDITIONS = MOST_SPLITS - 1
ASK = "ask"
"""Name of a person in the place of the second target."""
_CONDITION = re.compile(r"\s*([a-z_]+)\s*(<=|>=|<|>)\s*(-?\d+(?:\.\d+)?)\s*")
_AND = re.compile(r"\band\b")


class InvalidRule(ValueError):
    """The text of `accept` is not a rule; the message says why."""


def _person(value: Any) -> Any:
    """Returns the target; None for a person."""
    if value is None:
        raise ValueError("expected a target, or `ask` where a person decides")
    return None if value == ASK else value


class CascadeConfig(Section):
    """A cheaper target that answers first, and the condition on which its answer is served. It is used like a learned
    route: `{route: NAME}` as the only target of a model, or as the candidate of an experiment. Streams go to `then`."""

    model: Name
    """The model name whose calls it serves."""
    first: TargetRef
    """The target that is asked first."""
    then: Annotated[TargetRef | None, BeforeValidator(_person, json_schema_input_type=TargetRef | Literal["ask"])]
    """The target that is asked if the first answer is not accepted, or fails. `ask`, only with a certificate: the first
    answer is served with `x-gateway-decision-action: ask`, for a person."""
    accept: NonEmpty
    """Conditions that the first answer must meet, such as `refusal < 1 and length >= 5`: names of numbers about the
    request and its answer, compared with `<`, `<=`, `>` or `>=`, joined by `and`. docs/switch.md lists the names. Of
    decisions: `certificate NAME`, several joined by `and`; each question of a request must be in the zone of one of
    them."""
    primary: Annotated[Name | None, Field(validate_default=True)] = None
    """The scorer, or `error_rate`, by which accepted answers are watched. Required, but with a certificate, which is
    watched by people's labels."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Largest acceptable loss of accepted answers, by the primary. Once the loss is shown to be larger, the cascade
    uses `then` alone."""
    alpha: Annotated[float, Share, Field(gt=0, le=0.5)] = 0.05
    """Largest probability that a cascade within its margin is taken back."""

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if self.certificates:
            return self
        if self.then is None:
            raise ValueError("`then: ask` belongs to `accept: certificate NAME`; name the target that is asked")
        return self

    @field_validator("accept")
    @classmethod
    def _check_accept(cls, value: str) -> str:
        if not certificates_in(value) and any(named_certificates(value)):
            raise ValueError("it names certificates and conditions; a cascade obeys the one or the other")
        return value

    @field_validator("primary")
    @classmethod
    def _check_primary(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and "accept" in info.data and not certificates_in(info.data["accept"]):
            raise PydanticCustomError("missing", "Field required")
        return value

    @property
    def certificates(self) -> tuple[str, ...]:
        """The certificates that it obeys; none for one that has conditions."""
        return certificates_in(self.accept)


def cascade_route(name: str, of: CascadeConfig) -> LearnedRoute:
    """The route of a cascade. Raises InvalidRule."""
    then = of.first if of.then is None else of.then
    if of.then is not None and _target(of.first) == _target(then):
        raise InvalidRule("then: it is the same target as `first`, which would be asked twice; name the better one")
    rule: Node = (-1, ACCEPTED) if of.certificates else _tree(of.accept)
    route = LearnedRoute(
        name=name,
        kind="tree",
        alias=of.model,
        control=_target(then),
        moved=_target(of.first),
        trees=((STREAM, 0.5, rule, (-1, STREAMED)),),
        leaves=(
            RouteLeaf(True, f"accepted: {of.accept}", 0, 1.0),
            RouteLeaf(False, f"not accepted: {of.accept}", 0, 0.0),
            RouteLeaf(False, "streamed", 0, 0.0),
        ),
        scripts=SCRIPTS,
        evidence={
            "accept": of.accept,
            "primary": of.primary or "",
            **({"certificates": list(of.certificates)} if of.certificates else {}),
            "margin": of.margin,
            "alpha": of.alpha,
            "curve": [],
            "chosen": None,
        },
        cascade=True,
    )
    return route_from_json(route.to_json())


def _target(ref: TargetRef) -> RouteTarget:
    return RouteTarget(
        ref.upstream,
        ref.model,
        ref.model_dump(mode="json", include={"set", "system", "headers"}, exclude_defaults=True),
    )


def _tree(accept: str) -> Node:
    """The tree whose leaf is ACCEPTED where all conditions hold. Raises InvalidRule."""
    parts = _AND.split(accept)
    if len(parts) > MOST_CONDITIONS:
        raise InvalidRule(f"accept: {len(parts)} conditions, and at most {MOST_CONDITIONS} are evaluated")
    node: Node = (-1, ACCEPTED)
    for part in reversed(parts):
        node = _condition(part, node)
    return node


def _condition(text: str, holds: Node) -> Node:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise InvalidRule(f'accept: "{text.strip()[:80]}" is not a condition; expected NAME, <, <=, > or >=, a number')
    name, sign, number = found[1], found[2], float(found[3])
    if name not in CASCADE_FEATURES:
        hint = did_you_mean(name, CASCADE_FEATURES) or f"; there are: {', '.join(CASCADE_FEATURES)}"
        raise InvalidRule(f'accept: "{name}" is not a number about a request or its answer{hint}')
    at, fails = CASCADE_FEATURES.index(name), (-1, DECLINED)
    threshold = number if sign in ("<=", ">") else math.nextafter(number, -math.inf)
    return (at, threshold, holds, fails) if sign in ("<=", "<") else (at, threshold, fails, holds)
