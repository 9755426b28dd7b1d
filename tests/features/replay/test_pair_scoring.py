"""A pairwise judge in a replay: asked once for each pair of good answers, in both orders, and never twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from gateway.config.loading import load
from gateway.config.scorers import ScorerConfig
from gateway.fake import FakeAnswer, Received
from gateway.features.replay.asking import RequestPacing
from gateway.features.replay.datasets import scan
from gateway.features.replay.gateway_choice import GatewayLocation
from gateway.features.replay.options import ReplayOptions
from gateway.features.replay.pair_scoring import against
from gateway.features.replay.replay import replay
from gateway.scoring.registry import build_all

OPTIONS = ReplayOptions(("one", "two"), ("preferred",), pace=RequestPacing(attempts=1))


def question_of(asked: Received) -> str:
    return str(asked.json["messages"][-1]["content"])


def answers(asked: Received) -> FakeAnswer | str:
    """one: short answers; two: long ones, and an error for each sixth question, where one fails with each tenth."""
    model, prompt = asked.json["model"], question_of(asked)
    if model == "judge":  # it prefers the longer answer, wherever it stands
        first, second = prompt.index("Answer 1"), prompt.index("Answer 2")
        long = "long " * 3 in prompt[first:second]
        return orjson.dumps({"reason": "so", "better": "1" if long else "2"}).decode()
    number = int(prompt.removeprefix("question "))
    if number % (6 if model == "two" else 10) == 5:
        return FakeAnswer(b'{"error": {"message": "no"}}', status=400)
    return "long " * 3 if model == "two" else "short"


@pytest.fixture
def place(gateway_yaml, tmp_path: Path, served) -> GatewayLocation:
    served.replies(answers)
    judge = {"use": "judge", "model": "judge", "kind": "pairwise"}
    upstream_of = {"one": "one", "two": "two", "judge": "one"}
    models = {name: {"targets": [{"upstream": u, "model": f"m-{name}"}]} for name, u in upstream_of.items()}
    path = gateway_yaml(models=models, scorers={"preferred": judge})
    return GatewayLocation(path, load(path), tmp_path / "data", served.base_url)


async def test_the_preference_of_a_judge_is_compared_with_a_tie(
    place: GatewayLocation, questions: Callable[[int], Path], served
) -> None:
    dataset, quiet = scan(questions(60)), lambda _: None
    found = await replay(dataset, OPTIONS, place, quiet, quiet)
    [report] = found.reports
    assert report.primary is not None
    failed_two = {n for n in range(60) if n % 6 == 5}
    failed_one = {n for n in range(60) if n % 10 == 5}
    both = failed_one & failed_two
    pairs = 60 - len(both)
    lost = len(failed_two - failed_one)
    assert report.primary.pairs == pairs, "of two failures nobody is preferred"
    assert report.primary.b.value == pytest.approx((pairs - lost) / pairs)
    assert report.primary.a.value == 0.5
    assert report.primary.difference.value == pytest.approx((pairs - lost) / pairs - 0.5)
    assert (report.wins.wins, report.wins.losses) == (pairs - lost, lost)
    judged = 60 - len(failed_one | failed_two)
    calls = [r for r in served.calls if r.json["model"] == "judge"]
    assert len(calls) == 2 * judged, "in both orders"
    again = await replay(dataset, OPTIONS, place, quiet, quiet)
    assert again.reports[0].primary == report.primary
    assert sum(r.json["model"] == "judge" for r in served.calls) == 2 * judged, "and never again"


async def test_another_control_is_another_comparison(place, questions, served) -> None:
    """The same answers, the other way round."""
    dataset, quiet = scan(questions(30)), lambda _: None
    forward = await replay(dataset, OPTIONS, place, quiet, quiet)
    back = await replay(dataset, replace(OPTIONS, targets=("two", "one")), place, quiet, quiet)
    one, other = forward.reports[0].primary, back.reports[0].primary
    assert one.difference.value > 0
    assert one.difference.value == pytest.approx(-other.difference.value)


def test_the_identity_names_the_control() -> None:
    pairs = build_all({"d": ScorerConfig(use="edit_distance")}).pairs
    hashes = {against(pairs, control)["d"].config_hash for control in ("one", "two")} | {pairs["d"].config_hash}
    assert len(hashes) == 3
