"""Random draws that are reproducible: the same in every process, after every restart, in both programs. Pure."""

from __future__ import annotations

from hashlib import blake2b, sha256

SECRET_BYTES = 32
"""Length of the secret that keys draws."""
_BITS = 56


def draw(domain: str, unit: str, version: int = 1) -> float:
    """A number in [0, 1): the first 56 bits of sha256(domain, version, unit), divided by 2^56.

    domain: what the draw decides ("sample", "shadow:<plan>", "score:<scorer>"); must not contain NUL. Draws of one unit
    in two domains are independent: with one hash for all, every sampled unit would fall into one arm. version:
    of the rule; a new version draws again. unit: a request's or a conversation's id.
    """
    digest = sha256(f"{domain}\0{version}\0{unit}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[: _BITS // 8]) / (1 << _BITS)


def keyed_draw(secret: bytes, domain: str, unit: str) -> float:
    """A number in [0, 1) that only those can compute who have the secret: 56 bits of a keyed BLAKE2b hash.

    domain, unit: as `draw` takes them. secret: of 1 to 64 bytes. The keyed mode of BLAKE2 (RFC 7693, section 2.9) is a
    message authentication code by itself, so one hash does what HMAC needs two for.
    """
    text = f"{domain}\0{unit}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, key=secret, digest_size=_BITS // 8).digest()) / (1 << _BITS)
