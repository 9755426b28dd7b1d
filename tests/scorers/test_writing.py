"""docs/scorers.md: its examples are run, and its tables are complete."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
import yaml

from gateway.config.loading import parse
from gateway.config.scorers import ScorerConfig as Section
from gateway.config.scorers import with_questions_apart
from gateway.scoring.asker import ExternalServices
from gateway.scoring.registry import SCORERS, build_all

PAGE = (Path(__file__).parents[2] / "docs" / "scorers.md").read_text(encoding="utf-8")
CONFIG = """
open: true
upstreams: {a: {kind: fake}}
models: {referee: {targets: [{upstream: a, model: m}]}}
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_every_scorer_is_in_a_table():
    cells = re.findall(r"^\| ([^|]*)", PAGE, re.MULTILINE)  # the first of each row
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert not set(SCORERS) - listed - {"grader"}
    assert "use: grader" in PAGE


def test_a_scorer_is_fifteen_lines_that_score(module, model, tmp_path):
    """A user does it so: a file on the path and a line in the config."""
    scorer, _ = blocks("python")
    lines = [line for line in scorer.splitlines() if line.strip()]
    assert len(lines) <= 15
    module("polite", scorer)
    (config,) = [text for text in blocks("yaml") if "polite" in text]
    built = build_all(parse(CONFIG + config).scorers)
    registered = built.single["polite"]
    assert (registered.foreign, registered.scorer.word) == (True, "thank")


async def test_the_documented_scorer_scores(module, model, subject):
    module("polite", blocks("python")[0])
    registered = model.build("polite", use="polite:Polite")
    results = [await model.result(registered, subject(text)) for text in ("Please!", "Now!", "")]
    assert [r.score.value if r.score else r.explanation for r in results] == [1.0, 0.0, "a text"]


@pytest.fixture
def service() -> Iterator[str]:
    """The service of the page, served as its readers would."""
    names: dict[str, object] = {}
    exec(blocks("python")[1], names)  # noqa: S102 - our own page
    server = uvicorn.Server(uvicorn.Config(names["app"], port=0, log_level="error"))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ends = time.monotonic() + 10
    while not server.started and time.monotonic() < ends:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/score"
    server.should_exit = True
    thread.join()


async def test_the_documented_service_scores(service, model, subject):
    registered = model.build("far", use=service)
    result = await model.result(registered, subject("Please!"))
    assert (result.score.value, result.explanation) == (1.0, "looked for please")


def test_every_config_of_the_page_is_one(module, tmp_path):
    module("mypackage", "")
    module("polite", blocks("python")[0])
    tone = blocks("python")[0].replace("class Polite", "class Tone")
    module("tone_of_mine", tone)
    for text in blocks("yaml"):
        text = text.replace("mypackage.tone:Tone", "tone_of_mine:Tone")
        raw = yaml.safe_load(text)
        key = 'keys: [{name: evals, sha256: "%s", sample: never}]\n' % ("0" * 64) if "evals" in raw else ""
        read = parse(CONFIG.replace("open: true", key or "open: true") + text, environ={"EVALS_KEY": "sk-x"})
        outside = ExternalServices(None, directory=tmp_path)  # type: ignore[arg-type]
        built = build_all(read.scorers, outside)
        assert set(built.all()) == set(with_questions_apart(raw.get("scorers", {})))


def test_the_common_keys_are_those_of_a_section():
    table = PAGE.partition("Every section may also have")[2].partition("\n\nEach exchange")[0]
    listed = {
        name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert listed == set(Section.model_fields)
