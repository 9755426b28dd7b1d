"""Prints the test files that a run needs, one a line, and on stderr why.

python tests/suite/which_tests.py changed [BASE]   that are close to what has changed since BASE (where HEAD left main)
python tests/suite/which_tests.py reached [BASE]   all that use what has changed
python tests/suite/which_tests.py quick            that start and simulate nothing, and those that are marked quick

Close are the changed test files, those that mirror a changed module or its folder, and those that import the module
and do not start `gateway`, which uses every module: as many as take BUDGET_S.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
from fixtures.durations import UNKNOWN_S, read
from suite.import_graph import ImportGraph, joined, nodes, strings

ROOT = Path(__file__).resolve().parents[2]
BUDGET_S = 100.0
"""Seconds that the files close to a change may take together, besides the changed tests, by tests/durations.json and
COLLECTION_S: two minutes on two cores.
"""
COLLECTION_S = 0.7
"""Seconds for each file, which every worker of pytest collects."""


def git(root: Path, *words: str) -> list[str]:
    """The lines that git prints. Raises CalledProcessError."""
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)  # noqa: S607
    return done.stdout.splitlines()


def base_of(root: Path) -> str:
    """Commit at which HEAD left main; HEAD itself if there is no main."""
    for branch in ("origin/main", "main"):
        try:
            return git(root, "merge-base", "HEAD", branch)[0]
        except subprocess.CalledProcessError:
            continue
    return "HEAD"


def files(root: Path) -> list[Path]:
    """Files of the working tree that git knows of and does not ignore."""
    return [root / name for name in git(root, "ls-files", "--cached", "--others", "--exclude-standard")]


def changes(root: Path, base: str) -> list[Path]:
    """The files that differ from base, with those that are new and not yet added."""
    names = git(root, "diff", "--name-only", "--no-renames", base) + git(
        root, "ls-files", "--others", "--exclude-standard"
    )
    return [root / name for name in dict.fromkeys(names)]


class Selection:
    """The test files of one repository."""

    def __init__(self, root: Path, known: Iterable[Path], changed: Sequence[Path] = ()) -> None:
        self.root, self.changed = root, list(changed)
        self.graph = ImportGraph(root, [*known, *self.changed])

    def undecided(self) -> Path | None:
        """A changed file whose users no import shows."""
        return next((path for path in self.changed if not self._decided(path)), None)

    def _decided(self, path: Path) -> bool:
        below = path.relative_to(self.root)
        if path.suffix == ".md" or (below.parts[0] not in ("gateway", "tests", "bench") and self._readers(path)):
            return True
        loaded_by_all = path.parent == self.graph.tests and not path.name.startswith("test_")
        return path.suffix == ".py" and not loaded_by_all and path.name != "conftest.py"

    def _readers(self, path: Path) -> list[Path]:
        """The test files that read a page or name the folder of a file that is not Python."""
        top = path.relative_to(self.root).parts[0]
        page = path.suffix == ".md"
        tests = self.graph.test_files
        return [t for t in tests if top in joined(nodes(t)) or (page and ".md" in t.read_text(encoding="utf-8"))]

    def of_changes(self) -> list[Path]:
        code = [path for path in self.changed if path.suffix == ".py"]
        found = set(self.graph.dependents(code))
        found |= {test for path in self.changed if path.suffix != ".py" for test in self._readers(path)}
        return sorted(found)

    def close(self, budget_s: float = BUDGET_S) -> list[Path]:
        """The files to run after an edit. The changed tests are among them whatever they take."""
        seconds, left_s = self.seconds(), budget_s
        found = {test for test in self.graph.test_files if test in self.changed}
        known = {*self.graph.test_files}
        for tests in self._by_closeness():
            for test in sorted((known & {*tests}) - found, key=lambda test: (seconds[test], test)):
                if (needed_s := seconds[test] + COLLECTION_S) <= left_s:
                    left_s -= needed_s
                    found.add(test)
        return sorted(found)

    def seconds(self) -> dict[Path, float]:
        """Seconds that each test file last took."""
        known = read(self.graph.tests / "durations.json")
        return {t: known.get(t.relative_to(self.root).as_posix(), UNKNOWN_S) for t in self.graph.test_files}

    def _by_closeness(self) -> Iterator[list[Path]]:
        """The files that mirror a change, those of its folder, and those that use or name it themselves."""
        pages = [path for path in self.changed if path.suffix == ".md"]
        code = [path for path in self.changed if path not in pages]
        data = [path for path in code if path.suffix != ".py"]
        code += [user for path in data for user in self._naming(path)]
        mirrors = [self.graph.mirrors(path) for path in code]
        yield [test for exact, _ in mirrors for test in exact]
        yield [test for page in pages for test in self._naming(page, f"*{page.suffix}")]
        yield [test for _, folder in mirrors for test in folder]
        yield [t for t in self.graph.direct_dependents(code) if t not in self.graph.starting_gateway]
        yield [test for path in data for test in self._readers(path)]

    def _naming(self, path: Path, pattern: str | None = None) -> list[Path]:
        """The Python files with a text that has the name of a file, or is a pattern."""
        name = re.compile(rf"(?<![\w-]){re.escape(path.name)}\b")
        files = sorted(self.graph.files)
        return [file for file in files if any(text == pattern or name.search(text) for text in strings(nodes(file)))]

    def quick(self) -> list[Path]:
        """Files that start and simulate nothing (what simulates has a long form), and those that are marked quick."""
        marks = {test: test.read_text(encoding="utf-8") for test in self.graph.test_files}
        short = [test for test, text in marks.items() if "pytest.mark.long" not in text]
        marked = [test for test, text in marks.items() if "pytestmark = pytest.mark.quick" in text]
        return sorted({*filter(self.graph.is_quick, short), *marked})


def note(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


def close_to_changes(base: str | None) -> list[Path]:
    """The files to run at once. The note says how many other files CI runs after this change."""
    selection = _selection(base)
    path = selection.undecided()
    reached = set(selection.graph.test_files if path else selection.of_changes())
    close = selection.close()
    left = reached - {*close}
    seconds = selection.seconds()
    running_s, left_s = (sum(seconds[test] for test in tests) for tests in (close, left))
    if path:
        note(f"any test may use {path.relative_to(ROOT)}")
    note(f"close to the change: {len(close)} test files, {running_s:.0f} s of tests, which run now")
    note(f"left for CI: {len(left)} test files, {left_s:.0f} s of tests; make test CHANGED=all runs them too")
    return close


def reached_by_changes(base: str | None) -> list[Path]:
    """The files that use what has changed; the folder of all where no import shows what uses a change."""
    selection = _selection(base)
    if path := selection.undecided():
        note(f"{path.relative_to(ROOT)} has changed, which any test may use: running all tests")
        return [selection.graph.tests]
    found = {*selection.of_changes(), *selection.close()}
    note(f"test files that use the change: {len(found)}")
    return sorted(found)


def _selection(base: str | None) -> Selection:
    base = base or base_of(ROOT)
    selection = Selection(ROOT, files(ROOT), changes(ROOT, base))
    note(f"changed since {base[:12]}: {len(selection.changed)} files")
    return selection


def main(words: Sequence[str]) -> int:
    match words:
        case ["changed", *base] if len(base) <= 1:
            found = close_to_changes(base[0] if base else None)
        case ["reached", *base] if len(base) <= 1:
            found = reached_by_changes(base[0] if base else None)
        case ["quick"]:
            found = Selection(ROOT, files(ROOT)).quick()
        case _:
            note(__doc__ or "")
            return 2
    for path in found:
        print(path.relative_to(ROOT))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
