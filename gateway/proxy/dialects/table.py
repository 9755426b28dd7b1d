"""Which dialect an upstream speaks."""

from __future__ import annotations

from gateway.config import Upstream
from gateway.proxy.dialects import Dialect
from gateway.proxy.dialects.openai import OpenAI


def build(upstream: Upstream) -> Dialect:
    return OpenAI(upstream)
