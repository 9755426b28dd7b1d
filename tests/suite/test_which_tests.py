"""A small repository: what a change in it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from suite.import_graph import is_pure, nodes
from suite.which_tests import Selection, base_of, changes, files, git

REPOSITORY = {
    "gateway/__init__.py": 'def __getattr__(name):\n    return import_module("gateway.reader")\n',
    "gateway/__main__.py": "import gateway.verbs\n",
    "gateway/verbs.py": "from gateway import middle\n",
    "gateway/middle.py": "def late():\n    from gateway.low import number\n",
    "gateway/low.py": "number = 1\n",
    "gateway/reader.py": "",
    "gateway/plug.py": "",
    "gateway/alone.py": "",
    "conftest.py": 'pytest_plugins = ["fixtures.stores"]\n',
    "tests/fixtures/stores.py": (
        "import pytest\nfrom gateway import middle\n\n@pytest.fixture\ndef store(path): return middle\n\n"
        "@pytest.fixture\ndef path(): return 1\n"
    ),
    "tests/test_direct.py": "from gateway.low import number\n",
    "bench/stage.py": "from gateway.low import number\n",
    "bench/test_speed.py": "import stage\n",
    "tests/test_fixture.py": "def test_it(store): ...\n",
    "tests/test_other_fixture.py": "def test_it(path): ...\n",
    "tests/test_lazy.py": "import gateway\n",
    "tests/test_string.py": 'USE = "gateway.plug:Class"\n',
    "tests/test_program.py": 'import subprocess\nsubprocess.run(["python", "-m", "gateway", "x"])\n',
    "tests/test_nothing.py": 'PATH = "gateway.yaml"\n',
    "tests/test_page.py": 'NAME = "guide.md"\n',
    "tests/test_folder.py": 'import x\nROOT = x\nFOUND = ROOT / "deploy"\n',
    "deploy/compose.yaml": "",
    "docs/guide.md": "",
    "gateway/page.jinja": "",
    "gateway/room/__init__.py": "",
    "gateway/room/page.py": 'from gateway.low import number\nTEMPLATE = "room.html.jinja"\n',
    "gateway/room/templates/room.html.jinja": "",
    "tests/room/test_page.py": "from gateway.room import page\n",
    "tests/room/test_cli.py": 'import subprocess\nsubprocess.run(["python", "-m", "gateway", "x"])\n',
    "pyproject.toml": "",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The root of a git repository that has REPOSITORY in one commit on main."""
    for name, text in REPOSITORY.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for words in ("init -q -b main", "add -A", "-c user.name=n -c user.email=e commit -q -m first"):
        git(tmp_path, *words.split())
    return tmp_path


@pytest.fixture
def run_after(repository: Path) -> Callable[..., set[str]]:
    """The names of the test files that run after a change of some files."""

    def selected(*names: str) -> set[str]:
        paths = [repository / name for name in names]
        for path in paths:
            path.write_text((path.read_text() if path.exists() else "") + "\n")
        assert changes(repository, base_of(repository)) == paths
        selection = Selection(repository, files(repository), paths)
        assert selection.undecided() is None
        return {path.stem.removeprefix("test_") for path in selection.of_changes()}

    return selected


@pytest.mark.parametrize(
    ("changed", "run"),
    [
        ("gateway/low.py", {"cli", "direct", "fixture", "page", "program", "speed"}),
        ("gateway/verbs.py", {"cli", "program"}),
        ("gateway/reader.py", {"lazy"}),
        ("gateway/plug.py", {"string"}),
        ("gateway/alone.py", set()),
        ("gateway/__init__.py", {"cli", "direct", "fixture", "lazy", "page", "program", "speed", "string"}),
        ("tests/fixtures/stores.py", {"fixture", "other_fixture"}),
        ("tests/test_nothing.py", {"nothing"}),
        ("tests/test_new.py", {"new"}),
        ("docs/guide.md", {"page"}),
        ("deploy/compose.yaml", {"folder"}),
    ],
)
def test_a_change_runs_the_files_that_use_it(run_after: Callable[..., set[str]], changed: str, run: set[str]) -> None:
    assert run_after(changed) == run


ROOM = {"tests/room/test_page.py", "tests/room/test_cli.py"}


@pytest.mark.parametrize(
    ("changed", "run"),
    [
        ("gateway/low.py", {"tests/test_direct.py", "bench/test_speed.py"}),
        ("gateway/middle.py", {"tests/test_fixture.py"}),
        ("gateway/verbs.py", set()),
        ("gateway/room/page.py", ROOM),
        ("gateway/room/templates/room.html.jinja", ROOM),
        ("tests/test_program.py", {"tests/test_program.py"}),
        ("docs/guide.md", {"tests/test_page.py"}),
        ("docs/other.md", set()),
        ("deploy/compose.yaml", {"tests/test_folder.py"}),
        ("conftest.py", set()),
    ],
)
def test_the_close_tests_are_those_beside_and_direct_users(repository: Path, changed: str, run: set[str]) -> None:
    """A test that starts `gateway` uses every module: it is close to those of its folder alone."""
    selection = Selection(repository, files(repository), [repository / changed])
    assert {path.relative_to(repository).as_posix() for path in selection.close()} == run


def test_the_budget_keeps_changed_tests_and_mirrors(repository: Path) -> None:
    durations = '{"tests/room/test_page.py": 5.0, "tests/room/test_cli.py": 6.0, "tests/test_program.py": 900.0}'
    (repository / "tests" / "durations.json").write_text(durations)
    paths = [repository / name for name in ("gateway/room/page.py", "tests/test_program.py")]
    selection = Selection(repository, files(repository), paths)
    assert {path.name for path in selection.close(budget_s=8.0)} == {"test_page.py", "test_program.py"}
    assert len(selection.close(budget_s=20.0)) == 3


SHARES = """
import json, sys
from pathlib import Path
from suite.which_tests import Selection, files

root, found = Path(sys.argv[1]), []
known, graph = files(root), None
for names in json.loads(sys.argv[2]):
    selection = Selection(root, known, [root / name for name in names])
    graph = selection.graph = graph or selection.graph
    found.append([len(selection.close()), len(graph.test_files)])
print(json.dumps(found))
"""
ROUTINE = (
    ("gateway/features/learned/page.py", "gateway/features/learned/templates/predictor.html.jinja"),
    ("gateway/features/learned/cli.py", "gateway/features/learned/report.py", "gateway/features/learned/__init__.py"),
    ("gateway/scorers/contains.py", "gateway/scoring/registry.py"),
)
"""Files of CONTRIBUTING's page, verb and scorer."""


@pytest.mark.timeout(600)
def test_a_routine_change_runs_a_quarter_of_the_files_at_most() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", SHARES, str(root), json.dumps(ROUTINE)]
    printed = subprocess.run(command, cwd=root / "tests", stdout=subprocess.PIPE, text=True, check=True).stdout
    for close, known in json.loads(printed):
        assert 0 < close <= known / 4


def test_a_deleted_module_runs_those_that_still_import_it(repository: Path) -> None:
    (repository / "gateway/low.py").unlink()
    found = Selection(repository, files(repository), changes(repository, "HEAD")).of_changes()
    names = {path.name.removeprefix("test_").removesuffix(".py") for path in found}
    assert names == {"cli", "direct", "fixture", "page", "program", "speed"}


@pytest.mark.parametrize("name", ["conftest.py", "pyproject.toml", "gateway/page.jinja", "tests/servers.py"])
def test_a_change_that_no_import_shows_runs_everything(repository: Path, name: str) -> None:
    path = repository / name
    assert Selection(repository, files(repository), [path]).undecided() == path


def test_a_branch_is_compared_with_where_it_left_main(repository: Path) -> None:
    [first] = git(repository, "rev-parse", "HEAD")
    (repository / "gateway/alone.py").write_text("x = 1\n")
    git(repository, "checkout", "-q", "-b", "branch")
    git(repository, *["-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-a", "-m", "second"])
    assert base_of(repository) == first
    assert changes(repository, first) == [repository / "gateway/alone.py"]


@pytest.mark.parametrize(
    ("text", "pure"),
    [
        ("def test_it(): assert 1\n", True),
        ("async def test_it(): ...\n", False),
        ("import subprocess\nsubprocess.run(['x'])\n", False),
        ("import socket\ns = socket.socket()\n", False),
    ],
)
def test_quick_tests_start_and_await_nothing(tmp_path: Path, text: str, pure: bool) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(text)
    assert is_pure(nodes(path)) is pure


def test_the_program_explains_wrong_words() -> None:
    script = Path(__file__).with_name("which_tests.py")
    done = subprocess.run([sys.executable, str(script), "fast"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "quick" in done.stderr
