"""The verbs that run one program each: serve, evaluate, console, fake, engine."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.options import Config, Data, Host, Port, TlsCert, TlsKey, example, note

verbs = typer.Typer()


@verbs.command(epilog=example("gateway serve --config gateway.yaml --host 0.0.0.0 --workers 2"))
def serve(
    config: Config = Path("gateway.yaml"),
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes that share the port.")] = 1,
    data: Data = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Run the gateway alone, for production.

    Metrics are on the same port, at /metrics. Changed certificate files are read within a second.
    """
    # __main__.py runs this verb without importing typer; only its help comes from here.
    from gateway.config.environment import data_directory
    from gateway.proxy.serve import run

    run(config, host, port, workers, data_directory(data), (tls_cert, tls_key))


@verbs.command(epilog=example("gateway evaluate --config gateway.yaml"))
def evaluate(
    config: Config = Path("gateway.yaml"),
    metrics_port: Annotated[int, typer.Option(min=1, max=65535, help="Port that serves /metrics.")] = 9101,
    metrics_host: Annotated[str, typer.Option(help="Address that serves /metrics.")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(min=1, help="Processes that score, with one page of metrics.")] = 1,
    data: Data = None,
) -> None:
    """Score recorded answers: the consumer alone, for production.

    A worker that dies is replaced. Each needs a core; the store must take what all of them write.
    """
    from gateway.config.environment import data_directory

    if workers == 1:
        from gateway.consumer.serve import run

        run(config, metrics_port, data_directory(data), metrics_host)
        return
    from gateway.consumer.worker_processes import EvaluateOptions, run_workers

    run_workers(EvaluateOptions(config, data_directory(data), metrics_port, metrics_host, workers))


@verbs.command(epilog=example("gateway console --config gateway.yaml"))
def console(
    config: Config = Path("gateway.yaml"),
    host: Host = "127.0.0.1",
    port: Port = 9102,
    data: Data = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Replace keys that another store has published, as after a restore.")
    ] = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Run the console alone: the admin API for keys, teams and organizations.

    It needs the section `admin` of gateway.yaml. Gateways continue without it; only changes of keys have to wait.
    """
    from gateway.config.environment import data_directory
    from gateway.console.serve import ConsoleOptions, run

    run(ConsoleOptions(config, data_directory(data), host, port, take_over, (tls_cert, tls_key)))


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
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: all cores but one).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of requests that send none.")] = None,
) -> None:
    """Serve a local model with llama.cpp; `gateway up` starts this."""
    from gateway.up.engines import run

    run(model, host, port, name, slots=slots, context=context, threads=threads, seed=seed)
