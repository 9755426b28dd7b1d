"""`gateway` and `python -m gateway`: from the command line to a verb, and from an error to an exit code.

0: success. 1: findings (a failed check, a rejected verdict), or a program that cannot run. 2: usage error.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
from pathlib import Path


def main() -> None:
    arguments = sys.argv[1:]
    try:
        try:
            _run(arguments)
        finally:
            with contextlib.suppress(BrokenPipeError):
                sys.stdout.flush()  # a full disk is an error of the verb, not of the interpreter's end
    except Exception as error:
        # Imported here: `gateway --help` needs neither orjson nor asyncio.
        from gateway.core.errors import line_for_the_user
        from gateway.core.sanitize import plain

        line = line_for_the_user(error)
        if line is None:
            raise
        sys.stderr.write(f"{plain(line)}\n")
        if isinstance(error, OSError):
            _drop_output()
        sys.exit(1)


def _run(arguments: list[str]) -> None:
    # A serving process imports neither typer nor rich.
    if arguments[:1] == ["serve"] and not {"--help", "-h"} & set(arguments):
        serve(arguments[1:])
    else:
        gc.set_threshold(50_000, 20, 50)  # modules make no garbage while they load
        from gateway.cli import app
        from gateway.cli.machine_help import words_before

        if (words := words_before(arguments)) is None:
            app()
        else:
            _help_as_json(words)


def _help_as_json(words: list[str]) -> None:
    from gateway.cli import app
    from gateway.cli.machine_help import UnknownVerb, described
    from gateway.core.sanitize import to_json

    try:
        sys.stdout.write(f"{to_json(described(app, words))}\n")
    except UnknownVerb as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def _drop_output() -> None:
    """Discards the rest of standard output: the interpreter would otherwise fail to write it again at its exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def serve(arguments: list[str]) -> None:
    """`gateway serve`, with the options that cli/processes.py describes."""
    parser = argparse.ArgumentParser("gateway serve", add_help=False)
    parser.add_argument("--config", type=Path, default=Path("gateway.yaml"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    options = parser.parse_args(arguments)
    if not options.config.is_file():
        parser.error(f"no file {options.config}; give one with --config")
    gc.disable()  # modules make no garbage while they load, and looking for it takes 5 % of the time to be ready
    from gateway.config.environment import data_directory
    from gateway.proxy.serve import run

    gc.enable()
    tls = (options.tls_cert, options.tls_key)
    run(options.config, options.host, options.port, options.workers, data_directory(options.data), tls)


if __name__ == "__main__":
    main()
