"""The URL of a store that is not opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.store.engine import StoreUnavailable, reader, writer
from gateway.store.location import default_url, is_missing_file

pytestmark = pytest.mark.quick


def test_a_store_is_missing_until_it_is_made(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    assert is_missing_file(url)
    with pytest.raises(StoreUnavailable, match="no store at"):
        reader(url)
    writer(url).dispose()
    assert not is_missing_file(url)
    assert not is_missing_file(f"{url}?timeout=3")


@pytest.mark.parametrize("url", ["postgresql://u@host/db", "mysql://u@host/db", "no url"])
def test_other_urls_are_left_to_the_code_that_opens_stores(url: str) -> None:
    assert not is_missing_file(url)
