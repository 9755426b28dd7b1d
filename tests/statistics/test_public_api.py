"""gateway.statistics as a library: its names, what it imports, its page and the page's examples."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gateway import statistics

ROOT = Path(__file__).parents[2]
SURFACE = Path(__file__).with_name("public_surface.txt")
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The module docs/statistics_api.py."""
    spec = importlib.util.spec_from_file_location("statistics_api", ROOT / "docs" / "statistics_api.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # dataclasses look their module up
    spec.loader.exec_module(made)
    return made


def test_a_public_name_or_signature_changes_on_purpose(generator: ModuleType) -> None:
    """The lines of public_surface.txt. To change one on purpose: edit the file, and name the change in changes/
    (docs/statistics-api.md, "What is promised", says which version it needs)."""
    assert generator.surface() == SURFACE.read_text().splitlines()


def test_every_public_name_is_there_and_none_is_a_module() -> None:
    """A module of the same name would take the place of the function once it is imported."""
    modules = {path.stem for path in (ROOT / "gateway" / "statistics").glob("*.py")}
    assert modules & set(statistics.__all__) == set()
    assert dir(statistics) == statistics.__all__ == sorted(statistics.__all__)
    for name in statistics.__all__:
        assert getattr(statistics, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'fit'"):
        _ = statistics.fit


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(statistics.__file__).read_text())
    [seen] = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {alias.name: node.module for node in seen.body for alias in getattr(node, "names", ())}
    assert imported == {name: statistics.module_of(name) for name in statistics.__all__}


def test_the_page_is_what_the_docstrings_say(generator: ModuleType) -> None:
    assert generator.PAGE.read_text() == generator.page(), "run `make generate`"


def test_every_public_docstring_has_domain_and_source(generator: ModuleType) -> None:
    """Results and arguments that are only data have their meaning at their fields, or say it in one sentence."""
    for each in generator.public_names():
        data = each.name[0].isupper() and not any(member.startswith("add(") for member, _ in each.members)
        assert each.docstring.endswith((".", ")")), each.name
        if not data:
            assert "Source:" in each.docstring, each.name
            assert "ValueError" in each.docstring, each.name
            assert all(text for _, text in each.members), each.name


def test_importing_it_imports_nothing_but_numpy() -> None:
    """Imports in a process in which every other package that is installed is missing."""
    program = """
import json, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {*sys.stdlib_module_names, "gateway", "numpy"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import gateway.statistics
first = sorted(name for name in sys.modules if name.split(".")[0] in ("gateway", "numpy"))
for name in gateway.statistics.__all__:
    getattr(gateway.statistics, name)
print(json.dumps([first, sorted(name for name in sys.modules if name.startswith("gateway"))]))
"""
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    first, everything = json.loads(done.stdout)
    assert first == ["gateway", "gateway.statistics"], "names are imported when they are used"
    own = {name for name in everything if not name.startswith("gateway.statistics.")}
    assert own == {"gateway", "gateway.core", "gateway.core.horizon", "gateway.statistics"}


def examples() -> list[tuple[str, str]]:
    """(the code, what the page says it prints)."""
    page = (ROOT / "docs" / "statistics-api.md").read_text()
    return re.findall(r"```python run\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)


def test_the_examples_print_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    found = examples()
    assert len(found) == 3
    for code, printed in found:
        exec(compile(code, "docs/statistics-api.md", "exec"), {})  # noqa: S102 - the page's own code
        assert capsys.readouterr().out == printed


def with_properties() -> set[str]:
    """The names that tests with `@given` in this folder use."""
    named: set[str] = set()
    for path in TESTS.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any("given(" in ast.unparse(d) for d in node.decorator_list):
                parts = (node, *node.decorator_list)
                named |= {n.id for part in parts for n in ast.walk(part) if isinstance(n, ast.Name)}
    return named


def test_every_public_function_and_sequence_has_a_property_test(generator: ModuleType) -> None:
    computes = {
        each.name
        for each in generator.public_names()
        if each.name[0].islower() or any("(" in shown for shown, _ in each.members)
    }
    assert computes - with_properties() == set()
