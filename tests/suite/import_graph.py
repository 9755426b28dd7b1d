"""Which test files a change can reach, read from the syntax of the repository: nothing is imported to know it.

A file uses what it imports (in functions and under TYPE_CHECKING too), what its strings name (`"gateway.a.b:Class"`,
programs as text), and, in tests, the scripts and folders of the repository that it names. A test file also uses the
fixtures it asks for and what these use. One that starts `gateway` as a program uses all verbs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path

_DOTTED = re.compile(r"\b[a-z]\w*(?:\.\w+)+")
_FROM = re.compile(r"\bfrom (gateway[\w.]*) import ([\w, ]+)")
_STARTS = re.compile(r"subprocess$|create_subprocess_exec$|Popen$|execv")
_HERE = re.compile(r"ROOT$|__file__|\.parents?\b")

Nodes = Sequence[ast.AST]


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def walk(top: ast.AST) -> Iterator[ast.AST]:
    """All nodes, as ast.walk in another order, in half the time."""
    ahead = [top]
    while ahead:
        node = ahead.pop()
        yield node
        for value in node.__dict__.values():
            if isinstance(value, ast.AST):
                ahead.append(value)
            elif isinstance(value, list):
                ahead += [child for child in value if isinstance(child, ast.AST)]


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All nodes of a file's syntax."""
    return list(walk(syntax(path)))


def outside_functions(path: Path) -> list[ast.AST]:
    """The syntax that runs when a file is imported."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for top in syntax(path).body if not isinstance(top, functions) for node in ast.walk(top)]


def imports(among: Iterable[ast.AST]) -> Iterator[str]:
    """The dotted names that are imported."""
    for node in among:
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names)


def strings(among: Nodes) -> set[str]:
    """The texts in code, without docstrings and other expressions that are a text alone."""
    alone = {id(node.value) for node in among if isinstance(node, ast.Expr)}
    found = (n.value for n in among if isinstance(n, ast.Constant) and id(n) not in alone)
    return {value for value in found if isinstance(value, str)}


def asked(among: Nodes) -> set[str]:
    """Names that may be fixtures: the parameters of functions, and texts."""
    return {node.arg for node in among if isinstance(node, ast.arg)} | strings(among)


def joined(among: Nodes) -> set[str]:
    """First parts of paths that are joined to the repository's root or to the file's own place."""
    divisions = (n for n in among if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div))
    texts = (
        n.right.value for n in divisions if isinstance(n.right, ast.Constant) and _HERE.search(ast.unparse(n.left))
    )
    return {text.partition("/")[0] for text in texts if isinstance(text, str)}


def starts_programs(among: Nodes) -> bool:
    named = (n.id if isinstance(n, ast.Name) else n.attr for n in among if isinstance(n, ast.Name | ast.Attribute))
    return any(map(_STARTS.search, named))


@cache
def fixtures(path: Path) -> dict[str, bool]:
    """The fixtures that a file defines, and whether pytest sets each up without being asked."""
    found = {}
    for node in syntax(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            marks = [m for m in map(ast.unparse, node.decorator_list) if m.startswith("pytest.fixture")]
            if marks:
                found[node.name] = "autouse=True" in marks[0]
    return found


@cache
def _bindings(path: Path) -> dict[str, list[ast.stmt]]:
    """The statements at the top of a file that bind each name."""
    found: dict[str, list[ast.stmt]] = {}
    for node in syntax(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [(a.asname or a.name).partition(".")[0] for a in node.names]
        else:
            names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        for name in names:
            found.setdefault(name, []).append(node)
    return found


@cache
def part(path: Path, names: frozenset[str]) -> tuple[ast.AST, ...]:
    """The syntax of a file that some of its names need."""
    bindings, done, ahead = _bindings(path), set[str](), list(names)
    found: dict[int, ast.AST] = {}
    while ahead:
        name = ahead.pop()
        if name not in done:
            done.add(name)
            for node in (n for statement in bindings.get(name, ()) for n in ast.walk(statement)):
                found[id(node)] = node
                if isinstance(node, ast.Name | ast.arg):
                    ahead.append(node.id if isinstance(node, ast.Name) else node.arg)
    return tuple(found.values())


@cache
def asked_by(path: Path, names: frozenset[str]) -> set[str]:
    """The names that may be fixtures of which the fixtures called names ask."""
    return asked(part(path, names))


class ImportGraph:
    """The Python files of a repository, with tests in tests/ and bench/.

    Those below tests/ are imported as `fixtures.x`, the others by their path.

    files: known and changed ones. What is not there any more is used by those that still name it.
    """

    def __init__(self, root: Path, files: Iterable[Path], package: str = "gateway") -> None:
        self.tests, self._root, self._package = root / "tests", root, root / package
        self._with_tests = (self.tests, root / "bench")
        python = [path for path in files if path.suffix == ".py"]
        self.files = frozenset(path for path in python if path.exists())
        self._named = {self._dotted(path): path for path in python}

    def _dotted(self, path: Path) -> str:
        below = path.relative_to(self.tests if path.is_relative_to(self.tests) else self._root)
        return ".".join(below.parent.parts if path.name == "__init__.py" else below.with_suffix("").parts)

    @cached_property
    def test_files(self) -> list[Path]:
        return sorted(path for path in self.files if self._is_of_tests(path) and path.name.startswith("test_"))

    def _is_of_tests(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self._with_tests)

    def dependents(self, changed: Iterable[Path]) -> list[Path]:
        """The test files that use one of these files, or are one."""
        changed = set(changed)
        reached = self._users(changed)
        return [test for test in self.test_files if test in reached or self._asks_for(test, changed, reached)]

    def direct_dependents(self, changed: Iterable[Path]) -> list[Path]:
        """The test files that use one of these files themselves, or by helpers and fixtures of the tests."""
        changed = set(changed)
        users = self._users(changed, through=self._is_of_tests)
        reached = {path for path in users if path in changed or self._is_of_tests(path)}
        return [test for test in self.test_files if test in reached or self._asks_for(test, changed, reached)]

    @cached_property
    def starting_gateway(self) -> frozenset[Path]:
        """The test files that start `gateway` as a program."""
        return frozenset(self.direct_dependents([self._package / "__main__.py"]))

    def mirrors(self, path: Path) -> tuple[list[Path], list[Path]]:
        """The test file of a module or a file of the package's data, and those of the folder that mirrors its own."""
        if not path.is_relative_to(self._package):
            return [], []
        folder = self.tests / path.parent.relative_to(self._package)
        beside = [test for test in self.test_files if test.parent == folder]
        while not beside and folder != self.tests:
            folder = folder.parent
            beside = [test for test in self.test_files if test.is_relative_to(folder)]
        if folder == self.tests:
            return [], []
        return [test for test in beside if test.name == f"test_{path.stem}.py"], beside

    def fixtures_of(self, test: Path) -> dict[Path, frozenset[str]]:
        """The fixtures of a test file and those that these ask for, by the files that define them."""
        names, before = asked(nodes(test)), -1
        found: dict[Path, frozenset[str]] = {}
        while before != len(names):
            before = len(names)
            for path in self._providers(test):
                found[path] = frozenset(name for name, auto in fixtures(path).items() if auto or name in names)
                names |= asked_by(path, found[path])
        return {path: wanted for path, wanted in found.items() if wanted}

    def is_quick(self, test: Path) -> bool:
        """Whether a test file and its fixtures start and await nothing."""
        return is_pure(nodes(test)) and all(is_pure(part(*each)) for each in self.fixtures_of(test).items())

    def _users(self, changed: set[Path], through: Callable[[Path], bool] = lambda path: True) -> set[Path]:
        """The files that import one of these, directly or not; these included. through: whether what imports a file
        counts too, where the file itself has not changed."""
        done: set[Path] = set()
        ahead = list(changed)
        while ahead:
            path = ahead.pop()
            if path not in done:
                done.add(path)
                ahead += self._importers.get(path, ()) if path in changed or through(path) else ()
        return done

    @cached_property
    def _importers(self) -> dict[Path, set[Path]]:
        found: dict[Path, set[Path]] = {}
        for path in self.files:
            # What a package imports in a function (gateway.read) does not import its modules.
            for each in self._used(path, outside_functions(path) if path.name == "__init__.py" else nodes(path)):
                found.setdefault(each, set()).add(path)
        return found

    def _asks_for(self, test: Path, changed: set[Path], reached: set[Path]) -> bool:
        """Whether the test file asks for a fixture of a changed file, or for one that uses a file of reached."""
        found = self.fixtures_of(test).items()
        return any(path in changed or not reached.isdisjoint(self._used_by(path, names)) for path, names in found)

    @cache  # noqa: B019 - one graph a process
    def _used_by(self, path: Path, names: frozenset[str]) -> set[Path]:
        return self._used(path, part(path, names))

    @cache  # noqa: B019
    def _providers(self, test: Path) -> list[Path]:
        """The files whose fixtures a test file may ask for."""
        above = [folder / "conftest.py" for folder in test.parents if folder.is_relative_to(self._root)]
        return [path for path in (*above, *self._plugins) if path in self.files]

    @cached_property
    def _plugins(self) -> list[Path]:
        conftest = self._root / "conftest.py"
        named = strings(nodes(conftest)) if conftest in self.files else set()
        return [self._named[name] for name in sorted(named) if "." in name and name in self._named]

    def _used(self, path: Path, among: Nodes) -> set[Path]:
        """The files that some of a file's syntax uses, with the packages that Python runs before it imports them."""
        found = {self._module(name) for name in imports(among)} | self._lazy(among)
        found |= {self._beside(path, name.partition(".")[0]) for name in imports(among)}
        # The outermost conftest.py names all files of fixtures: who asks for one of them uses it.
        texts = set() if path == self._root / "conftest.py" else strings(among)
        found |= {self._module(name) for text in texts for name in _names_in(text) if self._exists(name)}
        if self._is_of_tests(path):
            found |= self._run_or_read(path, among, texts)
        known = {each for each in found if each is not None}
        return known | {package for each in known for package in self._packages_of(each)}

    def _module(self, name: str) -> Path | None:
        """The file of the longest beginning of a dotted name that is a module."""
        while name and name not in self._named:
            name = name.rpartition(".")[0]
        return self._named.get(name)

    def _lazy(self, among: Nodes) -> set[Path | None]:
        """The modules that the package imports for an attribute, as `import gateway` and gateway.read."""
        bare = {each.name for node in among if isinstance(node, ast.Import) for each in node.names}
        init = self._package / "__init__.py"
        if self._package.name not in bare or init not in self.files:
            return set()
        return {self._module(name) for name in strings(nodes(init)) if self._exists(name)}

    def _exists(self, name: str) -> bool:
        """Whether at least two parts of a name are a module's: gateway.yaml is a file, not one."""
        return ".".join(name.split(".")[:2]) in self._named

    def _packages_of(self, path: Path) -> Iterator[Path]:
        yield from (folder / "__init__.py" for folder in path.parents if folder / "__init__.py" in self.files)

    def _beside(self, path: Path, name: str) -> Path | None:
        """A module that a script of the same folder imports by its bare name."""
        beside = path.with_name(f"{name}.py")
        return beside if beside in self.files else None

    def _run_or_read(self, path: Path, among: Nodes, texts: set[str]) -> set[Path | None]:
        """Names that tests start as programs (the package among them), load by name, or read as a folder."""
        found = {self._beside(path, text) for text in texts if text.isidentifier()}
        if self._package.name in texts and starts_programs(among):
            found.add(self._package / "__main__.py")
        for script in (Path(text).name for text in texts if text.endswith(".py")):
            found |= self._scripts.get(script, set())
        return found.union(*(self._below.get(name, ()) for name in joined(among)))

    @cached_property
    def _scripts(self) -> dict[str, set[Path]]:
        """The files outside the package, by their name."""
        found: dict[str, set[Path]] = {}
        for path in self.files:
            if not path.is_relative_to(self._package):
                found.setdefault(path.name, set()).add(path)
        return found

    @cached_property
    def _below(self) -> dict[str, set[Path]]:
        """The files, by the first part of their path."""
        found: dict[str, set[Path]] = {}
        for path in self.files:
            found.setdefault(path.relative_to(self._root).parts[0], set()).add(path)
        return found


STARTING = {"socket", "socketserver", "Thread", "fork", "create_engine", "connect_writer", "servers", "_servers"}


def is_pure(among: Nodes) -> bool:
    """Whether code starts no program and no server, opens no store, and awaits nothing."""
    waits = any(isinstance(node, ast.Await | ast.AsyncFunctionDef) for node in among)
    named = {n.id if isinstance(n, ast.Name) else n.attr for n in among if isinstance(n, ast.Name | ast.Attribute)}
    return not waits and not starts_programs(among) and not named & STARTING


def _names_in(text: str) -> Iterator[str]:
    """Dotted names in a text, which may be a program."""
    yield from _DOTTED.findall(text)
    for module, names in _FROM.findall(text):
        yield from (f"{module}.{name.strip()}" for name in names.split(","))
