"""The command line: verbs, thin. Results go to stdout, notes to stderr. Each verb imports what it needs."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway.evals.where import Where
    from gateway.up import Up

app = typer.Typer(
    help="An OpenAI-compatible gateway that scores the traffic it carries.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes 0.15 s to draw a frame around the help
    context_settings={"help_option_names": ["--help", "-h"]},
)

File = typer.Option(exists=True, dir_okay=False, help="The gateway.yaml.")
Config = Annotated[Path, File]
MaybeConfig = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="The gateway.yaml, where not here.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Data = Annotated[Path | None, typer.Option(help="The data directory: $GATEWAY_DATA, else ./.gateway.")]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")]


def note(text: str) -> None:
    typer.echo(text, err=True)


def example(line: str) -> str:
    return f"Example: {line}"


@app.command(epilog=example("gateway up"))
def up(
    config: Annotated[Path | None, File] = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    data: Data = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all that the programs say.")] = False,
) -> None:
    """Start everything, on what is found.

    Looks for model servers and keys and writes gateway.yaml, where there is none; then runs the stream server, a local
    model where nothing else was found, the consumer and the gateway, until Ctrl-C.
    """
    import asyncio

    from gateway.config import data_directory
    from gateway.up import Asked, run

    asyncio.run(run(Asked(data_directory(data), config, host, port, verbose), note, _show))


def _show(up: Up) -> None:
    """What one needs to use it."""
    body = f'{{"model": "{up.models[0]}", "messages": [{{"role": "user", "content": "Say hello."}}]}}'
    messages = 'messages=[{"role": "user", "content": "Say hello."}]'
    key = up.key or "KEY"
    yours = f"KEY       one of yours: {', '.join(up.keys)}" if up.keys else "none is needed"
    typer.echo(f"""
  base_url   {up.base_url}
  key        {up.key or yours}
  models     {", ".join(up.models)}
  config     {up.config}
  metrics    {"  ".join(up.metrics_urls)}
  samples    {_command()} samples{_where(up)}
  log        {up.log}

curl {up.base_url}/chat/completions -H "authorization: Bearer {key}" \\
  -H "content-type: application/json" -d '{body}'

python -c 'from openai import OpenAI; client = OpenAI(base_url="{up.base_url}", api_key="{key}")
print(client.chat.completions.create(model="{up.models[0]}", {messages}).choices[0].message.content)'

Ctrl-C stops everything.""")


def _command() -> str:
    """How this user calls us: by name where that finds this very installation, else by path."""
    import shutil
    import sys

    here = Path(sys.executable).with_name("gateway")
    named = shutil.which("gateway")
    if not here.exists() or (named and here.samefile(named)):
        return "gateway"
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)


def _where(up: Up) -> str:
    """The options that name this config and data directory, where they are not the usual ones."""
    from gateway.config import data_directory

    config = "" if up.config == Path("gateway.yaml") else f" --config {up.config}"
    return config + ("" if up.data == data_directory(None) else f" --data {up.data}")


@app.command(epilog=example("gateway serve --config gateway.yaml --host 0.0.0.0 --workers 2"))
def serve(
    config: Config = Path("gateway.yaml"),
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes behind the one port.")] = 1,
    data: Data = None,
) -> None:
    """Answer clients: the gateway alone, for production.

    Its metrics are on the same port, at /metrics.
    """
    # __main__.py runs this verb before typer is imported; its help is read here.
    from gateway.config import data_directory
    from gateway.proxy.serve import run

    run(config, host, port, workers, data_directory(data))


@app.command(epilog=example("gateway evaluate --config gateway.yaml"))
def evaluate(
    config: Config = Path("gateway.yaml"),
    metrics_port: Annotated[int, typer.Option(min=1, max=65535, help="Where Prometheus reads the scores.")] = 9101,
    metrics_host: Annotated[str, typer.Option(help="And on which address.")] = "127.0.0.1",
    data: Data = None,
) -> None:
    """Score recorded answers: the consumer alone, for production."""
    from gateway.config import data_directory
    from gateway.evals.serve import run

    run(config, metrics_port, data_directory(data), metrics_host)


@app.command(epilog=example("gateway samples --alias chat --since 1d"))
def samples(
    one: Annotated[str | None, typer.Option("--id", help="Show one exchange whole: an answer's x-request-id.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for --id to be scored.")] = 0.0,
    limit: Annotated[int, typer.Option(min=1, help="How many to list, newest first.")] = 20,
    alias: Annotated[str | None, typer.Option(help="Only this model name.")] = None,
    since: Annotated[str | None, typer.Option(help="Only so far back: 30m, 2h, 1d.")] = None,
    as_json: AsJson = False,
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Show recorded calls and their scores.

    Without --id a list; with it the question, the answer, the attempts, and every score with its reason.
    """
    from gateway.evals import samples as found
    from gateway.evals.plain import to_json

    store = _where_to_read(config, data).store
    if one is not None:
        exchange = found.find(store, one, wait)
        _print(to_json(exchange) if as_json else found.page(exchange))
        return
    try:
        exchanges = found.list_of(store, limit, alias, since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    _print(to_json(exchanges) if as_json else found.table(exchanges))


@app.command(epilog=example("gateway report swap"))
def report(
    experiment: Annotated[str, typer.Argument(help="Its name in gateway.yaml.")],
    as_json: AsJson = False,
    config: MaybeConfig = None,
    data: Data = None,
) -> None:
    """Compare the arms of an experiment.

    Weighted mean scores, latency and tokens, each with an interval that is valid at any time.
    """
    from gateway.evals import report as made
    from gateway.evals.plain import to_json

    asked = _where_to_read(config, data)
    found = made.read(asked, experiment)
    _print(to_json(made.to_dict(found)) if as_json else made.page(found))


@app.command(epilog=example("gateway migrate"))
def migrate(config: MaybeConfig = None, data: Data = None) -> None:
    """Bring the store's tables up to date.

    `gateway evaluate` and `gateway up` do it too, when they start.
    """
    from gateway.evals.store.engine import head, writer

    writer(_where_to_read(config, data).store).dispose()
    note(f"the store has tables of version {head()}")


def _where_to_read(config: Path | None, data: Path | None) -> Where:
    from gateway.config import data_directory
    from gateway.evals.where import where

    usual = Path("gateway.yaml")
    return where(config or (usual if usual.exists() else None), data_directory(data))


def _print(result: Any) -> None:
    """A text, or what rich draws: as wide as the terminal, and unfolded into a pipe."""
    if isinstance(result, str):
        typer.echo(result)
        return
    import sys

    from rich.console import Console

    Console(highlight=False, width=None if sys.stdout.isatty() else 240).print(result)


@app.command(epilog=example("gateway check gateway.yaml"))
def check(config: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The file to check.")]) -> None:
    """Name all mistakes of a gateway.yaml.

    One line each, with its path; or one line that says what the file holds.
    """
    from gateway.config import load
    from gateway.errors import ConfigError
    from gateway.evals.scorers.registry import build

    try:
        found = load(config)
        build(found.scorers)
    except ConfigError as error:
        name = f"{config.name}: "
        typer.echo("\n".join(name + mistake.removeprefix(name) for mistake in error.mistakes))
        raise typer.Exit(1) from error
    typer.echo(found.summary())


@app.command(epilog=example("gateway fake --port 9000 --tokens 20 --fault cut_after:3 --fault-rate 0.1"))
def fake(
    host: Host = "127.0.0.1",
    port: Port = 9000,
    tokens: Annotated[int, typer.Option(min=0, help="In each answer.")] = 16,
    delay_s: Annotated[float, typer.Option("--delay-s", min=0, help="Seconds before each token.")] = 0.0,
    fault: Annotated[str | None, typer.Option(help="How to misbehave: reset, status:503, cut_after:3, …")] = None,
    fault_rate: Annotated[float, typer.Option(min=0, max=1, help="The share of answers that misbehave.")] = 1.0,
) -> None:
    """Run an upstream with scripted answers.

    With delays and faults, for tests and benchmarks.
    """
    import asyncio

    from gateway.fake import parse_fault, serve

    try:
        wanted = parse_fault(fault) if fault else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fault") from error
    note(f"fake upstream: http://{host}:{port}/v1 (model fake-model); Ctrl-C stops it")
    asyncio.run(stoppable(serve(host, port, tokens=tokens, delay_s=delay_s, fault=wanted, fault_rate=fault_rate)))


async def stoppable(work: Coroutine[Any, Any, None]) -> None:
    """Runs until done, SIGINT or SIGTERM."""
    import asyncio
    from contextlib import suppress

    from gateway.supervise import Tasks, cancel_when_told

    with suppress(asyncio.CancelledError):
        async with Tasks() as tasks:
            working = tasks.start(work, "work")
            cancel_when_told(working)
            await working


@app.command(hidden=True, epilog=example("gateway engine --model smollm2 --port 8080"))
def engine(
    model: Annotated[str, typer.Option(help="smollm2, or the path of a .gguf file.")] = "smollm2",
    host: Host = "127.0.0.1",
    port: Port = 8080,
) -> None:
    """Serve a local model with llama.cpp; `gateway up` starts this."""
    from gateway.engines import run

    run(model, host, port)


@app.command(epilog=example("gateway version"))
def version() -> None:
    """Print the version."""
    from gateway import __version__

    typer.echo(__version__)
