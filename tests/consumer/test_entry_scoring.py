"""Every entry is read or its reason is known; one bad entry stops no other."""

from __future__ import annotations

import orjson
import pytest

from gateway.config.scorers import ScorerConfig
from gateway.consumer.entry_scoring import EntryScorer, batch_of
from gateway.core.exchange import Feedback, Target
from gateway.core.prices import Price, Prices
from gateway.core.randomization import draw
from gateway.core.score import Score
from gateway.scoring.registry import DEFAULTS, RegisteredScorer, build
from gateway.scoring.threads import ScoringThreads
from gateway.stream import StreamEntry
from gateway.stream.types import exchange_in


@pytest.fixture
def judge(stated_scorer):
    """Builds an EntryScorer; without arguments, of the scorer `stated`."""
    threads = ScoringThreads()
    yield lambda **scorers: EntryScorer(scorers or {"stated": stated_scorer()}, threads)
    threads.close()


async def test_records_become_a_batch(judge, stated_scorer, exchange, tally):
    one = exchange("1")
    word = Feedback(one.id, "f", "web", 1.0, "thumb", 1.0)
    entries = [StreamEntry(f"{i}-0", r.to_fields()) for i, r in enumerate((one, tally([one]), word))]
    found = await judge().read(entries)
    batch = batch_of({"stated": stated_scorer()}, found.read)
    assert [j.exchange for j in batch.judged] == [one]
    assert [r.status for r in batch.judged[0].results] == ["scored"]
    assert [(entry, t.last_seq) for entry, t in batch.tallies] == [("1-0", 1)]
    assert list(batch.feedback) == [word]


async def test_an_answer_that_breaks_its_reader_is_unreadable(judge, exchange):
    odd = exchange(form="assembled", response=b'{"tool_calls": [{"what": 1}]}')
    found = await judge().read([StreamEntry("1-0", odd.to_fields()), StreamEntry("2-0", exchange("1").to_fields())])
    assert [r.entry.id for r in found.read] == ["2-0"]
    (bad,) = found.unreadable
    assert bad.entry.id == "1-0"
    assert "TypeError" in bad.reason
    assert exchange_in(bad.entry) == odd  # its loss is accounted for


async def test_an_exchange_costs_what_the_model_that_answered_costs(stated_scorer, exchange):
    seen = []

    class Curious(type(stated_scorer().scorer)):
        async def score(self, subject):
            seen.append(subject.cost_usd)
            return Score(1.0)

    registered = stated_scorer()
    scorers = {"stated": type(registered)(Curious(), 1.0, 10.0, "c1")}
    threads = ScoringThreads()
    judge = EntryScorer(scorers, threads, Prices({"local/small": Price(2.0, 8.0)}))
    strange = exchange(target=Target("local", "who"))
    found = await judge.read([StreamEntry("1-0", exchange().to_fields()), StreamEntry("2-0", strange.to_fields())])
    threads.close()
    assert seen == [pytest.approx((3 * 2.0 + 5 * 8.0) / 1e6), None]
    assert [r.judged.cost_usd for r in found.read] == seen


def test_an_entry_that_is_not_an_exchange_has_none(tally, exchange):
    assert exchange_in(StreamEntry("1-0", {b"kind": b"junk"})) is None
    assert exchange_in(StreamEntry("1-0", tally([exchange()]).to_fields())) is None


async def test_a_share_is_drawn_by_the_unit_in_a_domain_of_the_scorer(judge, stated_scorer, exchange):
    exchanges = [exchange("1") for _ in range(40)]
    found = await judge(half=stated_scorer(name="half", share=0.5)).read(
        [StreamEntry(f"{i}-0", e.to_fields()) for i, e in enumerate(exchanges)]
    )
    seen = [bool(r.judged.results) for r in found.read]
    assert seen == [draw("score:half", e.unit) < 0.5 for e in exchanges]


@pytest.mark.parametrize(
    ("request_body", "expected"),
    [
        (b'{"metadata": {"reference": "42"}}', "42"),
        (b'{"metadata": {"reference": 42}}', None),
        (b'{"metadata": []}', None),
        (b"[1]", None),
        (b"not json", None),
    ],
)
async def test_the_client_may_give_the_right_answer(judge, stated_scorer, exchange, request_body, expected):
    seen = []

    class Curious(type(stated_scorer().scorer)):
        async def score(self, subject):
            seen.append((subject.reference, dict(subject.request)))
            return Score(1.0)

    registered = stated_scorer()
    curious = type(registered)(Curious(), 1.0, 10.0, "c1")
    for given in (None, "by header"):
        await judge(stated=curious).read(
            [StreamEntry("1-0", exchange(request=request_body, reference=given).to_fields())]
        )
    assert [reference for reference, _ in seen] == [expected, "by header"]
    assert seen[0][1] == (orjson.loads(request_body) if request_body[:1] == b"{" else {})


async def test_scores_do_not_depend_on_what_is_scored_together(exchange):
    scorers = build({name: ScorerConfig() for name in DEFAULTS})
    prose = [" ".join(f"{word}{i}" for i in range(30)) for word in ("one", "two\xa0", "three\n")]
    texts = [
        *prose,
        *(f"{text} {text}" for text in prose),
        "so it goes " * 40,
        "天地玄黄" * 50,
        "",
        " ",
        "{",
        "a b c d",
    ]
    bodies = [orjson.dumps({"choices": [{"message": {"content": t}, "finish_reason": "stop"}]}) for t in texts]
    entries = [StreamEntry(f"{i}-0", exchange(response=b, api="chat").to_fields()) for i, b in enumerate(bodies, 1)]
    threads = ScoringThreads()
    scoring = EntryScorer(scorers, threads)
    together = (await scoring.read(entries)).read
    alone = [(await scoring.read([entry])).read[0] for entry in entries]
    threads.close()
    assert [_scores(r) for r in together] == [_scores(r) for r in alone]
    assert {len(_scores(r)) for r in together} == {len(DEFAULTS)}


def _scores(read):
    """The scores without the time that each took."""
    return [r._replace(seconds=0.0) for r in read.judged.results]


async def test_scores_do_not_depend_on_the_size_of_the_request(judge, exchange):
    """Only some members of a large request are decoded; a plug-in gets a dict all the same."""
    seen = []

    class Curious:
        name, version, kind, heavy, direction, bounds = "curious", "1", "code", False, "higher", (0.0, 1.0)

        async def score(self, subject):
            seen.append(type(subject.request))
            return Score(1.0)

    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    offered = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    answer = {"role": "assistant", "content": '{"a": 1}'}
    response = orjson.dumps({"choices": [{"index": 0, "message": answer, "finish_reason": "stop"}]})
    entries = []
    for at, size in enumerate((10, 300_000)):
        asked = {"model": "m", "response_format": form, "tools": offered, "tool_choice": "required"}
        asked["messages"] = [{"role": "user", "content": "x" * size}]
        made = exchange(str(at), request=orjson.dumps(asked), response=response)
        entries.append(StreamEntry(f"{at + 1}-0", made.to_fields()))
    ours = build({name: ScorerConfig() for name in DEFAULTS})
    for scorers in (ours, {**ours, "curious": RegisteredScorer(Curious(), 1.0, 10.0, "c1")}):
        small, large = [r.judged for r in (await judge(**scorers).read(entries)).read]
        assert [(r.status, r.score) for r in small.results] == [(r.status, r.score) for r in large.results]
        assert sum(r.status == "scored" for r in large.results) >= 4
    assert seen == [dict, dict]


async def test_a_call_kept_for_its_run_is_scored_at_its_own_rules_rate(judge, stated_scorer, exchange):
    sent = [exchange(u=u, pi=0.5, score_rate=rate) for u, rate in ((0.05, 0.1), (0.1, 0.1), (0.4, 0.5), (0.4, None))]
    entries = [StreamEntry(f"{i}-0", each.to_fields()) for i, each in enumerate(sent)]
    found = await judge(half=stated_scorer(name="half", share=1.0)).read(entries)
    assert [[r.pi for r in read.judged.results] for read in found.read] == [[pytest.approx(0.2)], [], [1.0], [1.0]]
