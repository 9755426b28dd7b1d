"""Asks a candidate once the served answer has ended, off the client's path, and records what it says beside it.

Bounded: at most `concurrency` at once for each experiment; what does not fit is not asked, and counted, never queued.
"""

from __future__ import annotations

import time
from dataclasses import replace

from gateway.config import Retries
from gateway.errors import GatewayError
from gateway.exchange import Exchange, Usage, new_id
from gateway.metrics import ProxyMetrics
from gateway.proxy.call import Call
from gateway.proxy.experiments import Plan
from gateway.proxy.places import Place
from gateway.proxy.progress import Kept, NoClient, Progress
from gateway.proxy.recorder import Recorder
from gateway.proxy.redact import without_data_urls
from gateway.proxy.relay import Relay
from gateway.proxy.routing import Candidate, Route, Router
from gateway.proxy.splice import remove_member, set_member
from gateway.supervise import Tasks

_LAST = b"100"  # vLLM serves lower numbers first


class Shadow:
    def __init__(
        self, router: Router, relay: Relay, recorder: Recorder, metrics: ProxyMetrics, tasks: Tasks, cap_bytes: int
    ) -> None:
        self._router = router
        self._relay = relay
        self._recorder = recorder
        self._metrics = metrics
        self._tasks = tasks
        self._cap_bytes = cap_bytes
        self._running: dict[str, int] = {}
        self._spent = Spent()
        self._given_up = False

    @property
    def running(self) -> int:
        """How many shadows are being asked."""
        return sum(self._running.values())

    def give_up(self) -> None:
        """The process ends: what is under way will be cut by us, which says nothing of the candidate."""
        self._given_up = True

    def offer(self, call: Call, route: Route, served: Exchange) -> None:
        """Starts asking, or counts why not. Returns at once."""
        plan = route.plan
        if plan is None:
            return
        place = self._router.place(plan.candidate)
        if self._running.get(plan.name, 0) >= plan.concurrency or not place.upstream.slots.free:
            self._count(plan, "not_offered_full")
        elif self._spent.over(plan, time.time()):
            self._count(plan, "not_offered_budget")
        elif not place.ready:
            self._count(plan, "not_offered_target_down")
        elif _has_effects(call):
            self._count(plan, "not_offered_has_effects")
        else:
            self._running[plan.name] = self._running.get(plan.name, 0) + 1
            self._tasks.start(self._ask(call, route, plan, place, served), f"shadow {plan.name}")

    async def _ask(self, call: Call, route: Route, plan: Plan, place: Place, served: Exchange) -> None:
        shadow = replace(
            call, id=new_id(), received=time.time(), started=time.monotonic(), body=_body(call, place),
            fields={name: value for name, value in call.fields.items() if name != "seed"},
            headers=[h for h in call.headers if h[0] != b"idempotency-key"],  # or a vendor gives its first answer again
        )  # fmt: skip
        total_s = plan.deadline_s or route.timeouts.total_s
        alone = replace(
            route,
            candidates=(Candidate(place, frozenset()),),
            timeouts=route.timeouts.model_copy(update={"total_s": total_s}),
            retries=Retries(attempts=1),
            on_cut="error",
        )
        progress = Progress(Kept(True, self._cap_bytes))
        try:
            await self._relay.ask(shadow, alone, NoClient(), progress, held=True)
        except GatewayError:
            pass  # the failure stands in progress: it is this arm's result
        finally:
            self._running[plan.name] -= 1
        if progress.usage is not None:
            self._spent.add(plan, time.time(), progress.usage)
        if self._given_up:
            self._count(plan, "given_up")
            return
        self._record(shadow, route, plan, place, served, progress)

    def _record(self, call: Call, route: Route, plan: Plan, place: Place, served: Exchange, progress: Progress) -> None:
        if not progress.attempts:
            self._count(plan, "not_offered_target_down")
            return
        request, cut = without_data_urls(progress.sent_body, self._cap_bytes)
        content = call.caller.content != "metadata"
        first = progress.first_content
        exchange = replace(
            served,
            id=call.id, received=call.received, target=place.target, role="shadow", arm="candidate", pair=served.id,
            request=request if content else b"{}", response=progress.kept.bytes() if content else b"",
            truncated=cut or progress.kept.truncated, spliced=False, status=progress.status,
            outcome=progress.outcome, usage=progress.usage, attempts=tuple(progress.attempts),
            total_s=time.monotonic() - call.started,
            first_token_s=None if first is None else first - call.started,
            pi=plan.shadow, stratum=f"shadow:{plan.name}", seq=self._recorder.seq,
        )  # fmt: skip
        self._recorder.saw((exchange.stratum, call.alias, place.name, "candidate", ""), None)
        self._recorder.put(exchange)
        self._count(plan, "asked" if progress.outcome == "ok" else "asked_failed")

    def _count(self, plan: Plan, result: str) -> None:
        self._metrics.counts.of(self._metrics.shadow, plan.name, result).n += 1


class Spent:
    """The tokens that each plan's shadow has used on the present UTC day, in this process."""

    def __init__(self) -> None:
        self._day = 0
        self._tokens: dict[str, int] = {}

    def over(self, plan: Plan, now: float) -> bool:
        self._turn(now)
        return plan.tokens_per_day is not None and self._tokens.get(plan.hash, 0) >= plan.tokens_per_day

    def add(self, plan: Plan, now: float, usage: Usage) -> None:
        self._turn(now)
        self._tokens[plan.hash] = self._tokens.get(plan.hash, 0) + usage.input_tokens + usage.output_tokens

    def _turn(self, now: float) -> None:
        if now // 86400 != self._day:
            self._day = int(now // 86400)
            self._tokens.clear()


def _body(call: Call, place: Place) -> bytes:
    """The client's request without its seed and, where the upstream schedules by priority, behind everybody else's."""
    body = remove_member(call.body, b"seed")
    return set_member(body, b"priority", _LAST) if place.upstream.config.priority else body


def _has_effects(call: Call) -> bool:
    """Asking twice would change something at the upstream: state it keeps, or a tool it runs itself."""
    fields = call.fields
    searches = fields.get("web_search_options") is not None  # {} asks for a search too
    return searches or bool(fields.get("store") or fields.get("previous_response_id"))
