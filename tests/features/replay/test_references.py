"""A model's answers become the references of a dataset that can be replayed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.fake import FakeAnswer, Received
from gateway.features.replay.asking import RequestPacing
from gateway.features.replay.datasets import scan
from gateway.features.replay.gateway_choice import GatewayLocation
from gateway.features.replay.options import ReplayOptions
from gateway.features.replay.references import write_references


async def test_every_row_gets_the_models_answer_as_its_reference(
    named: GatewayLocation, questions: Callable[[int], Path], served
) -> None:
    def choose(asked: Received) -> FakeAnswer | str:
        question = asked.json["messages"][-1]["content"]
        if question == "question 3":
            return FakeAnswer(b'{"error":{"message":"too long"}}', status=400)
        return f"an answer to {question}"

    served.replies(choose)
    notes: list[str] = []
    dataset = scan(questions(12))
    asked = ReplayOptions(("one",), pace=RequestPacing(attempts=1))
    path = await write_references(dataset, asked, named, notes.append, lambda _: None)
    assert path == dataset.path.with_name("questions.with-references.jsonl")
    assert notes[-1] == "1 of 12 rows have no answer and so no reference"
    written = scan(path)
    assert [i.example() for i in written.items()] == [i.example() for i in dataset.items()]
    assert [i.reference for i in written.items()] == [
        None if i == 3 else f"an answer to question {i}" for i in range(12)
    ]
    assert [p.name for p in path.parent.glob("*.part")] == []
