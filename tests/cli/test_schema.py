from __future__ import annotations

import json

from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.schema import json_schema


def test_the_schema_is_printed_as_json() -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json_schema()
