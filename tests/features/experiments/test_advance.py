"""One step of a plan in one transaction: the same pairs come to the same intervals, however they were delivered."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures.simulated import a_plan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.exchange import Exchange
from gateway.core.plan import Plan, StoredPlan
from gateway.core.score import Score, ScoreResult
from gateway.core.sequence import SequenceName
from gateway.features.experiments.advance import (
    LEASE,
    LeaseHolder,
    LeaseLost,
    LiveSequences,
    Rescored,
    advance,
    deciding,
    drawn,
    joined_pairs,
    keep_ratio,
    scored_again,
)
from gateway.store import engine, write
from gateway.store.ledger import position
from gateway.store.pairs import ArmScore, SettledPair, settled_pairs
from gateway.store.plans import hold_lease
from gateway.store.sequences import states
from gateway.store.write import ScoredBatch
from gateway.verdict.metrics import ArmObservation, JoinedPair, PairOrigin
from gateway.verdict.sequences.progress import PlanProgress

LEADER = LeaseHolder("me", 10.0)
DEADLINE_MS = 500


def kept(plan: Any) -> StoredPlan:
    return StoredPlan(plan, plan.hash, "running", 0.0)


def step(store: Any, plan: Any, watermark: str, most: int = 100, leader: LeaseHolder = LEADER) -> int:
    """Takes as many pairs as are settled now; returns how many."""

    def work(connection: Any) -> int:
        found = settled_pairs(connection, plan.hash, watermark, DEADLINE_MS, most)
        if found:
            advance(connection, leader, kept(plan), found, 0.0)
        return len(found)

    found: int = store.run(work)
    return found


def outcome(store: Any, plan: Any) -> Any:
    """All that may not depend on how it came about."""
    columns = "id, place, state, arms"
    return (
        store.sql(f"SELECT {columns} FROM pairs ORDER BY place, id"),  # noqa: S608 - of this file
        store.run(lambda c: {str(name): state for name, state in states(c, plan.hash).items()}),
        store.sql("SELECT metric, candidate, n, value, low, high FROM trails ORDER BY 1, 2, 3"),
        store.sql("SELECT metric, candidate, reason, arm, n FROM withheld ORDER BY 1, 2, 3, 4"),
    )


def deliver(store: Any, entries: list[tuple[int, Any]]) -> None:
    """entries: (place in the stream, exchange)."""
    judged = [replace(store.judged(e), position=position(f"{1000 + at}-0")) for at, e in entries]
    store.run(lambda c: write.write(c, ScoredBatch(store.scorers, judged), 0.0))


@pytest.fixture
def stream(plan: Any, paired: Any) -> list[Any]:
    """The records of twelve pairs as they lie in the stream: arms later than the next served answer, one arm lost, one
    failed, and two of one conversation."""
    rng = random.Random(1)
    placed: list[tuple[float, Any]] = []
    for i in range(12):
        arms: dict[str, str | None] = {"candidate": "failed" if i == 5 else None if i == 7 else f"{rng.random():.3f}"}
        arms |= {"repeat": f"{rng.random():.3f}"} if i % 2 else {}
        made = paired(plan, f"{rng.random():.3f}", arms, cluster=f"c{i // 2}" if i < 4 else None)
        placed += [(i + rng.random() * 3 * (j > 0), e) for j, e in enumerate(made)]
    return [e for _, e in sorted(placed, key=lambda each: each[0])]


def in_order(store: Any, plan: Any, stream: list[Any]) -> Any:
    for at, e in enumerate(stream):
        deliver(store, [(at, e)])
        step(store, plan, f"{1000 + at + 1}-0")
    step(store, plan, "99999-0")
    return outcome(store, plan)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_and_duplication_of_deliveries_gives_the_same(
    file_store: Any, store_copy: Any, plan: Any, stream: list[Any], data: st.DataObject
) -> None:
    """Several consumers read, each at its own pace, and are handed entries again; the leader steps now and then, with
    the current watermark: everything before it is stored.
    """
    expected = in_order(store_copy(), plan, stream)
    again = data.draw(st.lists(st.integers(0, len(stream) - 1), max_size=8), label="handed out again")
    order = data.draw(st.permutations([*range(len(stream)), *again]), label="deliveries")
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=8), label="batches")
    store, done, turn = store_copy(), set(), 0
    while order:
        size = sizes[turn % len(sizes)]
        batch, order, turn = order[:size], order[size:], turn + 1
        deliver(store, [(at, stream[at]) for at in dict.fromkeys(batch)])
        done |= set(batch)
        waiting = min((at for at in range(len(stream)) if at not in done), default=len(stream))
        step(store, plan, f"{1000 + waiting}-0", most=data.draw(st.integers(1, 5), label="window"))
    while step(store, plan, "99999-0", most=3):
        pass
    assert outcome(store, plan) == expected


@pytest.fixture
def store_copy(file_store: Any, tmp_path: Any) -> Iterator[Callable[[], Any]]:
    """Makes stores of their own, each a copy of one that has its tables: quicker than to migrate each."""
    template = tmp_path / "gateway.db"
    file_store.engine.dispose()
    opened: list[Any] = []

    def make() -> Any:
        path = tmp_path / f"copy-{len(opened)}.db"
        shutil.copyfile(template, path)
        url = f"sqlite:///{path}"
        opened.append(replace(file_store, url=url, engine=engine.writer(url)))
        return opened[-1]

    yield make
    for store in opened:
        store.engine.dispose()


def test_a_consumer_that_lost_the_lease_stores_nothing(store: Any, plan: Any, paired: Any) -> None:
    deliver(store, list(enumerate(paired(plan, "1", {"candidate": "0"}))))
    store.run(lambda c: hold_lease(c, LEASE, "another", 0.0, 10.0))
    with pytest.raises(LeaseLost):
        step(store, plan, "2000-0")
    assert store.sql("SELECT place FROM pairs") == [(None,)]
    assert store.sql("SELECT count(*) FROM sequences") == [(0,)]


def test_pairs_that_another_has_settled_are_not_taken_twice(store: Any, plan: Any, paired: Any) -> None:
    deliver(store, list(enumerate(paired(plan, "1", {"candidate": "0"}))))
    found = store.run(lambda c: settled_pairs(c, plan.hash, "2000-0", DEADLINE_MS, 10))
    assert step(store, plan, "2000-0") == 1
    with pytest.raises(LeaseLost):
        store.run(lambda c: advance(c, LEADER, kept(plan), found, 0.0))
    assert store.sql("SELECT DISTINCT n FROM sequences WHERE metric = 'stated'") == [(1,)]


def test_an_alarm_of_the_sample_ratio_stays_one(file_store: Any, plan: Any, exchange: Any) -> None:
    """The alarm began with 300 units of one arm and none of the other; later counts that look better do not take it
    back.
    """
    split = replace(plan, mode="split", split=0.5, repeat_control=0.0, unit="conversation")

    def served(arm: str, n: int) -> None:
        made = [
            exchange("1", experiment="swap", plan=split.hash, arm=arm, cluster=f"{arm}{i}", u=0.5) for i in range(n)
        ]
        deliver(file_store, list(enumerate(made)))
        file_store.run(lambda c: keep_ratio(c, kept(split), 1.0))

    served("control", 300)
    (before,) = file_store.sql("SELECT state FROM sequences WHERE metric = 'srm'")
    served("candidate", 300)
    assert file_store.sql("SELECT state FROM sequences WHERE metric = 'srm'") == [before]
    assert file_store.sql("SELECT n FROM sequences WHERE metric = 'srm'") == [(300,)]


def test_shares_that_were_shown_to_be_the_planned_ones_remain_shown(file_store: Any, plan: Any, exchange: Any) -> None:
    split = replace(plan, mode="split", split=0.5, repeat_control=0.0, unit="conversation", rules=3)
    named = {"experiment": "swap", "plan": split.hash, "u": 0.5}

    def evidence(arms: list[str], start: int) -> list[float]:
        made = [exchange("1", arm=arm, cluster=f"u{i}", **named) for i, arm in enumerate(arms, start)]
        deliver(file_store, list(enumerate(made, start)))
        file_store.run(lambda c: keep_ratio(c, kept(split), 1.0))
        (stored,) = file_store.sql("SELECT state FROM sequences WHERE metric = 'srm'")
        return list(orjson.loads(stored[0])["near"])

    shown = evidence(["control", "candidate"] * 200, 0)
    assert min(shown) > 1.0
    assert evidence(["control"] * 30, 400)[1] == shown[1], "a look that shows less takes nothing back"


@pytest.fixture
def adjusting(plan: Any) -> Any:
    """The plan with a hybrid sequence of at most 400 pairs, adjusted by what is known before."""
    return replace(plan, method="hybrid", max_pairs=400, aa="alarm", adjust=True, shadow=0.5)


def unshadowed(exchange: Any, plan: Any, text: str, pi: float = 1.0, **more: Any) -> Any:
    """A served answer of the plan that was not drawn for a shadow. pi: with which it was recorded, by either draw."""
    named = {"experiment": plan.name, "plan": plan.hash, "target": plan.control}
    return exchange(text, arm="control", stratum="default+swap", pi=pi, **named, **more)


def noisy_stream(plan: Any, paired: Any, exchange: Any, n: int) -> list[Any]:
    """Pairs whose difference follows the control's score, each after two requests that were not drawn."""
    rng, made = random.Random(4), []
    for _ in range(n):
        made += [unshadowed(exchange, plan, f"{rng.random():.3f}") for _ in range(2)]
        made += paired(plan, f"{rng.random():.3f}", {"candidate": f"{0.4 + 0.2 * rng.random():.3f}"})
    return made


def adjustment_of(store: Any, plan: Any) -> dict[str, Any]:
    found = store.run(lambda c: {(n.candidate, n.metric): s for n, s in states(c, plan.hash).items()})
    state: dict[str, Any] = found["candidate", "stated"]
    return state


def test_requests_that_were_not_drawn_adjust_the_difference(
    store: Any, adjusting: Any, paired: Any, exchange: Any
) -> None:
    deliver(store, list(enumerate(noisy_stream(adjusting, paired, exchange, 120))))
    step(store, adjusting, "99999-0", most=500)
    state = adjustment_of(store, adjusting)
    assert state["adjustment"]["n"] == 119, "the first pair begins the sequence"
    assert state["spread"][2] < 0.75 * state["unadjusted"][2], "half of 0.9 of the variance, after some pairs"


def test_the_adjustment_does_not_depend_on_the_size_of_a_step(
    store_copy: Any, adjusting: Any, paired: Any, exchange: Any
) -> None:
    stream = noisy_stream(adjusting, paired, exchange, 40)
    whole, parts = store_copy(), store_copy()
    deliver(whole, list(enumerate(stream)))
    step(whole, adjusting, "99999-0")
    for at, each in enumerate(stream):
        deliver(parts, [(at, each)])
        step(parts, adjusting, f"{1000 + at + 1}-0")
    step(parts, adjusting, "99999-0")
    assert outcome(parts, adjusting) == outcome(whole, adjusting)


def test_only_requests_like_the_pairs_adjust(store: Any, adjusting: Any, paired: Any, exchange: Any) -> None:
    """Requests of a conversation, failed ones and other plans' do not; where some are recorded at 0.5, half of the
    others."""
    others = [
        *[unshadowed(exchange, adjusting, "1", pi=0.75) for _ in range(30)],
        *[unshadowed(exchange, adjusting, "1") for _ in range(60)],
        unshadowed(exchange, adjusting, "0.3", cluster="c"),
        unshadowed(exchange, adjusting, "0.3", status=502, outcome="upstream_error"),
        unshadowed(exchange, replace(adjusting, margin=0.2), "0.3"),
        unshadowed(exchange, adjusting, "error"),
    ]
    first, last = (paired(adjusting, "1", {"candidate": "0"}) for _ in range(2))
    deliver(store, list(enumerate([*first, *others, *last])))
    step(store, adjusting, "99999-0")
    adjustment = adjustment_of(store, adjusting)["adjustment"]
    assert adjustment["rate"] == 0.5
    assert adjustment["n"] == 1
    waiting = [x[0] for x in adjustment["waiting"]]
    assert set(waiting) == {1.0}
    assert 29 + 10 < len(waiting) < 29 + 50, "one was used; half of 60, by a draw of each id"


def test_requests_that_are_never_asked_leave_the_rest_unlike(
    store: Any, adjusting: Any, paired: Any, exchange: Any
) -> None:
    """Requests that were not drawn hold such requests too, if many drawn ones cannot be shadowed."""
    stream = noisy_stream(adjusting, paired, exchange, 20)
    refused = [replace(unshadowed(exchange, adjusting, "1"), not_asked="has_effects") for _ in range(3)]
    deliver(store, list(enumerate([*refused, *stream])))
    step(store, adjusting, "99999-0")
    assert adjustment_of(store, adjusting)["adjustment"]["n"] == 0


def pair(i: int) -> JoinedPair:
    control, candidate = ArmObservation("ok", f"a{i}", total_s=1.0), ArmObservation("failed", f"b{i}", total_s=1.5)
    origin = PairOrigin(1000.0 + i, "web", f"user{i % 3}", f"c{i // 2}")
    return JoinedPair(f"a{i}", control, {"candidate": candidate}, f"c{i // 2}", origin)


def moved(plan: Plan, live: LiveSequences, texts: dict[SequenceName, str], i: int) -> dict[SequenceName, str]:
    """The stored states after one more pair, as a step makes them."""
    progress = PlanProgress(plan, plan.hash, live.take(texts))
    progress.take(i, pair(i))
    states = progress.changes().states
    after = texts | {name: orjson.dumps(state).decode() for name, (_, state) in states.items()}
    live.keep(after, progress.sequences)
    return after


def test_kept_sequences_have_the_states_of_stored_ones(plan: Plan) -> None:
    plan = replace(plan, rules=2, repeat_control=0.0)
    live, kept, read = LiveSequences(), dict[SequenceName, str](), dict[SequenceName, str]()
    for i in range(40):
        before = dict(kept)
        kept, read = moved(plan, live, kept, i), moved(plan, LiveSequences(), read, i)
        assert kept == read
        assert kept != before
    again = live.take(kept)
    live.keep(kept, again)
    assert live.take(kept) == again, "the very objects"


def test_the_step_reads_states_of_another_consumer(plan: Plan) -> None:
    """A state that a transaction of this one moved and did not store is read too."""
    plan = replace(plan, rules=2, repeat_control=0.0)
    live = LiveSequences()
    first = moved(plan, live, {}, 0)
    lost = moved(plan, live, first, 1)
    other = moved(plan, LiveSequences(), first, 2)
    assert other != lost
    assert {name: each.n for name, each in live.take(other).items()} == {
        name: each.n for name, each in LiveSequences().take(other).items()
    }
    assert moved(plan, live, first, 1) == lost, "as if it had not been taken before"


def result(value: float | None, status: str = "scored", version: str = "1") -> ScoreResult:
    score = None if value is None else Score(value)
    return ScoreResult("quality", version, "c1", status, score, None, 0.1, 1.0)  # type: ignore[arg-type]


def stored(exchange: Exchange, value: float | None, status: str = "scored") -> ArmScore:
    return ArmScore(exchange.id, "quality", "1", "c1", status, value, value, "maximise")


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ((0.5, "scored"), result(0.5), (1, 0)),
        ((0.5, "scored"), result(0.25), (1, 1)),
        ((None, "not_applicable"), result(0.5), (1, 1)),
        ((None, "not_applicable"), result(None, "not_applicable"), (1, 0)),
        ((None, "timeout"), result(0.5), (0, 0)),
        ((0.5, "scored"), result(None, "error"), (0, 0)),
        ((0.5, "scored"), result(0.25, version="2"), (0, 0)),
    ],
    ids=["equal", "another", "now applicable", "never applicable", "failed then", "failed now", "another version"],
)
async def test_only_two_results_of_one_scorer_are_compared(
    exchange: Callable[..., Exchange], before: Any, after: ScoreResult, found: tuple[int, int]
) -> None:
    served = exchange()
    asked: list[tuple[Exchange, Collection[str]]] = []

    async def rescore(again: Exchange, names: Collection[str]) -> list[ScoreResult]:
        asked.append((again, names))
        return [after]

    again = await scored_again(a_plan(), {served.id: served}, [stored(served, *before)], rescore)
    assert (again.n, again.disagreed) == found
    assert again.example == (served.id if found[1] else None)
    [(scored, names)] = asked
    assert (scored.role, scored.arm, scored.response) == ("shadow", "candidate", served.response)
    assert names == ["quality", "error_rate"] == deciding(a_plan())


async def test_an_answer_without_its_text_is_not_scored_again(exchange: Callable[..., Exchange]) -> None:
    served = replace(exchange(), response=b"")

    async def rescore(again: Exchange, names: Collection[str]) -> list[ScoreResult]:
        raise AssertionError("nothing to score")

    assert await scored_again(a_plan(), {served.id: served}, [stored(served, 0.5)], rescore) == Rescored()


def test_about_a_tenth_of_the_pairs_is_drawn() -> None:
    found = [SettledPair(f"p{i}", None, {}) for i in range(2000)]
    assert 100 < len(drawn(found)) < 300
    assert drawn(found[:500]) + drawn(found[500:]) == drawn(found), "whichever step settles them"


def test_the_origin_of_a_pair_names_its_prompt(store: Any, plan: Plan, paired: Any) -> None:
    made = [e for prompt in ("a", None) for e in paired(plan, "1", {"candidate": "1"}, prompt_digest=prompt)]
    deliver(store, list(enumerate(made)))
    found = store.run(lambda c: joined_pairs(c, plan, settled_pairs(c, plan.hash, "99999-0", DEADLINE_MS, 9)))
    assert [pair.origin.prompt for pair in found] == ["a", None]
