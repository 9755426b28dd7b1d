"""Azure OpenAI: OpenAI's API under other paths, with another credential header.

Dated form: `{base}/openai/deployments/{model}/chat/completions?api-version=…`. A base_url that ends in `/openai/v1`
is the newer form, with OpenAI's own paths; then api-version is sent only if the config sets one.
"""

from __future__ import annotations

from urllib.parse import quote

from gateway.config.upstreams import Upstream
from gateway.proxy.dialects.openai import OpenAI, refuse_vendor_api
from gateway.proxy.request.call import Call

_VERSION = "2024-10-21"  # the last dated version that is generally available
_BY_DEPLOYMENT = frozenset(
    {
        b"/completions",
        b"/chat/completions",
        b"/embeddings",
        b"/audio/transcriptions",
        b"/audio/translations",
        b"/audio/speech",
        b"/images/generations",
        b"/images/edits",
    }
)  # the paths that the official SDK sends below a deployment; all others are outside it


class Azure(OpenAI):
    """One Azure resource. A target's model is the deployment."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream)
        self._dated = not self.prefix.endswith(b"/openai/v1")
        if self._dated:
            self.prefix = self.prefix.removesuffix(b"/openai") + b"/openai"
        version = upstream.api_version or (_VERSION if self._dated else "")
        self._paths = {}  # they depend on the model
        self._query = b"api-version=" + quote(version).encode() if version else b""

    def credential(self, key: str) -> tuple[bytes, bytes]:
        return b"api-key", key.encode()

    def path(self, call: Call, model: str) -> bytes:
        refuse_vendor_api(call)
        path = call.path
        if self._dated and path.partition(b"?")[0] in _BY_DEPLOYMENT:
            path = b"/deployments/" + quote(model, safe="").encode() + path
        return self.below(path)

    def below(self, path: bytes) -> bytes:
        if not self._query:
            return self.prefix + path
        return self.prefix + path + (b"&" if b"?" in path else b"?") + self._query
