"""`gateway` and `python -m gateway`: from the command line to a verb, and from an error to an exit code.

0: success. 1: findings (a failed check, a rejected verdict), or a program that cannot run. 2: usage error.
"""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path


def main() -> None:
    arguments = sys.argv[1:]
    try:
        # A serving process imports neither typer nor rich.
        if arguments[:1] == ["serve"] and not {"--help", "-h"} & set(arguments):
            serve(arguments[1:])
        else:
            from gateway.cli import app

            app()
    except Exception as error:
        if not _is_for_the_user(error):
            raise
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


def _is_for_the_user(error: Exception) -> bool:
    """Whether the message says everything the user needs, without a traceback."""
    # Imported here: `gateway --help` needs neither orjson nor asyncio.
    from gateway.core.errors import CannotRun, ConfigError

    return isinstance(error, ConfigError | CannotRun)


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
    from gateway.config.loading import data_directory
    from gateway.proxy.serve import run

    gc.enable()
    tls = (options.tls_cert, options.tls_key)
    run(options.config, options.host, options.port, options.workers, data_directory(options.data), tls)


if __name__ == "__main__":
    main()
