"""What limited rights read of the config and of the store."""

from __future__ import annotations

from gateway.config.loading import parse
from gateway.console.access import ActorScope
from gateway.console.admin import bounds_of, narrowed

CONFIG = """
open: true
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}
models: {chat: {targets: [{upstream: local, model: small}]}}
organizations: {acme: {}, other: {}}
teams: {search: {organization: acme}, mail: {organization: acme}, theirs: {organization: other}}
"""


def test_a_team_reads_its_own_part_of_the_config() -> None:
    mine = narrowed(parse(CONFIG), ActorScope("team", "search"))
    assert (set(mine.teams), set(mine.organizations), set(mine.models), set(mine.upstreams)) == (
        {"search"}, set(), set(), set(),
    )  # fmt: skip


def test_an_organization_reads_its_teams_and_no_others() -> None:
    scope, config = ActorScope("organization", "acme"), parse(CONFIG)
    bounds = bounds_of(scope, config)
    assert set(narrowed(config, scope).teams) == {"search", "mail"}
    assert (set(bounds.teams), bounds.organization) == ({"search", "mail"}, "acme")
