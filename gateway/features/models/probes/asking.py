"""Asks the requests of a round through the gateway, as judges do: with the key of `evals`, whose calls are neither
sampled nor scored, and count as usage of the scorer NAME. Stops before the month's budget is exceeded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from gateway.core.completion import assemble
from gateway.features.models.probes.model import (
    MODES,
    Mode,
    ProbeAnswer,
    ProbedTarget,
    ProbeRequest,
    ProbeRound,
    answer_of,
)
from gateway.features.replay.datasets.datasets import PATHS
from gateway.reports import number_format as say
from gateway.scoring.asker import Asker, ModelRefused
from gateway.scoring.http_client import Unreachable
from gateway.scoring.types import Denied

NAME = "model probes"
DEADLINE_S = 120.0
_FAILURES_IN_ROW = 3
_REJECTED = (400, 422)


class ProbeFailed(Exception):
    """One request got no answer. The message names no text of a request or an answer."""


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """A round that is to be asked."""

    of: ProbedTarget
    requests: Sequence[ProbeRequest]
    repeats: int
    left_usd: float
    """The part of the month's budget that is not spent."""
    asked: float
    """Unix seconds."""

    def empty(self) -> ProbeRound:
        return ProbeRound(self.of.alias, str(self.of.target), self.asked, self.of.definition, "baseline")

    def refusal(self) -> str:
        """Reason why the round is not begun; "" if there is none."""
        if not self.requests:
            return "no request: no recorded call may be used, by the content and sampling of its key"
        most = self.of.most_usd(self.requests, self.repeats)
        if most is None:
            return f"{self.of.target} has no price, so usd_per_month cannot be kept; set `prices`"
        if most > self.left_usd:
            left = max(self.left_usd, 0.0)
            return f"usd_per_month: a round may cost {say.dollars(most)}, and {say.dollars(left)} are left this month"
        return ""


@dataclass(slots=True)
class _Progress:
    """The state of a round while it is asked."""

    answers: list[ProbeAnswer] = field(default_factory=list)
    calls: int = 0
    usd: float = 0.0
    failed: int = 0
    in_row: int = 0
    why: str = ""
    without: set[str] = field(default_factory=set)
    """Members of requests that the upstream has rejected."""
    renamed: bool = False
    """Whether the limit is called max_completion_tokens."""


async def ask_round(asker: Asker, plan: RoundPlan, alive: Callable[[], Awaitable[object]]) -> ProbeRound:
    """The answers of a round, whose result is still open, or a gap with its reason. alive: called before each call."""
    if why := plan.refusal():
        return replace(plan.empty(), result="gap", text=why)
    progress = _Progress()
    expected = plan.repeats * len(plan.requests) * len(MODES)
    for request, mode in _calls(plan):
        await alive()
        try:
            progress.answers.append(await _answer(asker, plan.of, request, mode, progress))
            progress.in_row = 0
        except ProbeFailed as error:
            progress.failed, progress.in_row, progress.why = progress.failed + 1, progress.in_row + 1, str(error)
        except Denied as error:
            progress.failed, progress.why = expected, str(error)
        if progress.in_row >= _FAILURES_IN_ROW or progress.failed > expected / 2 or progress.usd > plan.left_usd:
            break
    return _ended(plan, progress, expected)


def _calls(plan: RoundPlan) -> list[tuple[ProbeRequest, Mode]]:
    """All other requests are asked between a call and its repeat."""
    return [(request, mode) for _ in range(plan.repeats) for request in plan.requests for mode in MODES]


def _ended(plan: RoundPlan, progress: _Progress, expected: int) -> ProbeRound:
    asked = replace(plan.empty(), calls=progress.calls, usd=progress.usd)
    if progress.usd > plan.left_usd:
        return replace(asked, result="gap", text="usd_per_month is spent; the round was broken off")
    if progress.in_row >= _FAILURES_IN_ROW or progress.failed > expected / 2:
        return replace(asked, result="gap", text=progress.why)
    return replace(asked, answers=tuple(progress.answers))


async def _answer(
    asker: Asker, of: ProbedTarget, request: ProbeRequest, mode: Mode, progress: _Progress
) -> ProbeAnswer:
    """Raises ProbeFailed and Denied."""
    while True:
        body = _adapted(request.body(of.alias, mode), progress)
        if mode == "exact" and "temperature" in progress.without:
            raise ProbeFailed(f"{of.target} rejects temperature 0")
        progress.calls += 1
        try:
            reply, spent = await asker.ask(PATHS[request.api], body, of.headers)
        except ModelRefused as error:
            if error.status in _REJECTED and _omit(error, body, progress):
                continue
            raise ProbeFailed(f"{of.target} answered with HTTP {error.status}") from error
        except Unreachable as error:
            raise ProbeFailed(str(error)) from error
        except ValueError as error:
            raise ProbeFailed(f"{of.target} answered with something that is not a JSON object") from error
        price = of.price
        most = request.most_usd(price) if price else 0.0
        free = price is not None and price.input == price.output == 0
        progress.usd += 0.0 if free else most if spent.cost_usd is None else spent.cost_usd
        if spent.judge_model not in (None, str(of.target)):
            raise ProbeFailed(f"{spent.judge_model} answered in place of {of.target}")
        return answer_of(request.key, mode, assemble(request.api, False, orjson.dumps(reply)))


def _adapted(body: dict[str, Any], progress: _Progress) -> dict[str, Any]:
    if progress.renamed and "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")
    return {name: value for name, value in body.items() if name not in progress.without}


def _omit(refused: ModelRefused, body: dict[str, Any], progress: _Progress) -> bool:
    """Omits or renames the member that the upstream names, for the rest of the round. False if it names none."""
    complaint = f"{refused.param} {refused.message}".lower()
    if "logprob" in complaint and "logprobs" in body:
        progress.without.add("logprobs")
    elif "max_completion_tokens" in complaint and "max_tokens" in body:
        progress.renamed = True
    elif "temperature" in complaint and "temperature" in body:
        progress.without.add("temperature")
    else:
        return False
    return True
