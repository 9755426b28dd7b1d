"""The stream's client is imported without what it never uses."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_a_gateway_does_not_import_opentelemetry_by_accident() -> None:
    pytest.importorskip("opentelemetry.sdk")
    code = """
import sys
import gateway.proxy.serve
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
import opentelemetry.sdk.metrics  # as tracing does, where it is configured
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
