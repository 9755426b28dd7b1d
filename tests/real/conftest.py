"""Real engines, one after the other, each behind a `gateway up`; and the table of what was seen, for docs/.

Started by `make test-real`. An engine that could not be installed is skipped with the reason.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"real_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_stage = _load("stage")
REPORT = _stage.REAL / "report.md"
PAGE = _stage.ROOT / "docs" / "contributing" / "real-engines.md"
INTRO = """\
# Real engines

`make test-real` installs vLLM's CPU build, Ray Serve, Hugging Face's transformers and Open WebUI, each in its own
environment under `.real/`, and starts them one after the other. The tests send requests to each engine through a
gateway. They check a plain answer, a stream, usage, a client that disconnects, the load that the engine reports, the
requests that it rejects, and what happens when it is killed in the middle of an answer. Every engine serves
SmolLM2-135M-Instruct, which comes from a package. `gateway up` itself starts vLLM and llama.cpp
(`upstreams.NAME.run`). Third-party clients (the blocks of [clients](../clients.md)) and coding agents run against the
fake upstream.

If a program could not be installed, it is listed here with the reason. Each complete run writes this page.
"""


class Journal:
    """Results by engine and check. notes: of an engine: its versions, or why it was not there."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, str]] = {}
        self.notes: dict[str, str] = {}

    def note(self, engine: str, check: str, what: str) -> None:
        self.seen.setdefault(engine, {})[check] = what

    def markdown(self) -> str:
        engines = [e.name for e in _stage.ENGINES if e.name in self.notes]
        checks = list(dict.fromkeys(check for name in engines for check in self.seen.get(name, {})))
        rows = ["| |" + "".join(f" {name} |" for name in engines), "|---|" + "---|" * len(engines)]
        for check in checks:
            cells = (self.seen.get(name, {}).get(check, "–") for name in engines)
            rows.append(f"| {check} |" + "".join(f" {cell} |" for cell in cells))
        others = []
        for name, note in self.notes.items():
            if name not in engines:
                others += [f"- {name}: {note}", *(f"  - {c}: {what}" for c, what in self.seen.get(name, {}).items())]
        return "\n".join([*(f"- {name}: {self.notes[name]}" for name in engines), "", *rows, "", *others, ""])


JOURNAL = pytest.StashKey[Journal]()
BEGAN = pytest.StashKey[float]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[JOURNAL] = Journal()
    config.stash[BEGAN] = time.monotonic()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: pytest.CallInfo[None]) -> Any:
    """A check that failed leaves no word of its own: it is named by what it would have shown."""
    report = yield
    if report.failed:
        engine = getattr(item, "callspec", None) and item.callspec.params.get("stage")
        name = engine.name if engine else Path(item.location[0]).stem.removeprefix("test_").replace("_", "-")
        item.config.stash[JOURNAL].note(name, item.originalname.removeprefix("test_").replace("_", " "), "**failed**")
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The report of a run; that of a whole one is also the page in docs/."""
    journal = session.config.stash[JOURNAL]
    if not journal.notes:
        return
    took = time.monotonic() - session.config.stash[BEGAN]
    where = f"{platform.system()}, Python {platform.python_version()}, {os.cpu_count()} shared cores, no GPU"
    result = f"{session.testscollected} checks, {session.testsfailed} failed, {took / 60:.0f} minutes"
    report = f"Last run, {time.strftime('%Y-%m-%d')}; {where}; {result}.\n\n{journal.markdown()}"
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(report)
    if not session.config.option.keyword and len(journal.notes) == len(_stage.ENGINES) + 8:
        PAGE.write_text(f"{INTRO}\n{report}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if terminalreporter.config.stash[JOURNAL].notes:
        terminalreporter.write_line(REPORT.read_text())


@pytest.fixture(scope="session")
def journal(request: pytest.FixtureRequest) -> Journal:
    """The journal of the run, which becomes docs/contributing/real-engines.md."""
    return request.config.stash[JOURNAL]


@pytest.fixture(scope="session")
def stages() -> Any:
    """Starts a real engine by name behind a gateway: an asynchronous context manager."""
    return _stage


@pytest.fixture(scope="session")
def model() -> Path:
    """The folder of SmolLM2 in the hub's format, converted once."""
    folder = Path(_stage.REAL / "smollm2")
    if not (folder / "model.safetensors").exists():
        engine = next(e for e in _stage.ENGINES if e.name == "transformers")
        if engine.missing:
            pytest.skip(f"no model in the hub's form: {engine.missing}")
        script = str(Path(__file__).with_name("convert.py"))
        subprocess.run(
            [engine.python, script, str(folder)], check=True, capture_output=True, env=os.environ | _stage.QUIET
        )
    return folder


@pytest.fixture(scope="module", params=_stage.ENGINES, ids=lambda e: e.name)
def stage(request: pytest.FixtureRequest, journal: Journal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real engine behind a gateway, started once for all checks of it."""
    engine = request.param
    if engine.missing:
        journal.notes[engine.name] = engine.missing
        pytest.skip(engine.missing)
    if engine.name in ("vllm", "transformers"):
        request.getfixturevalue("model")
    journal.notes[engine.name] = f"{engine.title} ({engine.versions()})"
    with _stage.staged(engine, tmp_path_factory.mktemp(engine.name)) as running:
        journal.note(engine.name, "ready after", f"{running.started_s:.0f} s")
        yield running


@pytest.fixture(scope="module")
def installed(stages: Any, journal: Any) -> Path:
    """The folder of the installed agents; skipped, with the reason, where they are missing."""
    folder = Path(stages.REAL / "agents")
    if not (folder / "installed").exists():
        failed = folder / "failed"
        why = failed.read_text().strip().splitlines()[-1] if failed.exists() else "run `make test-real`"
        journal.notes["agents"] = f"not installed: {why}"
        pytest.skip(journal.notes["agents"])
    journal.notes["agents"] = "coding agents, on the fake upstream"
    return folder
