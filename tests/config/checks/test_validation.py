"""Every mistake in a value is reported once, with its path and, where possible, with what was meant."""

from __future__ import annotations

import pytest

from tests.config.checks.mistaken_config import DIGEST, after_models, mistakes, the_mistake_of

UNKNOWN_KEYS = [
    (after_models("modells: {}"), 'modells: unknown key; did you mean "models"?'),
    (("base_url:", "base_ur:"), 'upstreams.local.base_ur: unknown key; did you mean "base_url"?'),
    (("weight: 9", "wieght: 9"), 'models.chat.targets[0].wieght: unknown key; did you mean "weight"?'),
    (("shadow: 0.2", "shadoww: 0.2"), 'experiments.swap.shadoww: unknown key; did you mean "shadow"?'),
    (("name: web", "nmae: x, name: web"), 'keys[0].nmae: unknown key; did you mean "name"?'),
    (
        after_models("prices: {as_of: 2026-11-01, models: {a: {input: 1, output: 1, ouput: 1}}}"),
        'prices.models.a.ouput: unknown key; did you mean "output"?',
    ),
    (after_models("zzz: 1"), "zzz: unknown key"),
]
VALUES = [
    (("weight: 9", "weight: half"), "models.chat.targets[0].weight: expected a number, got 'half'"),
    (("weight: 9", "weight: '9'"), "models.chat.targets[0].weight: expected a number, got '9'"),
    (("weight: 9", "weight: true"), "models.chat.targets[0].weight: expected a number, got True"),
    (("weight: 9", "weight: 0"), "models.chat.targets[0].weight: input should be greater than 0, got 0"),
    (("shadow: 0.2", "shadow: 2"), "experiments.swap.shadow: input should be less than or equal to 1, got 2"),
    ((DIGEST, "abc"), "keys[0].sha256: expected the SHA-256 of a key: 64 hexadecimal digits in lower case"),
    (("http://127.0.0.1:8001/v1/", "127.0.0.1:8001"), "upstreams.local.base_url: expected http://… or https://…"),
    (after_models("sampling: {rate: 0.0001}"), "sampling: rate 0.0001 is below pi_min 0.001"),
    (after_models("stream: {url: 'http://x'}"), "stream.url: expected redis://…, rediss://… or unix://…"),
    (after_models("metrics: {bind: here}"), "metrics.bind: expected HOST:PORT"),
    (after_models("redaction: {rules: [emial]}"), "got 'emial'; did you mean \"email\"?"),
]


@pytest.mark.parametrize(("change", "expected"), [*UNKNOWN_KEYS, *VALUES])
def test_a_mistake_is_reported_once_with_its_path(change: tuple[str, str], expected: str) -> None:
    assert expected in the_mistake_of(change)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("upstreams: 3\nmodels: x", "models: "),
        ("upstreams: {}\nmodels: {}", "models: "),
        ("models: {chat: {targets: []}}\nupstreams: {a: {kind: fake}}", "models.chat.targets: tuple should have at l"),
    ],
)
def test_sections_of_the_wrong_shape_are_reported(text: str, expected: str) -> None:
    assert any(m.startswith(expected) for m in mistakes(text)), mistakes(text)
