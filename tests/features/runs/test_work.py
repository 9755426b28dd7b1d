"""Runs are scored once they are quiet, again if they go on, and not at all where calls may be missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from gateway.config.scorers import ScorerConfig
from gateway.config.types import OtelConfig
from gateway.core.exchange import Feedback, cluster_digest, only_word_id, run_key
from gateway.features.feedback.implicit import ImplicitFeedback
from gateway.features.runs.reading import SAMPLED, TOGETHER
from gateway.features.runs.spans import RunSpans
from gateway.features.runs.work import LEASE, RunScorers, RunScoring, RunTiming
from gateway.features.task import TaskWorker
from gateway.observability.tracing import run_ids
from gateway.scoring.registry import build_all
from gateway.scoring.threads import ScoringThreads
from gateway.store.plans import hold_lease
from gateway.store.store import Store

NOW = 1_000_000.0
KEY = run_key("web", "r")
SCORES = "SELECT scorer, status, value, pi, exchange_id FROM scores WHERE subject = 'run' ORDER BY scorer"


def calling(text: str = "", *arguments: str) -> bytes:
    calls = [{"id": f"t{n}", "type": "function", "function": {"name": "look", "arguments": each}}
             for n, each in enumerate(arguments)]  # fmt: skip
    message = {"content": text, **({"tool_calls": calls} if calls else {})}
    return orjson.dumps({"choices": [{"message": message, "finish_reason": "tool_calls" if calls else "stop"}]})


class Scoring:
    """A RunScoring with a clock of its own, on a store that a test writes to."""

    def __init__(self, store: Any, opened: Store, threads: ScoringThreads, **sections: dict[str, Any]) -> None:
        self.store, self.at = store, NOW
        store.scorers.clear()  # calls have no scores of their own
        built = build_all({name: ScorerConfig(**section) for name, section in sections.items()})
        self.scorers = RunScorers(built.runs, threads, ImplicitFeedback(["en"]))
        self.worker = TaskWorker(opened, "me", lambda: self.at)
        self.work = RunScoring(self.worker, self.scorers, RunTiming(quiet_s=60.0))

    async def after(self, seconds: float) -> int:
        """Looks for runs at this time after NOW. Returns how many were scored."""
        self.at = NOW + seconds
        return await self.work.step()

    def scores(self) -> dict[str, tuple[Any, ...]]:
        return {row[0]: row[1:] for row in self.store.sql(SCORES)}


@pytest.fixture
async def scoring(file_store: Any, threads: ScoringThreads) -> AsyncIterator[Callable[..., Scoring]]:
    """scoring(NAME={…}, …): scores runs by these sections, on a store of the test's own."""
    async with Store(file_store.url) as opened:
        yield lambda **sections: Scoring(file_store, opened, threads, **sections)


async def test_a_quiet_run_is_scored_on_its_first_call(scoring: Any, exchange: Any) -> None:
    of = scoring(run_loops={}, run_finished={})
    first = exchange(received=NOW, run="r", response=calling("", "{}"))
    of.store.write(first, exchange(received=NOW + 5, run="r", response=calling("Done.")))
    assert await of.after(60) == 0, "its last call ended 54.5 s ago"
    assert await of.after(66) == 1
    assert of.scores() == {
        "run_finished": ("scored", 1.0, 1.0, first.id),
        "run_loops": ("scored", 1.0, 1.0, first.id),
    }
    assert await of.after(1000) == 0


async def test_a_run_that_continues_is_scored_again(scoring: Any, exchange: Any) -> None:
    of = scoring(run_loops={})
    same = {"run": "r", "response": calling("", '{"a": 1}')}
    first = exchange(received=NOW, **same)
    of.store.write(first, exchange(received=NOW + 1, **same))
    assert await of.after(100) == 1
    assert of.scores()["run_loops"] == ("scored", 1.0, 1.0, first.id)
    of.store.write(exchange(received=NOW + 200, **same))
    assert await of.after(300) == 1
    assert of.scores() == {"run_loops": ("scored", 0.0, 1.0, first.id)}
    assert of.store.sql("SELECT scored_on FROM runs") == [(first.id,)]


async def test_the_score_stands_on_the_first_call_of_an_arm(scoring: Any, exchange: Any) -> None:
    of = scoring(run_finished={})
    swap = {"experiment": "swap", "plan": "p", "arm": "candidate"}
    left = exchange(received=NOW + 1, run="r", outcome="client_gone", **swap)
    counts = exchange(received=NOW + 2, run="r", response=calling("Done."), **swap)
    of.store.write(exchange(received=NOW, run="r"), left, counts)
    await of.after(100)
    rows = of.store.sql("SELECT exchange_id, experiment, plan, arm, answered FROM scores WHERE subject = 'run'")
    assert rows == [(counts.id, "swap", "p", "candidate", NOW + 2.5)]


INCOMPLETE: list[tuple[str, list[dict[str, Any]], str | None]] = [
    ("each by itself", [{"pi": 0.5}, {"pi": 0.5}], SAMPLED),
    ("one call alone", [{"pi": 0.5}], SAMPLED),
    ("by run", [{"pi": 0.5, "unit": KEY}, {"pi": 0.5, "unit": KEY}], None),
    ("by run, at two rates", [{"pi": 0.5, "unit": KEY}, {"pi": 1.0, "unit": KEY}], TOGETHER),
    ("by conversation", [{"pi": 0.5, "unit": "r", "run_source": "conversation"}], None),
    ("by a conversation within", [{"pi": 0.5, "unit": "talk", "run_source": "x-gateway-run"}], SAMPLED),
]


@pytest.mark.parametrize(("calls", "need"), [case[1:] for case in INCOMPLETE], ids=[case[0] for case in INCOMPLETE])
async def test_a_run_that_may_lack_calls_has_no_score(
    scoring: Any, exchange: Any, calls: list[dict[str, Any]], need: str | None
) -> None:
    of = scoring(run_finished={})
    of.store.write(*(exchange(received=NOW + n, run="r", **fields) for n, fields in enumerate(calls)))
    await of.after(100)
    ((status, why, pi),) = of.store.sql("SELECT status, explanation, pi FROM scores WHERE subject = 'run'")
    assert pi == 0.5
    assert status == ("scored" if need is None else "not_applicable")
    assert need is None or need in why


async def test_the_users_last_message_counts(scoring: Any, exchange: Any) -> None:
    of = scoring(run_correction={}, run_tool_errors={})
    turns = [{"role": "user", "content": "Add the two."}, {"role": "assistant", "content": "It is 4."},
             {"role": "user", "content": "That's wrong."}]  # fmt: skip
    bodies = [orjson.dumps({"messages": turns[:n]}) for n in (1, 3)]
    of.store.write(*(exchange(received=NOW + n, run="r", request=body, response=calling(f"It is {4 + n}."))
                     for n, body in enumerate(bodies)))  # fmt: skip
    await of.after(100)
    assert of.scores()["run_correction"][:2] == ("scored", 0.0)
    assert of.scores()["run_tool_errors"][0] == "not_applicable"


async def test_a_share_is_drawn_by_run(scoring: Any, exchange: Any) -> None:
    of = scoring(run_finished={"share": 0.5})
    of.store.write(*(exchange(received=NOW, run=f"r{n}") for n in range(40)))
    assert await of.after(100) == 40
    rows = of.store.sql("SELECT COUNT(*), MIN(pi), MAX(pi) FROM scores WHERE subject = 'run'")
    assert rows[0][1:] == (0.5, 0.5)
    assert 5 < rows[0][0] < 35


async def test_one_consumer_scores_at_a_time(scoring: Any, exchange: Any) -> None:
    of = scoring(run_finished={})
    of.store.write(exchange(received=NOW, run="r"))
    of.store.run(lambda c: hold_lease(c, LEASE, "another", NOW, 1000.0))
    assert await of.after(100) == 0
    assert await of.after(1001) == 1


@pytest.mark.parametrize("before", [False, True], ids=["after the run", "before it"])
async def test_feedback_on_a_run_is_a_score_of_the_run(store: Any, exchange: Any, before: bool) -> None:
    given = Feedback("run:r", only_word_id("web", "run:r", "solved"), "web", NOW + 50, "solved", 1.0)
    calls = [exchange(received=NOW + n, run="r") for n in range(2)]
    for records in ((given,), calls) if before else (calls, (given,)):
        store.write(*records)
    assert store.sql("SELECT exchange_id, scorer, value FROM scores WHERE subject = 'run'") == [
        (calls[0].id, "feedback:solved", 1.0)
    ]
    store.write(Feedback("run:r", only_word_id("web", "run:r", "solved"), "web", NOW + 60, "solved", 0.0))
    assert store.sql("SELECT value FROM scores WHERE subject = 'run'") == [(0.0,)]


def test_feedback_on_another_caller_s_run_is_dropped(store: Any, exchange: Any) -> None:
    store.write(exchange(received=NOW, run="r"))
    result = store.write(Feedback("run:r", "w", "batch", NOW, "solved", 1.0))
    assert [met.foreign for met in result.met] == [True]
    assert store.sql("SELECT COUNT(*) FROM scores WHERE subject = 'run'") == [(0,)]


def test_feedback_finds_a_run_whose_name_is_a_digest(store: Any, exchange: Any) -> None:
    store.write(exchange(received=NOW, run=cluster_digest("r")))
    result = store.write(Feedback("run:r", "w", "web", NOW, "solved", 1.0))
    assert [met.exchange is not None for met in result.met] == [True]


class KeptSpans:
    """The spans of runs that were to be sent."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []

    def emit(self, run: dict[str, Any]) -> None:
        self.runs.append(run)

    def close(self) -> None:
        self.runs.clear()


async def test_the_span_of_a_run_is_sent_when_it_is_quiet(scoring: Any, exchange: Any) -> None:
    """The span is sent with its scores, and again with its later end if the run continues."""
    of, spans = scoring(run_finished={}), KeptSpans()
    of.work = RunScoring(of.worker, of.scorers, RunTiming(quiet_s=60.0), spans)
    of.store.write(exchange(received=NOW, run="r", response=calling("Done.")))
    await of.after(100)
    of.store.write(exchange(received=NOW + 200, run="r", response=calling("Done.")))
    await of.after(300)
    assert [(run["run_id"], run["ended"], len(run["scores"])) for run in spans.runs] == [
        (KEY, NOW + 0.5, 1), (KEY, NOW + 200.5, 1),
    ]  # fmt: skip


async def test_without_scorers_of_runs_spans_are_sent_and_scores_stay(scoring: Any, exchange: Any) -> None:
    of, spans = scoring(run_finished={}), KeptSpans()
    first = exchange(received=NOW, run="r", response=calling("Done."))
    of.store.write(first)
    await of.after(100)
    none = RunScorers({}, of.scorers.threads)
    of.work = RunScoring(of.worker, none, RunTiming(quiet_s=60.0), spans)
    of.store.write(exchange(received=NOW + 200, run="r"))
    assert await of.after(300) == 1
    assert await of.after(400) == 0
    assert [(run["calls_n"], len(run["scores"])) for run in spans.runs] == [(2, 1)]
    assert of.store.sql("SELECT scored_on FROM runs") == [(first.id,)]


async def test_a_runs_span_has_its_ids_and_no_content(collector: Any, otlp: Any) -> None:
    run = {
        "run_id": KEY, "run": "r", "run_source": "x-gateway-run", "caller": "web", "alias": "chat", "calls_n": 3,
        "failed": 0, "tokens": 9, "cost_usd": None, "arm": None, "began": NOW, "ended": NOW + 60.0,
        "scores": [{"scorer": "done", "value": 1.0, "label": None, "status": "scored", "created": NOW + 90.0}],
    }  # fmt: skip
    spans = RunSpans(OtelConfig(endpoint=collector.url))
    spans.emit(run)
    await asyncio.to_thread(spans.close)
    (span,) = collector.spans
    ids = run_ids(KEY, 1.0)
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id) == (
        f"{ids.trace:032x}",
        f"{ids.span:016x}",
        b"",
    )
    assert (span.name, span.end_time_unix_nano - span.start_time_unix_nano) == ("invoke_agent chat", 60 * 10**9)
    about = otlp.attributes(span)
    assert about["gen_ai.operation.name"] == "invoke_agent"
    assert (about["gateway.run_id"], about["gateway.calls"]) == (KEY, 3)
    assert "gateway.cost_usd" not in about
    (event,) = span.events
    assert event.name == "gen_ai.evaluation.result"
    assert otlp.attributes(event)["gen_ai.evaluation.score.value"] == 1.0
    await asyncio.to_thread(collector.spans.clear)
    nobody = RunSpans(OtelConfig(endpoint=collector.url, sample=0.0))
    nobody.emit(run)
    await asyncio.to_thread(nobody.close)
    assert collector.spans == []


class Failing:
    """Scorers that raise on some runs, as a mistake of ours on what callers sent would."""

    def __init__(self, scorers: RunScorers, name: str) -> None:
        self.scorers, self.implicit, self.threads = scorers.scorers, scorers.implicit, scorers.threads
        self._of, self._name = scorers, name

    async def results(self, found: Any) -> list[Any]:
        if not self._name or found.key == run_key("web", self._name):
            raise KeyError("planted")
        return await self._of.results(found)


async def test_a_run_that_cannot_be_scored_keeps_no_other_waiting(scoring: Any, exchange: Any) -> None:
    of = scoring(run_finished={})
    of.store.write(*(exchange(received=NOW, run=name, response=calling("Done.")) for name in ("bad", "good")))
    of.work = RunScoring(of.worker, Failing(of.scorers, "bad"), RunTiming(quiet_s=60.0))  # type: ignore[arg-type]
    assert await of.after(66) == 2
    assert len(of.scores()) == 1
    assert [await of.after(66) for _ in range(3)] == [1, 1, 0], "after three tries it is left without scores"
    assert len(of.scores()) == 1


async def test_scorers_that_fail_on_all_runs_have_failed(scoring: Any, exchange: Any) -> None:
    of = scoring(run_finished={})
    of.store.write(*(exchange(received=NOW, run=name, response=calling("Done.")) for name in ("a", "b", "c")))
    of.work = RunScoring(of.worker, Failing(of.scorers, ""), RunTiming(quiet_s=60.0))  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="planted"):
        await of.after(66)
