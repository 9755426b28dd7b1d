"""Replies fuzzed under the guidance of coverage, from the whole ones of test_connection.py."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz_replies.py")
SEEDS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\nTrailer: z\r\n\r\n",
]


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed: pip install atheris")
def test_guided_by_coverage_no_bytes_hang_or_raise_anything_else(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for n, seed in enumerate(SEEDS):
        (corpus / str(n)).write_bytes(seed + bytes(12))
    options = ["-max_total_time=60", "-timeout=10", "-max_len=2048", "-seed=7", f"-artifact_prefix={tmp_path}/"]
    ran = subprocess.run([sys.executable, FUZZ, corpus, *options], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    (runs,) = re.findall(r"Done (\d+) runs", ran.stderr)
    assert int(runs) > 1000
    print(f"{runs} replies tried; {len(list(corpus.iterdir()))} kept as worth trying again")  # noqa: T201
