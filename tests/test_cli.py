"""Verbs, exit codes, what goes to which stream; and that nothing is imported before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.verbs import RunVerb

GOOD = "open: true\nupstreams: {a: {kind: fake}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}\n"
GROUPS = {
    "Run": "up serve evaluate demo console check fake version schema fetch migrate import dashboards alerts deploy"
    " skill help",
    "Look": "status samples runs ingest groups models usage guards export follow dead",
    "Decide": "report ab route replay compare score label judge guard decisions learn",
    "People and money": "erase keys teams organizations",
}
VERBS = [verb for verbs in GROUPS.values() for verb in verbs.split()]
FIRST_SCREEN = [
    "up",
    "serve",
    "evaluate",
    "demo",
    "status",
    "samples",
    "usage",
    "report",
    "ab",
    "compare",
    "keys",
    "teams",
]


def listed(output: str) -> dict[str, str]:
    """The verbs of each group, as the output of `gateway help` lists them."""
    found = dict[str, str]()
    for line in output.splitlines():
        if line in GROUPS:
            found[line], title = "", line
        elif line.startswith("  "):
            found[title] = f"{found[title]} {line.split()[0]}".strip()
    return found


def test_help_all_lists_every_verb_and_hides_the_engine(run_verb: RunVerb) -> None:
    finished = run_verb("help", "all")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert listed(finished.stdout) == GROUPS


@pytest.mark.parametrize("words", [(), ("--help",), ("help",)])
def test_the_first_screen_is_twenty_lines_of_twelve_verbs(words: tuple[str, ...], run_verb: RunVerb) -> None:
    finished = run_verb(*words)
    output = finished.stdout or finished.stderr  # without a word, it answers a wrong usage
    found = listed(output)
    assert list(found) == list(GROUPS)
    assert " ".join(found.values()).split() == FIRST_SCREEN
    assert len(FIRST_SCREEN) <= 12
    assert len(output.splitlines()) <= 20
    assert "..." not in output, "a summary is cut off"
    assert "gateway help all" in output


def test_help_shows_the_options_of_a_verb(run_verb: RunVerb) -> None:
    assert run_verb("help", "ab", "start").stdout == run_verb("ab", "start", "--help").stdout
    assert run_verb("help", "sttaus").returncode == 2


@pytest.mark.parametrize("verb", [*VERBS, "engine"])
def test_each_verb_has_an_example(verb: str, run_verb: RunVerb) -> None:
    finished = run_verb(verb, "--help")
    assert finished.returncode == 0
    assert f"Example: gateway {verb}" in finished.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "gone.yaml"],
        ["check"],
        ["serve", "--config", "gone.yaml"],
        ["serve", "--prot", "1"],
        ["evaluate", "--config", "gone.yaml"],
        ["up", "--config", "gone.yaml"],
        ["fake", "--fault", "no_such_fault"],
        ["no-such-verb"],
    ],
)
def test_wrong_usage_is_explained_on_stderr_with_exit_code_2(arguments: list[str], run_verb: RunVerb) -> None:
    finished = run_verb(*arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr


def imported(script: str) -> set[str]:
    script += "\nimport sys; print(*{m.partition('.')[0] for m in sys.modules}, *sys.modules)"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(finished.stdout.splitlines()[-1].split())


def test_the_package_and_the_command_line_import_little() -> None:
    heavy = {"redis", "numpy", "sqlalchemy", "pydantic", "httpx2", "rich", "uvicorn", "starlette", "orjson"}
    assert not heavy & imported("import gateway")
    assert not heavy & imported("import gateway.__main__, gateway.cli")


OF_STORES = {"sqlalchemy", "alembic"}
OF_STREAMS = {"redis", "opentelemetry"}
OF_SERVERS = {"prometheus_client", "starlette", "uvicorn", "websockets"}
ALWAYS_LATER = {"numpy", "rich", "jsonschema_rs", "msgspec", *OF_STREAMS, *OF_SERVERS}


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (["--help"], {*ALWAYS_LATER, *OF_STORES, "pydantic", "yaml", "orjson"}),
        (["check", "gateway.yaml"], {*ALWAYS_LATER, *OF_STORES, "httpx2"}),
        (["import", "litellm", "litellm.yaml"], {*ALWAYS_LATER, *OF_STORES}),
        (["migrate"], {*ALWAYS_LATER, "gateway.config.config"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_verb_imports_what_it_uses(words: list[str], unneeded: set[str], tmp_path: Path) -> None:
    """The config has no experiment, guard or stream server, and there is no store."""
    (tmp_path / "gateway.yaml").write_text(GOOD)
    (tmp_path / "litellm.yaml").write_text(
        "model_list: [{model_name: chat, litellm_params: {model: openai/m, api_key: os.environ/KEY}}]\n"
    )
    script = f"import os, sys; os.chdir({str(tmp_path)!r}); os.environ['GATEWAY_DATA'] = 'data'\n"
    script += f"sys.argv = ['gateway', *{words}]\nfrom gateway.__main__ import main\n"
    script += "try: main()\nexcept SystemExit as end: assert not end.code, end.code\nprint()"
    assert not unneeded & imported(script)


def test_a_plain_gateway_leaves_out_what_few_configs_need() -> None:
    """The libraries of WebSockets and zstd, the rules of guards, and all that only the other programs use."""
    script = (
        "import sys, gateway.proxy.serve, gateway.proxy.build\n"
        "print(*(n for n in sys.modules if n.startswith('gateway.proxy.guards.')))"
    )
    lines = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert lines.split() == ["gateway.proxy.guards.ramp_poller"]
    unneeded = {"websockets", "backports", "typer", "rich", "numpy", *OF_STORES}
    assert not unneeded & imported("import gateway.proxy.serve, gateway.proxy.build")


def test_the_version_is_an_option_too() -> None:
    option, verb = (
        subprocess.run([sys.executable, "-m", "gateway", word], capture_output=True, text=True, check=True)
        for word in ("--version", "version")
    )
    assert option.stdout == verb.stdout != ""


@pytest.mark.parametrize("words", [("version",), ("check", "good.yaml"), ("schema",), ("fake", "--help")])
def test_output_to_a_full_disk_is_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD.replace("open: true", "open: true\nsampling: {rate: 0}"))
    with Path("/dev/full").open("wb") as full:
        finished = subprocess.run(
            [sys.executable, "-m", "gateway", *words], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, timeout=60,
        )  # fmt: skip
    assert finished.returncode == 1
    assert finished.stderr == "a file or the output cannot be written: No space left on device\n"
