"""JSON Web Tokens in place of keys: from a signed token to the record of its caller. No I/O.

PyJWT verifies signatures and times. This module decides which issuer, algorithms and keys may be used before it calls
PyJWT; the token never decides.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import orjson

from gateway.config.derive import limit_settings
from gateway.config.jwt import JwtIssuer, TokenCaller
from gateway.core.errors import ConfigError, InvalidKey, KeysUnavailable, NotAllowed
from gateway.core.extras import install_command
from gateway.core.json_values import as_object, as_text, value_at
from gateway.core.keys import KeyRecord

MISSING = f"jwt: needs PyJWT: {install_command('jwt')}"
_MOST_BYTES = 16_384
_LEAST_RSA_BITS = 2048
_NAME = re.compile(r"[^\s{}\"\\]{1,150}")
_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def require() -> None:
    """Raises ConfigError if the extra `jwt` is not installed."""
    if find_spec("jwt") is None or find_spec("cryptography") is None:
        raise ConfigError([MISSING])


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One public key of an issuer. It may verify what its type and its own `alg` allow, and nothing else."""

    id: str | None
    kind: str
    """Key type: RSA, EC or OKP."""
    algorithm: str | None
    """The only algorithm that it is for; None: each of its kind."""
    curve: str | None
    key: Any
    """The key as PyJWT takes it."""

    def fits(self, algorithm: str) -> bool:
        if self.kind != _KINDS[algorithm[:2]] or self.algorithm not in (None, algorithm):
            return False
        return self.kind != "EC" or self.curve == _CURVES[algorithm]


def read_jwks(raw: bytes) -> tuple[SigningKey, ...]:
    """The keys of a JWKS (RFC 7517) that can verify signatures; others are left out. Raises ValueError for another
    document, or one without such keys."""
    value = orjson.loads(raw)
    entries = as_object(value).get("keys")
    if not isinstance(entries, list):
        raise ValueError("not a set of keys: it has no list `keys`")
    found = tuple(key for entry in entries if isinstance(entry, dict) for key in _signing_key(entry))
    if not found:
        raise ValueError("none of its keys can verify a signature (RSA from 2048 bits, EC or OKP)")
    return found


def _signing_key(entry: dict[str, Any]) -> Iterator[SigningKey]:
    import jwt

    kind, algorithm = entry.get("kty"), entry.get("alg")
    if kind not in _KINDS.values() or entry.get("use", "sig") != "sig" or "d" in entry:
        return  # a shared secret or a private key has no place in a public set
    try:
        key = jwt.PyJWK(entry).key
    except (jwt.PyJWTError, ValueError, KeyError, TypeError):
        return
    if kind == "RSA" and key.key_size < _LEAST_RSA_BITS:
        return
    kid = entry.get("kid")
    yield SigningKey(str(kid) if kid is not None else None, str(kind), algorithm, entry.get("crv"), key)


class SigningKeys:
    """The public keys of all issuers, as this process last read them. It outlives every config."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[SigningKey, ...]] = {}
        """Keys by the issuer's name in the config."""
        self.asked: dict[str, asyncio.Event] = {}
        """Events by the issuer's name, if its keys may be read again at once: set when a token was signed with another
        one."""

    def ask(self, issuer: str) -> bool:
        """Requests the issuer's keys again; False if they were read just now."""
        event = self.asked.get(issuer)
        if event is not None:
            event.set()
        return event is not None


class TokenVerifier:
    """The issuers of one config."""

    def __init__(self, issuers: Mapping[str, JwtIssuer], keys: SigningKeys) -> None:
        """Raises ConfigError without the extra `jwt`."""
        require()
        self._issuers = {issuer.issuer: (name, issuer) for name, issuer in issuers.items()}
        self._keys = keys

    def record(self, token: bytes) -> KeyRecord:
        """The record of its caller, with the token's expiry.

        Raises InvalidKey for a token that is malformed, expired, not for this gateway or not the issuer's; NotAllowed
        if no entry of `callers` matches; KeysUnavailable while the issuer's keys cannot be known.
        """
        header, claims = _unverified(token)
        issuer_claim = claims.get("iss")
        name, issuer = self._issuers.get(as_text(issuer_claim), ("", None))
        if issuer is None:
            raise _invalid("its issuer (`iss`) is not known to this gateway")
        algorithm = header.get("alg")
        if algorithm not in issuer.algorithms:
            raise _invalid("its signature algorithm (`alg`) is not accepted from this issuer")
        if "crit" in header:
            raise _invalid("its header demands extensions (`crit`) that are not supported")
        claims = _verified(token, self._key(name, algorithm, header.get("kid")), algorithm, issuer)
        return _record(name, issuer, claims)

    def _key(self, issuer: str, algorithm: str, kid: Any) -> Any:
        keys = self._keys.of.get(issuer)
        if keys is not None:
            fitting = [key for key in keys if key.fits(algorithm)]
            found = [key for key in fitting if key.id == kid] if kid is not None else fitting
            if len(found) == 1:
                return found[0].key
        if self._keys.ask(issuer) or keys is None:
            raise KeysUnavailable(
                "the key that signed the token is not among those of its issuer that were last read; retry",
                retry_after_s=1,
            )
        raise _invalid("it is not signed with a key of its issuer (`kid`)")


def is_token(key: bytes) -> bool:
    """Whether this has the form of a signed token: three parts, the first of them an object in base64."""
    return key.startswith(b"eyJ") and key.count(b".") == 2


def _unverified(token: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(header, claims), not verified yet. Raises InvalidKey."""
    if len(token) > _MOST_BYTES:
        raise _invalid(f"it is longer than {_MOST_BYTES} bytes")
    header, claims, _ = token.split(b".")
    return _object(header), _object(claims)


def _object(part: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        value = None
    if not isinstance(value, dict):
        raise _invalid("it is malformed")
    return value


def _verified(token: bytes, key: Any, algorithm: str, issuer: JwtIssuer) -> dict[str, Any]:
    """Raises InvalidKey."""
    import jwt

    try:
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=[algorithm], audience=list(issuer.audience), issuer=issuer.issuer,
            leeway=issuer.leeway_s, options={"require": ["exp", "iss", "aud"]},
        )  # fmt: skip
    except jwt.ExpiredSignatureError:
        raise InvalidKey("the token has expired; get a new one", code="key_expired", retry=False) from None
    except jwt.ImmatureSignatureError:
        raise _invalid("it is not in force yet (`nbf` or `iat`)") from None
    except jwt.InvalidAudienceError:
        raise _invalid("it is for another audience (`aud`)") from None
    except jwt.MissingRequiredClaimError as error:
        raise _invalid(f"it has no claim `{error.claim}`") from None
    except jwt.InvalidSignatureError:
        raise _invalid("its signature does not match") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
        raise _invalid("it is malformed") from None
    return claims


def _record(name: str, issuer: JwtIssuer, claims: Mapping[str, Any]) -> KeyRecord:
    """Raises InvalidKey, NotAllowed."""
    subject = value_at(claims, issuer.name)
    if not isinstance(subject, str) or not _NAME.fullmatch(subject):
        raise _invalid(f"its claim `{issuer.name}`, which names the caller, is missing or not a name")
    found = next((caller for caller in issuer.callers if _matches(caller, claims)), None)
    if found is None:
        raise NotAllowed(
            "the claims of the token allow nothing here; ask the administrator of this gateway", retry=False
        )
    caller = f"{name}:{subject}"
    return KeyRecord(
        id=f"jwt:{caller}",
        name=caller,
        digests=(),
        limits=limit_settings(found.limits),
        team=found.team,
        person=caller,
        models=found.models,
        allow=found.allow,
        sample=found.sample,
        content=found.content,
        tags=found.tags,
        expires=float(claims["exp"]) + issuer.leeway_s,
        networks=found.networks,
    )


def _matches(caller: TokenCaller, claims: Mapping[str, Any]) -> bool:
    return all(_holds(name, value_at(claims, name), expected) for name, expected in caller.claims.items())


_LISTS = ("scope", "scp")
"""Claims whose texts are lists with blanks between their members (RFC 8693, section 4.2). In others, such as a name
that people choose, a blank is a character like any other."""


def _holds(name: str, value: Any, expected: str | bool | int) -> bool:
    if isinstance(value, str) and isinstance(expected, str):
        return value == expected or (name.rpartition(".")[2] in _LISTS and expected in value.split())
    if isinstance(value, list):
        return any(type(each) is type(expected) and each == expected for each in value)
    return type(value) is type(expected) and bool(value == expected)


def _invalid(reason: str) -> InvalidKey:
    return InvalidKey(f"the token is not valid: {reason}", retry=False)
