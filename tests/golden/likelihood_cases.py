"""Experiments that compare how likely two engines find the answers that were served."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from zlib import crc32

import orjson
from golden.cases import Case, basic, experiment
from golden.records import Records
from golden.shadow_cases import begun
from golden.world import World

from gateway.core.exchange import Exchange
from gateway.core.likelihood import BEST_DIGITS, AnswerLikelihood
from gateway.core.plan import AGAIN, REPEAT, Plan

TOKENS = 30
_WORDS = ("the", "sea", "is", "cold", "and", "deep", "while", "ships", "wait", "on")


def scored(call: Exchange, served: str, tokens: list[str], logprobs: list[float]) -> Exchange:
    """The record of an engine's answer to the question how likely these tokens are."""
    best = [token if p > -0.7 else " a" for token, p in zip(tokens, logprobs, strict=True)]
    digest = sha256(" ".join(tokens).encode()).hexdigest()[:16]
    found = AnswerLikelihood(
        len(tokens), -sum(logprobs), sum(p > -0.7 for p in logprobs), digest,
        "".join(sha256(token.encode()).hexdigest()[:BEST_DIGITS] for token in best),
    )  # fmt: skip
    entries: list[object] = [None]
    for token, p in zip(tokens, logprobs, strict=True):
        own = {"logprob": p, "rank": 1 if p > -0.7 else 2, "decoded_token": token}
        others = {} if p > -0.7 else {"9": {"logprob": -0.5, "rank": 1, "decoded_token": " a"}}
        entries.append({str(crc32(token.encode()) % 9999 + 10): own, **others})
    response = orjson.dumps({"choices": [], "prompt_logprobs": entries})
    del served
    return replace(call, likelihood=found.to_json(), response=response, stream=False)


def send_scored(world: World, records: Records, plan: Plan, count: int, shift: float) -> None:
    """Sends pairs. shift: of each token's log-probability under the candidate."""
    rng, made = records.random, list[Exchange]()
    for i in range(count):
        arms: dict[str, str | None] = {"candidate": "1", REPEAT: "1"}
        arms |= {AGAIN: "1"} if rng.random() < plan.scored_twice else {}
        served, *others = records.pair(plan, world.clock.forward(60.0), "1", arms)
        tokens = [f" {rng.choice(_WORDS)}" for _ in range(TOKENS)]
        base = [-rng.expovariate(1.5) for _ in tokens]
        made.append(served)
        for call in others:
            moved = shift if call.arm == "candidate" else 0.0
            noise = 0.0 if call.arm == REPEAT else 0.005
            logprobs = [min(-1e-6, p + moved * 2 * rng.random() + rng.gauss(0, noise)) for p in base]
            role = "control" if call.arm == AGAIN else call.role
            made.append(replace(scored(call, served.id, tokens, logprobs), role=role))
        if i % 20 == 19:
            made[-1] = replace(made[-1], likelihood=AnswerLikelihood(refused="not_aligned").to_json())
    world.send(made)
    world.clock.forward(120.0)
    world.send([records.tally(world.clock.now)])
    world.consume()


def likelihood(case: Case) -> None:
    """The same weights, and then others."""
    section = basic({}, swap=experiment(mode="likelihood", primary=None, repeat_control=0.5, min_hours=0, margin=0.05))
    world, records, plan = begun(case, "likelihood", section)
    for phase, (count, shift) in enumerate(((60, 0.0), (60, -0.5)), start=1):
        send_scored(world, records, plan, count, shift)
        case.keep(f"{phase}: figures", world.work())
        case.reports(f"{phase}: ", world, "swap", html=phase == 2)
    case.keep("power", world.verb("ab", "power", "swap", "--json"))
    case.keep("state", world.state())
