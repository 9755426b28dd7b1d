"""The Makefile's targets of a contributor, with programs that only note what they were called with."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = ".ci/constraints.txt"
STAMPS = (".made", ".core", ".up", ".test", ".dev")
LINTERS = ("ruff check .", "ruff format --check .", "mypy", "codespell gateway")
pytestmark = pytest.mark.quick


class Checkout:
    """A folder with the Makefile and an environment whose programs write their words to a log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.venv, self._log = folder, folder / ".venv", folder / "log"
        for name in ("Makefile", "pyproject.toml", LOCK):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        self.program("bin/uv")

    def program(self, name: str, status: int = 0) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{path.name} $*" >>"{self._log}"\nexit {status}\n')
        path.chmod(0o755)

    def install(self, failing: Iterable[str] = ()) -> None:
        """Makes the environment as `make` leaves it."""
        for name in ("ruff", "mypy", "codespell"):
            self.program(f".venv/bin/{name}", int(name in failing))
        for name in STAMPS:
            (self.venv / name).touch()

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": f"{self.folder / 'bin'}:/usr/local/bin:/usr/bin:/bin"}
        command = ["make", "--no-print-directory", *words]  # of Debian, as .ci/run installs it
        return subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A folder with the Makefile and programs that note their words."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    return Checkout(tmp_path)


@pytest.mark.parametrize("failing", [(), ("mypy",), ("ruff", "codespell")])
def test_every_linter_runs_and_each_that_failed_is_named(checkout: Checkout, failing: tuple[str, ...]) -> None:
    checkout.install(failing)
    done = checkout.make("lint")
    assert [call.startswith(linter) for call, linter in zip(checkout.calls, LINTERS, strict=True)] == [True] * 4
    assert (done.returncode == 0) == (not failing)
    assert all(name in done.stderr for name in failing)


def test_code_that_cannot_be_repaired_is_formatted(checkout: Checkout) -> None:
    checkout.install(["ruff"])
    assert checkout.make("format").returncode
    assert checkout.calls == ["ruff check --fix .", "ruff format ."]


@pytest.mark.parametrize("target", ["test", "lint", "docs"])
def test_tests_and_linters_have_the_locked_versions(checkout: Checkout, target: str) -> None:
    shown = checkout.make("--dry-run", target).stdout
    installs = [line for line in shown.splitlines() if "pip install" in line and "--no-deps" not in line]
    assert installs
    assert all(f" -c {LOCK} " in line for line in installs)


def test_generated_files_need_no_model(checkout: Checkout) -> None:
    shown = checkout.make("--dry-run", "generate").stdout
    assert "install --quiet --compile-bytecode --python .venv/bin/python -e .\n" in shown
    assert "local" not in shown
    assert "smollm2" not in shown


def test_an_environment_that_make_did_not_create_is_used(checkout: Checkout) -> None:
    (checkout.venv / "bin").mkdir(parents=True)
    (checkout.venv / "bin" / "python").symlink_to(sys.executable)
    done = checkout.make(".venv/.made")
    assert (done.stdout, checkout.calls) == ("using the virtual environment that is in .venv\n", [])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 127", ".venv is there, but .venv/bin/python does not run: remove it (rm -r .venv)"),
        (
            '[ "$1" = "--version" ] && echo Python 3.9.2 || [ -z "$2" ]',
            "Python 3.11 or newer is needed, not Python 3.9.2 of .venv",
        ),
    ],
    ids=["broken", "old"],
)
def test_an_environment_of_no_use_says_what_to_do(checkout: Checkout, script: str, words: str) -> None:
    python = checkout.venv / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    done = checkout.make(".venv/.made")
    assert done.returncode
    assert words in done.stderr
    assert checkout.calls == []


def test_the_lock_has_a_version_for_every_requirement() -> None:
    """`make lock` renews it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for name in ("local", "test", "docs", "dev") for line in extras[name])]
    lines = [line for line in (ROOT / LOCK).read_text("utf-8").splitlines() if not line.startswith("#")]
    locked: dict[str, list[str]] = {}
    for requirement in map(Requirement, lines):
        locked.setdefault(_name(requirement), []).append(str(requirement.specifier).removeprefix("=="))
    for requirement in map(Requirement, wanted):
        versions = locked.get(_name(requirement), [])
        assert versions, f"{requirement} is not in {LOCK}: run make lock"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: run make lock"


def _name(requirement: Requirement) -> str:
    return requirement.name.lower().replace("_", "-").replace(".", "-")
