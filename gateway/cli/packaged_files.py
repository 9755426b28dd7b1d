"""`gateway dashboards`, `gateway alerts` and `gateway deploy`: write the files that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import example

verbs = typer.Typer()

Out = Annotated[Path, typer.Option(metavar="DIR", file_okay=False, help="Where to write. Files that exist are left.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]


@verbs.command(epilog=example("gateway dashboards --out grafana"))
def dashboards(out: Out, force: Force = False) -> None:
    """Write the Grafana dashboards, with what Grafana needs to load them."""
    _write({"dashboards": "grafana/dashboards", "provisioning": "grafana/provisioning"}, out, force)


@verbs.command(epilog=example("gateway alerts --out /etc/prometheus/rules"))
def alerts(out: Out, force: Force = False) -> None:
    """Write the alert rules for Prometheus, with their tests for promtool."""
    _write({"": "grafana/alerts"}, out, force)


@verbs.command(epilog=example("gateway deploy --out assay"))
def deploy(out: Out, force: Force = False) -> None:
    """Write what deploys the gateway: compose, systemd units, Kubernetes manifests, dashboards and alerts."""
    _write({"deploy": "deploy", "grafana": "grafana"}, out, force)


def _write(trees: dict[str, str], out: Path, force: bool) -> None:
    """Copies each tree of the package to the folder of that name below `out`."""
    written = left = 0
    for folder, source in trees.items():
        for file in sorted(_packaged(source).rglob("*")):
            if not file.is_file() or file.suffix in (".py", ".pyc"):
                continue
            target = out / folder / file.relative_to(_packaged(source))
            if target.exists() and not force:
                typer.echo(f"left as it is: {target}", err=True)
                left += 1
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
            written += 1
    typer.echo(f"{written} files written to {out}" + (f", {left} left as they are" if left else ""))


def _packaged(tree: str) -> Path:
    """A tree of files of the installed package, or of the checkout that the package is imported from."""
    import gateway

    package = Path(gateway.__file__).parent
    installed = package / "packaged" / tree
    return installed if installed.is_dir() else package.parent / tree
