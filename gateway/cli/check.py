"""`gateway check`: the mistakes in a gateway.yaml, and cautions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import example, note, on_corridor

if TYPE_CHECKING:
    from gateway.config.config import Config
    from gateway.features.manifest import ConfigCheck, ConfigFindings

verbs = typer.Typer()


@verbs.command(epilog=example("gateway check gateway.yaml"))
def check(config: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Path to the file.")]) -> None:
    """Report every mistake in a gateway.yaml, one line each.

    Without mistakes, it prints the HTTP client of each upstream, and a summary. The caution that prompts are stored in
    clear appears once a day where there is a data directory.
    """
    from gateway.config.cautions import cautions, clear_text_caution, directory_summary, is_due
    from gateway.config.derive import variant_lines
    from gateway.config.environment import data_directory
    from gateway.config.extras import OF_ALL, require_extras
    from gateway.config.loading import load
    from gateway.core.errors import ConfigError
    from gateway.features import FEATURES, all_extras
    from gateway.features.manifest import load as load_entry
    from gateway.scoring.asker import ExternalServices
    from gateway.scoring.http_client import HttpConnections
    from gateway.scoring.registry import build_all
    from gateway.scoring.warnings import config_mistakes, config_warnings
    from gateway.store.location import default_url

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
    checks = [feature.check for feature in FEATURES if feature.check and _concerns(feature.check, checked, store)]
    findings: list[ConfigFindings] = [load_entry(check.entry)(checked, built, store) for check in checks]
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


def _concerns(check: ConfigCheck, config: Config, store: str) -> bool:
    """Whether the config, or the store at this URL, has anything that the check looks at."""
    from gateway.store.location import is_missing_file

    if check.section and not getattr(config, check.section):
        return False
    return not (check.reads_store and is_missing_file(store))


def _stream_warnings(config: Config) -> list[str]:
    """Warnings that the configured stream server may evict entries, or cannot be reached from here."""
    import asyncio

    address = config.stream.address
    if address is None:
        return []
    from gateway.core.errors import StreamDown
    from gateway.stream import EVICTS

    try:
        evicting = asyncio.run(on_corridor(config.stream, address, lambda corridor: corridor.evicting()))
    except StreamDown as error:
        return [f"{error}; whether it may evict entries of the stream is unknown"]
    return [] if evicting is None else [EVICTS % evicting]
