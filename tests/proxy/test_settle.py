"""The end of a call: what is counted, what is recorded, and with which probability."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import pytest
from fixtures.metric_samples import sample_sum
from fixtures.secret_of_draws import SECRET
from prometheus_client import CollectorRegistry

from gateway.config.config import Retries, RuleCondition, Sampling, SamplingRule, Timeouts
from gateway.config.derive import plan_of
from gateway.config.experiments import Experiment
from gateway.config.limits import Budgets
from gateway.config.metric_labels import MetricLabels
from gateway.config.upstreams import Upstream
from gateway.core.exchange import Attempt, Exchange, Target, Usage
from gateway.core.prices import Price, Prices
from gateway.core.prompt_digest import prompt_digest
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.observability.tracing import SpanIds
from gateway.proxy.experiments.budget import ShadowedConversations
from gateway.proxy.experiments.shadow import ShadowOffer
from gateway.proxy.limits.book import LeaseBook
from gateway.proxy.limits.limiter import Limiter, Offline
from gateway.proxy.recording.call_metrics import FOLD_AT
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.recording.redaction.redactor import LARGE
from gateway.proxy.recording.usage_ledger import UsageBooks
from gateway.proxy.relay.state import CallContext, HeldBytes
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.request.endpoints import ENDPOINTS
from gateway.proxy.routing.assignment import Assignment, RunningExperiment, assign, cluster_name, running, shadowed
from gateway.proxy.routing.circuit_breaker import CircuitBreaker
from gateway.proxy.routing.concurrency_limiter import ConcurrencyLimiter
from gateway.proxy.routing.router import Route
from gateway.proxy.routing.sampling import Sampler
from gateway.proxy.routing.target_state import TargetState, UpstreamState
from gateway.proxy.settle import Settler, cluster_of, counts_for_arm, is_comparable

CHAT = ENDPOINTS[b"/chat/completions"]


def an_experiment(**changes: Any) -> RunningExperiment:
    arms = {"control": {"upstream": "u", "model": "m"}, "candidate": {"upstream": "v", "model": "m"}}
    settings = Experiment.model_validate({"model": "chat", "shadow": 0.3, **arms, **changes})
    return running(plan_of("swap", settings, 600.0), settings, secret=SECRET)


SWAP = an_experiment()


class NotingShadow:
    """A ShadowSender that notes what it is asked for, and gives every drawn call the same offer."""

    def __init__(self, offer: ShadowOffer) -> None:
        self.offer = offer
        self.takes_later = False
        self.put: list[Any] = []
        self.done: list[tuple[str, str]] = []
        self.answers = 0
        self.conversations = ShadowedConversations()

    def later(self, piece: Any) -> bool:
        if self.takes_later:
            self.put.append(piece)
        return self.takes_later

    def decide(self, call: Call, assignment: Assignment, context: CallContext) -> ShadowOffer:
        self.done.append(("decide", call.id))
        return self.offer

    def digest(self, body: bytes, target_state: TargetState, running: RunningExperiment) -> str | None:
        return "openai:00" if body else None

    def ask(self, assignment: Assignment, offer: ShadowOffer, call: Call, route: Route, served: Exchange) -> None:
        assert served.id == call.id
        if call.conversation is not None:
            self.conversations.add(assignment.running.hash, call.conversation, call.received)
        self.done.append(("ask", call.id))

    def complete(self, call: Call, assignment: Assignment) -> bool:
        name = cluster_name(call, assignment)
        return name is not None and self.conversations.complete(assignment.running.hash, name, call.received)

    def leave_out(self, assignment: Assignment) -> None:
        self.done.append(("leave_out", ""))

    def withdraw(self, assignment: Assignment, offer: ShadowOffer) -> None:
        self.done.append(("withdraw", ""))

    def answered(self, call: Call, assignment: Assignment, context: CallContext, now: float) -> None:
        self.answers += 1


NAMES = frozenset({"chat", "u", "v"})
LABELS = MetricLabels(NAMES, {"u/m": ("u", "m"), "v/m": ("v", "m")}, {}, NAMES, NAMES, NAMES)


class Nowhere:
    async def losses(self) -> int:
        return 0

    async def append(self, entries: Any) -> None:
        pass


class ListingRecorder(Recorder):
    """A recorder that lists the exchanges it has taken."""

    def __init__(self, metrics: ProxyMetrics, buffer_bytes: int) -> None:
        super().__init__(Nowhere(), metrics, buffer_bytes=buffer_bytes)
        self.exchanges: list[Exchange] = []

    def put(self, exchange: Exchange) -> bool:
        taken = super().put(exchange)
        if taken:
            self.exchanges.append(exchange)
        return taken


@dataclass
class Room:
    """A settler with its recorder."""

    sampler: Sampler
    recorder: ListingRecorder
    settler: Settler
    registry: CollectorRegistry
    metrics: ProxyMetrics
    target_state: TargetState
    shadow: NotingShadow
    experiment: RunningExperiment | None = None
    """Every call is in it."""

    def settle(
        self, call: Call, context: CallContext | None = None, *, endpoint: Any = CHAT, requested: Any = None
    ) -> None:
        drawn = self.sampler.head(call, requested)
        assignment = assign(self.experiment, call, True) if self.experiment is not None else None
        held = drawn.recordable or (assignment is not None and (assignment.shadowed or drawn.u < assignment.record))
        route = Route((), Timeouts(), Retries(), "error", drawn, assignment, held)
        context = self.ended() if context is None else context
        context.response.enabled = held
        self.settler.settle(call, endpoint, route, context)

    def ended(self, outcome: Any = "ok", status: int = 200, answer: bytes = b"{}", **changes: Any) -> CallContext:
        context = CallContext(HeldBytes(True, 1000), outcome, self.target_state, status=status)
        context.attempts = [Attempt(self.target_state.target, status, None, 0.1)]
        context.response.add(answer)
        for name, value in changes.items():
            setattr(context, name, value)
        return context

    @property
    def recorded(self) -> list[Exchange]:
        return self.recorder.exchanges

    def value(self, name: str, **labels: str) -> float:
        self.metrics.counts.flush()
        return sample_sum(self.registry, name, **labels) or 0.0


def a_room(
    *rules: tuple[dict[str, Any], float],
    rate: float = 1.0,
    experiment: RunningExperiment | None = None,
    buffer_bytes: int = 1 << 40,
) -> Room:
    made = tuple(SamplingRule(when=RuleCondition(**when), rate=r, name=f"r{i}") for i, (when, r) in enumerate(rules))
    registry = CollectorRegistry()
    metrics = ProxyMetrics(registry)
    sampler = Sampler(Sampling(rate=rate, rules=made))
    recorder = ListingRecorder(metrics, buffer_bytes)
    state = UpstreamState("u", Upstream(kind="openai"), Any, Any, ConcurrencyLimiter(None, 0, 1.0))  # type: ignore[arg-type]
    target_state = TargetState(Target("u", "m"), state, CircuitBreaker(lambda: 0.0), lambda: 0.0)
    noting = NotingShadow(ShadowOffer(("candidate",)))
    limiter = Limiter(LeaseBook(), Offline(), {}, Budgets(), metrics)
    books = UsageBooks(recorder.usage, metrics)
    settler = Settler(sampler, recorder, metrics, 1000, Prices(), noting, LABELS, books, limiter)  # type: ignore[arg-type]
    return Room(sampler, recorder, settler, registry, metrics, target_state, noting, experiment)


@pytest.fixture
async def room() -> Room:
    """The parts that a call settles with."""
    return a_room()


def a_call(**changes: Any) -> Call:
    now = time.monotonic() - 2.0
    call = Call("id", 0.0, now, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", False, b'{"a":1}')
    return replace(call, **changes)


async def test_a_record_holds_what_happened(room: Room) -> None:
    usage = Usage(3, 4)
    context = room.ended(
        "cut", 200, b"data: half", usage=usage, sent_body=b'{"sent":1}', first_content=time.monotonic() - 1.5,
        spliced=True,
    )  # fmt: skip
    room.settle(a_call(stream=True, client_id="mine", reference="Rome"), context)
    [e] = room.recorded
    assert (e.id, e.client_id, e.caller, e.alias, e.target) == ("id", "mine", "web", "chat", Target("u", "m"))
    assert e.reference == "Rome"
    assert (e.request, e.response, e.outcome, e.status) == (b'{"sent":1}', b"data: half", "cut", 200)
    assert (e.usage, e.spliced, e.stream, e.role) == (usage, True, True, "served")
    assert (e.pi, e.stratum, e.seq, e.incarnation) == (1.0, "default", 1, room.recorder.incarnation)
    assert e.first_token_s == pytest.approx(0.5, abs=0.2)
    assert e.total_s == pytest.approx(2.0, abs=0.2)
    assert e.experiment is e.plan is e.arm is None
    assert e.attempts == tuple(context.attempts)


def function_calls(span: SpanIds | None, *, stream: bool, n: int = 2 * FOLD_AT) -> float:
    """The calls of functions that settling one call takes, with its share of folding it into the metrics."""
    room, count = a_room(rate=0.0), 0
    calls = [(a_call(stream=stream), room.ended("ok", usage=Usage(3, 4), first_content=0.0)) for _ in range(n)]
    for _, context in calls:
        context.notes.span = span
        context.notes.ended_at = 4.0

    def see(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        for call, context in calls:
            room.settle(call, context)
    finally:
        sys.setprofile(None)
    return count / n


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_traced_call_takes_three_more_calls_at_most(stream: bool) -> None:
    without = function_calls(None, stream=stream)
    assert function_calls(SpanIds(1, 2, 0, sampled=False), stream=stream) == without
    assert 0 < function_calls(SpanIds(1, 2, 0, sampled=True), stream=stream) - without <= 3


async def test_calls_without_upstream_or_text_leave_no_exchange(room: Room) -> None:
    for context, endpoint in (
        (CallContext(HeldBytes(True, 10), "upstream_error"), CHAT),
        (room.ended(attempts=[]), CHAT),
        (room.ended(), ENDPOINTS[b"/embeddings"]),
    ):
        room.settle(a_call(), context, endpoint=endpoint)
    assert not room.recorded
    assert not room.recorder.ledger.seen


@pytest.mark.parametrize(("content", "held"), [("full", True), ("metadata", False)])
async def test_a_metadata_key_leaves_numbers_only(room: Room, content: Any, held: bool) -> None:
    room.settle(a_call(caller=Caller("web", content=content)), room.ended(answer=b'{"said":1}', usage=Usage(1, 2)))
    [e] = room.recorded
    assert (b"said" in e.response, e.request != b"{}") == (held, held)
    assert e.usage == Usage(1, 2)


async def test_a_metadata_key_leaves_the_answers_model_and_fingerprint(room: Room) -> None:
    """The recorder could not read them without the answer."""
    answer = b'{"model":"m-2026","system_fingerprint":"fp_1","said":1}'
    room.settle(a_call(caller=Caller("web", content="metadata")), room.ended(answer=answer))
    [e] = room.recorded
    assert (e.response, e.model_returned, e.fingerprint) == (b"", "m-2026", "fp_1")


async def test_an_answer_above_the_cap_is_marked_truncated(room: Room) -> None:
    room.settle(a_call(body=b"{}" + b" " * 2000), room.ended())
    room.settle(a_call(), room.ended(answer=b"y" * 2000))
    assert [(e.truncated, len(e.request) <= 1000, len(e.response) <= 1000) for e in room.recorded] == [
        (True, True, True),
        (True, True, True),
    ]


async def test_opted_out_calls_are_counted_outside_the_population() -> None:
    room = a_room(({"outcome": "error"}, 1.0), experiment=an_experiment(shadow=1.0))
    room.settle(a_call(caller=Caller("web", sampled=False)))
    room.settle(a_call(), requested="never")
    room.settle(a_call(caller=Caller("web", sampled=False)), room.ended("cut"))
    assert not room.recorded
    assert not room.shadow.done
    reasons = [cell[4] for cell in room.recorder.ledger.unsampled.elements()]
    assert sorted(reasons) == ["forbidden", "opted_out", "opted_out"]
    assert sum(room.recorder.ledger.seen.values()) == 3


async def test_a_tail_rule_reads_the_answers_finish_reason() -> None:
    room = a_room(({"finish_reason": "length"}, 0.6), rate=0.0)
    cut = b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"length"}]}'
    for n in range(300):
        room.settle(a_call(id=str(n)), room.ended(answer=cut))
    seen, sampled = room.recorder.ledger.seen, room.recorder.ledger.sampled
    assert {cell[0]: n for cell, n in seen.items()} == {"r0": 300}, "the unsampled are in the stratum too"
    assert abs(sum(sampled.values()) / 300 - 0.6) < 3 * (0.24 / 300) ** 0.5


INELIGIBLE: list[tuple[str, dict[str, Any]]] = [
    ("cut", {"outcome": "cut"}),
    ("client gone", {"outcome": "client_gone"}),
    ("refused", {"status": 400}),
    ("continued", {"spliced": True}),
    ("at the second try", {"attempts": [Attempt(Target("u", "m"), 500, "x", 0.1)] * 2}),
]


@pytest.mark.parametrize("changes", [i[1] for i in INELIGIBLE], ids=[i[0] for i in INELIGIBLE])
async def test_only_a_comparable_answer_has_a_shadow(changes: dict[str, Any]) -> None:
    room = a_room(experiment=an_experiment(shadow=1.0))
    room.settle(a_call())
    room.settle(a_call(), room.ended(**changes))
    assert [e.experiment for e in room.recorded] == ["swap", None]
    assert [e.asked for e in room.recorded] == [("candidate",), ()]
    assert room.shadow.done == [("decide", "id"), ("ask", "id")]
    assert room.shadow.answers == 2, "the gate sees every answer"


def test_another_targets_answer_is_not_compared(room: Room) -> None:
    assignment, split = assign(SWAP, a_call(), True), assign(an_experiment(mode="split", split=0.5), a_call(), True)
    assert assignment is not None
    assert split is not None
    assert is_comparable(assignment, room.target_state, room.ended())
    elsewhere = replace(room.target_state, target=Target("w", "m"))
    assert not is_comparable(assignment, elsewhere, room.ended())
    own = replace(split, target=room.target_state.target)
    assert counts_for_arm(own, room.target_state, room.ended("cut")), "an arm's failures are its own"
    assert not counts_for_arm(own, elsewhere, room.ended())
    assert not counts_for_arm(own, room.target_state, room.ended(spliced=True))
    assert not counts_for_arm(own, room.target_state, room.ended(attempts=[Attempt(Target("w", "m"), 500, "x", 0.1)]))


def test_in_a_ramp_a_fallback_counts_for_the_arm_that_was_asked_for(room: Room) -> None:
    """A candidate that always fails, and is always saved by a fallback, would otherwise raise no alarm."""
    ramped = an_experiment(primary="error_rate", ramp={}).at(1.0)
    asked = assign(ramped, a_call(), True)
    assert asked is not None
    assert asked.arm == "candidate"
    saved = room.ended(attempts=[Attempt(asked.target, 500, "x", 0.1)])
    assert counts_for_arm(asked, room.target_state, saved)


@pytest.mark.parametrize("outcome", ["client_gone", "client_deadline"])
def test_a_call_whose_client_left_counts_for_the_arm_that_was_slow(room: Room, outcome: str) -> None:
    """The target that was asked last does not matter. By the first rules of plans the call counts for no arm."""
    split = assign(an_experiment(mode="split", split=0.5), a_call(), True)
    assert split is not None
    left = room.ended(outcome, attempts=[Attempt(Target("w", "m"), 0, "x", 0.1)])
    assert counts_for_arm(split, room.target_state, left)
    running = replace(split.running, plan=replace(split.running.plan, rules=1))
    assert not counts_for_arm(replace(split, running=running), room.target_state, left)


def test_a_cluster_is_a_digest_of_what_calls_share() -> None:
    assignment = assign(SWAP, a_call(), True)
    split = assign(an_experiment(mode="split", split=0.5, unit="user"), a_call(user="zoe"), True)
    assert assignment is not None
    assert split is not None
    assert cluster_of(a_call(), assignment) is None
    named = cluster_of(a_call(conversation="zoe's"), assignment)
    assert (
        named
        == cluster_of(a_call(id="other", conversation="zoe's"), assignment)
        != cluster_of(a_call(user="zoe"), split)
    )
    assert "zoe" not in str(named)


async def test_a_fallbacks_answer_counts_for_the_ramps_arm() -> None:
    """A candidate whose failures a fallback covers would otherwise look as good as one that answered."""
    ramp = an_experiment(ramp={}, primary="error_rate").at(1.0)
    room = a_room(experiment=ramp)
    elsewhere = [Attempt(Target("v", "m"), 500, "x", 0.1), Attempt(Target("u", "m"), 200, None, 0.1)]
    room.settle(a_call(), room.ended(attempts=elsewhere))
    room.settle(a_call(), room.ended("client_gone"))
    assert [(e.experiment, e.arm, e.target) for e in room.recorded] == [
        ("swap", "candidate", Target("u", "m")), ("swap", "candidate", Target("u", "m")),
    ]  # fmt: skip
    split = {"experiment": "swap", "arm": "candidate"}
    assert room.value("gateway_split_total", **split, result="elsewhere") == 1


def test_calls_of_one_key_in_a_ramp_are_not_a_cluster() -> None:
    """The verdict takes one pair of a cluster: with a few keys it would never come."""
    for unit in ("conversation", "key"):
        ramp = an_experiment(ramp={}, primary="error_rate", unit=unit).at(0.5)
        assignment = assign(ramp, a_call(), True)
        assert assignment is not None
        assert assignment.unit == "web"
        assert cluster_of(a_call(), assignment) is None
        assert cluster_of(a_call(conversation="zoe's"), assignment) is not None


async def test_calls_of_complete_conversations_have_their_own_probability() -> None:
    """A conversation is recorded with 0.3, all of its calls or none, and each call also with its shadow, until there
    are 20. Weighted by 1 / π, the recorded calls after that stand for all calls after that.

    The bound is five standard errors, by conversation: false alarms below 1e-6.
    """
    experiment = an_experiment(shadow=0.9)
    room = a_room(rate=0.3, experiment=experiment)
    late: list[str] = []
    for c in range(400):
        for n in range(30):
            call, before = a_call(id=f"{c}.{n}", conversation=f"c{c}"), len(room.shadow.done)
            if room.shadow.conversations.complete(experiment.hash, f"c{c}", 0.0):
                late.append(call.id)
                room.settle(call)
                assert [what for what, _ in room.shadow.done[before:]] == ["leave_out"] * shadowed(experiment, call.id)
            else:
                room.settle(call)
    found = {e.id: e for e in room.recorded}
    of_late = [found[i] for i in late if i in found]
    early_ids = found.keys() - set(late)
    assert {(e.pi, e.stratum, e.asked, e.not_asked, e.arm) for e in of_late} == {(0.3, "default", (), None, "control")}
    early = {(round(e.pi, 9), e.stratum) for e in map(found.__getitem__, early_ids)}
    assert early == {(round(1 - 0.7 * 0.1, 9), "default+swap")}
    error = math.sqrt(sum(n * n for n in Counter(i.split(".")[0] for i in late).values()) * 0.7 / 0.3)
    assert len(of_late) / 0.3 == pytest.approx(len(late), abs=5 * error)
    assert 5 * error < len(late) / 2


async def test_a_shadowed_call_is_recorded_with_the_union_probability() -> None:
    room = a_room(rate=0.1, experiment=SWAP)
    for n in range(2000):
        room.settle(a_call(id=str(n)))
        drawn = shadowed(SWAP, str(n))
        assert (room.shadow.done[-1:] == [("ask", str(n))]) == drawn
        assert not drawn or room.recorded[-1].id == str(n)
    assert {e.pi for e in room.recorded} == {1 - 0.9 * 0.7}
    assert {e.stratum for e in room.recorded} == {"default+swap"}
    assert {(e.experiment, e.plan, e.arm) for e in room.recorded} == {("swap", SWAP.hash, "control")}
    pi = 1 - 0.9 * 0.7
    assert abs(len(room.recorded) / 2000 - pi) < 3 * (pi * (1 - pi) / 2000) ** 0.5


async def test_only_calls_with_a_drawn_shadow_are_settled_later() -> None:
    """The next client may be waiting: at its end a call is only counted, and its latency told to the gate."""
    room = a_room(experiment=SWAP)
    room.shadow.takes_later = True
    for n in range(50):
        room.settle(a_call(id=str(n)), room.ended(usage=Usage(1, 2)))
    drawn = [str(n) for n in range(50) if shadowed(SWAP, str(n))]
    assert 0 < len(drawn) == len(room.shadow.put) < 50
    assert (len(room.recorded), room.shadow.done, room.shadow.answers) == (50 - len(drawn), [], 50)
    assert room.value("gateway_tokens_total", alias="chat", upstream="u", type="output") == 100
    for piece in room.shadow.put:
        piece()
    assert [e.id for e in room.recorded[-len(drawn) :]] == drawn
    assert room.shadow.done == [(what, id) for id in drawn for what in ("decide", "ask")]
    assert len(room.recorded) == 50
    large = a_call(id=drawn[0], body=b'{"a":"' + b"x" * LARGE + b'"}')
    room.settle(large)
    assert room.shadow.done[-1] == ("ask", drawn[0]), "the queue's bytes are not counted: it holds nothing large"


BODY = b'{"messages":[{"role":"user","content":"hello"}]}'


@pytest.mark.parametrize("content", ["full", "metadata"])
async def test_a_pair_has_the_digest_of_its_prompt(content: Any) -> None:
    """The digest needs no recorded text, and says only which pairs have the same prompt."""
    experiment = an_experiment(shadow=1.0)
    assert experiment.prompt_key is not None
    room = a_room(experiment=experiment)
    room.settle(a_call(body=BODY, caller=Caller("web", content=content)))
    assert [e.prompt_digest for e in room.recorded] == [prompt_digest(BODY, experiment.prompt_key, experiment.hash)]
    assert content == "full" or b"hello" not in room.recorded[0].request


async def test_other_calls_have_no_digest_of_their_prompt() -> None:
    """Calls of no experiment, those that begin no pair, and those of plans with older rules."""
    older = running(replace(SWAP.plan, rules=2, shadow=1.0), SWAP.settings, secret=SECRET)
    undrawn = next(str(n) for n in range(50) if not shadowed(SWAP, str(n)))
    for experiment in (None, SWAP, older):
        room = a_room(experiment=experiment)
        room.settle(a_call(body=BODY, id=undrawn))
        assert [e.prompt_digest for e in room.recorded] == [None]


async def test_a_split_stopped_for_harm_counts_no_call() -> None:
    """The control's calls of that time would make the sample ratio and the comparison wrong: nobody had the other
    arm."""
    for experiment in (an_experiment(mode="split", split=0.5), an_experiment(mode="split", split=0.5).stopped(True)):
        room, stopped = a_room(experiment=experiment), experiment.withdrawn
        call = next(c for n in range(50) if assign(experiment, c := a_call(id=str(n)), True).arm == "control")  # type: ignore[union-attr]
        room.settle(call)
        (recorded,) = room.recorded
        assert (recorded.plan, recorded.arm) == ((None, None) if stopped else (experiment.hash, "control"))
        assert recorded.stratum == ("default" if stopped else "split:swap")


async def test_a_shadow_is_withdrawn_if_its_exchange_is_dropped() -> None:
    room = a_room(experiment=an_experiment(shadow=1.0), buffer_bytes=1)
    room.settle(a_call())
    assert room.shadow.done == [("decide", "id"), ("withdraw", "")]


def test_weighted_means_are_unbiased_where_naive_ones_are_not() -> None:
    """Truth against Hájek means over what was recorded: errors always, slow calls half, a shadow's own draw besides."""
    room = a_room(({"outcome": "error"}, 1.0), ({"min_total_s": 5}, 0.5), rate=0.1, experiment=SWAP)
    truth, values = [], {}
    for n in range(6000):
        bad, slow = n % 10 == 0, n % 3 == 0
        y = (0.1 if bad else 0.9) - (0.3 if slow else 0.0)
        started = time.monotonic() - (6.0 if slow else 1.0)
        room.settle(a_call(id=f"call-{n}", started=started), room.ended("cut" if bad else "ok"))
        truth.append(y)
        values[f"call-{n}"] = y
    mean = sum(truth) / len(truth)
    sample = [(values[e.id], e.pi) for e in room.recorded]
    weights = sum(1 / pi for _, pi in sample)
    weighted = sum(y / pi for y, pi in sample) / weights
    error = sum((1 - pi) * ((y - weighted) / pi) ** 2 for y, pi in sample) ** 0.5 / weights
    naive = sum(y for y, _ in sample) / len(sample)
    assert abs(weighted - mean) < 3 * error
    assert abs(naive - mean) > 3 * error
    assert abs(weights / 6000 - 1) < 0.05, "the weights add up to the calls there were"


def test_pi_is_constant_within_a_stratum_and_realised() -> None:
    room = a_room(({"outcome": "error"}, 0.8), ({"alias": "chat", "min_total_s": 5}, 0.5), rate=0.2, experiment=SWAP)
    for n in range(6000):
        started = time.monotonic() - (6.0 if n % 3 == 0 else 1.0)
        room.settle(a_call(id=f"c{n}", started=started), room.ended("cut" if n % 7 == 0 else "ok"))
    by_stratum: dict[str, set[float]] = {}
    for e in room.recorded:
        by_stratum.setdefault(e.stratum, set()).add(e.pi)
    assert set(by_stratum) == {"default+swap", "r1+swap", "r0"}
    ledger = room.recorder.ledger
    for stratum, pis in by_stratum.items():
        [pi] = pis
        seen = sum(n for cell, n in ledger.seen.items() if cell[0] == stratum)
        sampled = sum(n for cell, n in ledger.sampled.items() if cell[0] == stratum)
        assert abs(sampled / seen - pi) < 3 * (pi * (1 - pi) / seen) ** 0.5


async def test_every_call_is_counted_by_how_it_ended(room: Room) -> None:
    room.settle(a_call(), room.ended(usage=Usage(10, 5, 4, 2)))
    room.settle(a_call(), room.ended("timeout", 504))
    room.settle(a_call(), CallContext(HeldBytes(False, 0), "upstream_error"))
    for upstream, outcome in (("u", "ok"), ("u", "timeout"), ("none", "upstream_error")):
        labels = {"alias": "chat", "upstream": upstream, "outcome": outcome}
        assert room.value("gateway_requests_total", **labels) == 1
    for kind, tokens in (("input", 10), ("output", 5), ("cached_input", 4), ("reasoning", 2)):
        assert room.value("gateway_tokens_total", alias="chat", upstream="u", type=kind) == tokens


def a_priced_room(**prices: Price) -> Room:
    room = a_room()
    room.settler = replace(room.settler, prices=Prices(prices))
    return room


async def test_each_attempts_cost_counts_for_its_upstream() -> None:
    room = a_priced_room(m=Price(1.0, 1.0), dear=Price(50.0, 50.0))
    first = Attempt(Target("v", "dear"), 200, "cut", 0.1, Usage(1000, 0))
    last = Attempt(Target("u", "m"), 200, None, 0.1, Usage(0, 1000))
    room.settle(a_call(), room.ended(usage=Usage(0, 1000), attempts=[first, last]))
    room.settle(
        a_call(), room.ended(usage=Usage(0, 1), attempts=[replace(first, usage=None), replace(last, usage=None)])
    )
    assert room.value("gateway_cost_usd_total", alias="chat", upstream="v") == pytest.approx(0.05)
    assert room.value("gateway_cost_usd_total", alias="chat", upstream="u") == pytest.approx(0.001)
    assert room.value("gateway_unpriced_total", alias="chat", upstream="u") == 1


GENAI = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "openai",
    "upstream": "u",
}


async def test_times_and_tokens_carry_the_genai_names(room: Room) -> None:
    first = time.monotonic() - 1.0
    room.settle(a_call(stream=True), room.ended(usage=Usage(10, 5), first_content=first))
    room.settle(a_call(stream=True), room.ended("cut", usage=Usage(10, 1), first_content=first))
    for error, count in (("", 1), ("stream_cut", 1)):
        name = "gen_ai_server_request_duration_seconds_count"
        assert room.value(name, **GENAI, error_type=error) == count
    assert room.value("gen_ai_server_time_to_first_token_seconds_sum", **GENAI) == pytest.approx(2.0, abs=0.2)
    per_token = "gen_ai_server_time_per_output_token_seconds"
    assert room.value(f"{per_token}_count", **GENAI) == 1, "one token has no time between tokens"
    assert room.value(f"{per_token}_sum", **GENAI) == pytest.approx(0.25, abs=0.05)
    assert room.value("gen_ai_client_token_usage_sum", **GENAI, gen_ai_token_type="output") == 6


async def test_a_plain_answer_has_no_first_token(room: Room) -> None:
    room.settle(a_call(), room.ended(usage=Usage(1, 9), first_content=time.monotonic()))
    assert not room.value("gen_ai_server_time_to_first_token_seconds_count", **GENAI)
