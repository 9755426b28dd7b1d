"""The programs, one by one: serve, evaluate, check, fake, engine, version."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.options import Config, Data, Host, Port, example, note

verbs = typer.Typer()


@verbs.command(epilog=example("gateway serve --config gateway.yaml --host 0.0.0.0 --workers 2"))
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
    from gateway.config.loading import data_directory
    from gateway.proxy.serve import run

    run(config, host, port, workers, data_directory(data))


@verbs.command(epilog=example("gateway evaluate --config gateway.yaml"))
def evaluate(
    config: Config = Path("gateway.yaml"),
    metrics_port: Annotated[int, typer.Option(min=1, max=65535, help="Where Prometheus reads the scores.")] = 9101,
    metrics_host: Annotated[str, typer.Option(help="And on which address.")] = "127.0.0.1",
    data: Data = None,
) -> None:
    """Score recorded answers: the consumer alone, for production."""
    from gateway.config.loading import data_directory
    from gateway.evals.serve import run

    run(config, metrics_port, data_directory(data), metrics_host)


@verbs.command(epilog=example("gateway check gateway.yaml"))
def check(config: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The file to check.")]) -> None:
    """Name all mistakes of a gateway.yaml.

    One line each, with its path; or by which transport each upstream is asked, and one line that says what the file
    holds.
    """
    from gateway.config.loading import load
    from gateway.core.errors import ConfigError
    from gateway.evals.http_client import HttpConnections
    from gateway.evals.scoring.asker import ExternalServices
    from gateway.evals.scoring.registry import build_all
    from gateway.evals.scoring.warnings import config_mistakes, config_warnings

    try:
        found = load(config)
        built = build_all(found.scorers, ExternalServices(HttpConnections(), directory=config.parent))
        if wrong := config_mistakes(found, built):
            raise ConfigError(wrong)
    except ConfigError as error:
        name = f"{config.name}: "
        typer.echo("\n".join(name + mistake.removeprefix(name) for mistake in error.mistakes))
        raise typer.Exit(1) from error
    for caution in (*config_warnings(found, built), *_of_stream(found)):
        note(f"caution: {caution}")
    typer.echo(found.transports_summary())
    typer.echo(found.summary())


def _of_stream(config: Any) -> list[str]:
    """Of the stream server that the file names; where it cannot be reached from here, that is said."""
    import asyncio

    from gateway.core.errors import StreamDown
    from gateway.stream import EVICTS, Corridor

    if config.stream.address is None:
        return []

    async def policy() -> str | None:
        corridor = Corridor.of(config.stream, config.stream.address)
        try:
            return await corridor.evicting()
        finally:
            await corridor.aclose()

    try:
        found = asyncio.run(policy())
    except StreamDown as error:
        return [f"{error}; whether it may throw the stream away is not known"]
    return [] if found is None else [EVICTS % found]


@verbs.command(epilog=example("gateway fake --port 9000 --tokens 20 --fault cut_after:3 --fault-rate 0.1"))
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

    from gateway.runtime.tasks import Tasks, cancel_on_signal

    with suppress(asyncio.CancelledError):
        async with Tasks() as tasks:
            working = tasks.start(work, "work")
            cancel_on_signal(working)
            await working


@verbs.command(hidden=True, epilog=example("gateway engine --model smollm2 --port 8080"))
def engine(
    model: Annotated[str, typer.Option(help="smollm2, or the path of a .gguf file.")] = "smollm2",
    host: Host = "127.0.0.1",
    port: Port = 8080,
    name: Annotated[str | None, typer.Option(help="What requests call it: smollm2, or the file's name.")] = None,
) -> None:
    """Serve a local model with llama.cpp; `gateway up` starts this."""
    from gateway.up.engines import run

    run(model, host, port, name)


@verbs.command(epilog=example("gateway version"))
def version() -> None:
    """Print the version."""
    from gateway import __version__

    typer.echo(__version__)
