"""The log says what a reload has changed, by name and without a value."""

from __future__ import annotations

from gateway.config.changes import changes
from gateway.config.loading import parse

BASE = """
upstreams: {{l: {{kind: vllm, base_url: "http://127.0.0.1:1/v1", api_key: "{secret}"}}}}
models: {{chat: {{targets: [{{upstream: l, model: m}}]}}{models}}}
keys: [{keys}]
sampling: {{rate: {rate}}}
"""


def config(keys: str = "", models: str = "", rate: float = 0.1, secret: str = "sk-one") -> object:  # noqa: S107
    web = f'{{name: web, sha256: "{"a" * 64}"}}'
    return parse(BASE.format(keys=", ".join(filter(None, [web, keys])), models=models, rate=rate, secret=secret))


def key(name: str, digit: str) -> str:
    return f'{{name: {name}, sha256: "{digit * 64}"}}'


def test_equal_configs_differ_in_nothing() -> None:
    assert changes(config(), config()) == "nothing"  # type: ignore[arg-type]


def test_additions_removals_and_changes_are_named() -> None:
    old = config(keys=key("old", "b"), models=", gone: {targets: [{upstream: l, model: x}]}")
    new = config(keys=key("new", "c"), models=", fresh: {targets: [{upstream: l, model: x}]}", rate=0.5)
    assert changes(old, new) == (  # type: ignore[arg-type]
        "keys +new (cccccc), -old (bbbbbb); models +fresh, -gone; sampling"
    )


def test_a_changed_secret_is_named_and_not_shown() -> None:
    text = changes(config(secret="sk-one"), config(secret="sk-two"))  # type: ignore[arg-type]
    assert text == "upstreams ~l"


def test_many_names_are_counted() -> None:
    many = ", ".join(f'{{name: k{i}, sha256: "{i:064d}"}}' for i in range(9))
    text = changes(config(), config(keys=many))  # type: ignore[arg-type]
    assert text.startswith("keys +k0 (000000), +k1")
    assert text.endswith("+4 more")
