"""A probe from gateway.yaml to its result: which questions, at which gateway, with what result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.config.config import Config
from gateway.config.derive import refs_of_model
from gateway.core.decision_reads import ReadEngine, read_engine
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun
from gateway.features.decisions.probe.asking import ProbedAlias, ShowDone, ask_all
from gateway.features.decisions.probe.cases import (
    ProbeState,
    cases_of,
    declared,
    recorded_cases,
    recorded_states,
    states_of_file,
)
from gateway.features.decisions.probe.measures import figures_of, recommended
from gateway.features.decisions.probe.model import ProbeCase, ProbeResult
from gateway.features.decisions.rows import newest_requests
from gateway.features.gateway_choice import GatewayLocation, Say, reached, store_of
from gateway.scoring.http_client import GatewayClient
from gateway.store.engine import StoreUnavailable
from gateway.store.query import reading

_NO_QUESTIONS = "declare its questions below `decisions.questions` in gateway.yaml, or record decisions of it"
_NO_STATES = "give a file of what they are asked about, one text a line (--states FILE), or record calls of this model"


@dataclass(frozen=True, slots=True)
class ReadingProbe:
    alias: str
    states: Path | None = None
    """A file of states; None: those of recorded calls."""
    most: int = 24
    """Cases at most."""


async def probe(request: ReadingProbe, place: GatewayLocation, say: Say, done: ShowDone) -> ProbeResult:
    """Asks an alias's questions by every reading. Raises CannotRun, Unreachable."""
    alias = probed_alias(place.config, request.alias)
    cases = _cases(request, place)
    questions = len({case.name for case in cases})
    say(f"{len(cases)} cases of {questions} questions, in two orders, by {', '.join(alias.readings)}")
    async with (
        reached(place, [request.alias], say) as (gateway, _),
        GatewayClient(gateway.base_url, gateway.api_key) as client,
    ):
        answers, unavailable = await ask_all(client, alias, cases, done)
    figures = figures_of(answers)
    return ProbeResult(request.alias, questions, figures, unavailable, recommended(figures))


def probed_alias(config: Config, name: str) -> ProbedAlias:
    """Raises CannotRun for a name that is not a model's."""
    if name not in config.models:
        raise CannotRun(f'"{name}" is not a model of the config{did_you_mean(name, config.models)}')
    upstreams = [config.upstreams[ref.upstream] for ref in refs_of_model(config, config.models[name])]
    engines = [read_engine(upstream.kind, upstream.continues_prefill) for upstream in upstreams]
    top = min(engine.top for engine in engines)
    shared = ReadEngine(
        top,
        engines[0].continues if all(engine.continues == engines[0].continues for engine in engines) else None,
        all(engine.template for engine in engines),
    )
    return ProbedAlias(name, shared, any(upstream.decision_format is not None for upstream in upstreams))


def _cases(request: ReadingProbe, place: GatewayLocation) -> list[ProbeCase]:
    """Raises CannotRun where there is nothing to ask, or nothing to ask about."""
    questions = {
        name: declared(name, question)
        for name, question in place.config.decisions.questions.items()
        if question.model == request.alias
    }
    states: list[ProbeState] = [] if request.states is None else states_of_file(request.states)
    rows = [] if states and questions else _recorded(request, place)
    if not states and not questions and (cases := recorded_cases(rows)[: request.most]):
        return cases
    questions = questions or {case.name: case.question for case in recorded_cases(rows)}
    if not questions:
        raise CannotRun(f"nothing to ask {request.alias}: {_NO_QUESTIONS}")
    states = states or recorded_states(rows)
    if not states:
        raise CannotRun(f"nothing to ask the questions of {request.alias} about: {_NO_STATES}")
    return cases_of(questions, states, request.most)


def _recorded(request: ReadingProbe, place: GatewayLocation) -> list[tuple[str, bytes]]:
    """The newest recorded calls of the alias; none where there is no store yet."""
    try:
        with reading(store_of(place)) as connection:
            return newest_requests(connection, request.alias, ("decisions", "systemone", "chat"), 10 * request.most)
    except StoreUnavailable:
        return []
