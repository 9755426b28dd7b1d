"""`gateway schema`: the JSON Schema of gateway.yaml."""

from __future__ import annotations

import typer

from gateway.cli.options import example, show

verbs = typer.Typer()


@verbs.command(epilog=example("gateway schema > gateway.schema.json"))
def schema() -> None:
    """Print the JSON Schema of gateway.yaml.

    Editors with the YAML language server use it to complete and check the file; docs/configuration.md says how.
    """
    import json

    from gateway.config.schema import json_schema

    show(json.dumps(json_schema(), indent=2, ensure_ascii=False))
