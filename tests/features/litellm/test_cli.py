"""`gateway import litellm --database-url`: what it prints, and that nothing is written unless it is asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.litellm_database import LiteLLM, digest_of
from typer.testing import CliRunner

from gateway.cli import app
from gateway.console.client import AdminClient
from gateway.core.errors import CannotRun
from gateway.features.litellm.apply import ImportStep, ImportTarget
from gateway.features.litellm.cli import _summed
from gateway.features.litellm.plan import ImportPlan, PlannedRecord

pytestmark = pytest.mark.dialect
CONFIG = "model_list: [{model_name: chat, litellm_params: {model: openai/gpt-x}}]\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The path of a LiteLLM config."""
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def a_key(litellm: LiteLLM, n: int = 1, **row: Any) -> None:
    litellm.add("LiteLLM_VerificationToken", **{"token": digest_of(n), "key_alias": f"web{n}", "models": [], **row})


def test_without_a_console_it_says_what_it_would_do(
    config: Path, litellm: LiteLLM, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    a_key(litellm, policies=["guard"])
    found = CliRunner().invoke(app, ["import", "litellm", str(config), "--database-url", litellm.url])
    assert found.exit_code == 0, found.stderr
    assert found.stdout.startswith("# Translated from config.yaml")
    assert "left out  keys[web1].policies: guardrails are not translated" in found.stderr
    assert "organizations: 0; teams: 0; keys: 1" in found.stderr
    assert "nothing was written; --apply writes it" in found.stderr


def test_people_are_in_the_new_file_and_other_versions_have_a_line(
    config: Path, litellm: LiteLLM, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    litellm.add("LiteLLM_UserTable", user_id="u-1", user_email="ada@example.com", max_budget=50.0, models=[], teams=[])
    a_key(litellm, user_id="u-1")
    litellm.run("DROP TABLE _prisma_migrations")
    words = ["import", "litellm", str(config), "--database-url", litellm.url, "--out", "gateway.yaml"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.stderr
    written = yaml.safe_load((tmp_path / "gateway.yaml").read_text())
    assert written["people"] == {"ada@example.com": {"limits": {"usd_per_month": 50.0}}}
    assert "keys: 1; people: 1" in found.stderr
    assert "changed   database: it has no table _prisma_migrations" in found.stderr


def test_apply_without_a_database_is_a_usage_error(config: Path) -> None:
    assert CliRunner().invoke(app, ["import", "litellm", str(config), "--apply"]).exit_code == 2


def test_a_database_that_lacks_a_column_writes_nothing(config: Path, litellm: LiteLLM, managed: Any) -> None:
    a_key(litellm)
    litellm.run('ALTER TABLE "LiteLLM_VerificationToken" DROP COLUMN budget_limits')
    found = managed("import", "litellm", str(config), "--database-url", litellm.url, "--apply")
    assert (found.returncode, found.stdout) == (1, "")
    assert "lacks LiteLLM_VerificationToken.budget_limits of LiteLLM 1.110" in found.stderr
    assert "web1" not in managed("keys", "list").stdout


def test_a_refused_record_keeps_no_other_from_its_import(config: Path, litellm: LiteLLM, managed: Any) -> None:
    """The console serves no model `gone`, though LiteLLM's file does; a name of another key is refused alike."""
    text = CONFIG.replace("]\n", ", {model_name: gone, litellm_params: {model: openai/y}}]\n")
    config.write_text(text)
    a_key(litellm, 1)
    a_key(litellm, 2, models=["gone"])
    a_key(litellm, 3)
    words = ("import", "litellm", str(config), "--database-url", litellm.url, "--apply")
    refused = managed(*words)
    assert refused.returncode == 1
    assert 'key web2: models[0]: no model "gone"' in refused.stderr
    assert "2 of 3 records are done" in refused.stderr
    litellm.run('UPDATE "LiteLLM_VerificationToken" SET models = %s WHERE token = %s', ["chat"], digest_of(2))
    done = managed(*words)
    assert done.returncode == 0, done.stderr
    assert managed(*words).stdout == "organizations: none; teams: none; keys: 3 there already\n"
    managed("keys", "create", "mine")
    a_key(litellm, 4, key_alias="mine")
    a_key(litellm, 5)
    taken = managed(*words)
    assert taken.returncode == 1
    assert 'there is another key "mine" already' in taken.stderr
    assert "4 of 5 records are done" in taken.stderr
    preview = managed(*words[:-1])
    assert 'refused  key mine: there is another key "mine" already' in preview.stderr
    assert "keys: 4 there already, 1 refused" in preview.stderr


def test_names_in_the_lines_of_an_import_move_no_cursor(config: Path, litellm: LiteLLM) -> None:
    a_key(litellm, key_alias="web\x1b[2J\x1b]0;title\x07\u202e", policies=["guard"], team_id="\x1b[31mgone")
    found = CliRunner().invoke(app, ["import", "litellm", str(config), "--database-url", litellm.url], color=True)
    assert found.exit_code == 0, found.stderr
    assert "guardrails are not translated" in found.stderr
    assert not {"\x1b", "\x07", "\u202e"} & set(found.stderr)


def test_the_summary_counts_by_kind_and_step() -> None:
    steps = [ImportStep(PlannedRecord("key", str(n), {}), "make" if n else "keep") for n in range(3)]
    assert _summed(steps) == "organizations: none; teams: none; keys: 2 new, 1 there already"


def test_an_unreachable_console_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotRun, match="cannot be reached"):
        ImportTarget(AdminClient("http://127.0.0.1:9", "t")).steps(ImportPlan())


def test_the_day_of_an_import_is_read_in_utc(config: Path, litellm: LiteLLM, managed: Any) -> None:
    """`expires` lies in the database without a zone."""
    a_key(litellm, 7, expires=datetime(2099, 1, 1, tzinfo=UTC).replace(tzinfo=None))
    done = managed("import", "litellm", str(config), "--database-url", litellm.url, "--apply")
    assert done.returncode == 0, done.stderr
    assert '"expires": "2099-01-01T00:00:00.000+00:00"' in managed("keys", "show", "web7", "--json").stdout
