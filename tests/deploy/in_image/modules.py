"""Imports every module of the package, inside the image. What belongs to an extra that the image does not have may be
missing."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import gateway

OTHERS = frozenset(
    {"sklearn", "tokenizers", "threadpoolctl", "botocore", "google", "azure", "ray", "pandas", "datasets", "inspect_ai"}
    | {"brotli", "nacl", "aiosmtplib", "xllamacpp", "vllm"}
)
"""Packages of extras that the image does not have."""


def failed() -> dict[str, str]:
    """Modules that cannot be imported, with the reason."""
    found: dict[str, str] = {}
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if module.name.endswith("__main__") or ".migrations." in module.name:
            continue  # they are programs, and scripts that alembic runs
        try:
            importlib.import_module(module.name)
        except Exception as error:
            missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
            if missing.partition(".")[0] not in OTHERS:
                found[module.name] = repr(error)
    return found


if __name__ == "__main__":
    broken = failed()
    assert not broken, broken
    sys.stdout.write("all\n")
