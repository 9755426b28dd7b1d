"""Options that the verbs share: defaults, groups in dataclasses, and the store and stream server that they lead to."""

from __future__ import annotations

import errno
import io
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli.options import Deployment, grouped, inconclusive_on_error, progress
from gateway.config.loading import parse
from gateway.core.errors import CannotRun

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("verb", ["samples", "status", "export", "report"])
def test_a_config_that_does_not_exist_is_a_usage_error(gateway: Run, verb: str) -> None:
    name = ["swap"] if verb == "report" else []
    result = gateway(verb, *name, "--config", "gone.yaml")
    assert (result.returncode, result.stdout) == (2, "")
    assert "gone.yaml" in result.stderr


def test_the_config_here_is_read_without_an_option(gateway: Run, tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("store: {url: 'sqlite:///elsewhere.db'}\n")
    assert gateway("migrate").returncode == 0
    assert (tmp_path / "elsewhere.db").exists()


def test_the_data_option_chooses_the_store(gateway: Run, tmp_path: Path) -> None:
    assert gateway("migrate", "--data", "d").returncode == 0
    assert (tmp_path / "d" / "gateway.db").exists()


def test_a_table_is_not_folded_into_a_pipe(gateway: Run) -> None:
    gateway("migrate")
    assert len(gateway("samples").stdout.splitlines()) == 1


def test_help_says_where_config_and_data_default_to(gateway: Run) -> None:
    text = " ".join(gateway("samples", "--help").stdout.split())
    assert "Path to gateway.yaml (default: ./gateway.yaml if it exists)." in text
    assert "Data directory (default: $GATEWAY_DATA, else ./.gateway)." in text


seen: list[object] = []


@dataclass(frozen=True, slots=True)
class Paced:
    speed: Annotated[int, typer.Option(min=1, help="How fast.")] = 3
    names: Annotated[list[str] | None, typer.Option("--name")] = None


@dataclass(frozen=True, slots=True)
class Placed:
    data: Annotated[Path | None, typer.Option()] = None
    port: Annotated[int, typer.Option()] = 80


def verb(file: Annotated[Path, typer.Argument()], paced: Paced, placed: Placed, quiet: bool = False) -> None:
    """Does it."""
    seen.append((file, paced, placed, quiet))


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(grouped(verb))
    finished = CliRunner().invoke(app, list(arguments))
    return finished.exit_code, finished.output


def test_every_group_comes_whole_with_its_defaults() -> None:
    assert run("x")[0] == 0
    assert seen.pop() == (Path("x"), Paced(), Placed(), False)
    assert run("x", "--speed", "7", "--name", "a", "--name", "b", "--data", "d", "--quiet")[0] == 0
    assert seen.pop() == (Path("x"), Paced(7, ["a", "b"]), Placed(Path("d")), True)


def test_constraints_of_an_option_hold() -> None:
    assert run("x", "--speed", "0")[0] == 2
    code, text = run("--help")
    assert code == 0
    assert "How fast." in text
    assert "Does it." in text
    assert "paced" not in text


def deployment(stream: str, data: Path) -> Deployment:
    config = parse(
        "open: true\nupstreams: {a: {kind: fake}}\nmodels: {chat: {targets: [{upstream: a, model: m}]}}\n"
        f"stream: {{url: '{stream}'}}\n"
    )
    return Deployment(data / "gateway.yaml", data, config)


def test_work_is_done_on_the_stream_server(stream_url: str, tmp_path: Path) -> None:
    assert deployment(stream_url, tmp_path).on_stream(lambda corridor: corridor.state.recall("nothing")) is None


def test_an_unreachable_stream_server_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="Is a gateway of this config running"):
        deployment(f"unix://{tmp_path}/nothing", tmp_path).on_stream(lambda corridor: corridor.state.plans())


def test_the_store_is_the_configs_or_in_the_data_directory(tmp_path: Path) -> None:
    assert deployment("redis://h", tmp_path).store.endswith(f"{tmp_path}/gateway.db")


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (CannotRun("no store"), 2, "no store"),
        (OSError(errno.ENOSPC, "No space left on device", "a.html"), 2, "a.html cannot be written"),
        (ZeroDivisionError("a bug"), 2, "ZeroDivisionError: a bug"),
        (typer.BadParameter("no such name", param_hint="NAME"), 2, "Invalid value for NAME"),
        (typer.Exit(1), 1, ""),
    ],
)
def test_an_error_of_a_verdict_exits_as_inconclusive(error: Exception, code: int, printed: str) -> None:
    verbs = typer.Typer()

    @verbs.command()
    def verdict() -> None:
        with inconclusive_on_error():
            raise error

    found = CliRunner().invoke(verbs)
    assert found.exit_code == code
    assert printed in found.output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stderr", [Terminal(), io.StringIO()], ids=["terminal", "pipe"])
def test_a_bar_on_stderr_needs_a_terminal(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO) -> None:
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    with progress("calls") as show:
        show(3, 7)
    assert ("3/7" in stderr.getvalue()) == isinstance(stderr, Terminal)
