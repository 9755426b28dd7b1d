"""The addresses of the project come from the metadata of the installed package."""

from __future__ import annotations

from importlib.metadata import metadata

from gateway.core.project import DISTRIBUTION, project_address


def test_an_address_that_the_package_lacks_is_empty() -> None:
    assert project_address("No such label") == ""


def test_every_address_of_the_metadata_is_found() -> None:
    for line in metadata(DISTRIBUTION).get_all("Project-URL") or []:
        label, _, address = line.partition(", ")
        assert project_address(label) == address
