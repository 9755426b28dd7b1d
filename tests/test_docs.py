"""Checks the README and docs/: their configs are read, their commands understood. test_pages_run.py runs them.

A fenced block of a page in RUN says after its language what becomes of it: `run` (against a gateway with the
double behind it), `real` (by `make test-real`), or `not run: REASON`. In every page, each `gateway …` and `make …` must
be a command that there is.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
from fixtures.config_parts import extras_of, is_config, read_part
from fixtures.pages import BLOCK, COMMANDS, DOCS, ROOT, RUN_FILES, Block, blocks, marked

from gateway.cli import app
from gateway.cli.machine_help import described
from gateway.config import loading
from gateway.config.cautions import GUESSABLE, cautions
from gateway.config.config import Config
from gateway.core.errors import ConfigError
from gateway.core.providers import PROVIDERS
from gateway.observability.catalog import catalogue

pytestmark = pytest.mark.quick
README = (ROOT / "README.md").read_text()
AGENTS = ROOT / "AGENTS.md"
TOPS = ("gateway", "tests", "bench", "docs", "grafana", "deploy")
FILE_NAMES = {p.name for top in TOPS for p in (ROOT / top).rglob("*.*")}
SKILL = ROOT / "gateway" / "cli" / "skill.md"
PAGES = [ROOT / "README.md", AGENTS, ROOT / ".github" / "CONTRIBUTING.md", SKILL, *sorted(DOCS.rglob("*.md"))]


def test_the_config_in_the_readme_is_valid() -> None:
    [text] = [b.text for b in blocks(ROOT / "README.md") if b.language == "yaml"]
    read = loading.parse(text, environ={"OPENAI_API_KEY": "sk-x"})
    assert read.models["chat"].cut_policy == "continue"
    assert len(text.splitlines()) <= 14


def test_the_readme_is_short_and_its_config_has_no_caution() -> None:
    assert len(README.splitlines()) <= 110
    [text] = [b.text for b in blocks(ROOT / "README.md") if b.language == "yaml"]
    assert cautions(loading.parse(text, environ={"OPENAI_API_KEY": "sk-x"})) == []


def test_every_file_that_the_layout_names_is_there() -> None:
    text = (DOCS / "contributing" / "architecture.md").read_text()
    tree = text[text.index("## Repository layout") :]
    for word in re.findall(r"(?<![.\w])([a-z0-9_]+\.py|\.?[a-z]+/)", tree):
        places = [ROOT / word, ROOT / "gateway" / word, *(ROOT / "gateway" / d / word for d in ("proxy", "evals"))]
        assert any(p.exists() for p in places), word


def folders(of: Path) -> list[str]:
    return [path.name for path in of.iterdir() if path.is_dir()]


_TOPS = "|".join(sorted({*folders(ROOT / "gateway"), *TOPS}))
_PATH = re.compile(rf"`((?:{_TOPS})/[\w./*-]*|[\w/]+\.(?:py|md|jinja))`")
_MADE_BY_A_READER = {"polite.py", "deploy/.env", "changes/NAME.md"}


@pytest.mark.parametrize(
    "page",
    sorted({*PAGES, *(ROOT / ".github").rglob("*.md"), *(ROOT / "gateway").glob("*/README.md")}),
    ids=lambda p: p.stem,
)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    """A path is below the repository, below gateway/ or next to the page; a name without a folder, anywhere in the
    repository."""
    for named in set(_PATH.findall(BLOCK.sub("", page.read_text()))) - _MADE_BY_A_READER:
        found = [next(top.glob(named.rstrip("/")), None) for top in (ROOT, ROOT / "gateway", page.parent)]
        anywhere = "/" not in named and named in FILE_NAMES
        assert any(found) or anywhere, f"{page.name} names {named}, which moved or is gone"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_page_speaks_of_no_machine_and_no_registry(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(root|home|work|tmp)/\w|pypi\.org|files\.pythonhosted", page.read_text())


def test_no_example_has_the_digest_of_a_guessable_key() -> None:
    """A copied example would be a gateway whose token is known."""
    digests = {sha256(word.encode()).hexdigest(): word for word in GUESSABLE}
    shipped = [*PAGES, *(path for path in (ROOT / "deploy").rglob("*.*") if path.suffix in (".yaml", ".md", ".env"))]
    for path in shipped:
        assert not digests.keys() & set(re.findall(r"[0-9a-f]{64}", path.read_text())), path


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http:", "https:", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", [ROOT / "README.md", *RUN_FILES], ids=lambda p: p.stem)
def test_every_metric_that_a_page_names_is_exported(page: Path) -> None:
    known = {name for each in catalogue() for name in (each.name, *each.series)}
    named = set(re.findall(r"`(gateway_[a-z0-9_]+[a-z0-9])(?:\{[^`]*)?`", page.read_text()))
    assert not named - known


def commands() -> Iterator[tuple[str, str]]:
    """Each line of a shell block that calls `gateway` or `make`, with its page."""
    for page in PAGES:
        for block in blocks(page):
            if block.language not in ("sh", "bash", "console"):
                continue
            for line in re.sub(r"\\\n", " ", block.text).splitlines():
                line = line.removeprefix("$ ").partition(" # ")[0]
                if re.match(r"(\w+=\S+ )*(\S*/)?(gateway|make) ", line):
                    yield page.stem, line.strip()


def understood(line: str) -> None:
    """Raises what click raises for a command line of which the gateway rejects a part."""
    parts = [part.strip() for part in re.split(r" (?:&&|\|\|?|;) |;(?= )", line)]
    for part in parts:
        if re.match(r"(\w+=\S+ )*(\S*/)?(gateway|make) ", part):
            one_understood(part)


def one_understood(command_line: str) -> None:
    words = shlex.split(re.split(r" [>&<]", command_line)[0])
    words = words[next(i for i, w in enumerate(words) if w.endswith(("gateway", "make"))) :]
    if words[0] == "make":
        targets = [w for w in words[1:] if "=" not in w]
        subprocess.run(["make", "-n", *targets], cwd=ROOT, check=True, capture_output=True)  # noqa: S607
        return
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"no verb {rest[0]} in: {command_line}"
        command, rest = command.commands[rest[0]], rest[1:]
    try:
        command.make_context("gateway", list(rest))
    except Exception as error:
        if "does not exist" not in str(error) and type(error).__name__ != "Exit":  # the file is the reader's; --help
            raise


@pytest.fixture
def readers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a gateway.yaml, in which commands are read: a default that is missing hides other mistakes."""
    (tmp_path / "gateway.yaml").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("readers_folder")
@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_every_command_that_a_page_shows_exists(page: str, line: str) -> None:
    understood(line)


@pytest.mark.usefixtures("readers_folder")
def test_an_unknown_command_would_be_found() -> None:
    for line in ("gateway evalute --config f", "gateway serve --prot 8000", "make test && gateway serve gateway.yaml"):
        with pytest.raises(Exception, match=r"evalute|prot|unexpected extra argument"):
            understood(line)


def named_commands() -> Iterator[tuple[str, str]]:
    """Every `gateway …` within a sentence or a table, with its page, without what follows a pipe."""
    for page in PAGES:
        for span in re.findall(r"`gateway ([a-z][^`\n]*)`", BLOCK.sub("", page.read_text())):
            yield page.stem, re.split(r" [|>&;]", span)[0]


def test_every_command_in_a_sentence_exists() -> None:
    """Against `gateway --help --json`: its verb, and the names of its options."""
    listed = {verb["verb"]: verb for verb in described(app, [])["verbs"]}
    unknown = [f"{page}: gateway {line}" for page, line in named_commands() if not _listed(line.split(), listed)]
    assert len(set(named_commands())) > 200
    assert unknown == []


def _listed(words: list[str], listed: dict[str, Any]) -> bool:
    """Whether the words begin with a verb, or are one of a group, and name none but its options."""
    plain = [word for word in words if not word.startswith("-") and word != "…"]
    names = [" ".join(plain[:n]) for n in (3, 2, 1)]
    verb = next((listed[name] for name in names if name in listed), None)
    if verb is None:
        return any(known.startswith(f"{plain[0]} ") for known in listed) and _alternatives(plain, listed)
    options = {name for option in verb["options"] for name in option["names"]} | {"--help", "-h", "--json"}
    return {word.partition("=")[0].rstrip(",.)]") for word in words if word.startswith("--")} <= options


def _alternatives(plain: list[str], listed: dict[str, Any]) -> bool:
    """Whether each of `start|stop` behind the name of a group is a verb of it; the group alone is."""
    below = plain[1].split("|") if len(plain) > 1 else []
    return all(f"{plain[0]} {verb}" in listed for verb in below)


def test_agents_md_is_short_and_its_folders_collect() -> None:
    """Programs read it whole before each task. Its `make` and `gateway` lines are tested with those of all pages."""
    lines = AGENTS.read_text().splitlines()
    assert len(lines) <= 80
    collected = re.findall(r"^\.venv/bin/pytest (tests/\S+)", AGENTS.read_text(), re.MULTILINE)
    assert collected
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *collected]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_block_says_what_becomes_of_it() -> None:
    for block in marked():
        if block.language in COMMANDS:
            assert block.note in ("run", "real") or re.fullmatch(r"not run: \w.+", block.note), block


CONFIGS = [block for page in PAGES for block in blocks(page) if block.language == "yaml" and is_config(block.text)]


@pytest.mark.parametrize("block", CONFIGS, ids=lambda b: f"{b.page}-{b.number}")
def test_every_config_is_one(block: Block) -> None:
    """Each part of gateway.yaml passes the checks, and its page names every extra that the part needs."""
    if block.note:
        assert block.note.startswith("not run: "), block.note
        return
    page = next(page for page in PAGES if page.stem == block.page).read_text()
    for extra in extras_of(read_part(block.text)):
        assert re.search(rf"\[[\w,]*\b{extra}\b[\w,]*\]|extra `{extra}`", page), f"needs the extra {extra}"


def test_a_config_that_check_refuses_would_be_found() -> None:
    with pytest.raises(ConfigError, match=r"budget\.concurrency"):
        read_part("experiments: {e: {model: m, control: {upstream: a, model: x}, candidate: {upstream: b, model: y}, "
                  "primary: judge, margin: 0.1, budget: {concurrency: 1}}}")  # fmt: skip
    assert is_config("models: {}")
    assert not is_config("services: {gateway: {image: x}}")
    assert extras_of(read_part('ingest: {bind: "127.0.0.1:4318", sha256: "…"}')) == {"otel"}


ABOUT_RETIREMENT = re.compile(r"^## When must I switch\?\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
CONFIG_FILES = [ROOT / "deploy" / "gateway.yaml", *sorted((ROOT / "deploy").rglob("config/gateway.yaml"))]


@pytest.mark.parametrize("page", [*PAGES, *CONFIG_FILES], ids=lambda p: p.stem)
def test_no_page_shows_a_model_that_retires_soon(page: Path) -> None:
    """Soon: within 90 days of the list's own date. The section on retirements names such models on purpose."""
    table = json.loads((ROOT / "gateway" / "core" / "list_retirements.json").read_text())
    last = date.fromisoformat(table["date"]) + timedelta(days=90)
    days = {
        model: date.fromisoformat(day) for rows in table["retirements"].values() for model, (day, _) in rows.items()
    }
    text = ABOUT_RETIREMENT.sub("", page.read_text())
    lines = [line for line in text.splitlines() if "retires" not in line]
    named = {word for line in lines for word in re.findall(r"[A-Za-z0-9][\w.:-]*\w", line)} & set(days)
    assert {model: str(days[model]) for model in named if days[model] <= last} == {}


def test_every_kind_of_upstream_has_its_section() -> None:
    text = (DOCS / "engines.md").read_text()
    for provider in PROVIDERS.values():
        assert f"kind: {provider.kind}" in text, provider.kind


def generator(name: str) -> ModuleType:
    """The module docs/NAME.py."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # where a dataclass looks its annotations up
    spec.loader.exec_module(made)
    return made


def test_the_configuration_page_is_what_the_models_say() -> None:
    page = generator("configuration").page()
    undocumented = [line for line in page.splitlines() if line.endswith("|  |")]
    assert not undocumented, "these fields have no docstring"
    assert (DOCS / "configuration.md").read_text() == page, "run: make generate"


def test_each_section_of_the_config_is_printed_once() -> None:
    """Those that most gateways need come first, and each of them has an example."""
    made = generator("configuration")
    page = (DOCS / "configuration.md").read_text()
    paths = re.findall(r"^####? `([^`]+)`$", page, re.MULTILINE)
    models: dict[type, list[str]] = {}
    for path, model in made.sections("", Config):
        models.setdefault(model, []).append(path)
    del models[Config]
    assert [sum(path in paths for path in known) for known in models.values()] == [1] * len(paths)
    first = ["upstreams", "models", "keys", "sampling", "scorers", "experiments"]
    tops = list(dict.fromkeys(re.split(r"[.\[]", path)[0] for path in paths))
    assert tops[:6] == first
    assert set(tops) == {n for n, f in Config.model_fields.items() if list(made.models_in(f.annotation))}
    assert all(f"```yaml\n{name}:" in page or f"\n{name}:\n" in page for name in first)


def test_the_fixtures_page_is_what_the_fixtures_say() -> None:
    assert (DOCS / "contributing" / "fixtures.md").read_text() == generator("fixtures").page(), "run: make generate"


def test_every_fixture_has_a_docstring() -> None:
    """A fixture of one file has one too: a name alone does not say what is running, or which state it has."""
    made = generator("fixtures")
    tests = [path for folder in (ROOT / "bench", ROOT / "tests") for path in sorted(folder.rglob("*.py"))]
    files = [path for path in tests if "fixture" in path.read_text("utf-8")]
    lacking = [f"{path.relative_to(ROOT)}: {f.name}" for path in files for f in made.fixtures(path) if not f.docstring]
    assert lacking == []


def test_every_promise_of_the_security_page_names_existing_tests() -> None:
    page = (DOCS / "security.md").read_text()
    named = set(re.findall(r"`((?:tests|bench)/[\w/.]+)`", page))
    assert len(named) > 30
    assert {name for name in named if not (ROOT / name).exists()} == set()
    promises = page.partition("## Promises")[2].partition("## What is not promised")[0].splitlines()
    rows = [line for line in promises if line.startswith("| ") and "tested in" not in line]
    assert len(rows) > 60
    assert [row for row in rows if "`tests/" not in row and "`bench/" not in row] == [], "a promise without a test"
    assert all(f"LLM{n:02d} " in page for n in range(1, 11))


def test_an_audit_without_data_does_not_report_success(tmp_path: Path) -> None:
    def report(*dependencies: dict[str, Any]) -> tuple[int, str]:
        (tmp_path / "v.json").write_text(json.dumps({"dependencies": dependencies}))
        command = [sys.executable, str(ROOT / ".ci" / "audit_report.py"), str(tmp_path / "v.json")]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout

    skipped = {"name": "a", "skip_reason": "not found"}
    sound = {"name": "b", "version": "1", "vulns": []}
    bad = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
    assert report(skipped) == (0, "no database of vulnerabilities could be reached: only the SBOM was written\n")
    assert report(skipped, sound) == (0, "1 packages looked up, 0 known vulnerabilities; 1 could not be looked up\n")
    code, text = report(sound, bad)
    assert (code, text.splitlines()[0]) == (1, "c 2: CVE-1, mended in 3")
