"""Prints the test files that a run needs, one a line, and on stderr why.

python tests/suite/which_tests.py changed [BASE]   that use what has changed since BASE (where HEAD left main)
python tests/suite/which_tests.py quick            that start and simulate nothing, and those that are marked quick
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
from suite.import_graph import ImportGraph, joined, nodes

ROOT = Path(__file__).resolve().parents[2]


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

    def quick(self) -> list[Path]:
        """Files that start and simulate nothing (what simulates has a long form), and those that are marked quick."""
        marks = {test: test.read_text(encoding="utf-8") for test in self.graph.test_files}
        short = [test for test, text in marks.items() if "pytest.mark.long" not in text]
        marked = [test for test, text in marks.items() if "pytestmark = pytest.mark.quick" in text]
        return sorted({*filter(self.graph.is_quick, short), *marked})


def note(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


def of_changes(base: str | None) -> list[Path]:
    """The files to run; the folder of all where no import shows what uses a change."""
    base = base or base_of(ROOT)
    selection = Selection(ROOT, files(ROOT), changes(ROOT, base))
    if path := selection.undecided():
        note(f"{path.relative_to(ROOT)} has changed, which any test may use: running all tests")
        return [selection.graph.tests]
    found = selection.of_changes()
    note(f"changed since {base[:12]}: {len(selection.changed)} files; test files that use them: {len(found)}")
    return found


def main(words: Sequence[str]) -> int:
    match words:
        case ["changed", *base] if len(base) <= 1:
            found = of_changes(base[0] if base else None)
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
