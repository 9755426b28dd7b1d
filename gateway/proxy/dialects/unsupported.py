"""The errors for requests that an upstream's API cannot express. A part of a request is refused by name."""

from __future__ import annotations

from gateway.core.errors import BadRequest


def unsupported_api(message: str) -> BadRequest:
    return BadRequest(message, param="model", code="unsupported_api")


def unsupported_parameter(api: str, param: str, why: str = "") -> BadRequest:
    """api: the one that the upstream speaks, with its owner."""
    text = f'"{param}" is not supported by the upstream of this model, which speaks {api}'
    return BadRequest(f"{text}{': ' + why if why else ''}", param=param, code="unsupported_parameter")
