"""A digest of a request as it was sent upstream, by which the requests of a pair's arms are compared. Pure.

What must differ between the arms is left out: the model, the seed (a shadow has none), the priority (a shadow has the
lowest), and the stream options (which say whether the upstream reports usage). Credentials are in headers, not here.
"""

from __future__ import annotations

from hashlib import blake2b

from gateway.core.providers import DialectName
from gateway.proxy.recording.redaction.redactor import LARGE
from gateway.proxy.request.json_splice import members

_MUST_DIFFER = frozenset({b"model", b"seed", b"priority", b"stream_options"})


def request_digest(body: bytes, dialect: DialectName, key: bytes) -> str | None:
    """16 hex digits after the API's format: "openai:…". Requests in different formats cannot be compared.

    key: a secret of this process, so that nobody can find out a prompt from its digest by trying.
    None: the body is too large to be read between calls, or is not a JSON object.
    """
    if len(body) > LARGE:
        return None
    digest = blake2b(key=key, digest_size=8)
    try:
        for member in members(body):
            if member.name not in _MUST_DIFFER:
                value = body[member.start : member.end]
                digest.update(b"%d %b %d %b" % (len(member.name), member.name, len(value), value))
    except ValueError:
        return None
    return f"{'anthropic' if dialect == 'anthropic' else 'openai'}:{digest.hexdigest()}"
