"""A LiteLLM config, imported, answers clients: through the gateway, in front of doubles, with its fallbacks."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from fixtures.clouds import signer_of
from fixtures.litellm_files import BEDROCK, CLOUD, TIERS
from fixtures.vendor_doubles import converse

from gateway.config.import_litellm import from_litellm, summary, to_yaml, variables_in
from gateway.fake import FakeUpstream
from gateway.fake.faults import Fault

LITELLM = """
model_list:
  - {{model_name: fast, litellm_params: {{model: hosted_vllm/org/small, api_base: "{one}", api_key: os.environ/ONE}}}}
  - {{model_name: large, litellm_params: {{model: openai/large-x, api_base: "{two}", api_key: os.environ/TWO}}}}
router_settings:
  fallbacks: [{{fast: [large]}}]
  model_group_alias: {{gpt-4: large}}
litellm_settings: {{num_retries: 0, request_timeout: 20}}
general_settings: {{master_key: sk-master}}
"""


async def test_an_imported_file_answers_with_its_aliases_and_fallbacks(
    start: Any, upstream: FakeUpstream, second: FakeUpstream, stream_url: str, stream_name: str
) -> None:
    raw = yaml.safe_load(LITELLM.format(one=upstream.base_url, two=second.base_url))
    text = to_yaml(from_litellm(raw, date(2026, 11, 26)), "config.yaml").replace("${ONE}", "k1").replace("${TWO}", "k2")
    config = yaml.safe_load(text) | {"stream": {"url": stream_url, "name": stream_name}}
    gateway = await start(config, key="sk-master")
    upstream.says("from the small one")
    second.says("from the large one")

    async def answer(model: str) -> tuple[str, str]:
        response = await gateway.chat(model=model)
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["message"]["content"], response.headers["x-gateway-model"]

    assert await answer("fast") == ("from the small one", "org/small")
    assert await answer("gpt-4") == ("from the large one", "large-x")
    assert [r.header("authorization") for r in upstream.received if not r.probe] == ["Bearer k1"]
    upstream.then(Fault.status(503))
    assert await answer("fast") == ("from the large one", "large-x")
    refused = await gateway.client.post("/chat/completions", json={}, headers={"authorization": "Bearer other"})
    assert refused.status_code == 401


# File, what clients name and the model that answers, what answers when the first upstream fails, the share translated.
SHAPES = [
    ("azure and openai with fallbacks", CLOUD,
     {"large": {"large-eu", "large-us"}, "small": {"gpt-4o-mini"}, "claude": {"claude-x"}, "openai/gpt-9": {"gpt-9"}},
     ("large", "gpt-4o-mini"), (6, 6)),
    ("all Bedrock", BEDROCK,
     {"claude": {"us.anthropic.claude-sonnet-4-5-20250929-v1:0"}, "nova": {"us.amazon.nova-pro-v1:0"},
      "oss": {"openai.gpt-oss-120b"}, "invoked": {"anthropic.claude-haiku-4-5-20251001"}}, None, (5, 6)),
    ("local to cloud tiers", TIERS, {"tiny": {"llama3.2"}, "mid": {"org/mid"}, "big": {"big"}},
     ("mid", "mid-70b"), (4, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "models", "fallback", "share"), [s[1:] for s in SHAPES], ids=[s[0] for s in SHAPES])
async def test_a_file_in_the_shape_of_litellms_documentation_answers(
    text: str, models: dict[str, set[str]], fallback: tuple[str, str] | None, share: tuple[int, int],
    start: Any, upstream: FakeUpstream, stream_url: str, stream_name: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    done = from_litellm(yaml.safe_load(text), date(2026, 11, 26))
    assert (done.translated, done.deployments) == share
    with capsys.disabled():
        print("\n" + summary(done))  # noqa: T201
    for name in variables_in(done.sections):
        monkeypatch.setenv(name, "eu-west-1" if "REGION" in name else f"value-of-{name}")
    config = yaml.safe_load(to_yaml(done, "config.yaml"))
    for each in config["upstreams"].values():
        each.get("auth", {}).pop("role_arn", None)  # there is no STS here
        if each.get("auth"):
            each["auth"] |= {"access_key_id": "AK", "secret_access_key": "SK"}
        each["base_url"] = upstream.origin + ("" if each["kind"] == "azure" else "/v1")
    for model in config["models"].values():
        model["retries"] = {"attempts": 1}
    config |= {"open": True, "stream": {"url": stream_url, "name": stream_name}}
    config.pop("prices", None)  # those of an upstream that is elsewhere now
    upstream.replies(lambda received: converse(received) if "/model/" in received.path else "one two three")
    gateway = await start(config, key=None)
    for alias, expected in models.items():
        response = await gateway.chat(model=alias)
        assert response.status_code == 200, response.text
        assert response.headers["x-gateway-model"] in expected
    if fallback is not None:
        upstream.then(*[Fault.status(503)] * (2 if fallback[0] == "large" else 1))
        assert (await gateway.chat(model=fallback[0])).headers["x-gateway-model"] == fallback[1]
    for received in (r for r in upstream.calls if r.method == "POST"):  # no probe of health
        if received.header("x-amz-date"):
            sent = replace(received, path=quote(received.path)) if "/model/" in received.path else received
            assert signer_of(sent, {"AK": "SK"}) == "AK"
        else:
            key = received.header("authorization") or received.header("api-key") or received.header("x-api-key") or ""
            assert "value-of-" in key or b"llama3.2" in received.body or b"org/mid" in received.body, "local: no key"
