"""A LiteLLM config, imported, answers clients: through the gateway, in front of doubles, with its fallbacks."""

from __future__ import annotations

from datetime import date
from typing import Any

import yaml

from gateway.config.import_litellm import from_litellm, to_yaml
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
