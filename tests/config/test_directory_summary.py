"""What `gateway check` says of keys, teams and organizations."""

from __future__ import annotations

from gateway.config.directory_summary import MAX_KEYS, directory_summary
from gateway.config.loading import parse

HEAD = """
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:8001/v1"}}
models: {chat: {targets: [{upstream: local, model: m}]}}
"""


def test_every_scope_is_described_with_its_limits() -> None:
    config = parse(
        HEAD
        + f"""
organizations: {{acme: {{limits: {{usd_per_month: 1000, time_zone: Europe/Berlin}}}}}}
teams:
  search: {{organization: acme, limits: {{requests_per_minute: 60, concurrency: 8}}, models: [chat]}}
  off: {{disabled: true}}
keys:
  - {{name: plain, sha256: {"a" * 64}}}
  - {{name: web, sha256: {"b" * 64}, team: search, expires: "2027-01-01T00:00:00Z", limits: {{tokens_per_day: 10000}}}}
"""
    )
    assert directory_summary(config) == [
        "organization acme: $1,000.00 a month (Europe/Berlin)",
        "team search of acme: 60 requests a minute, 8 calls at once; models chat; 1 key here",
        "team off: no limit; 0 keys here; disabled",
        "key web of search: 10,000 tokens a day; expires 2027-01-01 00:00 UTC",
    ]


def test_many_keys_are_not_all_listed() -> None:
    keys = "".join(f'  - {{name: k{n}, sha256: "{n:064x}", disabled: true}}\n' for n in range(MAX_KEYS + 5))
    lines = directory_summary(parse(HEAD + "keys:\n" + keys))
    assert len(lines) == MAX_KEYS + 1
    assert lines[-1] == "and 5 more keys with limits"
    assert directory_summary(parse(HEAD + "open: true\n")) == []
