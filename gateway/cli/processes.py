"""The verbs that run one program each, and those about the installation: serve, evaluate, check, fake, engine,
version."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options import Config as ConfigPath
from gateway.cli.options import Data, Host, Port, example, note

if TYPE_CHECKING:
    from gateway.config.config import Config

verbs = typer.Typer()


@verbs.command(epilog=example("gateway serve --config gateway.yaml --host 0.0.0.0 --workers 2"))
def serve(
    config: ConfigPath = Path("gateway.yaml"),
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes that share the port.")] = 1,
    data: Data = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM file of a certificate with its chain: serve HTTPS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
) -> None:
    """Run the gateway alone, for production.

    Metrics are on the same port, at /metrics. Changed certificate files are read within a second.
    """
    # __main__.py runs this verb without importing typer; only its help comes from here.
    from gateway.config.loading import data_directory
    from gateway.proxy.serve import run

    run(config, host, port, workers, data_directory(data), (tls_cert, tls_key))


@verbs.command(epilog=example("gateway evaluate --config gateway.yaml"))
def evaluate(
    config: ConfigPath = Path("gateway.yaml"),
    metrics_port: Annotated[int, typer.Option(min=1, max=65535, help="Port that serves /metrics.")] = 9101,
    metrics_host: Annotated[str, typer.Option(help="Address that serves /metrics.")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(min=1, help="Processes that score, with one page of metrics.")] = 1,
    data: Data = None,
) -> None:
    """Run the consumer alone, which scores recorded answers, for production.

    A worker that dies is replaced. Each needs a core; the store must take what all of them write.
    """
    from gateway.config.loading import data_directory

    if workers == 1:
        from gateway.consumer.serve import run

        run(config, metrics_port, data_directory(data), metrics_host)
        return
    from gateway.consumer.worker_processes import EvaluateOptions, run_workers

    run_workers(EvaluateOptions(config, data_directory(data), metrics_port, metrics_host, workers))


@verbs.command(epilog=example("gateway console --config gateway.yaml"))
def console(
    config: ConfigPath = Path("gateway.yaml"),
    host: Host = "127.0.0.1",
    port: Port = 9102,
    data: Data = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Replace keys that another store has published, as after a restore.")
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM file of a certificate with its chain: serve HTTPS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
) -> None:
    """Run the console alone: the admin API for keys, teams and organizations.

    It needs the section `admin` of gateway.yaml. Gateways go on without it; only changes of keys wait.
    """
    from gateway.config.loading import data_directory
    from gateway.console.serve import ConsoleOptions, run

    run(ConsoleOptions(config, data_directory(data), host, port, take_over, (tls_cert, tls_key)))


@verbs.command(epilog=example("gateway check gateway.yaml"))
def check(config: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Path to the file.")]) -> None:
    """Report every mistake in a gateway.yaml, one line each.

    Without mistakes, it prints the HTTP client of each upstream, and a summary. The caution that prompts are stored in
    clear appears once a day where there is a data directory.
    """
    from gateway.config.cautions import cautions, clear_text_caution, directory_summary, is_due
    from gateway.config.derive import variant_lines
    from gateway.config.extras import OF_ALL, require_extras
    from gateway.config.loading import data_directory, load
    from gateway.core.errors import ConfigError
    from gateway.features import FEATURES, all_extras, manifest
    from gateway.scoring.asker import ExternalServices
    from gateway.scoring.http_client import HttpConnections
    from gateway.scoring.registry import build_all
    from gateway.scoring.warnings import config_mistakes, config_warnings
    from gateway.store.engine import default_url

    try:
        checked = load(config)
        require_extras(checked, (*OF_ALL, *all_extras()))
        built = build_all(checked.scorers, ExternalServices(HttpConnections(), directory=config.parent))
        if mistakes := config_mistakes(checked, built):
            raise ConfigError(mistakes)
    except ConfigError as error:
        name = f"{config.name}: "
        typer.echo("\n".join(name + mistake.removeprefix(name) for mistake in error.mistakes))
        raise typer.Exit(1) from error
    store = checked.store.url or default_url(data_directory(None))
    checks = [manifest.load(feature.check) for feature in FEATURES if feature.check]
    findings: list[manifest.ConfigFindings] = [of_feature(checked, built, store) for of_feature in checks]
    if refusals := [refusal for finding in findings for refusal in finding.refusals]:
        typer.echo("\n".join(f"{config.name}: {refusal}" for refusal in refusals))
        raise typer.Exit(1)
    found = (*(caution for finding in findings for caution in finding.cautions), *_stream_warnings(checked))
    daily = set(clear_text_caution(checked))  # most installations mean it, and check their config often
    for warning in (*cautions(checked), *config_warnings(checked, built), *found):
        if warning not in daily or is_due(warning, data_directory(None)):
            note(f"caution: {warning}")
    for line in directory_summary(checked):
        typer.echo(line)
    typer.echo(checked.transports_summary())
    for line in variant_lines(checked):
        typer.echo(line)
    typer.echo(checked.summary())


def _stream_warnings(config: Config) -> list[str]:
    """The stream server of the file may evict entries, or cannot be reached from here."""
    import asyncio

    from gateway.core.errors import StreamDown
    from gateway.stream import EVICTS, Corridor

    address = config.stream.address
    if address is None:
        return []

    async def policy() -> str | None:
        corridor = Corridor.of(config.stream, address)
        try:
            return await corridor.evicting()
        finally:
            await corridor.aclose()

    try:
        evicting = asyncio.run(policy())
    except StreamDown as error:
        return [f"{error}; whether it may evict entries of the stream is unknown"]
    return [] if evicting is None else [EVICTS % evicting]


@verbs.command(epilog=example("gateway fake --port 9000 --tokens 20 --fault cut_after:3 --fault-rate 0.1"))
def fake(
    host: Host = "127.0.0.1",
    port: Port = 9000,
    tokens: Annotated[int, typer.Option(min=0, help="Tokens in each answer.")] = 16,
    delay_s: Annotated[float, typer.Option("--delay-s", min=0, help="Seconds before each token.")] = 0.0,
    fault: Annotated[str | None, typer.Option(help="Fault to inject: reset, status:503, cut_after:3, …")] = None,
    fault_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of answers with the fault.")] = 1.0,
) -> None:
    """Run a fake upstream with scripted answers, delays and faults.

    For tests and benchmarks.
    """
    import asyncio

    from gateway.fake import parse_fault, serve

    try:
        injected = parse_fault(fault) if fault else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fault") from error
    note(f"fake upstream: http://{host}:{port}/v1 (model fake-model); Ctrl-C stops it")
    asyncio.run(stoppable(serve(host, port, tokens=tokens, delay_s=delay_s, fault=injected, fault_rate=fault_rate)))


async def stoppable(work: Coroutine[Any, Any, None]) -> None:
    """Runs until the work is done, or SIGINT or SIGTERM arrives."""
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
    model: Annotated[str, typer.Option(help="Model: smollm2, or the path of a .gguf file.")] = "smollm2",
    host: Host = "127.0.0.1",
    port: Port = 8080,
    name: Annotated[
        str | None, typer.Option(help="Name of the model in requests (default: smollm2, or the file name).")
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Requests answered at once (default: 2).")] = None,
    context: Annotated[int | None, typer.Option(min=16, help="Tokens of one request (default: 2048).")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: all cores).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of requests that send none.")] = None,
) -> None:
    """Serve a local model with llama.cpp; `gateway up` starts this."""
    from gateway.up.engines import run

    run(model, host, port, name, slots=slots, context=context, threads=threads, seed=seed)


@verbs.command(epilog=example("gateway version"))
def version() -> None:
    """Print the version."""
    from gateway import __version__

    typer.echo(__version__)
