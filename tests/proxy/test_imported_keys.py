"""Keys, teams and budgets of a LiteLLM database in a running gateway: callers keep their keys, and what they spent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.consoles import TOKENS, RunningConsole
from fixtures.litellm_database import KEYS, LiteLLM, digest_of, secret_of
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.config.config import Config
from gateway.config.limits import Person

CONFIG = """
model_list:
  - {model_name: chat, litellm_params: {model: openai/gpt-x, api_key: os.environ/OPENAI}}
  - {model_name: small, litellm_params: {model: openai/gpt-y, api_key: os.environ/OPENAI}}
"""
ADMIN = {"tokens": [{"name": "ada", "sha256": "f" * 64, "role": "owner"}]}
PRICES = {"as_of": "2026-11-01", "models": {"model-u0": {"input": 1.0, "output": 10.0}}}
Verb = Callable[..., Awaitable[Result]]


@pytest.fixture
def import_of(tmp_path: Path, litellm: LiteLLM, monkeypatch: pytest.MonkeyPatch) -> Callable[[RunningConsole], Verb]:
    """Runs `gateway import litellm` against a console."""
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)

    def make(console: RunningConsole) -> Verb:
        monkeypatch.setenv("GATEWAY_ADMIN_URL", console.url)
        monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", TOKENS["owner"])
        words = ["import", "litellm", str(path), "--database-url", litellm.url]
        return lambda *more: asyncio.to_thread(CliRunner().invoke, app, [*words, *more])

    return make


async def figures(gateway: Any, number: int) -> dict[tuple[str, str], float]:
    """US dollars spent by (scope, limit), as the holder of a key sees it."""
    answer = await gateway.client.get("/key", headers={"authorization": f"Bearer {secret_of(number)}"})
    assert answer.status_code == 200, answer.text
    return {(e["scope"], e["limit"]): e["spent"] for e in answer.json()["limits"] if e["limit"].startswith("usd")}


async def audited(console: RunningConsole) -> int:
    rows: list[Any] = (await console.owner.get("/audit", params={"limit": "1000"})).json()["data"]
    return len(rows)


@pytest.mark.dialect
async def test_callers_of_litellm_keep_keys_teams_and_spend(
    start: Any,
    configured: Any,
    upstream: Any,
    admin: Any,
    corridor: Any,
    serving: Any,
    import_of: Any,
    litellm: LiteLLM,
) -> None:
    """40 teams and 400 keys. The sums agree to the cent, and a second import changes nothing."""
    litellm.fill(datetime.now(UTC))
    both = {"small": {"targets": [{"upstream": "u0", "model": "model-u0"}]}}
    config = configured(upstream, admin=ADMIN, prices=PRICES)
    gateway = await start({**config, "models": config["models"] | both})
    async with serving(admin, corridor) as console:
        run = import_of(console)
        dry = await run()
        assert (dry.exit_code, await audited(console)) == (0, 0), (dry.exception, dry.stderr)
        assert "nothing was written" in dry.stderr
        done = await run("--apply")
        assert done.stdout == "organizations: 2 new; teams: 40 new; keys: 400 new\n", done.stderr
        written, last_made = await audited(console), max(range(KEYS), key=digest_of)
        async with asyncio.timeout(60):
            while (await gateway.client.get("/key", headers=_bearer(last_made))).status_code != 200:
                await asyncio.sleep(0.02)
        spent: dict[tuple[str, str], float] = {}
        for first in range(0, KEYS, 50):
            for each in await asyncio.gather(*(figures(gateway, n) for n in range(first, first + 50))):
                spent |= each
        assert len(spent) == 2 + 40 + 400
        assert abs(sum(spent.values()) - litellm.spent()) < 0.005
        answers = [await gateway.client.post("/chat/completions", json=_chat(), headers=_bearer(n)) for n in range(40)]
        assert [answer.status_code for answer in answers] == [200] * 40
        again = await run("--apply")
        assert again.stdout == ("organizations: 2 there already; teams: 40 there already; keys: 400 there already\n"), (
            again.stderr
        )
        assert (written, await audited(console)) == (442, 442)
        litellm.run('UPDATE "LiteLLM_VerificationToken" SET spend = 50 WHERE token = %s', digest_of(1))
        await console.owner.delete(f"/keys/{await _id(console, 2)}")
        last = await run("--apply")
        assert last.stdout.endswith("keys: 1 spend updated, 398 there already, 1 revoked here, left so\n")
        async with asyncio.timeout(60):
            while (await gateway.client.post("/chat/completions", json=_chat(), headers=_bearer(1))).status_code != 429:
                await asyncio.sleep(0.02)


async def _id(console: RunningConsole, number: int) -> str:
    rows = (await console.owner.get("/keys", params={"sha256": digest_of(number)})).json()["data"]
    return str(rows[0]["id"])


def _bearer(number: int) -> dict[str, str]:
    return {"authorization": f"Bearer {secret_of(number)}"}


def _chat() -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


@pytest.mark.dialect
async def test_the_keys_of_a_user_of_litellm_share_what_is_left(
    start: Any,
    configured: Any,
    upstream: Any,
    admin: Any,
    corridor: Any,
    serving: Any,
    import_of: Any,
    litellm: LiteLLM,
) -> None:
    """A user with $50 a month, of which $49.9999 are spent: one call of two keys passes, and the next names the person.
    Without `people` in the console's gateway.yaml, the key is refused and the remedy named."""
    resets = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=10)
    user = {"user_id": "u-1", "user_email": "ada@example.com", "max_budget": 50.0, "spend": 49.9999, "models": []}
    litellm.add("LiteLLM_UserTable", **user, budget_duration="30d", budget_reset_at=resets, teams=[])
    for n in (1, 2):
        litellm.add("LiteLLM_VerificationToken", token=digest_of(n), key_alias=f"k{n}", models=[], user_id="u-1")
    people: dict[str, Any] = {}
    async with serving(replace(admin, config=lambda: with_people(admin, people)), corridor) as console:
        run = import_of(console)
        people.update(yaml.safe_load((await run()).stdout)["people"])
        made = people.pop("ada@example.com")
        refused = await run("--apply")
        assert 'no person "ada@example.com"; add it to `people` of gateway.yaml' in refused.output + str(
            refused.exception
        )
        people["ada@example.com"] = made
        assert (await run("--apply")).stdout == "organizations: none; teams: none; keys: 2 new\n"
        gateway = await start(configured(upstream, admin=ADMIN, prices=PRICES, people=people))
        async with asyncio.timeout(60):
            while (await gateway.client.get("/key", headers=_bearer(2))).status_code != 200:
                await asyncio.sleep(0.02)
        assert (await figures(gateway, 1)) == {("person ada@example.com", "usd_per_month"): 49.9999}
        answers = [await gateway.client.post("/chat/completions", json=_chat(), headers=_bearer(n)) for n in (1, 2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert answers[1].json()["error"]["scope"] == "person ada@example.com"


def with_people(admin: Any, people: dict[str, Any]) -> Config:
    """The console's config with these people."""
    read = {name: Person.model_validate(person) for name, person in people.items()}
    found: Config = admin.config().model_copy(update={"people": read})
    return found


async def test_carried_spend_counts_until_litellms_reset(start: Any, configured: Any, upstream: Any) -> None:
    """The same window of a month goes on after the reset, without what was spent elsewhere."""
    until = datetime.fromtimestamp(datetime.now(UTC).timestamp() + 300, UTC).isoformat()
    config = configured(upstream, prices=PRICES)
    carried = {"usd_per_month": {"amount": 5, "until": until}}
    config["keys"][0]["limits"] = {"usd_per_month": 5, "carried": carried}
    before = await start(config)
    refused = await before.chat()
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    limit = (await before.client.get("/key")).json()["limits"][0]
    assert (limit["spent"], limit["remaining"], limit["amount"]) == (5, 0, 5)
    after = await start(config, limits_shift_s=400)
    assert (await after.chat()).status_code == 200
