"""How the tests of scorers make a subject and ask a rule about it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from gateway.assembly import Completion
from gateway.config import Scorer as Section
from gateway.evals.client import Client, Connections
from gateway.evals.scorers import Score, Scorer, Skipped, Subject
from gateway.evals.scorers.asker import Outside
from gateway.evals.scorers.budget import InMemory
from gateway.evals.scorers.golden import PLAIN
from gateway.evals.scorers.pairs import Pair, PairScorer
from gateway.evals.scorers.registry import build_all
from gateway.evals.scorers.run import Result, opinion_of
from gateway.evals.scorers.threads import Threads
from gateway.fake import Answer, FakeUpstream, Received
from gateway.prices import Price, Prices

# A busy machine is no failure; what must be fast has a test that says how fast.
settings.register_profile("scorers", deadline=None)
settings.load_profile("scorers")

MakeSubject = Callable[..., Subject]
Ask = Callable[[Scorer, Subject], Score | Skipped]


@pytest.fixture(scope="session")
def subject() -> MakeSubject:
    """subject(text or Completion, request, reference=…, **fields of the exchange)."""

    def make(
        said: str | Completion = "", request: Any = None, reference: str | None = None, **exchange: Any
    ) -> Subject:
        completion = Completion(said, finish_reason="stop") if isinstance(said, str) else said
        return Subject(replace(PLAIN, **exchange), request or {}, completion, reference)

    return make


@pytest.fixture(scope="session")
def ask() -> Ask:
    """What a rule says; no built-in rule waits for anything, so no event loop is needed."""

    def drive(scorer: Scorer, of: Subject) -> Score | Skipped:
        scoring = scorer.score(of)
        with pytest.raises(StopIteration) as stop:
            scoring.send(None)
        said: Score | Skipped = stop.value.value
        return said

    return drive


@pytest.fixture(scope="session")
def ask_pair() -> Callable[[PairScorer, Pair], Score | Skipped]:
    """The same for a scorer of pairs."""

    def drive(scorer: PairScorer, of: Pair) -> Score | Skipped:
        comparing = scorer.compare(of)
        with pytest.raises(StopIteration) as stop:
            comparing.send(None)
        said: Score | Skipped = stop.value.value
        return said

    return drive


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Threads(grace_s=5)
    yield pool
    pool.close()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """module(name, source): a module of somebody else that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)

    return write


@pytest.fixture(scope="session")
def readme() -> list[tuple[str, list[str]]]:
    """The three texts of sacrebleu's README, each with its two references."""
    said = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
    first = ["The dog bit the man.", "It was not unexpected.", "The man bit him first."]
    second = ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."]
    return [(a, [b, c]) for a, b, c in zip(said, first, second, strict=True)]


class Model:
    """A model behind a gateway, as a judge sees it: it answers what a test says, and the headers name who answered.

    usage: input and output tokens of each answer. logprobs: `content` of each answer; None: none are given.
    """

    def __init__(self, upstream: FakeUpstream, outside: Outside) -> None:
        self.upstream, self.outside = upstream, outside
        self.usage = (100, 10)
        self.logprobs: list[Any] | None = None
        self.target = ("up", "judge-1")
        self.think: Callable[[dict[str, Any]], Answer | str] = lambda body: "{}"
        upstream.replies(self._reply)

    def says(self, *texts: str | dict[str, Any]) -> None:
        """These, one each, the last one for ever. A dict: as JSON."""
        left = [t if isinstance(t, str) else json.dumps(t) for t in texts]
        self.think = lambda _: left.pop(0) if len(left) > 1 else left[0]

    def refuses(self, status: int, message: str = "no", code: str | None = None, param: str | None = None) -> Answer:
        error = {"error": {"message": message, "type": "x", "code": code, "param": param}}
        return Answer(json.dumps(error).encode(), status=status)

    def answer(self, body: dict[str, Any]) -> Answer:
        """A whole answer of another API."""
        return Answer(json.dumps(body).encode())

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [r.json for r in self.upstream.calls]

    def prompts(self) -> list[str]:
        """The last message of each request."""
        return [body["messages"][-1]["content"] for body in self.bodies]

    def build(self, name: str = "j", **section: Any) -> Any:
        """What the registry makes of this section."""
        return build_all({name: Section(**section)}, self.outside).all()[name]

    async def result(self, registered: Any, of: Subject | Pair) -> Result:
        """Through the gate, the deadline and the checks, as the consumer asks."""
        scorer = registered.scorer
        ask = (lambda: scorer.compare(of)) if isinstance(of, Pair) else (lambda: scorer.score(of))
        return await opinion_of("j", registered, ask, Threads(grace_s=5))

    def _reply(self, received: Received) -> Answer:
        said = self.think(received.json)
        upstream, model = self.target
        headers = (("x-gateway-upstream", upstream), ("x-gateway-model", model), ("x-request-id", "e-1"))
        if isinstance(said, Answer):
            return dataclasses.replace(said, headers=(*said.headers, *headers))
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        if self.logprobs is not None:
            choice["logprobs"] = {"content": self.logprobs}
        usage = {"prompt_tokens": self.usage[0], "completion_tokens": self.usage[1], "total_tokens": sum(self.usage)}
        body = {"id": "c", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
        return Answer(json.dumps(body).encode(), headers=headers)


@pytest.fixture
async def model(tmp_path: Path) -> AsyncIterator[Model]:
    """A scripted model, and all that a scorer asks it with. It costs 1 USD per million tokens."""
    prices = Prices({"up/judge-1": Price(1.0, 1.0)})
    async with FakeUpstream() as upstream, Connections() as connections:
        client = Client(upstream.base_url, "sk-evals", connections)
        yield Model(upstream, Outside(connections, client, prices, InMemory(), tmp_path))


@pytest.fixture(scope="session")
def pair() -> Callable[..., Pair]:
    """pair(a, b, request, first=…): two answers to one request."""

    def make(a: str | Completion, b: str | Completion, request: Any = None, first: Any = "a", **exchange: Any) -> Pair:
        said = [Completion(x, finish_reason="stop") if isinstance(x, str) else x for x in (a, b)]
        one, two = (Subject(replace(PLAIN, **exchange), request or {}, c) for c in said)
        return Pair(one, two, first)

    return make
