"""Calls by google-genai and boto3, in their environment, of a gateway.

    python vendor_calls.py gemini|bedrock ORIGIN KEY

Prints, as JSON, the text and the tokens of a plain and a streamed answer, and the errors for an unknown model
and for a stream that is cut; of Gemini also the names of the models.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def gemini(origin: str, key: str) -> list[Any]:
    from google import genai

    client = genai.Client(api_key=key, http_options={"base_url": origin})
    plain = client.models.generate_content(model="chat", contents="hi")
    parts = list(client.models.generate_content_stream(model="chat", contents="hi"))
    counted = client.models.count_tokens(model="chat", contents="hi")
    streamed = "".join(part.text or "" for part in parts)
    try:
        client.models.generate_content(model="nothing", contents="hi")
        refused = ""
    except genai.errors.ClientError as error:
        refused = f"{error.code} {error.status}"
    try:
        list(client.models.generate_content_stream(model="cut", contents="hi"))
        cut = ""
    except genai.errors.APIError as error:
        cut = f"{error.code} {error.status}"
    tokens = [plain.usage_metadata.total_token_count, parts[-1].usage_metadata.total_token_count]
    names = [model.name for model in client.models.list()]
    return [plain.text, streamed, *tokens, counted.total_tokens, refused, cut, names]


def bedrock(origin: str, key: str) -> list[Any]:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import ClientError, EventStreamError

    def add_key(request: Any, **_: Any) -> None:  # without TLS, botocore sends no bearer token of its own
        request.headers.add_header("authorization", f"Bearer {key}")

    unsigned = Config(signature_version=UNSIGNED)
    client = boto3.client("bedrock-runtime", region_name="eu-west-1", endpoint_url=origin, config=unsigned)
    client.meta.events.register("before-sign.bedrock-runtime", add_key)
    hi = [{"role": "user", "content": [{"text": "hi"}]}]
    plain = client.converse(modelId="chat", messages=hi)
    parts = list(client.converse_stream(modelId="chat", messages=hi)["stream"])
    streamed = "".join(part.get("contentBlockDelta", {}).get("delta", {}).get("text", "") for part in parts)
    try:
        client.converse(modelId="nothing", messages=hi)
        refused = ""
    except ClientError as error:
        refused = error.response["Error"]["Code"]
    try:
        list(client.converse_stream(modelId="cut", messages=hi)["stream"])
        cut = ""
    except EventStreamError as error:
        cut = error.response["Error"]["Code"]
    tokens = [plain["usage"]["totalTokens"], parts[-1]["metadata"]["usage"]["totalTokens"]]
    return [plain["output"]["message"]["content"][0]["text"], streamed, *tokens, refused, cut]


if __name__ == "__main__":
    vendor, at, secret = sys.argv[1:]
    print(json.dumps((gemini if vendor == "gemini" else bedrock)(at, secret)))
