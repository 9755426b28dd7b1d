"""Requests that are appended whole, and those that are appended as deltas of the previous one in the run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures.run_histories import growing

from gateway.core.exchange import DELTA, Exchange, Fields, Target, new_id
from gateway.core.request_delta import BaseReference, RequestOutline
from gateway.proxy.recording.run_histories import BASE_S, RunHistories

REQUESTS = growing(6, 60_000)


def call(n: int, **fields: Any) -> Exchange:
    made = Exchange(
        id=new_id(), received=1.0, caller="web", api="chat", alias="chat", target=Target("u", "m"), stream=False,
        request=REQUESTS[n], response=b"", status=200, outcome="ok", total_s=1.0, unit="x", u=0.5, pi=1.0,
        stratum="default", incarnation="i", seq=n, run="r", run_source="x-gateway-run",
    )  # fmt: skip
    return replace(made, **fields)


def base_of(fields: Fields) -> str | None:
    return BaseReference.read(fields).id if fields[b"kind"] == DELTA else None


def test_each_call_refers_to_the_previous_one() -> None:
    histories, calls = RunHistories(), [call(n) for n in range(1, 5)]
    found = [histories.fields(each) for each in calls]
    assert [base_of(fields) for fields in found] == [None, *[each.id for each in calls[:-1]]]
    whole = calls[0].request
    for each, fields in zip(calls[1:], found[1:], strict=True):
        whole = BaseReference.read(fields).apply(fields, whole)[b"req"]
        assert whole == each.request


@pytest.mark.parametrize(
    "other",
    [{"caller": "batch"}, {"run": "s"}, {"run": None}, {"role": "shadow"}, {"request": b'{"messages":[]}'}],
    ids=["caller", "run", "no run", "shadow", "small"],
)
def test_nothing_else_refers_to_it(other: dict[str, Any]) -> None:
    histories = RunHistories()
    histories.fields(call(1))
    each = call(2, **other)
    assert histories.fields(each) == each.to_fields()


def test_after_a_failed_append_a_request_is_whole_again() -> None:
    histories = RunHistories()
    histories.fields(call(1))
    histories.forget()
    assert base_of(histories.fields(call(2))) is None


def test_after_a_loss_a_request_is_whole_again() -> None:
    histories, second = RunHistories(), call(2)
    histories.heed(3)
    histories.fields(call(1))
    histories.heed(3)
    assert base_of(histories.fields(second)) is not None
    histories.heed(4)
    assert base_of(histories.fields(call(3))) is None


def test_an_old_request_is_not_a_base() -> None:
    """Retention may have deleted it."""
    now = [0.0]
    histories, first = RunHistories(pace=lambda: now[0]), call(1)
    histories.fields(first)
    now[0] = BASE_S - 1
    second = call(2)
    assert base_of(histories.fields(second)) == first.id
    now[0] += BASE_S - 1
    assert base_of(histories.fields(call(3))) == second.id
    now[0] += BASE_S + 1
    assert base_of(histories.fields(call(4))) is None


def test_the_quietest_runs_are_forgotten_first() -> None:
    size = RequestOutline.of("id", REQUESTS[3]).kept_bytes
    histories = RunHistories(most_bytes=3 * size + 100)
    for run in ("a", "b", "c"):
        histories.fields(call(2, run=run))
    histories.fields(call(3, run="a"))
    histories.fields(call(3, run="d"))
    assert [base_of(histories.fields(call(4, run=run))) is None for run in ("a", "d", "b")] == [False, False, True]


def test_a_megabyte_is_remembered_in_little_memory() -> None:
    assert RequestOutline.of("id", growing(50, 1_000_000)[-1]).kept_bytes < 12_000
