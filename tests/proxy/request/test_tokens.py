"""Valid and invalid tokens of callers: signatures, times, audiences, algorithms, claims."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fixtures.identity import AUDIENCE, public, signing_key, token

from gateway.config.jwt import JwtIssuer
from gateway.core.errors import GatewayError, InvalidKey, KeysUnavailable, NotAllowed
from gateway.proxy.request.tokens import SigningKeys, TokenVerifier, is_token, read_jwks

ISS = "https://login.example.com/"
CALLERS: list[dict[str, Any]] = [
    {"claims": {"groups": "ml"}, "team": "lab", "models": ["m"], "tags": ["gpu"], "content": "metadata"},
    {"claims": {"scope": "chat"}, "allow": ["sample"]},
    {"claims": {"realm_access.roles": "gateway-user"}},
    {"claims": {"https://example.com/tier": 2, "verified": True}},
]


def verifier(*keys: dict[str, Any], **changed: Any) -> TokenVerifier:
    known = SigningKeys()
    if keys:
        known.of["sso"] = read_jwks(json.dumps({"keys": keys}).encode())
    fields = {"issuer": ISS, "audience": [AUDIENCE], "callers": CALLERS, **changed}
    return TokenVerifier({"sso": JwtIssuer.model_validate(fields)}, known)


ES = public(signing_key("ES256"), "k1")


def refused(tokens: TokenVerifier, text: str, kind: type[GatewayError] = InvalidKey) -> str:
    with pytest.raises(kind) as error:
        tokens.record(text.encode())
    assert text not in error.value.message
    return error.value.message


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [("RS256", "RS256"), ("PS256", "RS256"), ("ES256", "ES256"), ("ES384", "ES384"), ("EdDSA", "EdDSA")],
)
def test_each_algorithm_of_the_list_verifies(algorithm: str, key: str) -> None:
    tokens = verifier(public(signing_key(key), "k1"), algorithms=[algorithm])
    record = tokens.record(token(ISS, signing_key(key), algorithm=algorithm, groups=["ml"]).encode())
    assert (record.id, record.name, record.team, record.models) == ("jwt:sso:alice", "sso:alice", "lab", ("m",))
    assert record.person == "sso:alice", "the keys of a person may name a token's caller"
    assert (record.tags, record.content, record.digests) == (("gpu",), "metadata", ())
    assert record.expires is not None
    assert 300 < record.expires - time.time() <= 331


@pytest.mark.parametrize(
    ("claims", "without", "said"),
    [
        ({"exp": 1}, "", "the token has expired"),
        ({}, "exp", "it has no claim `exp`"),
        ({}, "aud", "`aud`"),
        ({"aud": "another"}, "", "it is for another audience"),
        ({"aud": ["another", "third"]}, "", "it is for another audience"),
        ({"nbf": int(time.time()) + 3600}, "", "it is not in force yet"),
        ({"iss": "https://login.example.com"}, "", "its issuer (`iss`) is not known"),
        ({}, "iss", "its issuer (`iss`) is not known"),
        ({"exp": "soon"}, "", "it is malformed"),
        ({"sub": "two words"}, "", "its claim `sub`"),
        ({"sub": ""}, "", "its claim `sub`"),
        ({}, "sub", "its claim `sub`"),
    ],
)
def test_a_token_out_of_its_place_is_refused(claims: dict[str, Any], without: str, said: str) -> None:
    assert said in refused(verifier(ES), token(ISS, without=without, groups=["ml"], **claims))


def encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_no_token_chooses_how_it_is_verified() -> None:
    tokens = verifier(ES)
    now = int(time.time())
    claims = {"iss": ISS, "aud": AUDIENCE, "sub": "mallory", "exp": now + 300, "groups": ["ml"]}
    pem = signing_key("ES256").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    unsigned = f"{encoded({'alg': 'none', 'kid': 'k1'})}.{encoded(claims)}."
    shared = f"{encoded({'alg': 'HS256', 'kid': 'k1'})}.{encoded(claims)}"
    mac = base64.urlsafe_b64encode(hmac.digest(pem, shared.encode(), hashlib.sha256)).rstrip(b"=").decode()
    for text in (unsigned, f"{shared}.{mac}", token(ISS, signing_key("RS256"), algorithm="RS256", groups=["ml"])):
        assert "the token is not valid" in refused(tokens, text)
    other = token(ISS, signing_key("ES256", "mallory"), groups=["ml"])
    assert "its signature does not match" in refused(tokens, other)
    head, body, signature = token(ISS, groups=["none"]).split(".")
    assert "signature" in refused(tokens, f"{head}.{encoded({**claims, 'sub': 'alice'})}.{signature}")
    critical = f"{encoded({'alg': 'ES256', 'kid': 'k1', 'crit': ['b64'], 'b64': False})}.{body}.{signature}"
    assert "(`crit`)" in refused(tokens, critical)


@pytest.mark.parametrize("text", ["eyJ.e.e", "eyJhIjoxfQ.W10.x", "eyJhIjoxfQ..", "eyJ" + "a" * 20_000 + ".a.a"])
def test_other_texts_are_malformed_tokens(text: str) -> None:
    assert is_token(text.encode())
    refused(verifier(ES), text)


def test_keys_have_other_forms() -> None:
    assert not any(map(is_token, (b"sk-assay-1", b"eyJhIjoxfQ", b"a.b.c", b"")))


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({"groups": ["x", "ml"]}, True),
        ({"groups": "ml"}, True),
        ({"groups": ["mlx"]}, False),
        ({"scope": "openid chat"}, True),
        ({"scope": "chatter"}, False),
        ({"groups": "x ml"}, False),
        ({"groups": "ml x"}, False),
        ({"realm_access": {"roles": ["gateway-user"]}}, True),
        ({"realm_access": "gateway-user"}, False),
        ({"https://example.com/tier": 2, "verified": True}, True),
        ({"https://example.com/tier": 2, "verified": 1}, False),
        ({"https://example.com/tier": "2", "verified": True}, False),
        ({}, False),
    ],
)
def test_claims_decide_what_is_allowed(claims: dict[str, Any], allowed: bool) -> None:
    tokens = verifier(ES)
    if allowed:
        assert tokens.record(token(ISS, **claims).encode()).name == "sso:alice"
    else:
        assert "allow nothing here" in refused(tokens, token(ISS, **claims), NotAllowed)


def test_another_claim_may_name_the_caller() -> None:
    record = verifier(ES, name="email").record(token(ISS, groups="ml", email="a@example.org").encode())
    assert record.name == "sso:a@example.org"


def test_a_key_verifies_only_what_it_is_for() -> None:
    ours = token(ISS, signing_key("RS256"), algorithm="RS256", groups="ml")
    rsa = public(signing_key("RS256"), "k1")
    assert verifier(rsa).record(ours.encode())
    for entry in ({**rsa, "alg": "PS256"}, {**rsa, "use": "enc"}, public(signing_key("RS256"), "k2")):
        assert "not signed with a key" in refused(verifier(ES | {"kid": "k9"}, entry), ours)


def test_a_token_without_a_key_id_needs_the_only_key_of_its_kind() -> None:
    text = token(ISS, kid=None, groups="ml")
    assert verifier(ES, public(signing_key("RS256"), "r")).record(text.encode())
    assert "not signed with a key" in refused(verifier(ES, public(signing_key("ES256", "b"), "k2")), text)


def test_before_keys_were_read_nobody_is_refused_permanently() -> None:
    tokens = verifier()
    assert "retry" in refused(tokens, token(ISS), KeysUnavailable)


def test_sets_without_a_usable_key_are_not_sets() -> None:
    private = {**ES, "d": "c2VjcmV0"}
    shared = {"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}
    weak = public(signing_key("small"), "k1")
    for keys in ([private], [shared], [weak], [], [1], [{"kty": "RSA", "n": "!", "e": "AQAB"}]):
        with pytest.raises(ValueError, match="none of its keys"):
            read_jwks(json.dumps({"keys": keys}).encode())
    for raw in (b"[]", b'{"keys": {}}', b"<html>"):
        with pytest.raises(ValueError, match=r"keys|unexpected|JSON|expected"):
            read_jwks(raw)
