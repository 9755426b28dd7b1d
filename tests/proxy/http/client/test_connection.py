"""The bytes of one connection, fed by hand: every split, every cut, anything at all. Sockets: test_transport.py."""

import asyncio
from itertools import pairwise

import pytest
from fixtures.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadResponse, BodyCut, ConnectionLost, TransportError
from gateway.proxy.http.client.connection import HIGH_WATER, UpstreamConnection
from gateway.proxy.http.write_batching import FEW, WriteBatcher

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """Stands in for the socket, because only so is a split exactly where a test wants it."""

    def __init__(self):
        super().__init__()
        self.open = True
        self.reading = True
        self.written = b""

    def write(self, data):
        self.written += data

    def writelines(self, parts):
        pass

    def abort(self):
        self.open = False

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def get_write_buffer_size(self):
        return 0


class Home:
    def __init__(self):
        self.free = []
        self.forgotten = []
        self.outbox = WriteBatcher()
        self.busy = 1

    def opened(self, connection):
        pass

    def give_back(self, connection):
        self.free.append(connection)

    def forget(self, connection):
        self.forgotten.append(connection)

    def closed(self, connection):
        pass


class Played:
    """One connection with one request asked, and what a test needs to see of it."""

    def __init__(self, loop, method=b"POST", busy=1):
        self.home, self.wire = Home(), Wire()
        self.home.busy = busy
        self.connection = UpstreamConnection(self.home, loop, 3.5)
        self.connection.connection_made(self.wire)
        self.reply = self.connection.send(method, b"head", b"")

    def feed(self, *parts):
        for part in parts:
            if part and self.wire.open:
                self.connection.data_received(part)

    def end(self, error=None):
        if not self.wire.open:
            return
        if error is None:
            self.connection.eof_received()
        self.connection.connection_lost(error)

    async def outcome(self):
        """(status, headers, body) or the error in place of what did not come."""
        await self.reply.head()
        if not self.reply.status:
            return type(self.reply.error)
        body = b""
        try:
            while part := await self.reply.chunk():
                body += part
        except TransportError as error:
            return self.reply.status, self.reply.headers, body, type(error)
        return self.reply.status, self.reply.headers, body


def play(parts, *, method=b"POST", end=True, error=None):
    async def run():
        played = Played(asyncio.get_running_loop(), method)
        played.feed(*parts)
        if end:
            played.end(error)
        async with asyncio.timeout(60):
            return await played.outcome(), bool(played.home.free)

    return asyncio.run(run())


def split(raw, cuts):
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[a:b] for a, b in pairwise(edges)]


REPLIES = [
    (OK + b"Content-Length: 5\r\nX-A: b\r\n\r\nhello", b"hello", True),
    (OK + b"Content-Length: 0\r\n\r\n", b"", True),
    (CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nT: 1\r\n\r\n", b"hello", True),
    (CHUNKED + b"0\r\n\r\n", b"", True),
    (OK + b"\r\nhello", b"hello", False),
    (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello", False),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
    (b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\nHTTP/1.1 103 \r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", b"ok", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", b"", True),
    (b"HTTP/1.1 500 \r\nX:\r\nx: caf\xe9\r\nContent-Length: 1\r\n\r\n\x00", b"\x00", True),
    (OK + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
]


@pytest.mark.parametrize(("raw", "body", "kept"), REPLIES)
def test_a_reply_is_the_same_however_its_bytes_are_cut(raw, body, kept):
    """Every place for one cut, and one byte at a time."""
    whole = play([raw])
    assert whole[0][2:] == (body,)
    assert whole[1] is kept

    for cut in range(1, len(raw)):
        assert play([raw[:cut], raw[cut:]]) == whole
    assert play([raw[i : i + 1] for i in range(len(raw))]) == whole


@given(st.sampled_from(REPLIES), st.lists(st.integers(0, 400), max_size=12))
@settings(max_examples=examples(300), deadline=None)
def test_a_reply_is_the_same_for_any_set_of_cuts(reply, cuts):
    assert play(split(reply[0], cuts)) == play([reply[0]])


@given(st.sampled_from(REPLIES), st.integers(0, 400), st.sampled_from([None, ConnectionResetError("reset")]))
@settings(max_examples=examples(300), deadline=None)
def test_a_reply_cut_short_is_never_taken_for_whole(reply, at, error):
    """Close-delimited bodies excepted, which look like a clean end; a reset does not."""
    raw, body, _ = reply
    got, kept = play([raw[: at % len(raw)]], error=error)

    assert not kept
    if isinstance(got, tuple) and len(got) == 3:
        assert got[2] == body or (error is None and b"content-length" not in dict(got[1]))
    else:
        assert got is ConnectionLost or got[3] is BodyCut


@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda reply, at, drop, new: reply[0][: at % len(reply[0])] + new + reply[0][at % len(reply[0]) + drop :],
            st.sampled_from(REPLIES),
            st.integers(0, 400),
            st.integers(0, 9),
            st.binary(max_size=6) | st.sampled_from([b"\r\n", b"\n", b"\r", b" ", b":", b"0", b"\r\n\r\n", OK]),
        ),
    ),
    st.lists(st.integers(0, 400), max_size=4),
    st.sampled_from([b"POST", b"HEAD"]),
    st.sampled_from([None, ConnectionResetError("reset")]),
)
@settings(max_examples=examples(500), deadline=None)
def test_any_bytes_end_in_a_reply_or_a_transport_error(raw, cuts, method, error):
    got, kept = play(split(raw, cuts), method=method, error=error)
    assert isinstance(got, tuple) or issubclass(got, TransportError)
    assert (got, kept)[0] == play([raw], method=method, error=error)[0]


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"Content-Length: 5, 6\r\n\r\n",
        b"Content-Length: +5\r\n\r\n",
        b"Content-Length: 0x5\r\n\r\n",
        b"Content-Length: 5 5\r\n\r\n",
        b"Content-Length:\r\n\r\n",
        b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"Content-Length : 5\r\n\r\n",
        b" Content-Length: 5\r\n\r\n",
        b"X: y\r\n folded\r\n\r\n",
        b"X: y\r\n\tfolded\r\n\r\n",
        b"X: y\nContent-Length: 5\r\n\r\n",
        b"X: y\rContent-Length: 5\r\n\r\n",
        b"X: y\0z\r\n\r\n",
        b": y\r\n\r\n",
        b"X\r\n\r\n",
        b"Transfer-Encoding: gzip\r\n\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n\r\n",
        b"Transfer-Encoding: chunked\t\r\n\r\n",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding:\r\n\r\n",
    ],
)
def test_a_head_that_two_readers_could_read_two_ways_is_refused(head):
    assert play([OK + head + b"hello"]) == (BadResponse, False)


@pytest.mark.parametrize(
    "start", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x01\x00\x02\x02\x16", b"<html>", b"\0", b"HTTP/1.1 2000 "]
)
def test_bytes_that_are_not_http_are_refused_at_once(start):
    assert play([start], end=False) == (BadResponse, False)


@pytest.mark.parametrize(
    "chunk", [b"fffffffffffffffff\r\n", b"0x2\r\n", b"2 \r\n", b"2\n", b"\r\n", b";\r\n", b"2\r\nok "]
)
def test_a_broken_chunk_is_refused(chunk):
    (status, _, body, error), kept = play([CHUNKED + chunk], end=False)
    assert (status, error, kept) == (200, BadResponse, False)
    assert body in (b"", b"ok")


@pytest.mark.parametrize("tail", [b"x", b"HTTP/1.1 200 OK\r\n\r\n", OK + b"Content-Length: 1\r\n\r\nx", b"\0"])
@pytest.mark.parametrize("later", [False, True])
def test_bytes_after_the_reply_close_the_connection_unread(tail, later):
    """The next caller must never read what a peer sent without a request."""

    async def run():
        played = Played(asyncio.get_running_loop())
        whole = OK + b"Content-Length: 5\r\n\r\nhello"
        played.feed(whole, tail) if later else played.feed(whole + tail)
        assert not played.wire.open
        assert played.home.forgotten == [played.connection]
        return await played.outcome()

    assert asyncio.run(run())[2] == b"hello"


def test_an_incomplete_head_wakes_no_waiter():
    async def run():
        loop = asyncio.get_running_loop()
        played = Played(loop)
        reading = loop.create_task(played.outcome())
        await asyncio.sleep(0)
        for byte in OK + b"X: " + b"y" * 30_000 + b"\r\nContent-Length: 0\r\n\r":
            played.feed(bytes([byte]))
        assert played.reply.waiting
        played.feed(b"\n")
        return await reading

    assert asyncio.run(run())[0] == 200


@pytest.mark.parametrize(
    "endless",
    [
        OK + b"X: " + b"y" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
        CHUNKED + b"5;" + b"x" * 100_000,
        CHUNKED + b"0\r\nTrailer: " + b"x" * 100_000,
        CHUNKED + b"0\r\n" + b"T: x\r\n" * 20_000,
    ],
    ids=["header", "1xx", "chunk extension", "trailer", "trailers"],
)
def test_bytes_before_a_body_are_bounded(endless):
    got, _ = play([endless[i : i + 4000] for i in range(0, len(endless), 4000)], end=False)
    assert got is BadResponse or got[3] is BadResponse


async def test_reading_pauses_above_the_high_water_mark():
    played = Played(asyncio.get_running_loop())
    played.feed(OK + b"Content-Length: 1000000\r\n\r\n")
    played.feed(b"x" * HIGH_WATER)
    assert played.wire.reading
    played.feed(b"x")
    assert not played.wire.reading

    assert len(await played.reply.chunk()) == HIGH_WATER + 1
    assert played.wire.reading


async def test_a_connection_that_ends_while_paused_goes_home_reading():
    """A TLS transport may hand over what it had decrypted before the pause."""
    played = Played(asyncio.get_running_loop())
    played.feed(OK + b"Content-Length: %d\r\n\r\n" % (HIGH_WATER + 2), b"x" * (HIGH_WATER + 1), b"x")

    assert played.home.free
    assert played.wire.reading
    assert len(await played.reply.chunk()) == HIGH_WATER + 2


async def test_an_old_reply_that_is_read_late_does_not_resume_the_next():
    played = Played(asyncio.get_running_loop())
    old = played.reply
    head = OK + b"Content-Length: %d\r\n\r\n" % (HIGH_WATER + 1)
    played.feed(head + b"x" * (HIGH_WATER + 1))
    played.connection.send(b"POST", b"head", b"")
    played.feed(OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * (HIGH_WATER + 1))
    assert not played.wire.reading

    await old.chunk()

    assert not played.wire.reading


async def test_a_long_body_may_pause_for_breath():
    """The limit on bytes without body counts from the last body byte."""
    played = Played(asyncio.get_running_loop())
    played.feed(CHUNKED)
    for _ in range(20):
        played.feed(b"2000\r\n", b"x" * 0x2000, b"\r\n")
    played.feed(b"0\r\n\r\n")

    assert len((await played.outcome())[2]) == 20 * 0x2000


async def test_gathered_bytes_come_as_one_chunk():
    played = Played(asyncio.get_running_loop())
    played.feed(CHUNKED, b"2\r\nhe\r\n", b"3\r\nllo\r\n")

    assert await played.reply.chunk() == b"hello"


async def test_a_late_close_of_a_whole_reply_does_not_touch_the_next():
    played = Played(asyncio.get_running_loop())
    played.feed(OK + b"Content-Length: 0\r\n\r\n")
    played.connection.send(b"POST", b"head", b"")

    played.reply.close()

    assert played.wire.open


async def test_closing_drops_what_was_not_read():
    played = Played(asyncio.get_running_loop())
    played.feed(OK + b"Content-Length: 9\r\n\r\nhello")

    played.reply.close()

    with pytest.raises(BodyCut):
        await played.reply.chunk()


def test_only_a_silent_reused_connection_is_stale():
    async def run(requests, data):
        played = Played(asyncio.get_running_loop())
        for _ in range(requests - 1):
            played.feed(OK + b"Content-Length: 0\r\n\r\n")
            played.reply = played.connection.send(b"POST", b"head", b"")
        played.feed(data)
        played.end()
        assert await played.outcome() is ConnectionLost
        return played.reply.stale

    assert asyncio.run(run(2, b"")) is True
    assert asyncio.run(run(2, b"H")) is False
    assert asyncio.run(run(2, b"HTTP/1.1 100 Continue\r\n\r\n")) is False
    assert asyncio.run(run(1, b"")) is False


async def test_among_others_a_request_leaves_at_the_end_of_the_round():
    alone = Played(asyncio.get_running_loop(), busy=FEW - 1)
    assert alone.wire.written == b"head"

    among = Played(asyncio.get_running_loop(), busy=FEW)
    assert among.wire.written == b""
    await asyncio.sleep(0)
    assert among.wire.written == b"head"

    among.feed(OK + b"Content-Length: 0\r\n\r\n")
    among.connection.send(b"POST", b" next", b"", unbatched=True)
    assert among.wire.written == b"head next"


async def test_a_reply_to_an_unsent_request_closes_the_connection():
    """The reply belongs to another request: what comes next on this connection would be taken for the answer to this
    one.
    """
    played = Played(asyncio.get_running_loop(), busy=FEW)
    played.feed(OK + b"Content-Length: 0\r\n\r\n")
    await asyncio.sleep(0)

    assert not played.wire.open
    assert not played.home.free
    assert played.wire.written == b""


async def test_closing_a_reply_cancels_its_unsent_request():
    played = Played(asyncio.get_running_loop(), busy=FEW)
    played.reply.close()
    await asyncio.sleep(0)

    assert played.wire.written == b""
