"""The section `webhooks` of gateway.yaml: the receivers of each transition of a ramp, and of a route's leaf."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.config.types import Name, Section, Url

PREFIX = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64


def signing_key(secret: str) -> bytes:
    """The bytes of a secret as Standard Webhooks writes it: `whsec_` and base64. Raises ValueError."""
    expected = f"expected {PREFIX} and 24 to 64 bytes in base64: echo {PREFIX}$(openssl rand -base64 32)"
    if not secret.startswith(PREFIX):
        raise ValueError(expected)
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(expected) from None
    if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise ValueError(f"{expected}; it has {len(key)} bytes")
    return key


def _checked(secret: str) -> str:
    signing_key(secret)
    return secret


WebhookSecret = Annotated[str, AfterValidator(_checked)]


class WebhookConfig(Section):
    """A receiver of webhooks. Each is signed as Standard Webhooks says, and sent again until it is accepted."""

    url: Url
    """URL that receives the POST requests."""
    secret: WebhookSecret
    """Signs each request: `whsec_` and 24 to 64 random bytes in base64, such as `${WEBHOOK_SECRET}`."""
    experiments: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """Experiments whose ramps it reports; ROUTE-watch reports what a learned route has taken back. Default: all."""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    """Seconds in which the receiver answers; later counts as a failure."""

    def wants(self, experiment: str) -> bool:
        return self.experiments is None or experiment in self.experiments
