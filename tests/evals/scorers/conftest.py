"""How the tests of scorers make a subject and ask a rule about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from gateway.assembly import Completion
from gateway.evals.scorers import Score, Scorer, Skipped, Subject
from gateway.evals.scorers.golden import PLAIN
from gateway.evals.scorers.threads import Threads

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
