"""Section `admin`: its mistakes, and what it allows a config to leave out."""

from __future__ import annotations

import pytest

from gateway.config.loading import parse
from gateway.core.errors import ConfigError

A, B, C = "a" * 64, "b" * 64, "c" * 64
GOOD = f"""
upstreams: {{local: {{kind: vllm, base_url: "http://127.0.0.1:8001/v1"}}}}
models: {{chat: {{targets: [{{upstream: local, model: m}}]}}}}
keys: [{{name: web, sha256: {A}}}]
admin:
  tokens:
    - {{name: ada, sha256: {B}, role: owner, content: true}}
    - {{name: ci, sha256: {C}, role: viewer}}
"""


def test_tokens_have_a_name_a_digest_and_a_role() -> None:
    admin = parse(GOOD).admin
    assert admin is not None
    assert [(t.name, t.role, t.content) for t in admin.tokens] == [("ada", "owner", True), ("ci", "viewer", False)]


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("name: ci", "name: ada", 'admin.tokens[1].name: another token has the name "ada"; the audit could not'),
        (C, B, "admin.tokens[1].sha256: another token has this digest already"),
        (C, A, 'admin.tokens[1].sha256: this is also the digest of key "web", and no caller\'s key may open the admin'),
        ("role: viewer", "role: reader", "admin.tokens[1].role: "),
        (C, "abc", "admin.tokens[1].sha256: expected the SHA-256 of a key"),
        (
            "role: viewer",
            "role: viewer, team: a, organization: b",
            "admin.tokens[1]: team, organization: expected one of",
        ),
        ("role: owner", "role: owner, team: a", "admin.tokens[0]: role: a team's administrator is an `operator`"),
        ("role: viewer", "rolle: viewer", 'admin.tokens[1].rolle: unknown key; did you mean "role"?'),
    ],
)
def test_a_mistake_is_named_with_its_path(old: str, new: str, mistake: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(GOOD.replace(old, new), "f.yaml", {})
    assert any(each.startswith(f"f.yaml: {mistake}") for each in refused.value.mistakes)


def test_digests_whose_variables_are_not_set_are_not_taken_for_equal() -> None:
    text = GOOD.replace(A, '"${A}"').replace(B, '"${B}"').replace(C, '"${C}"')
    with pytest.raises(ConfigError) as refused:
        parse(text, "f.yaml", {})
    assert len(refused.value.mistakes) == 3
    assert all("is not set. Set it" in each for each in refused.value.mistakes)


def test_a_section_without_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"admin.tokens"):
        parse(GOOD[: GOOD.index("admin:")] + "admin: {tokens: []}")


def test_an_experiment_may_name_a_key_that_is_made_later() -> None:
    swap = """
experiments:
  swap:
    model: chat
    control: {upstream: local, model: m}
    candidate: {upstream: local, model: n}
    shadow: 0.1
    margin: 0.1
    allow: {keys: [later]}
"""
    assert parse(GOOD + swap).experiments["swap"].allow.keys == ("later",)
    with pytest.raises(ConfigError, match="no key"):
        parse(GOOD[: GOOD.index("admin:")] + swap)
