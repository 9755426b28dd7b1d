"""A digest of a request as it was sent upstream, by which the requests of a pair's arms are compared. Pure.

What must differ between the arms is left out: the model, the seed (a shadow has none), the priority (a shadow has the
lowest), and the stream options (which say whether the upstream reports usage). Left out as well is what the variants of
the arms change: the requests must be equal in everything else. Credentials are in headers, not here.
"""

from __future__ import annotations

from hashlib import blake2b

from gateway.core.providers import DialectName
from gateway.proxy.recording.redaction.redactor import LARGE
from gateway.proxy.request.instructions import without_instructions
from gateway.proxy.request.json_splice import members
from gateway.proxy.routing.variants import NOTHING_VARIED, VariedParts

_MUST_DIFFER = frozenset({b"model", b"seed", b"priority", b"stream_options"})


_INSTRUCTIONS = (b"system", b"instructions")
_TURNS = (b"messages", b"input")


def request_digest(body: bytes, dialect: DialectName, key: bytes, varied: VariedParts = NOTHING_VARIED) -> str | None:
    """16 hex digits after the API's format: "openai:…". Requests in different formats cannot be compared.

    key: a secret of this process, so that nobody can find out a prompt from its digest by trying.
    varied: what the variants of the pair's arms change; it is left out as well.
    None: the body is too large to be read between calls, or is not a JSON object.
    """
    if len(body) > LARGE:
        return None
    digest = blake2b(key=key, digest_size=8)
    try:
        for member in members(body):
            if member.name in _MUST_DIFFER or member.name in varied.names:
                continue
            value = body[member.start : member.end]
            if varied.instructions and member.name in _INSTRUCTIONS:
                continue
            if varied.instructions and member.name in _TURNS:
                value = without_instructions(value)
            digest.update(b"%d %b %d %b" % (len(member.name), member.name, len(value), value))
    except ValueError:
        return None
    return f"{'anthropic' if dialect == 'anthropic' else 'openai'}:{digest.hexdigest()}"
