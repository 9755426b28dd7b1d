"""Plug-ins that import from the former name of the package."""

import pytest

import gateway.scorers
from gateway.evals import scorers as former


@pytest.mark.parametrize("name", gateway.scorers.__all__)
def test_each_name_is_the_same_and_warns(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"gateway\.evals\.scorers\.{name} is now gateway\.scorers\.{name}"):
        assert getattr(former, name) is getattr(gateway.scorers, name)


def test_a_name_that_neither_has_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        former.Nothing  # noqa: B018
