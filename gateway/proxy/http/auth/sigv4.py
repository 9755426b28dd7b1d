"""AWS Signature Version 4 of one request. Pure; sources.py finds the keys.

The signature covers the body's hash, so it is made for every request and is part of the data path. It is written here
because botocore's takes several times as long (figures: docs/contributing/measurements.md); a test compares the two.
Source: "Signature Version 4 signing process" in AWS's documentation, docs.aws.amazon.com/IAM/latest/UserGuide.
"""

from __future__ import annotations

import hmac
import posixpath
from dataclasses import dataclass, field
from hashlib import sha256
from operator import itemgetter
from time import gmtime, strftime
from urllib.parse import quote, unquote_to_bytes

from gateway.proxy.types import Headers

_SAFE = "-_.~"
_EMPTY = sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """An access key. Never written anywhere."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class Signer:
    """Signs requests for one service in one region."""

    def __init__(self, region: str, service: str) -> None:
        self._region = region
        self._service = service
        self._derived: tuple[AwsKeys, str, bytes] | None = None  # of one day

    def sign(self, keys: AwsKeys, method: bytes, path: bytes, headers: Headers, body: bytes, at: float) -> Headers:
        """The headers to add: x-amz-date, x-amz-security-token for a temporary key, and authorization.

        path: as on the wire, with its query. headers: those that are signed, `host` among them; lower-case names. at:
        Unix seconds.
        """
        stamp = strftime("%Y%m%dT%H%M%SZ", gmtime(at))
        added: Headers = [(b"x-amz-date", stamp.encode())]
        if keys.session_token is not None:
            added.append((b"x-amz-security-token", keys.session_token.encode()))
        signed = sorted([*headers, *added], key=itemgetter(0))
        names = b";".join(dict.fromkeys(name for name, _ in signed)).decode()
        payload = sha256(body).hexdigest() if body else _EMPTY
        canonical = canonical_request(method, path, signed, names, payload)
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(canonical).hexdigest()}"
        signature = hmac.new(self._key(keys, stamp[:8]), text.encode(), sha256).hexdigest()
        value = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return [*added, (b"authorization", value.encode())]

    def _key(self, keys: AwsKeys, day: str) -> bytes:
        derived = self._derived
        if derived is None or derived[0] is not keys or derived[1] != day:
            key = b"AWS4" + keys.secret_access_key.encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._derived = derived = (keys, day, key)
        return derived[2]


def canonical_request(method: bytes, path: bytes, headers: Headers, names: str, payload: str) -> bytes:
    """headers: sorted. names: of these headers, joined by semicolons. payload: the body's SHA-256 in hexadecimal."""
    resource, _, query = path.partition(b"?")
    folded: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        folded.setdefault(name, []).append(b" ".join(value.split()))
    lines = [b"%b:%b\n" % (name, b",".join(values)) for name, values in folded.items()]
    return b"%b\n%b\n%b\n%b\n%b\n%b" % (
        method,
        _canonical_path(resource),
        _canonical_query(query),
        b"".join(lines),
        names.encode(),
        payload.encode(),
    )


def _canonical_path(path: bytes) -> bytes:
    """The path without empty and dot segments; percent-encoded parts are encoded again, as all services but S3 do."""
    text = path.decode("latin-1")
    plain = posixpath.normpath("/" + text.lstrip("/"))
    if text.endswith("/") and plain != "/":
        plain += "/"
    return quote(plain, safe="/" + _SAFE, encoding="latin-1").encode()


def _canonical_query(query: bytes) -> bytes:
    if not query:
        return b""
    pairs = (part.partition(b"=") for part in query.split(b"&") if part)
    encoded = sorted((_encoded(name), _encoded(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded).encode()


def _encoded(part: bytes) -> str:
    return quote(unquote_to_bytes(part), safe=_SAFE)
