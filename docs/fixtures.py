"""Writes docs/contributing/fixtures.md from the docstrings of the tests' fixtures: `python docs/fixtures.py`.

Only fixtures that several files can use are listed: those of tests/fixtures/ and of each conftest.py. A test fails when
the page is not what this makes, and when any fixture has no docstring.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
PAGE = Path(__file__).parent / "contributing" / "fixtures.md"
HEAD = """\
# Fixtures

The fixtures that several test files share. `python docs/fixtures.py` writes this page from their docstrings, and
`make generate` runs it. Fixtures of one file are described in that file. `pytest --fixtures FOLDER` lists what the
tests of a folder can use.

A fixture without a scope is made for each test. Those of a `conftest.py` belong to the tests of its folder; all others
can be used everywhere.

## Where to begin

| fixture | in | what it is |
|---|---|---|
"""
FIRST = (
    ("conftest.py", "stream_url"),
    ("conftest.py", "stream_name"),
    ("fixtures/consoles.py", "corridor"),
    ("fixtures/stores.py", "store"),
    ("fixtures/rooms.py", "exchange"),
    ("fixtures/rooms.py", "room"),
    ("fixtures/scoring.py", "subject"),
    ("fixtures/console_pages.py", "pages"),
    ("fixtures/verb_gateways.py", "gateway"),
    ("proxy/conftest.py", "configured"),
    ("proxy/conftest.py", "upstream"),
    ("proxy/conftest.py", "start"),
)
"""The dozen that most tests need: the file in tests/, and the name. They are listed first, and not with their file."""


@dataclass(frozen=True)
class Fixture:
    """One fixture, as its definition reads."""

    name: str
    scope: str
    """Empty: a new one for each test."""
    automatic: bool
    docstring: str


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    parts = [HEAD, *(f"{_first(file, name)}\n" for file, name in FIRST)]
    for path in shared():
        first = {name for file, name in FIRST if TESTS / file == path}
        rows = [_row(fixture) for fixture in fixtures(path) if fixture.name not in first]
        if rows:
            name = path.relative_to(ROOT).as_posix()
            parts.append(f"\n## `{name}`\n\n| fixture | scope | what it is |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def shared() -> list[Path]:
    """tests/conftest.py first, then tests/fixtures/, then each folder's conftest.py."""
    others = sorted(path for path in TESTS.rglob("conftest.py") if path.parent != TESTS)
    return [TESTS / "conftest.py", *sorted((TESTS / "fixtures").glob("*.py")), *others]


def fixtures(path: Path) -> Iterator[Fixture]:
    """The fixtures that a file defines, in its order."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                call = decorator if isinstance(decorator, ast.Call) else ast.Call(decorator, [], [])
                if ast.unparse(call.func) in ("pytest.fixture", "pytest_asyncio.fixture"):
                    given = {each.arg: ast.literal_eval(each.value) for each in call.keywords if _literal(each.value)}
                    yield Fixture(
                        given.get("name", node.name),
                        given.get("scope", ""),
                        given.get("autouse", False),
                        ast.get_docstring(node) or "",
                    )


def _literal(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant)


def _first(file: str, name: str) -> str:
    """The row of a fixture of FIRST."""
    [fixture] = [each for each in fixtures(TESTS / file) if each.name == name]
    return f"| `{name}` | `tests/{file}` | {_words(fixture)} |"


def _row(fixture: Fixture) -> str:
    scope = fixture.scope + ", automatic" * fixture.automatic
    return f"| `{fixture.name}` | {scope.removeprefix(', ') or '–'} | {_words(fixture)} |"


def _words(fixture: Fixture) -> str:
    return " ".join(fixture.docstring.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
