"""Signatures are AWS's own: its published test suite, and botocore's for any request."""

from __future__ import annotations

import calendar
import time
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from fixtures.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.proxy.http.auth.sigv4 import AwsKeys, Signer
from gateway.proxy.types import Headers

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = AwsKeys("AKIDEXAMPLE", SECRET)
AT = float(calendar.timegm((2015, 8, 30, 12, 36, 0)))
HOST = (b"host", b"example.amazonaws.com")
FORM = (b"content-type", b"application/x-www-form-urlencoded")
FORM_UTF8 = (b"content-type", b"application/x-www-form-urlencoded; charset=utf8")
UNRESERVED = b"-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# AWS's Signature Version 4 test suite (aws-sig-v4-test-suite): region us-east-1, service "service".
# Name, method, path, further headers, body, signature.
SUITE: list[tuple[str, bytes, bytes, Headers, bytes, str]] = [
    ("get-vanilla", b"GET", b"/", [], b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("get-vanilla-query-order-key-case", b"GET", b"/?Param2=value2&Param1=value1", [], b"",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ("get-unreserved", b"GET", b"/" + UNRESERVED, [], b"",
     "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
    ("get-utf8", b"GET", "/ሴ".encode(), [], b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    ("get-slashes", b"GET", b"//example//", [], b"",
     "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
    ("get-header-key-duplicate", b"GET", b"/",
     [(b"my-header1", b"value2"), (b"my-header1", b"value2"), (b"my-header1", b"value1")], b"",
     "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"),
    ("get-header-value-trim", b"GET", b"/", [(b"my-header1", b" value1"), (b"my-header2", b' "a   b   c"')], b"",
     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
    ("post-vanilla", b"POST", b"/", [], b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("post-vanilla-query", b"POST", b"/?Param1=value1", [], b"",
     "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
    ("post-x-www-form-urlencoded", b"POST", b"/", [FORM], b"Param1=value1",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ("post-x-www-form-urlencoded-parameters", b"POST", b"/", [FORM_UTF8], b"Param1=value1",
     "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "method", "path", "headers", "body", "signature"), SUITE, ids=[s[0] for s in SUITE])
def test_a_request_of_awss_test_suite_has_its_signature(
    name: str, method: bytes, path: bytes, headers: Headers, body: bytes, signature: str
) -> None:
    signed = dict(Signer("us-east-1", "service").sign(KEYS, method, path, [HOST, *headers], body, AT))
    assert signed[b"x-amz-date"] == b"20150830T123600Z"
    names = b";".join(sorted({n for n, _ in [HOST, *headers]} | {b"x-amz-date"})).decode()
    scope = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"
    expected = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}"
    assert signed[b"authorization"].decode() == expected


def by_botocore(method: str, url: str, headers: dict[str, str], body: bytes, keys: AwsKeys) -> dict[str, str]:
    request = AWSRequest(method, url, headers, body)
    credentials = Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    SigV4Auth(credentials, "bedrock", "eu-west-1").add_auth(request)
    return dict(request.headers.items())


SEGMENT = st.text(st.sampled_from("abz09-._~%3A:@+ é"), min_size=1, max_size=8)


@settings(max_examples=examples(60), deadline=None)
@given(
    path=st.lists(SEGMENT, max_size=4).map("/".join),
    body=st.binary(max_size=50),
    token=st.none() | st.just("session/token+="),
    query=st.lists(st.tuples(st.sampled_from("abB"), st.sampled_from(["", "1", "x~y"])), max_size=3),
)
def test_any_request_is_signed_as_botocore_signs_it(path: str, body: bytes, token: str | None, query: Any) -> None:
    from urllib.parse import quote

    wire = "/" + quote(path, safe="/%:@+~")
    wire += "?" + "&".join(f"{n}={v}" for n, v in query) if query else ""
    keys = AwsKeys("AKID", "secret", token)
    theirs = by_botocore("POST", f"https://h.example{wire}", {"content-type": "application/json"}, body, keys)
    at = float(calendar.timegm(time.strptime(theirs["X-Amz-Date"], "%Y%m%dT%H%M%SZ")))
    covered = [(b"host", b"h.example"), (b"content-type", b"application/json")]
    ours = Signer("eu-west-1", "bedrock").sign(keys, b"POST", wire.encode(), covered, body, at)
    assert {n.decode(): v.decode() for n, v in ours} == {
        n.lower(): v for n, v in theirs.items() if n.lower() != "content-type"
    }


def test_the_key_of_a_day_follows_the_day_and_the_keys() -> None:
    signer = Signer("us-east-1", "service")
    first = signer.sign(KEYS, b"GET", b"/", [HOST], b"", AT)
    assert signer.sign(KEYS, b"GET", b"/", [HOST], b"", AT + 86_400) != first
    assert signer.sign(AwsKeys("AKIDEXAMPLE", "other"), b"GET", b"/", [HOST], b"", AT) != first
    assert signer.sign(KEYS, b"GET", b"/", [HOST], b"", AT) == first


def test_the_secret_is_in_no_text_of_the_keys() -> None:
    assert "wJalr" not in repr(KEYS)
    assert "session" not in repr(AwsKeys("AKID", "secret", "session"))
