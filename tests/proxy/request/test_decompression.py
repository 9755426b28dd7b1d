"""Compressed request bodies: any split gives the body, and no bomb becomes one."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest, TooLarge
from gateway.fake import FakeUpstream
from gateway.proxy.request.decompression import (
    FREE_BYTES,
    MOST_FRAMES,
    MOST_RATIO,
    Decompression,
    encoding_of,
)
from gateway.proxy.request.zstandard import zstd

Compress = Callable[[bytes], bytes]
COMPRESS: dict[str, Compress] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "zstd": zstd().compress,
    "br": lambda data: brotli.compress(data, quality=5, lgwin=22),
}
ENCODINGS = pytest.mark.parametrize("encoding", COMPRESS)
MB = 1 << 20


def read(encoding: str, data: bytes, size: int = 0, limit: int = 32 * MB) -> bytes:
    """The body of data that arrives in pieces of this size; 0: at once."""
    decompression = Decompression(encoding, limit)
    step = size or max(1, len(data))
    pieces = [b"".join(decompression.feed(data[at : at + step])) for at in range(0, len(data), step)]
    decompression.end()
    return b"".join(pieces)


@cache
def text(size: int) -> bytes:
    """Text of words, about as compressible as a conversation."""
    rng = random.Random(7)
    words = [bytes(rng.choices(b"abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(2000)]
    return b" ".join(rng.choices(words, k=size // 6))[:size]


@ENCODINGS
@given(data=st.binary(max_size=300), size=st.integers(1, 40))
def test_any_split_gives_the_body(encoding: str, data: bytes, size: int) -> None:
    assert read(encoding, COMPRESS[encoding](data), size) == data


@ENCODINGS
@pytest.mark.parametrize("size", [0, 1000, 65_536])
def test_a_large_body_comes_whole(encoding: str, size: int) -> None:
    body = text(3 * MB)
    assert read(encoding, COMPRESS[encoding](body), size) == body


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_several_frames_are_one_body(encoding: str) -> None:
    compress = COMPRESS[encoding]
    for size in (0, 1, 7):
        assert read(encoding, compress(b"one, ") + compress(b"") + compress(b"two"), size) == b"one, two"
    with pytest.raises(BadRequest, match=f"more than {MOST_FRAMES} frames"):
        read(encoding, compress(b"") * (MOST_FRAMES + 1))


@ENCODINGS
def test_a_body_that_ends_too_soon_is_refused(encoding: str) -> None:
    data = COMPRESS[encoding](text(5000))
    for end in (*range(0, len(data), 97), len(data) - 1):
        for size in (0, 13):
            with pytest.raises(BadRequest, match=r"ends before|it is empty"):
                read(encoding, data[:end], size)


@ENCODINGS
@given(data=st.binary(min_size=1, max_size=60))
def test_other_bytes_are_refused_by_name(encoding: str, data: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert len(read(encoding, data)) <= FREE_BYTES + MOST_RATIO * len(data)
    if encoding != "br":  # a brotli stream has no mark: nearly any bytes can begin one
        with pytest.raises(BadRequest, match="cannot be decompressed") as caught:
            read(encoding, b"{" + data)
        assert caught.value.code == "invalid_compressed_body"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_bytes_after_the_body_are_refused(encoding: str) -> None:
    for size in (0, 1):
        with pytest.raises(BadRequest, match="cannot be decompressed"):
            read(encoding, COMPRESS[encoding](b"{}") + b"more", size)


@ENCODINGS
def test_a_bomb_is_refused_before_it_is_large(encoding: str) -> None:
    """50 MB of zeros in a few KB: no more is decompressed than the ratio allows, by one step at most."""
    bomb = COMPRESS[encoding](bytes(50 * MB))
    decompression, size = Decompression(encoding, 128 * MB), 0
    received, refused = 0, ""
    while not refused and received < len(bomb):
        piece = bomb[received : received + 512]
        received += len(piece)
        try:
            size += sum(map(len, decompression.feed(piece)))
        except BadRequest as error:
            refused = error.message
    assert f"more than {MOST_RATIO} times as large" in refused
    assert received <= 1024
    assert size <= FREE_BYTES + MOST_RATIO * received


@ENCODINGS
def test_a_bombs_memory_is_bounded(encoding: str) -> None:
    bomb = COMPRESS[encoding](bytes(50 * MB))[:2048]
    tracemalloc.start()
    with pytest.raises(BadRequest):
        read(encoding, bomb, limit=500 * MB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MB


@ENCODINGS
def test_the_limit_is_of_the_body_decompressed(encoding: str) -> None:
    body = text(MB)
    data = COMPRESS[encoding](body)
    assert read(encoding, data, limit=MB) == body
    with pytest.raises(TooLarge):
        read(encoding, data, limit=MB - 1)
    with pytest.raises(TooLarge):
        read(encoding, data, limit=len(data) - 1)


def test_a_window_above_8_mb_is_refused() -> None:
    body = text(100_000)
    for log, allowed in ((23, True), (24, False), (27, False)):
        options = {zstd().CompressionParameter.window_log: log, zstd().CompressionParameter.content_size_flag: 0}
        compressor = zstd().ZstdCompressor(options=options)
        data = compressor.compress(body) + compressor.flush()
        if allowed:
            assert read("zstd", data) == body
        else:
            with pytest.raises(BadRequest, match="memory"):
                read("zstd", data)
    assert read("br", brotli.compress(body, quality=5, lgwin=23)) == body
    with pytest.raises(BadRequest, match="window is larger than 8 MB"):
        read("br", brotli.compress(body, quality=5, lgwin=24))


def test_a_dictionary_is_refused() -> None:
    samples = [text(400 + n)[n:] for n in range(60)]
    dictionary = zstd().train_dict(samples, 2000)
    with pytest.raises(BadRequest, match=r"[Dd]ictionary"):
        read("zstd", zstd().compress(samples[0], zstd_dict=dictionary))
    packer = zlib.compressobj(wbits=15, zdict=b"hello")
    with pytest.raises(BadRequest):
        read("gzip", packer.compress(b"hello") + packer.flush())


@pytest.mark.parametrize(
    ("headers", "encoding"),
    [
        ([], None), ([b"identity"], None), ([b"GZip "], "gzip"), ([b"identity, zstd"], "zstd"), ([b"utf-8"], None),
        ([b""], None),
    ],
)  # fmt: skip
def test_the_encoding_is_read_from_the_headers(headers: list[bytes], encoding: str | None) -> None:
    assert encoding_of([(b"content-encoding", value) for value in headers]) == encoding


@pytest.mark.parametrize("values", [[b"gzip, zstd"], [b"gzip", b"gzip"], [b"deflate, gzip"]])
def test_a_body_that_is_encoded_twice_is_refused(values: list[bytes]) -> None:
    with pytest.raises(BadRequest, match="encoded more than once"):
        encoding_of([(b"content-encoding", value) for value in values])


BODIES: dict[str, dict[str, Any]] = {
    "/chat/completions": {"messages": [{"role": "user", "content": "x" * 3000}]},
    "/completions": {"prompt": "x"},
    "/responses": {"input": "x"},
    "/messages": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9},
    "/embeddings": {"input": "x"},
    "/rerank": {"query": "x", "documents": ["y"]},
    "/moderations": {"input": "x"},
}


@ENCODINGS
async def test_every_endpoint_reads_a_compressed_body(gateway: Any, upstream: FakeUpstream, encoding: str) -> None:
    for path, body in BODIES.items():
        plain = json.dumps({"model": "chat", **body}).encode()
        headers = {"content-encoding": encoding, "content-type": "application/json"}
        reply = await gateway.client.post(path, content=COMPRESS[encoding](plain), headers=headers)
        assert reply.status_code == 200, reply.text
        received = upstream.calls[-1]
        assert received.header("content-encoding") is None
        if path not in ("/messages",):
            assert json.loads(received.body) == {"model": "model-u0", **body}
    [exchange] = [e for e in await gateway.recorded(4) if e.api == "chat"]
    assert json.loads(exchange.request)["messages"] == BODIES["/chat/completions"]["messages"]
    reply = await gateway.client.post(
        "/feedback", content=COMPRESS[encoding](b'{"id":"x","value":1}'), headers={"content-encoding": encoding}
    )
    assert reply.status_code in (200, 202), reply.text


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
async def test_a_large_body_arrives_in_pieces(gateway: Any, upstream: FakeUpstream, chunked: bool) -> None:
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": text(2 * MB).decode()}]}).encode()
    packed = zstd().compress(body)

    async def pieces() -> Any:
        for at in range(0, len(packed), 100_000):
            yield packed[at : at + 100_000]

    content = pieces() if chunked else packed
    reply = await gateway.client.post("/chat/completions", content=content, headers={"content-encoding": "zstd"})
    assert reply.status_code == 200
    assert json.loads(upstream.calls[0].body)["messages"] == json.loads(body)["messages"]
    assert gateway.process.app.bodies.held == 0


@pytest.mark.parametrize(
    ("content", "encoding", "code"),
    [
        (zstd().compress(bytes(50 * MB)), "zstd", "invalid_compressed_body"),
        (gzip.compress(bytes(50 * MB)), "gzip", "invalid_compressed_body"),
        (zstd().compress(b'{"model":"chat"}')[:-3], "zstd", "invalid_compressed_body"),
        (b'{"model":"chat"}', "gzip", "invalid_compressed_body"),
        (gzip.compress(zstd().compress(b"{}")), "zstd, gzip", "invalid_compressed_body"),
        (b"", "gzip", "invalid_compressed_body"),
    ],
    ids=["bomb, zstd", "bomb, gzip", "truncated", "plain", "nested", "empty"],
)
async def test_bad_bodies_get_a_400_with_the_cause(
    gateway: Any, upstream: FakeUpstream, content: bytes, encoding: str, code: str
) -> None:
    reply = await gateway.client.post("/chat/completions", content=content, headers={"content-encoding": encoding})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)
    assert "cannot be decompressed" in reply.json()["error"]["message"]
    assert not upstream.calls
    assert gateway.process.app.bodies.held == 0
    assert (await gateway.chat()).status_code == 200


async def test_decompressed_bytes_count_in_the_memory_of_all_bodies(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream, limits={"inflight_mb": 1}))
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": text(2 * MB).decode()}]}).encode()
    packed = zstd().compress(body)
    assert len(packed) < 1e6
    reply = await gateway.client.post("/chat/completions", content=packed, headers={"content-encoding": "zstd"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "too_many_bytes_in_flight")
    await gateway.until(lambda: gateway.process.app.bodies.held == 0)


async def test_a_client_that_leaves_frees_its_body(gateway: Any, upstream: FakeUpstream) -> None:
    packed = zstd().compress(text(2 * MB))
    host, port = gateway.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key\r\ncontent-encoding: zstd\r\n"
        f"content-length: {len(packed)}\r\n\r\n"
    )
    writer.write(head.encode() + packed[:-100])
    held = gateway.process.app.bodies
    await gateway.until(lambda: held.held > MB)
    writer.close()
    await gateway.until(lambda: held.held == 0)
    assert not upstream.calls


@ENCODINGS
async def test_a_mistake_in_a_decompressed_body_is_the_bodys(gateway: Any, encoding: str) -> None:
    for body, why in ((b'{"model":', "is not valid JSON"), (b'{"model":"a","model":"b"}', "more than one member")):
        reply = await gateway.client.post(
            "/chat/completions", content=COMPRESS[encoding](body), headers={"content-encoding": encoding}
        )
        assert reply.status_code == 400, reply.text
        assert why in reply.json()["error"]["message"]
