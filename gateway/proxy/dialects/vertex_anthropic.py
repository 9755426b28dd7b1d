"""Claude on Vertex AI: Anthropic's body, with the model in the path and the version in the body.

Source: https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import orjson

from gateway.proxy.dialects.anthropic import Anthropic
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.request.json_members import edited, read_members

_VERSION = b"vertex-2023-10-16"
_FIRST = b"2023-06-01"  # of Anthropic's own API; Vertex has the name above for it
_COUNTER = b"count-tokens"


class VertexAnthropic(Anthropic):
    """One upstream whose base URL ends in /projects/PROJECT/locations/LOCATION."""

    def request(self, call: Call, model: str) -> UpstreamRequest:
        if call.api == "count_tokens":
            return self._sent(call, model, _COUNTER, b"rawPredict", call.body_with({"model": orjson.dumps(model)}))
        if call.api == "messages":
            body = call.body_with({"model": None, "anthropic_version": _version(call)})
        else:
            translated = super().request(call, model).join()
            body = b"" if not isinstance(translated, bytes) else translated
            body = edited(body, read_members(body), {"model": None, "anthropic_version": b'"%b"' % _VERSION})
        verb = b"streamRawPredict" if call.stream else b"rawPredict"
        return self._sent(call, model, quote(model, safe="@").encode(), verb, body)

    def _sent(self, call: Call, of: str, path_model: bytes, verb: bytes, body: bytes) -> UpstreamRequest:
        path = b"/publishers/anthropic/models/%b:%b" % (path_model, verb)
        kept = [h for h in call.headers if not h[0].startswith(b"openai-") and h[0] != b"anthropic-version"]
        headers, recorded = self._with_passed(call, kept), call.body_with({"model": orjson.dumps(of)})
        return self.raw(UpstreamRequest(b"POST", "", path, headers, body, stream=call.stream, recorded=recorded))

    def raw(self, request: UpstreamRequest) -> UpstreamRequest:
        sent = super().raw(request)
        return replace(sent, headers=[h for h in sent.headers if h[0] != b"anthropic-version"])


def _version(call: Call) -> bytes:
    """The version of the API that Anthropic's client speaks, in JSON."""
    sent = next((value for name, value in call.headers if name == b"anthropic-version"), _FIRST)
    return orjson.dumps((_VERSION if sent == _FIRST else sent).decode("latin-1"))
