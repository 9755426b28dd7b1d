"""Options in dataclasses are options on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

from gateway.cli.option_groups import grouped

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


def test_what_an_option_says_of_itself_holds() -> None:
    assert run("x", "--speed", "0")[0] == 2
    code, text = run("--help")
    assert code == 0
    assert "How fast." in text
    assert "Does it." in text
    assert "paced" not in text
