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


class Journal:
    """What was seen, by engine and check. notes: of an engine: its versions, or why it was not there."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, str]] = {}
        self.notes: dict[str, str] = {}

    def note(self, engine: str, check: str, what: str) -> None:
        self.seen.setdefault(engine, {})[check] = what

    def markdown(self) -> str:
        engines = list(self.notes)
        checks = list(dict.fromkeys(check for name in engines for check in self.seen.get(name, {})))
        rows = ["| |" + "".join(f" {name} |" for name in engines), "|---|" + "---|" * len(engines)]
        for check in checks:
            cells = (self.seen.get(name, {}).get(check, "–") for name in engines)
            rows.append(f"| {check} |" + "".join(f" {cell} |" for cell in cells))
        return "\n".join([*(f"- {name}: {note}" for name, note in self.notes.items()), "", *rows, ""])


JOURNAL = pytest.StashKey[Journal]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[JOURNAL] = Journal()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The report of a run; docs/real-engines.md holds that of the last whole one."""
    journal = session.config.stash[JOURNAL]
    if journal.notes:
        when = time.strftime("%Y-%m-%d")
        where = f"{platform.system()}, Python {platform.python_version()}, {os.cpu_count()} shared cores, no GPU"
        failed = f"{session.testscollected} checks, {session.testsfailed} failed"
        REPORT.write_text(f"Last run, {when}; {where}; {failed}.\n\n{journal.markdown()}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if terminalreporter.config.stash[JOURNAL].notes:
        terminalreporter.write_line(REPORT.read_text())


@pytest.fixture(scope="session")
def journal(request: pytest.FixtureRequest) -> Journal:
    return request.config.stash[JOURNAL]


@pytest.fixture(scope="session")
def stages() -> Any:
    return _stage


@pytest.fixture(scope="session")
def model() -> Path:
    """SmolLM2 in the form of the hub, converted once."""
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
