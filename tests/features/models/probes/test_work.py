"""Probes through a real gateway before doubles: a swapped model is noticed, noise is not, the budget holds."""

from __future__ import annotations

from typing import Any

from gateway.config.loading import parse
from gateway.fake import FakeUpstream
from gateway.fake.answers import FakeAnswer
from gateway.fake.faults import Fault
from gateway.features.models.notice_source import ModelNotices
from gateway.features.models.probes.asking import NAME
from gateway.features.models.probes.comparison import LEAST_ROUNDS
from gateway.features.models.probes.model import MODES
from gateway.features.models.probes.work import probes_task
from gateway.features.models.rows import newest_probe_rounds, probe_rounds_of, spent_on_probes
from gateway.features.task import TaskContext
from gateway.scoring.registry import BuiltScorers
from gateway.store.events import events_since
from tests.features.models.probes.conftest import BEGAN, DAY_S, QUESTIONS, Speaker

CALLS = 2 * len(MODES) * len(QUESTIONS)


async def test_a_swapped_model_is_an_event_and_noise_is_none(deployed: Any) -> None:
    """Two targets of one name: behind one, another model answers from the sixth day on; the other's answers at
    temperature 0 are random in four of ten."""
    async with FakeUpstream() as east, FakeUpstream() as west:
        east.replies(Speaker("old"))
        west.replies(Speaker("west", noise=0.4))
        of = await deployed({"east": east, "west": west})
        before = await of.days(5)
        assert [(done.target, done.result) for done in before] == [
            (target, "baseline" if day < 3 else "same") for day in range(5) for target in ("east/m", "west/m")
        ]
        assert {done.calls for done in before} == {CALLS}
        sent = east.calls[0]
        assert sent.json["temperature"] == 0
        assert sent.json["max_tokens"] == 128
        east.replies(Speaker("new"))
        after = await of.days(2)
        results = {target: [done.result for done in after if done.target == target] for target in ("east/m", "west/m")}
        assert results == {"east/m": ["suspected", "changed", "baseline"], "west/m": ["same", "same"]}
    events = await of.store.look(lambda connection: events_since(connection, 0.0, 10))
    assert [(event.kind, event.subject) for event in events] == [("model", "chat east/m")]
    assert events[0].at == BEGAN + 5 * DAY_S + 3600.0, "it is asked again after an hour"
    absent: Any = None
    context = TaskContext(of.config, of.store, absent, absent, BuiltScorers({}, {}), absent, "c")
    [notice] = await ModelNotices(context).look(events[0].at + 60)
    assert (notice.severity, notice.title) == ("warning", "chat east/m answers the probes otherwise")
    assert "agree to 0" in notice.text
    stored = await of.store.look(lambda connection: probe_rounds_of(connection, "east/m"))
    assert "old" not in stored[0].to_json(), "no text is kept"


async def test_a_round_that_could_exceed_the_budget_waits(deployed: Any) -> None:
    """A round of one target costs 0.007 USD at most; the next month has a budget of its own."""
    async with FakeUpstream() as east:
        east.replies(Speaker("old"))
        of = await deployed({"east": east}, usd_per_month=0.01)
        done = await of.days(12)
        [gap] = {round.text for round in done if round.result == "gap"}
        spent = await of.store.look(lambda connection: spent_on_probes(connection, BEGAN))
        assert 0 < spent <= 0.01
        assert gap.startswith("usd_per_month: a round may cost")
        assert len(east.calls) % CALLS == 0, "no round is begun and broken off"
        of.clock[0] = BEGAN + 31 * DAY_S
        assert (await of.keeper.ask_next()).calls == CALLS


async def test_a_key_that_may_not_choose_a_target_is_a_gap(deployed: Any) -> None:
    async with FakeUpstream() as east, FakeUpstream() as west:
        of = await deployed({"east": east, "west": west}, key={})
        done = await of.keeper.ask_next()
        assert (done.result, done.calls, east.calls) == ("gap", 1, [])
        assert "may not choose a target" in done.text


async def test_a_double_that_is_down_is_a_named_gap(deployed: Any) -> None:
    """The next round comes after an hour, and the past before the gap still counts."""
    async with FakeUpstream() as east:
        east.replies(Speaker("old"))
        of = await deployed({"east": east})
        assert [done.result for done in await of.days(3)] == ["baseline"] * 3
        east.always(Fault.status(500))
        gap = await of.keeper.ask_next()
        assert (gap.result, gap.text, gap.calls) == ("gap", "east/m answered with HTTP 502", 3)
        assert await of.keeper.ask_next() is None
        east.always(None)
        of.clock[0] += 3600.0
        assert (await of.keeper.ask_next()).result == "same"
        newest = await of.store.look(newest_probe_rounds)
        assert newest["east/m"].result == "same"


async def test_an_upstream_may_reject_members_of_requests(deployed: Any) -> None:
    """Temperature 0, log-probabilities and `max_tokens`: answers as served are compared alone."""

    def strict(received: Any) -> Any:

        rejected = [name for name in ("logprobs", "max_tokens", "temperature") if name in received.json]
        if not rejected:
            return Speaker("old")(received)
        hint = " use 'max_completion_tokens' instead" if rejected[0] == "max_tokens" else ""
        error = f'{{"error": {{"message": "unsupported: {rejected[0]}{hint}", "param": "{rejected[0]}"}}}}'
        return FakeAnswer(error.encode(), status=400)

    async with FakeUpstream() as east:
        east.replies(strict)
        of = await deployed({"east": east})
        [done, *_] = await of.days(1)
        assert (done.result, done.text) == ("baseline", f"round 1 of {LEAST_ROUNDS} of the baseline")
        assert {answer.mode for answer in done.answers} == {"served"}
        assert done.calls == CALLS // 2 + 3


def test_a_config_without_probes_needs_no_task() -> None:
    config = parse("open: true\nupstreams: {a: {kind: fake}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}\n")
    absent: Any = None
    assert probes_task(TaskContext(config, absent, absent, absent, BuiltScorers({}, {}), absent, "c")) is None
    assert NAME == "model probes"
