"""The process of guards, started by the gateway (proxy/guards/process.py): builds scorers, and judges what it reads.

The first frame is the pickle of the spec; every further one is a subject in JSON. Each subject gets one reply with its
id, in the order in which they are ready. What a scorer prints goes to the log of the gateway.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import orjson

from gateway.core.completion import Completion, ToolCall
from gateway.core.json_values import as_list, as_object, as_text
from gateway.features.guards.scorers import BuiltGuards, GuardScorer, NoScore, build_guards
from gateway.runtime.confinement import drop_capabilities
from gateway.runtime.frames import HEAD, MOST_BYTES, json_frame
from gateway.runtime.tasks import Tasks
from gateway.scoring.asker import ASKED_BY_GUARDS, ExternalServices
from gateway.scoring.golden import PLAIN_EXCHANGE
from gateway.scoring.http_client import GatewayClient, HttpConnections
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.types import Subject

_MOST_ERROR = 300
_MOST_SUBJECTS = 256
"""Subjects that several guards may be asked about at once."""


def main() -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a scorer prints must not mix with the replies
    drop_capabilities()
    asyncio.run(_serve(replies))


async def _serve(replies: Any) -> None:
    loop = asyncio.get_running_loop()
    source, sink = asyncio.StreamReader(limit=1 << 20), _Sink(replies)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(source), sys.stdin)
    spec: Mapping[str, Any] = pickle.loads(await _read(source))  # noqa: S301 - from our own parent
    sys.path[:] = spec["path"]
    threads = ScoringThreads()
    async with HttpConnections() as connections, Tasks() as tasks:
        built = build_guards(spec["guards"], spec["sections"], _outside(spec, connections), threads)
        if built.mistakes:
            sink.write({"mistakes": built.mistakes})
        sink.write({"ready": True})
        subjects = SharedSubjects(built.sharing)
        while found := await _read(source):
            asked = orjson.loads(found)
            if "guard" in asked:
                tasks.start(_judge(built, asked, subjects, sink), "guard")
            else:
                sink.write(asked)  # the gateway asks whether this process is alive
    threads.close()
    os._exit(0)  # a thread of a scorer that hangs would keep the process


def _outside(spec: Mapping[str, Any], connections: HttpConnections) -> ExternalServices:
    evals = spec["evals"]
    client = GatewayClient(evals.base_url, evals.api_key, connections) if evals.base_url else None
    return ExternalServices(connections, client, spec["prices"], directory=spec["directory"], asked_by=ASKED_BY_GUARDS)


async def _read(source: asyncio.StreamReader) -> bytes:
    """Reads one frame; b"" at the end of the input."""
    try:
        size = HEAD.unpack(await source.readexactly(HEAD.size))[0]
        return await source.readexactly(size) if size <= MOST_BYTES else b""
    except asyncio.IncompleteReadError:
        return b""


class _Sink:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, reply: Mapping[str, Any]) -> None:
        self._file.write(json_frame(reply))
        self._file.flush()


class SharedSubjects:
    """Gives guards that share calls the same subject for the same text of the same call."""

    def __init__(self, guards: Collection[str]) -> None:
        self._guards = guards
        self._subjects: OrderedDict[bytes, Subject] = OrderedDict()

    def subject(self, asked: Mapping[str, Any]) -> Subject:
        """asked: a frame, see `subject_of`."""
        if asked.get("guard") not in self._guards:
            return subject_of(asked)
        key = orjson.dumps((asked.get("call"), asked.get("answer")))
        subject = self._subjects.get(key)
        if subject is None:
            subject = self._subjects[key] = subject_of(asked)
            if len(self._subjects) > _MOST_SUBJECTS:
                self._subjects.popitem(last=False)
        return subject


async def _judge(built: BuiltGuards, asked: Mapping[str, Any], subjects: SharedSubjects, sink: _Sink) -> None:
    reply: dict[str, Any] = {"id": asked.get("id")}
    scorer: GuardScorer | None = built.scorers.get(str(asked.get("guard")))
    try:
        if scorer is None:
            raise NoScore("; ".join(built.mistakes) or "it could not be built")
        reply["score"] = await scorer.score(subjects.subject(asked))
    except NoScore as none:
        reply |= {"error": str(none)[:_MOST_ERROR], "late": none.late, "invalid": none.invalid}
    except Exception as error:  # a scorer may raise anything; it is the reply
        reply |= {"error": f"{type(error).__name__}: {error}"[:_MOST_ERROR]}
    sink.write(reply)


def subject_of(asked: Mapping[str, Any]) -> Subject:
    """The subject of a frame. Of a guard on requests, the request's text takes the place of the answer."""
    answer = as_object(asked.get("answer"))
    calls = tuple(
        ToolCall(as_text(c.get("id")), as_text(c.get("name")), as_text(c.get("arguments")))
        for c in map(as_object, as_list(answer.get("tool_calls")))
    )
    completion = Completion(
        text=as_text(answer.get("text")),
        reasoning=as_text(answer.get("reasoning")),
        refusal=as_text(answer.get("refusal")),
        tool_calls=calls,
        finish_reason=answer.get("finish_reason") or "stop",
    )
    call = as_object(asked.get("call"))
    named = {name: call[name] for name in ("id", "api", "alias", "stream", "received", "caller") if name in call}
    return Subject(replace(PLAIN_EXCHANGE, **named), as_object(asked.get("request")), completion)


if __name__ == "__main__":
    main()
