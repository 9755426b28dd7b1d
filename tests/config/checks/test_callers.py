"""Keys that judges call with."""

from __future__ import annotations

import hashlib

from gateway.config.loading import parse
from tests.config.checks.mistaken_config import mistakes


def test_a_key_for_evals_must_not_be_sampled() -> None:
    digest = hashlib.sha256(b"sk-evals").hexdigest()
    text = f"""
upstreams: {{local: {{kind: fake}}}}
models: {{chat: {{targets: [{{upstream: local, model: small}}]}}}}
keys: [{{name: web, sha256: "{digest}"}}]
evals: {{base_url: "http://127.0.0.1:8000/v1", api_key: sk-evals}}
"""
    (found,) = mistakes(text)
    assert found.startswith('evals.api_key: the traffic of key "web" is sampled, so judges would judge their own calls')
    assert parse(text.replace(f'"{digest}"', f'"{digest}", sample: never'), environ={}).evals.api_key == "sk-evals"
    assert parse(text.replace("api_key: sk-evals", "api_key: other"), environ={}).evals.api_key == "other"
