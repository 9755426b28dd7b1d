"""--reuse-control: what recorded traffic already answered is not asked, and not paid, again."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.core.completion import completion_of
from gateway.core.errors import CannotRun
from gateway.core.exchange import Target, Usage, new_id, run_key
from gateway.features.replay.datasets.datasets import item_of, scan
from gateway.features.replay.datasets.traffic_snapshot import freeze
from gateway.features.replay.options import ReplayOptions
from gateway.features.replay.replay import replay
from gateway.features.replay.results.findings import TURNS
from gateway.features.replay.rows import LogSelection
from gateway.features.replay.sending.asking import ReplayRequest, RequestPacing
from gateway.features.replay.sending.logged_answers import logged_answer
from gateway.features.targets import ReplayTarget, RequestSettings
from gateway.scoring.golden import PLAIN_EXCHANGE
from gateway.store import engine
from gateway.store.location import default_url
from gateway.store.missing_scores import StoredExchange
from gateway.store.rows import ScoredExchange
from gateway.store.write import ScoredBatch, write

BODY = {"messages": [{"role": "user", "content": "question 1"}], "temperature": 0.5}
ANSWER = {"choices": [{"index": 0, "message": {"content": "answer 1"}, "finish_reason": "stop"}],
          "usage": {"prompt_tokens": 3, "completion_tokens": 5}}  # fmt: skip
ONE = ReplayTarget("one/m", "one")


def recorded(**fields):
    plain = {"id": "e1", "alias": "one", "target": Target("one", "m"), "response": orjson.dumps(ANSWER),
             "request": orjson.dumps({"model": "m", **BODY, "stream": False}), "total_s": 0.7}  # fmt: skip
    return StoredExchange(replace(PLAIN_EXCHANGE, **{**plain, **fields}), 0.25)


def asked(target=ONE, repeat=1, **body):
    item = item_of({"request": {**BODY, **body}, "id": "e1"}, 1).item
    return ReplayRequest("r", item, target, repeat, {})


def test_a_recorded_answer_fits_its_own_request():
    answer = logged_answer(asked(), recorded())
    assert (answer.outcome, answer.text, answer.seconds, answer.cost_usd) == ("ok", "answer 1", 0.7, 0.25)
    assert (answer.input_tokens, answer.output_tokens, answer.exchange_id) == (3, 5, "e1")
    assert orjson.loads(answer.response) == ANSWER
    alias = ReplayTarget("one", "one")
    assert logged_answer(asked(alias), recorded(target=Target("other", "x"))) is not None, "with any target's answer"
    assert logged_answer(asked(seed=7), recorded()) is not None, "a replay adds a seed"


@pytest.mark.parametrize(
    ("target", "body", "fields"),
    [
        (ReplayTarget("two/m", "two"), {}, {}),
        (ONE, {"temperature": 0.0}, {}),
        (ONE, {}, {"api": "completions"}),
        (ONE, {}, {"outcome": "cut"}),
        (ONE, {}, {"status": 500}),
        (ONE, {}, {"truncated": True}),
        (ONE, {}, {"role": "shadow"}),
        (ONE, {}, {"request": b"[1"}),
        (ONE, {}, {"response": b'{"error": {"message": "no"}}'}),
    ],
)
def test_an_answer_to_anything_else_does_not(target, body, fields):
    assert logged_answer(asked(target, **body), recorded(**fields)) is None


def test_a_stream_becomes_the_body_that_scorers_read():
    lines = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in ("answer", " 1")]
    lines.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    sse = b"".join(b"data: " + orjson.dumps(line) + b"\n\n" for line in lines) + b"data: [DONE]\n\n"
    answer = logged_answer(asked(), recorded(stream=True, response=sse, usage=Usage(3, 5)))
    assert answer.text == "answer 1"
    again = completion_of(replace(PLAIN_EXCHANGE, response=answer.response))
    assert (again.text, again.finish_reason, again.usage) == ("answer 1", "stop", Usage(3, 5))


@pytest.fixture
def traffic(place, tmp_path):
    """Thirty calls of `one` in the store, each with its right answer."""
    url = place.config.store.url or default_url(place.data)
    place.data.mkdir(parents=True, exist_ok=True)
    opened, judged = engine.writer(url), []
    for i in range(30):
        body = {"model": "m", "messages": [{"role": "user", "content": f"question {i}"}]}
        answer = {**ANSWER, "choices": [{"index": 0, "message": {"content": f"answer {i}"}, "finish_reason": "stop"}]}
        its = {"id": new_id(), "received": 1e9 + i, "alias": "one", "target": Target("one", "m"), "seq": i}
        its |= {"request": orjson.dumps(body), "response": orjson.dumps(answer), "reference": f"answer {i}"}
        e = replace(PLAIN_EXCHANGE, **its)
        judged.append(ScoredExchange(replace(e, unit=e.id), completion_of(e), [], 0.25))
    with opened.begin() as connection:
        write(connection, ScoredBatch({}, judged), 1e9)
    opened.dispose()
    path = tmp_path / "log.jsonl"
    freeze(url, LogSelection("one", None, 100), path)
    return path


async def test_the_control_is_not_asked_where_the_log_has_its_answer(named, served, traffic):
    said = []
    options = ReplayOptions(("one", "two"), ("exact",), reuse_control=True, pace=RequestPacing(budget_usd=1.0))
    found = await replay(scan(traffic), options, named, said.append, lambda _: None)
    assert [r.json["model"] for r in served.calls] == ["two"] * 30
    assert "30 answers of one were taken from recorded calls by this run" in said
    [report] = found.reports
    assert report.primary.a.value == 1.0, "every recorded answer is right"
    assert not found.progress.over_budget, "what was recorded is not paid again: 30 calls of $0.25"
    assert any("recorded calls" in limit for limit in report.limits)
    again = await replay(scan(traffic), options, named, said.append, lambda _: None)
    assert (again.progress.done, again.reports[0].primary.a.value) == (0, 1.0)
    asked_again = replace(options, reuse_control=False)
    assert (await replay(scan(traffic), asked_again, named, said.append, lambda _: None)).reports[0].plan != report.plan
    assert sum(r.json["model"] == "one" for r in served.calls) == 30


async def test_reuse_that_is_impossible_fails_before_any_request(named, served, traffic, questions):
    options = ReplayOptions(("one", "two"), ("exact",), reuse_control=True)
    changed = replace(options, settings=RequestSettings((("temperature", 0),)))
    with pytest.raises(CannotRun, match="--set and --system change the request"):
        await replay(scan(traffic), changed, named, print, lambda _: None)
    own = replace(options, targets=("one,temperature=0", "two"))
    with pytest.raises(CannotRun, match="settings of its own"):
        await replay(scan(traffic), own, named, print, lambda _: None)
    with pytest.raises(CannotRun, match="has no recorded calls"):
        await replay(scan(questions(3)), options, named, print, lambda _: None)
    assert not served.calls


async def test_turns_of_runs_are_compared_by_run(named, served, traffic, tmp_path):
    """Ten runs of three turns: the rows are turns, the intervals are over runs, and the report says what that shows."""
    rows = [orjson.loads(line) for line in traffic.read_bytes().splitlines()]
    for n, row in enumerate(rows):
        row["cluster"] = run_key("web", f"task {n // 3}")
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    found = await replay(scan(path), ReplayOptions(("one", "two"), ("exact",)), named, print, lambda _: None)
    [report] = found.reports
    assert (report.primary.pairs, report.primary.effective_n) == (30, 10.0)
    assert TURNS in report.limits
