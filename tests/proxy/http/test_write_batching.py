"""Writes of one round of the loop leave together, in their order; a single write leaves at once."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.http.write_batching import FEW, WriteBatcher, WriteQueue


class Wire(asyncio.Transport):
    """Keeps what a socket would have been given."""

    def __init__(self, order: list[Wire] | None = None) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self._order = order

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        if self._order is not None:
            self._order.append(self)


async def rounds(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def test_with_few_calls_in_progress_it_is_written_at_once() -> None:
    wire = Wire()
    out = WriteQueue(WriteBatcher(), wire)
    out.put(b"a", FEW - 1)
    assert wire.writes == [b"a"]
    assert not out.waiting


async def test_with_many_calls_a_write_waits_for_the_end_of_the_round() -> None:
    order: list[Wire] = []
    box, wires = WriteBatcher(), [Wire(order) for _ in range(5)]
    for wire in wires:
        out = WriteQueue(box, wire)
        out.put(b"a", FEW)
        assert out.waiting
    assert order == []
    await rounds(1)
    assert order == wires
    assert [wire.writes for wire in wires] == [[b"a"]] * 5


async def test_the_next_round_gathers_again() -> None:
    wire = Wire()
    out = WriteQueue(WriteBatcher(), wire)
    for data in (b"a", b"b"):
        out.put(data, FEW)
        await rounds(1)
    assert wire.writes == [b"a", b"b"]


async def test_one_way_out_that_fails_holds_up_no_other() -> None:
    box, good = WriteBatcher(), Wire()

    class Bad(Wire):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            raise RuntimeError("unable to perform operation on a closing transport")

    seen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))
    WriteQueue(box, Bad()).put(b"a", FEW)
    WriteQueue(box, good).put(b"b", FEW)
    await rounds(2)
    assert good.writes == [b"b"]
    assert len(seen) == 1


async def test_dropped_bytes_are_never_written() -> None:
    wire = Wire()
    out = WriteQueue(WriteBatcher(), wire)
    out.put(b"a", FEW)
    out.drop()
    await rounds(2)
    assert wire.writes == []
    assert not out.waiting


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.binary(max_size=3), st.integers(1, 2 * FEW)),
        st.tuples(st.just("write"), st.binary(max_size=3), st.just(0)),
        st.tuples(st.just("send"), st.just(b""), st.just(0)),
        st.tuples(st.just("round"), st.just(b""), st.just(0)),
    ),
    max_size=20,
)


@given(STEPS)
def test_bytes_leave_in_order_batched_or_not(steps: list[tuple[str, bytes, int]]) -> None:
    async def run() -> None:
        wire = Wire()
        out = WriteQueue(WriteBatcher(), wire)
        for what, data, busy in steps:
            if what == "put":
                out.put(data, busy)
            elif what == "write":
                out.write(data)
                assert not out.waiting
            elif what == "send":
                out.send()
                assert not out.waiting
            else:
                await rounds(1)
        await rounds(2)
        assert b"".join(wire.writes) == b"".join(data for _, data, _ in steps)

    asyncio.run(run())
