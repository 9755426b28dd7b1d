"""The bounded buffer before the stream: it never grows, never blocks, and its numbers add up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from fixtures.examples import examples
from fixtures.metric_samples import sample_sum
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.config.privacy import RedactionConfig
from gateway.core.backoff import Backoff
from gateway.core.errors import StreamDown
from gateway.core.exchange import Exchange, Feedback, Fields, Tally, Target, from_fields
from gateway.core.usage import UsageCell, UsageSums
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.recording.inline_media import without_data_urls
from gateway.proxy.recording.recorder import IDLE_TALLIES, WHOLE_S, Recorder, cell_of
from gateway.proxy.recording.redaction.redactor import Redactor
from gateway.proxy.recording.usage_ledger import MOST_CELLS


class Stream:
    """A stream server that can be down. ask: called before each append is taken."""

    def __init__(self) -> None:
        self.down = False
        self.appends: list[list[Fields]] = []
        self.ask: Callable[[], None] = lambda: None

    async def losses(self) -> int:
        if self.down:
            raise StreamDown("stream server: gone")
        return 0

    async def append(self, entries: list[Fields]) -> None:
        await asyncio.sleep(0)
        self.ask()
        if self.down:
            raise StreamDown("stream server: gone")
        self.appends.append(entries)

    @property
    def records(self) -> list[Any]:
        return [from_fields(entry) for batch in self.appends for entry in batch]

    @property
    def seqs(self) -> list[int]:
        return [r.seq for r in self.records if isinstance(r, Exchange)]

    @property
    def tallies(self) -> list[Tally]:
        return [r for r in self.records if isinstance(r, Tally)]


def a_recorder(stream: Stream, **options: Any) -> Recorder:
    return Recorder(stream, ProxyMetrics(CollectorRegistry()), **options)


def an_exchange(seq: int, size: int = 10, stratum: str = "default") -> Exchange:
    return Exchange(
        id=f"id-{seq}", received=1.0, caller="web", api="chat", alias="chat", target=Target("u", "m"), stream=False,
        request=b"q" * size, response=b"", status=200, outcome="ok", total_s=1.0, unit="x", u=0.5, pi=1.0,
        stratum=stratum, incarnation="i", seq=seq,
    )  # fmt: skip


def put(recorder: Recorder, size: int = 10, stratum: str = "default") -> bool:
    exchange = an_exchange(recorder.seq, size, stratum)
    recorder.saw(cell_of(exchange), None)
    return recorder.put(exchange)


def total(counts: Any, **wanted: str) -> int:
    return sum(c.n for c in counts if all(getattr(c, k) == v for k, v in wanted.items()))


class Running:
    """A recorder with its run() in progress."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    async def __aenter__(self) -> Recorder:
        self.task = asyncio.get_running_loop().create_task(self.recorder.run())
        return self.recorder

    async def __aexit__(self, *_: object) -> None:
        self.recorder.close()
        await asyncio.wait_for(self.task, 60)


QUICK = Backoff(first_s=0.001, most_s=0.002)


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.001)


async def test_all_exchanges_are_appended_in_order() -> None:
    stream = Stream()
    async with Running(a_recorder(stream)) as recorder:
        for _ in range(600):
            assert put(recorder)
    assert stream.seqs == list(range(1, 601))
    assert recorder.waiting == 0
    assert max(len(batch) for batch in stream.appends) <= 256


async def test_a_batch_is_bounded_in_bytes_too() -> None:
    stream = Stream()
    async with Running(a_recorder(stream, buffer_bytes=100_000_000)) as recorder:
        for _ in range(12):
            put(recorder, 1_000_000)
    sizes = [sum(len(v) for e in batch for v in e.values()) for batch in stream.appends]
    assert max(sizes) < 6_000_000


async def test_calls_that_come_together_are_carried_in_one_round_trip() -> None:
    stream = Stream()
    async with Running(a_recorder(stream, tally_s=60)) as recorder:
        await until(lambda: stream.tallies)
        for _ in range(50):
            put(recorder)
        await until(lambda: stream.seqs)
    assert [len(b) for b in stream.appends if b[0][b"kind"] == b"exchange"] == [50]


async def test_calls_during_an_append_are_batched_too() -> None:
    """A busy gateway would otherwise pay for a round trip for every few of them."""
    stream = Stream()
    recorder = a_recorder(stream, tally_s=60)

    async def calls() -> None:
        for _ in range(20):
            put(recorder)
            await asyncio.sleep(0)

    async with Running(recorder):
        await until(lambda: stream.tallies)
        began: list[asyncio.Task[None]] = []
        stream.ask = lambda: None if began else began.append(asyncio.get_running_loop().create_task(calls()))
        put(recorder)
        await until(lambda: len(stream.seqs) == 21)
    assert [len(b) for b in stream.appends if b[0][b"kind"] == b"exchange"] == [1, 20]


async def test_the_more_wait_the_more_are_encoded_at_once() -> None:
    """A loop that is busy gives the recorder few turns; it must not fall behind for it."""
    turns = []
    for waiting in (64, 64 * 64):
        recorder = a_recorder(Stream(), buffer_bytes=1 << 30)
        for _ in range(waiting):
            put(recorder)
        flushing = asyncio.get_running_loop().create_task(recorder.flush())
        n = 0
        while not flushing.done():
            n += 1
            await asyncio.sleep(0)
        turns.append(n / min(waiting, 256))
    assert turns[1] < 0.5 * turns[0]


async def test_a_full_buffer_drops_and_counts_the_newest() -> None:
    stream = Stream()
    recorder = a_recorder(stream, buffer_bytes=5000)
    taken = [put(recorder, 1000, "errors" if at % 2 else "default") for at in range(6)]
    assert taken == [True, True, False, False, False, False]
    assert 0.8 < recorder.fill <= 1.0
    tally = recorder.tally()
    assert total(tally.sampled) == 6
    assert total(tally.dropped, reason="buffer_full", stratum="errors") == 2
    assert total(tally.dropped, reason="buffer_full", stratum="default") == 2
    async with Running(recorder):
        pass
    assert stream.seqs == [1, 2], "what was dropped leaves no gap in the numbers"


ANSWER = b'{"model":"m-2026","system_fingerprint":"fp_1","choices":[{"index":0,"message":{"content":"%s"}}]}'


@pytest.mark.parametrize("content", ["full", "redacted", "metadata"])
@pytest.mark.parametrize("text", [b"hello", b"l" * 300_000], ids=["small", "large"])
async def test_each_record_names_the_answers_model(content: Any, text: bytes) -> None:
    """A redacted record has another form of the answer, without the fingerprint."""
    stream = Stream()
    async with Running(a_recorder(stream)) as recorder:
        if content != "full":
            recorder.redactors["web"] = Redactor(content, RedactionConfig())
        recorder.put(replace(an_exchange(recorder.seq), response=ANSWER % text))
    [e] = [each for each in stream.records if isinstance(each, Exchange)]
    assert (e.model_returned, e.fingerprint) == ("m-2026", "fp_1")
    assert (e.form, text in e.response) == ("assembled" if content == "redacted" else "raw", content != "metadata")


async def test_names_of_the_answer_are_redacted_too() -> None:
    stream, answer = Stream(), ANSWER.replace(b"m-2026", b"zoe@example.org")
    async with Running(a_recorder(stream)) as recorder:
        recorder.redactors["web"] = Redactor("redacted", RedactionConfig())
        recorder.put(replace(an_exchange(recorder.seq), response=answer % b"hello"))
    assert b"zoe" not in b"".join(value for batch in stream.appends for e in batch for value in e.values())


async def test_room_is_given_back_when_the_server_has_it() -> None:
    stream = Stream()
    async with Running(a_recorder(stream, buffer_bytes=5000)) as recorder:
        for n in range(20):
            assert put(recorder, 3000), n
            await until(lambda: recorder.waiting == 0)


async def test_recording_resumes_when_the_server_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = Stream()
    stream.down = True
    asked: list[int] = []
    stream.ask = lambda: asked.append(1)
    async with Running(a_recorder(stream, retry=QUICK)) as recorder:
        for _ in range(10):
            put(recorder)
        await until(lambda: len(asked) > 5)
        assert recorder.waiting == 10
        assert not recorder.reached
        stream.down = False
        await until(lambda: stream.seqs == list(range(1, 11)))
        assert recorder.reached
    output = [r.message for r in caplog.records if "stream server" in r.message]
    assert len(output) == 2, "said once when it goes, and once when it is back"
    assert "recording resumes" in output[1]


async def test_a_failed_append_is_repeated_completely() -> None:
    stream, fails = Stream(), iter([True, True])

    def ask() -> None:
        stream.down = next(fails, False)

    stream.ask = ask
    recorder = a_recorder(stream, tally_s=60, retry=QUICK)
    for _ in range(5):
        put(recorder)
    async with Running(recorder):
        pass
    assert stream.seqs == [1, 2, 3, 4, 5]
    assert total(recorder.tally().enqueued) == 5


async def test_tallies_are_appended_and_the_last_is_marked_final() -> None:
    stream = Stream()
    async with Running(a_recorder(stream, tally_s=0.01)) as recorder:
        put(recorder)
        await until(lambda: len(stream.tallies) >= 3)
    *before, last = stream.tallies
    assert not any(t.final for t in before)
    assert last.final
    assert last.incarnation == recorder.incarnation
    assert (total(last.seen), total(last.enqueued), last.last_seq) == (1, 1, 1)


async def test_a_tally_counts_only_what_precedes_it_in_the_stream() -> None:
    stream = Stream()
    async with Running(a_recorder(stream, tally_s=0.0, whole_s=0.0)) as recorder:
        for _ in range(300):
            put(recorder)
            await asyncio.sleep(0)
    before = 0
    for record in stream.records:
        if isinstance(record, Exchange):
            before = record.seq
        else:
            assert record.last_seq == before
            assert total(record.enqueued) == before


async def test_a_tally_has_the_cells_that_changed_and_now_and_then_all() -> None:
    stream, now = Stream(), [0.0]
    async with Running(a_recorder(stream, tally_s=0.0, whole_s=100.0, pace=lambda: now[0])) as recorder:
        put(recorder, stratum="one")
        await until(lambda: stream.tallies and total(stream.tallies[-1].enqueued) == 1)
        seen = len(stream.tallies)
        await until(lambda: len(stream.tallies) >= seen + 2)
        assert stream.tallies[-1].seen == (), "nothing has changed"
        put(recorder, stratum="two")
        await until(lambda: total(stream.tallies[-1].enqueued, stratum="two") == 1)
        assert total(stream.tallies[-1].enqueued, stratum="one") == 0
        now[0] = 101.0
        await until(lambda: len(stream.tallies[-1].seen) == 2)
    assert {c.stratum for c in stream.tallies[-1].seen} == {"one", "two"}, "the final one has all"


async def test_a_clock_that_is_set_back_stops_no_tally() -> None:
    """A consumer would take the process for dead, and its records for lost."""
    stream, now = Stream(), [1_790_000_000.0]
    async with Running(a_recorder(stream, tally_s=0.01, clock=lambda: now[0])):
        await until(lambda: len(stream.tallies) >= 2)
        now[0] -= 3600
        seen = len(stream.tallies)
        await until(lambda: len(stream.tallies) >= seen + 3)
    assert stream.tallies[-1].at == now[0]


async def test_an_idle_process_appends_every_fifteenth_tally() -> None:
    stream, now = Stream(), [0.0]
    async with Running(a_recorder(stream, pace=lambda: now[0])) as recorder:
        await until(lambda: stream.tallies)
        for second in range(1, 4 * IDLE_TALLIES + 1):
            now[0] = float(second)
            await looked(recorder)
            assert len(stream.tallies) == 1 + second // IDLE_TALLIES
    assert len(stream.tallies) == 6, "with the final one"


async def looked(recorder: Recorder) -> None:
    """Makes the recorder look at its counts, as it does by itself each second: feedback wakes it, and has no count."""
    recorder.feedback(Feedback("id", "f", "web", 1.0, "thumb"))
    await until(lambda: recorder.waiting == 0)


@pytest.mark.parametrize("idle_s", [1, 7, 14])
async def test_a_change_ends_the_idle_time_within_a_second(idle_s: int) -> None:
    """A call that is not sampled wakes nobody."""
    stream, now = Stream(), [0.0]
    async with Running(a_recorder(stream, pace=lambda: now[0])) as recorder:
        await until(lambda: stream.tallies)
        for second in range(1, idle_s):
            now[0] = float(second)
            await looked(recorder)
        assert len(stream.tallies) == 1
        recorder.saw(("default", "chat", "u/m", "", ""), "not_drawn")
        now[0] = float(idle_s)
        await looked(recorder)
        assert [total(each.seen) for each in stream.tallies] == [0, 1]


async def test_an_idle_process_notices_an_outage_and_its_end() -> None:
    """Health, `gateway_stream_up` and the alert must not wait for the next tally."""
    stream, now = Stream(), [0.0]
    async with Running(a_recorder(stream, pace=lambda: now[0], retry=QUICK)) as recorder:
        await until(lambda: stream.tallies)
        stream.down, now[0] = True, 1.0
        await until(lambda: not recorder.reached)
        stream.down = False
        await until(lambda: recorder.reached)
        assert len(stream.tallies) == 2


class WaitingUsage:
    """Usage of calls that have no record, as it waits to be counted."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.calls = 0

    def fold(self) -> None:
        if self.calls:
            cell = UsageCell("2026-09-21", "k", "", "", "", "", "chat", "u", "m", "", "", "")
            self.recorder.usage.add(cell, UsageSums(self.calls))
            self.calls = 0


async def test_usage_without_records_ends_the_idle_time() -> None:
    """Calls for embeddings have no record and no count but their usage, which a killed process must not keep long."""
    stream, now, metrics = Stream(), [0.0], ProxyMetrics(CollectorRegistry())
    recorder = Recorder(stream, metrics, pace=lambda: now[0])
    waiting = WaitingUsage(recorder)
    metrics.counts.batches.add(waiting)
    async with Running(recorder):
        await until(lambda: stream.tallies)
        waiting.calls = 3
        now[0] = 1.0
        await looked(recorder)
        assert [count.sums.calls for tally in stream.tallies for count in tally.usage] == [3]


async def test_the_first_record_after_an_idle_time_follows_a_tally() -> None:
    """A gap is then known to begin after the tally, not up to fifteen seconds before."""
    stream, now = Stream(), [0.0]
    async with Running(a_recorder(stream, pace=lambda: now[0])) as recorder:
        await until(lambda: stream.tallies)
        now[0] = 9.0
        put(recorder)
        await until(lambda: stream.seqs)
        assert [type(each).__name__ for each in stream.records] == ["Tally", "Tally", "Exchange"]


async def test_much_usage_that_is_due_again_ends_the_idle_time() -> None:
    """A tally stays small, and each sum is appended again within a round, however many there are."""
    stream, now, cells, round_s = Stream(), [0.0], 12_000, 60
    recorder = a_recorder(stream, whole_s=round_s, pace=lambda: now[0], clock=lambda: 1_790_000_000.25)
    for n in range(cells):
        recorder.usage.add(UsageCell("2026-09-21", f"k{n}", "", "", "", "", "chat", "u", "m", "", "", ""), UsageSums(1))
    async with Running(recorder):
        for second in range(2 * round_s + IDLE_TALLIES):
            now[0] = float(second)
            await looked(recorder)
        with_usage = [tally.usage for tally in stream.tallies if tally.usage]
    assert sum(map(len, with_usage)) >= 2 * cells
    assert max(map(len, with_usage)) <= 2 * MOST_CELLS
    assert len(with_usage) < round_s / 2


async def test_a_change_that_could_not_be_appended_is_in_the_next_tally() -> None:
    stream = Stream()
    async with Running(a_recorder(stream, tally_s=0.0, whole_s=1e9, retry=QUICK)) as recorder:
        await until(lambda: stream.tallies)
        stream.down = True
        recorder.saw(("default", "chat", "u/m", "", ""), "not_drawn")
        await until(lambda: not recorder.reached)
        stream.down = False
        await until(lambda: total(stream.tallies[-1].seen) == 1)


async def test_an_idle_worker_with_a_thousand_aliases_writes_little() -> None:
    """Cumulative counts of 1 000 aliases at two targets each, once a second: 40 GB a day if each tally had all."""
    stream = Stream()
    async with Running(a_recorder(stream, tally_s=0.0, clock=lambda: 1_790_000_000.25)) as recorder:
        for i in range(2000):
            recorder.saw(("default", f"team-alias-{i // 2}", f"upstream-{i % 500}/org/model-{i}", "", ""), "not_drawn")
        await until(lambda: len(stream.tallies) > 3)
        sizes = [sum(len(v) for e in batch for v in e.values()) for batch in stream.appends]
    whole, idle = max(sizes), sizes[-1]
    assert len(max(stream.tallies, key=lambda t: len(t.seen)).seen) == 2000
    assert 86_400 * idle + 86_400 / WHOLE_S * whole < 200e6, (idle, whole)


async def test_waiting_records_count_as_lost_when_the_process_gives_up() -> None:
    stream = Stream()
    recorder = a_recorder(stream)
    for _ in range(3):
        put(recorder)
    recorder.feedback(Feedback("id", "f", "web", 1.0, "thumb"))
    recorder.give_up()
    tally = recorder.tally()
    assert (total(tally.sampled), total(tally.dropped, reason="shutdown"), recorder.waiting) == (3, 3, 0)


async def test_feedback_uses_the_buffer_but_is_not_an_exchange() -> None:
    stream = Stream()
    recorder = a_recorder(stream, buffer_bytes=2 * 1024)
    assert [recorder.feedback(Feedback("id", f"f{n}", "web", 1.0, "thumb", value=1.0)) for n in range(3)] == [
        True, True, False,
    ]  # fmt: skip
    async with Running(recorder):
        pass
    assert [r.feedback_id for r in stream.records if isinstance(r, Feedback)] == ["f0", "f1"]
    assert total(recorder.tally().sampled) == 0


async def test_images_of_a_large_request_are_removed_on_a_thread() -> None:
    """The event loop continues meanwhile. A server that is down does not keep the memory reserved."""
    threads = []

    def watched(body: bytes, cap_bytes: int) -> tuple[bytes, bool]:
        threads.append(threading.current_thread())
        return without_data_urls(body, cap_bytes)

    stream = Stream()
    recorder = a_recorder(stream, buffer_bytes=16_000_000, shrink=watched)
    image = b"Ab3+" * 2_500_000
    stream.down = True
    async with Running(recorder):
        large = replace(an_exchange(recorder.seq), request=b'{"url": "data:image/png;base64,%b"}' % image)
        assert recorder.put(large)
        assert not recorder.put(replace(large, seq=recorder.seq)), "there is room for one of them"
        await until(lambda: recorder.fill < 0.01)
        assert recorder.put(replace(large, seq=recorder.seq))
        stream.down = False
    output = [r for r in stream.records if isinstance(r, Exchange)]
    name = sha256(image).hexdigest()
    assert [r.request for r in output] == [
        b'{"url": "data:image/png;base64,sha256=%b;bytes=7500000"}' % name.encode()
    ] * 2
    assert {r.truncated for r in output} == {False}
    assert len(threads) == 2
    assert threading.main_thread() not in threads


async def test_a_large_request_without_images_is_cut_at_the_cap() -> None:
    stream = Stream()
    recorder = a_recorder(stream)
    recorder.cap_bytes = 1000
    async with Running(recorder):
        assert put(recorder, 300_000)
    (cut,) = (r for r in stream.records if isinstance(r, Exchange))
    assert (len(cut.request), cut.truncated) == (1000, True)


async def test_images_are_removed_before_redaction() -> None:
    stream = Stream()
    recorder = a_recorder(stream)
    recorder.redactors = {"web": Redactor("redacted", RedactionConfig())}
    body = b'{"messages": [{"role": "user", "content": "ada@example.org data:image/png;base64,%b"}]}' % (
        b"Ab3+" * 99_999
    )
    async with Running(recorder):
        assert recorder.put(replace(an_exchange(recorder.seq), request=body, response=b"{}"))
    (kept,) = (r for r in stream.records if isinstance(r, Exchange))
    assert b"[email] data:image/png;base64,sha256=" in kept.request
    assert len(kept.request) < 300


async def test_two_processes_are_distinguished() -> None:
    assert a_recorder(Stream()).incarnation != a_recorder(Stream()).incarnation


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 3000)),
        st.tuples(st.just("unsampled"), st.sampled_from(["not_drawn", "opted_out"])),
        st.tuples(st.just("feedback"), st.none()),
        st.tuples(st.just("flush"), st.none()),
        st.tuples(st.just("fail"), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=examples(200), deadline=None)
@given(steps=steps, buffer=st.integers(1000, 20_000))
def test_in_any_order_of_events_the_counts_add_up(steps: Any, buffer: int) -> None:
    async def play() -> None:
        stream = Stream()
        recorder = a_recorder(stream, buffer_bytes=buffer, retry=QUICK)
        taken: list[Exchange] = []
        for what, value in steps:
            await _step(recorder, stream, taken, what, value)
            _check(recorder, stream, taken, buffer)
        stream.down = False
        while recorder.waiting:
            await recorder.flush()
        _check(recorder, stream, taken, buffer)
        assert recorder.fill == 0
        tally = recorder.tally()
        assert total(tally.sampled) == total(tally.enqueued) + total(tally.dropped)

    asyncio.run(play())


async def _step(recorder: Recorder, stream: Stream, taken: list[Exchange], what: str, value: Any) -> None:
    if what == "put":
        exchange = an_exchange(recorder.seq, value, f"s{value % 2}")
        recorder.saw(cell_of(exchange), None)
        if recorder.put(exchange):
            taken.append(exchange)
    elif what == "unsampled":
        recorder.saw(("s0", "chat", "u/m", "", ""), value)
    elif what == "feedback":
        recorder.feedback(Feedback("id", "f", "web", 1.0, "thumb"))
    elif recorder.waiting:
        stream.down = what == "fail"
        await recorder.flush()


def _check(recorder: Recorder, stream: Stream, taken: list[Exchange], buffer: int) -> None:
    tally = recorder.tally()
    waiting = taken[len(stream.seqs) :]
    for stratum in ("s0", "s1"):
        of = {"stratum": stratum}
        assert total(tally.seen, **of) == total(tally.unsampled, **of) + total(tally.sampled, **of)
        held = sum(w.stratum == stratum for w in waiting)
        assert total(tally.sampled, **of) == total(tally.enqueued, **of) + total(tally.dropped, **of) + held
    assert stream.seqs == list(range(1, len(stream.seqs) + 1))
    assert recorder.seq == len(taken) + 1
    assert sum(len(w.request) for w in waiting) <= buffer
    assert 0 <= recorder.fill <= 1


async def test_the_metrics_say_what_the_tally_says() -> None:
    registry = CollectorRegistry()
    metrics = ProxyMetrics(registry)
    recorder = Recorder(Stream(), metrics, buffer_bytes=2500)
    put(recorder)
    put(recorder, 2000, "errors")
    recorder.saw(("default", "chat", "u/m", "", ""), "not_drawn")
    await recorder.flush()
    metrics.counts.flush()
    for name, labels, value in (
        ("gateway_eval_seen_total", {"stratum": "default"}, 2),
        ("gateway_eval_unsampled_total", {"reason": "not_drawn"}, 1),
        ("gateway_eval_sampled_total", {"stratum": "default"}, 1),
        ("gateway_eval_enqueued_total", {"stratum": "default"}, 1),
        ("gateway_eval_dropped_total", {"stratum": "errors", "reason": "buffer_full"}, 1),
    ):
        assert sample_sum(registry, name, **labels) == value, name
