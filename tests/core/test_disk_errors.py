from __future__ import annotations

import errno

import pytest

from gateway.core.disk_errors import disk_line, is_disk_error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_no_writes_is_told_apart(number: int) -> None:
    assert is_disk_error(OSError(number, "no"))
    assert not is_disk_error(OSError(errno.ENOENT, "no"))
    assert not is_disk_error(ValueError("no"))


def test_the_line_names_the_file_if_there_is_one() -> None:
    assert (
        disk_line(OSError(errno.ENOSPC, "No space left", "/data/key")) == "/data/key cannot be written: No space left"
    )
    assert disk_line(OSError(errno.ENOSPC, "No space left")) == "a file or the output cannot be written: No space left"
