import pytest

from gateway.core.errors import BadResponse
from gateway.proxy.http.client.framing import check_size, framed, read_framing

LENGTH = (b"content-length", b"5")


@pytest.mark.parametrize(
    ("headers", "status", "until_close"),
    [
        ([LENGTH], 200, False),
        ([(b"transfer-encoding", b"chunked")], 200, False),
        ([(b"transfer-encoding", b"CHUNKED")], 200, False),
        ([], 200, True),
        ([(b"content-type", b"text/plain")], 500, True),
        ([], 204, False),
        ([], 304, False),
    ],
)
def test_a_body_without_a_length_ends_with_the_connection(headers, status, until_close):
    assert read_framing(headers, status)[0] is until_close


@pytest.mark.parametrize(
    "codings",
    [[b"gzip"], [b"gzip, chunked"], [b"chunked, gzip"], [b"chunked", b"chunked"], [b"gzip", b"chunked"], [b"xchunked"]],
)
def test_only_a_single_chunked_is_read(codings):
    with pytest.raises(BadResponse, match="transfer-encoding"):
        read_framing([(b"transfer-encoding", coding) for coding in codings], 200)


@pytest.mark.parametrize(
    ("value", "idle_s"),
    [
        (b"timeout=5", 4.0),
        (b"timeout=5, max=100", 4.0),
        (b"max=100, Timeout=30", 29.0),
        (b"timeout=1", 0.0),
        (b"timeout=0", -1.0),
        (b"max=100", None),
        (b"timeout=soon", None),
        (b"mytimeout=9", None),
        (b"timeout=99999999999999999999", None),
        (b"", None),
    ],
)
def test_keep_alive_is_believed_less_a_second(value, idle_s):
    assert read_framing([LENGTH, (b"keep-alive", value)], 200)[1] == idle_s


def test_the_limits_of_a_head():
    check_size([(b"x", b"y")] * 200, 1000)
    check_size([(b"x", b"y" * 60_000)], 1_000_000)
    with pytest.raises(BadResponse, match="201 headers"):
        check_size([(b"x", b"y")] * 201, 1000)
    with pytest.raises(BadResponse, match="65536 bytes"):
        check_size([(b"x", b"y" * 70_000)], 70_000)


async def written(parts, length):
    async def given():
        for part in parts:
            yield part

    return [line async for lines in framed(given(), length) for line in lines]


async def test_a_body_of_unknown_length_is_written_chunked():
    assert await written([b"ab", b"", b"cde"], 5) == [b"ab", b"", b"cde"]
    assert await written([], 0) == []
    assert b"".join(await written([b"ab", b"", b"c" * 17], None)) == b"2\r\nab\r\n11\r\n" + b"c" * 17 + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("length", [0, 4, 6])
async def test_a_body_of_another_length_than_announced_is_an_error(length):
    with pytest.raises(ValueError, match="announced"):
        await written([b"ab", b"cde"], length)
