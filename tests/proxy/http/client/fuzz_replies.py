"""Coverage-guided fuzzing of what an upstream may send: any bytes end in a reply or in one of the transport's errors.

Run by test_fuzz_replies.py with libFuzzer's own arguments: python fuzz_replies.py CORPUS -max_total_time=60
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["gateway.proxy.http.client"]):
    from test_connection import play, split

    from gateway.core.errors import TransportError


def try_one(data):
    """The reply's bytes stand in front; how they are asked for, cut and ended, behind."""
    source = atheris.FuzzedDataProvider(data)
    method = source.PickValueInList([b"POST", b"HEAD"])
    error = source.PickValueInList([None, ConnectionResetError("reset")])
    cuts = [source.ConsumeIntInRange(0, 400) for _ in range(source.ConsumeIntInRange(0, 4))]
    raw = source.ConsumeBytes(source.remaining_bytes())
    got, kept = play(split(raw, cuts), method=method, error=error)
    if not isinstance(got, tuple) and not issubclass(got, TransportError):
        raise AssertionError(f"{raw!r} ends in {got}")
    if play([raw], method=method, error=error)[0] != got:
        raise AssertionError(f"{raw!r} says something else when it is cut at {cuts}; kept: {kept}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
