"""Addresses of the project: `[project.urls]` in pyproject.toml is the one place that has them."""

from __future__ import annotations

DISTRIBUTION = "assay-gateway"


def project_address(label: str) -> str:
    """The address with this label, such as "Documentation"; "" if the installed package has none."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        lines = metadata(DISTRIBUTION).get_all("Project-URL") or []
    except PackageNotFoundError:
        return ""
    named = (line.partition(", ") for line in lines)
    return next((address for name, _, address in named if name == label), "")
