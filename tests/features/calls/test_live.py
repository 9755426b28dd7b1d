"""The live tail: new calls as they are stored, for at most twenty readers, and nobody polls without one."""

from __future__ import annotations

import asyncio
import contextlib
import time

from gateway.features.calls.live import MOST, LiveTail, LiveTails, events
from gateway.features.calls.rows.calls import CallFilter, CallPage


async def event(lines) -> str:
    """The data of the next event."""
    data = []
    async for line in lines:
        if line.startswith("data: "):
            data.append(line[6:])
        elif data:
            return "\n".join(data)
    raise AssertionError("the stream ended")


async def test_new_calls_arrive_while_one_looks(pages, make_exchange):
    await pages.add(make_exchange("an old answer", received=time.time() - 900))
    client = await pages.login()
    async with asyncio.timeout(60), client.stream("GET", "/console/calls/live?alias=chat") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        lines = aiter(answer.aiter_lines())
        one = make_exchange("a new <b>answer</b>", received=time.time())
        await pages.add(one, make_exchange("elsewhere", alias="other"))
        row = await event(lines)
        assert f'data-id="{one.id}"' in row
        assert "a new &lt;b&gt;answer&lt;/b&gt;" in row
        assert "a question?" in row
        late = make_exchange("late", received=time.time() - 30)
        await pages.add(late)
        assert f'data-id="{late.id}"' in await event(lines), "stored later than newer ones"


async def test_a_viewer_without_content_gets_figures_only(pages, make_exchange):
    client = await pages.login("viewer")
    async with asyncio.timeout(60), client.stream("GET", "/console/calls/live") as answer:
        await pages.add(make_exchange("a SECRET answer"))
        assert "SECRET" not in await event(aiter(answer.aiter_lines()))
    assert (await client.get("/console/calls/live?words=SECRET")).status_code == 403


async def test_the_twenty_first_is_told_to_load_again(pages, make_exchange):
    client = await pages.login()
    async with asyncio.timeout(120), contextlib.AsyncExitStack() as stack:
        for _ in range(MOST):
            answer = await stack.enter_async_context(client.stream("GET", "/console/calls/live"))
            assert answer.status_code == 200
            await anext(aiter(answer.aiter_raw()))
        refused = await client.get("/console/calls/live")
        assert refused.status_code == 503
        assert "reload the page instead" in refused.text
    async with asyncio.timeout(60):
        while True:
            async with client.stream("GET", "/console/calls/live") as answer:
                if answer.status_code == 200:
                    break


async def test_a_session_that_ended_ends_its_tail(pages, make_exchange):
    client = await pages.login()
    page = await pages.get(client, "/console/calls")
    async with asyncio.timeout(60), client.stream("GET", "/console/calls/live") as answer:
        lines = aiter(answer.aiter_lines())
        await anext(lines)
        out = await pages.send(client, "/console/calls", "/console/logout", {})
        assert out.status_code == 303, page[:200]
        async for _ in lines:
            pass


async def test_the_store_is_read_as_long_as_somebody_reads():
    """Each reading belongs to one reader's stream: none comes before it is asked for, nor after it has left."""
    tails, read = LiveTails(), []

    async def reading(filter: CallFilter) -> CallPage:
        read.append(filter)
        return CallPage((), None)

    async def permitted() -> bool:
        return True

    tail = LiveTail(CallFilter(), reading, str, permitted, time.time, every_s=0.0)
    stream = events(tails, tail)
    assert (len(read), tails.open) == (0, 0)
    async for _ in stream:
        if len(read) == 3:
            break
    assert tails.open == 1
    await stream.aclose()
    for _ in range(100):
        await asyncio.sleep(0)
    assert (len(read), tails.open) == (3, 0)


async def test_the_list_reads_the_store_when_it_is_loaded_alone(pages, queries):
    client = await pages.login()
    await pages.get(client, "/console/calls")
    with queries() as seen:
        for _ in range(20):
            assert (await client.get("/console/login")).status_code in (200, 303)
    assert not [each for each in seen if "exchanges" in each]
