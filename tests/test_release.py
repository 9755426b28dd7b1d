"""`.ci/release_check.py`: what a release needs is named, and this repository lacks nothing but its public address."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

import pytest
import yaml

from gateway import __version__

ROOT = Path(__file__).parents[1]
CHECK = ROOT / ".ci" / "release_check.py"
_CHECK = runpy.run_path(str(CHECK))
missing: Callable[[Path, str], Iterable[str]] = _CHECK["missing"]
cautions: Callable[[Path, date], Iterable[str]] = _CHECK["cautions"]
FILES = (
    "gateway/__init__.py", "CHANGELOG.md", "pyproject.toml", "deploy/kubernetes/base/kustomization.yaml",
    "deploy/bench/assay-gateway/build.sh",
    "deploy/helm/assay-gateway/Chart.yaml",
)  # fmt: skip
URLS = "\n".join(
    f'{name} = "https://code.acme.dev/gateway"' for name in ("Source", "Documentation", "Issues", "Changelog")
)
pytestmark = pytest.mark.quick


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that are checked, as they are on the day of a release."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## [Unreleased]\n\n## [{__version__}] - 2026-12-01\n\n- x\n"
    )
    project = tmp_path / "pyproject.toml"
    text = project.read_text()
    if "[project.urls]" not in text:
        project.write_text(text.replace("[project.scripts]", f"[project.urls]\n{URLS}\n\n[project.scripts]"))
    return tmp_path


def test_a_complete_checkout_is_ready(checkout: Path) -> None:
    assert list(missing(checkout, f"v{__version__}")) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("gateway/__init__.py", f'"{__version__}"', '"9.9.9"', "the version is 9.9.9 and the tag"),
        ("CHANGELOG.md", "## [Unreleased]\n", "## [Unreleased]\n\n- new\n", "there are entries below [Unreleased]"),
        ("CHANGELOG.md", " - 2026-12-01", "", "has no date: write ## ["),
        ("CHANGELOG.md", f"## [{__version__}]", "## [0.0.9]", "found Unreleased, 0.0.9"),
        ("pyproject.toml", 'Issues = "https://code.acme.dev', 'Issues = "https://x/OWNER', "project.urls.Issues"),
        ("pyproject.toml", "keywords =", "other =", "project.keywords is missing"),
        ("deploy/helm/assay-gateway/Chart.yaml", f"appVersion: {__version__}", "appVersion: 0.0.1", "names 0.0.1"),
        ("deploy/bench/assay-gateway/build.sh", f"=={__version__}", "==0.0.1", f"names 0.0.1; set it to {__version__}"),
    ],
)  # fmt: skip
def test_a_missing_thing_is_named_with_its_file(checkout: Path, name: str, old: str, new: str, words: str) -> None:
    path = checkout / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert any(each.startswith(name) and words in each for each in missing(checkout, f"v{__version__}"))


def test_a_fragment_that_is_not_collected_is_named(checkout: Path) -> None:
    (checkout / "changes").mkdir()
    (checkout / "changes" / "README.md").write_text("# One file for each change\n")
    (checkout / "changes" / "guard-ramps.md").write_text("### Added\n\n- x\n")
    [line] = missing(checkout, f"v{__version__}")
    assert line.startswith("changes/guard-ramps.md: it is not in CHANGELOG.md: python .ci/collect_changes.py ")


def test_this_repository_lacks_only_its_address_and_the_day() -> None:
    done = subprocess.run([sys.executable, CHECK, f"v{__version__}"], capture_output=True, text=True, check=False)
    left = [line for line in done.stdout.splitlines() if line != "ready"]
    allowed = ("pyproject.toml: project.urls.", "CHANGELOG.md: there are entries below [Unreleased]", "changes/")
    assert [line for line in left if not line.startswith(allowed)] == []
    assert done.returncode == (1 if left else 0)


def test_the_workflow_checks_builds_attests_and_publishes_a_tag() -> None:
    read = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    assert read[True] == {"push": {"tags": ["v*.*.*"]}}  # YAML 1.1 reads `on` so
    build, publish = read["jobs"]["build"], read["jobs"]["publish"]
    steps = [step.get("run") or step["uses"] for step in build["steps"]]
    wanted = ("release_check.py", ".ci/run", "-m build", "twine check --strict", "attest-build", "upload-artifact")
    order = [next(i for i, step in enumerate(steps) if words in step) for words in wanted]
    assert order == sorted(order)
    assert build["permissions"]["attestations"] == "write"
    assert (publish["needs"], publish["permissions"]) == ("build", {"id-token": "write"})
    assert [step["uses"].partition("@")[0] for step in publish["steps"]][-1] == "pypa/gh-action-pypi-publish"


def test_a_release_is_cautioned_by_the_calendar(tmp_path: Path) -> None:
    """An old list of retirements, and a model on a page that retires within 90 days of today."""
    (tmp_path / "gateway" / "core").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "gateway" / "core" / "list_retirements.json").write_text(
        '{"date": "2026-11-29", "retirements": {"openai": {"old-1": ["2027-03-01", null]}}}'
    )
    (tmp_path / "README.md").write_text("targets: [{upstream: openai, model: old-1}]\n")
    assert list(cautions(tmp_path, date(2026, 11, 30))) == []
    assert list(cautions(tmp_path, date(2027, 2, 1))) == ["README.md: old-1 retires on 2027-03-01: name its successor"]
    assert "the list is 122 days old" in next(iter(cautions(tmp_path, date(2027, 3, 31))))


def test_the_commands_of_the_page_make_a_release_ready(tmp_path: Path) -> None:
    """Those between the branch and the commit, in a clone that has an address."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], check=True)  # noqa: S607
    page = (ROOT / "docs" / "contributing" / "releasing.md").read_text()
    block = page.partition("```sh not run: it makes a release;")[2].partition("```")[0]
    lines = [line for line in block.replace("X.Y.Z", "9.9.9").splitlines() if line.startswith(("sed ", "python "))]
    assert [line.split()[1] for line in lines[-2:]] == [".ci/collect_changes.py", ".ci/release_check.py"]
    environ = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    script = "set -e\n" + "\n".join(lines)
    without = subprocess.run(
        ["/bin/bash", "-c", script], cwd=clone, env=environ, capture_output=True, text=True, check=False
    )
    assert without.returncode == 1, without.stderr
    assert {line.partition(" is ")[0] for line in without.stdout.splitlines() if line.startswith("pyproject")} == {
        f"pyproject.toml: project.urls.{name}" for name in ("Source", "Documentation", "Issues", "Changelog")
    }
    project = clone / "pyproject.toml"
    project.write_text(project.read_text().replace("[project.scripts]", f"[project.urls]\n{URLS}\n\n[project.scripts]"))
    ready = subprocess.run(
        ["/bin/bash", "-c", lines[-1]], cwd=clone, env=environ, capture_output=True, text=True, check=False
    )
    assert (ready.returncode, ready.stdout) == (0, "ready\n"), ready.stdout
    released = (clone / "CHANGELOG.md").read_text().partition("## [9.9.9]")[2]
    assert released.partition("\n\n")[2].startswith("### Highlights\n")
