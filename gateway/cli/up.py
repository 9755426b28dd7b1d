"""`gateway up`: the gateway, the consumer and everything they need, with one command."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

import typer

from gateway.cli.coding_agents import GatewayAccess, installed_agents
from gateway.cli.options import Data, File, Host, Port, example, note

if TYPE_CHECKING:
    from gateway.up.up import RunningGateway


verbs = typer.Typer()
PACKAGE = "assay-gateway"
_UVX = "archive-v0"  # the folder in uv's cache that holds the environments of `uvx`


@verbs.command(epilog=example("gateway up"))
def up(
    config: Annotated[Path | None, File] = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    data: Data = None,
    template: Annotated[
        str, typer.Option(metavar="NAME", help="Write the gateway.yaml of drop-in, team, evaluation or agents.")
    ] = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the complete log of all programs.")] = False,
) -> None:
    """Start everything, with the upstreams that are found.

    Without a gateway.yaml, looks for model servers and API keys and writes one. Then runs the stream server, a local
    model if no other was found, the consumer and the gateway, until Ctrl-C.
    """
    import asyncio

    from gateway.config.environment import data_directory
    from gateway.up.starter_config import TEMPLATES
    from gateway.up.up import UpOptions, run

    if template and template not in TEMPLATES:
        raise typer.BadParameter(
            f"no template {template!r}; there are: {', '.join(TEMPLATES)}", param_hint="--template"
        )
    asyncio.run(
        run(
            UpOptions(data_directory(data), config, host, port, verbose, template),
            note,
            lambda up: typer.echo(usage(up)),
        )
    )


def usage(up: RunningGateway, which: Callable[[str], str | None] = shutil.which) -> str:
    """Instructions for the terminal: addresses, keys and examples. which: finds a program on the PATH."""
    agents = installed_agents(GatewayAccess(up.base_url, up.key or "KEY", up.models[0]), which)
    body = f'{{"model": "{up.models[0]}", "messages": [{{"role": "user", "content": "Say hello."}}]}}'
    messages = 'messages=[{"role": "user", "content": "Say hello."}]'
    key = up.key or "KEY"
    own_key = f"KEY       one of yours: {', '.join(up.keys)}" if up.keys else "none is needed"
    return f"""
  base_url   {up.base_url}
  key        {up.key or own_key}
  models     {", ".join(up.models)}
  config     {up.config}
  metrics    {"  ".join(up.metrics_urls)}
  console    {up.login_url}
             (signs you in, once, within {up.login_s / 60:.0f} minutes)
  admin      {up.admin_url}  ({own_command()} keys create NAME{_where(up, config=False)})
  samples    {own_command()} samples{_where(up)}
  log        {up.log}{_engines(up)}

curl {up.base_url}/chat/completions -H "authorization: Bearer {key}" \\
  -H "content-type: application/json" -d '{body}'

python -c 'from openai import OpenAI; client = OpenAI(base_url="{up.base_url}", api_key="{key}")
print(client.chat.completions.create(model="{up.models[0]}", {messages}).choices[0].message.content)'{agents}

Ctrl-C stops everything."""


def _engines(up: RunningGateway) -> str:
    """A line for each engine that was started: its upstream, model, address and log."""
    return "".join(f"\n  engine     {e.upstream}: {e.model} at {e.base_url}, log {e.log}" for e in up.engines)


def own_command() -> str:
    """The command that runs this installation: its name if that is first on the PATH, else its path; under `uvx`, whose
    environment ends with the program, `uvx` itself."""
    import sys

    if _UVX in Path(sys.prefix).parts:
        return f"uvx --from {_installed_from()} gateway"
    here = Path(sys.executable).with_name("gateway")
    named = shutil.which("gateway")
    if not here.exists() or (named and here.samefile(named)):
        return "gateway"
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)


def _installed_from() -> str:
    """The wheel that this was installed from; the package's name if it came from an index."""
    from importlib.metadata import distribution
    from json import loads

    url = loads(distribution(PACKAGE).read_text("direct_url.json") or "{}").get("url", PACKAGE)
    return shlex.quote(unquote(url.removeprefix("file://")))


def _where(up: RunningGateway, *, config: bool = True) -> str:
    """Options that select this config and data directory, where they are not the defaults."""
    from gateway.config.environment import data_directory

    file = "" if up.config == Path("gateway.yaml") or not config else f" --config {up.config}"
    return file + ("" if up.data == data_directory(None) else f" --data {up.data}")
