"""Runs the verbs of the command line, each in a process of its own that has the installed packages imported already.

A verb as a user starts it takes most of its time to import them. Our own modules are imported by each verb itself, as
ever. One JSON object a line comes in ({"arguments", "cwd", "environ", "out", "err"}), one exit code a line goes out.
"""

import gc
import importlib
import json
import os
import sys
import traceback

PACKAGES = (
    "alembic.command", "asyncio", "httpx2", "jinja2", "jsonschema_rs", "numpy", "orjson", "prometheus_client",
    "psycopg", "pyarrow", "pydantic", "rapidfuzz", "redis.asyncio.cluster", "redis.asyncio.sentinel", "rich.console",
    "rich.progress", "rich.table", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite",
    "starlette.applications", "typer", "uvicorn", "uvloop", "yaml",
)  # fmt: skip


def run(arguments: list[str], cwd: str, environ: dict[str, str], out: str, err: str) -> int:
    """The exit code of a verb, whose output goes to two files."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    for number, path in enumerate((os.devnull, out, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.argv, sys.path[0] = ["gateway", *arguments], cwd  # as of `python -m gateway`
    try:
        from gateway.__main__ import main

        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    for package in PACKAGES:
        importlib.import_module(package)
    assert not [name for name in sys.modules if name.partition(".")[0] == "gateway"]
    gc.collect()
    gc.freeze()  # the verbs' collections leave alone what they share
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = run(**json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # without taking down the interpreter, which would copy the memory that is shared
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    main()
