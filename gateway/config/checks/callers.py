"""Keys, admin tokens and issuers: no two may be confused, and what they name must be in the file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from gateway.config.admin import AdminToken
from gateway.config.checks.partial import in_each, readable
from gateway.config.checks.references import unknown_models, unknown_name
from gateway.config.config import ApiKey, Config
from gateway.config.jwt import JwtIssuer


def caller_mistakes(config: Config) -> Iterator[str]:
    digests, rights, issuers = set[str](), dict[str, ApiKey](), dict[str, str]()
    yield from in_each(
        config,
        "keys",
        _key_mistakes,
        lambda at, key, _: _other_rights(at, key, rights),
        lambda at, key, _: _taken_digest(at, key, digests),
    )
    yield from in_each(config, "jwt", lambda at, issuer, _: _taken_issuer(at, issuer, issuers), _issuer_mistakes)
    yield from readable(_token_mistakes(config))
    yield from readable(_evals_mistakes(config))


def _key_mistakes(at: str, key: ApiKey, config: Config) -> Iterator[str]:
    yield from unknown_models(at, key, config)
    yield from unknown_name(f"{at}.team", key.team, "teams", config.teams)
    yield from unknown_name(f"{at}.person", key.person, "people", config.people)


def _other_rights(at: str, key: ApiKey, rights: dict[str, ApiKey]) -> Iterator[str]:
    """rights: the first key of each name."""
    first = rights.setdefault(key.name, key)
    if first is not key and _rights(first) != _rights(key):
        yield (
            f'{at}.name: another key has the name "{key.name}" and other settings; while a key is replaced, the old '
            "and the new one may have one name, but then everything but sha256 must agree"
        )


def _rights(key: ApiKey) -> dict[str, object]:
    return {setting: getattr(key, setting) for setting in key.model_fields_set if setting != "sha256"}


def _taken_digest(at: str, holder: ApiKey | AdminToken, digests: set[str]) -> Iterator[str]:
    """A digest is "" where its variable is not set, which is reported. digests: of the holders before this one."""
    if holder.sha256 and holder.sha256 in digests:
        yield f"{at}.sha256: another {'key' if isinstance(holder, ApiKey) else 'token'} has this digest already"
    digests.add(holder.sha256)


def _taken_issuer(at: str, issuer: JwtIssuer, issuers: dict[str, str]) -> Iterator[str]:
    other = issuers.setdefault(issuer.issuer, at)
    if other != at:
        yield f"{at}.issuer: {other} has this issuer already; put its callers there"


def _issuer_mistakes(at: str, issuer: JwtIssuer, config: Config) -> Iterator[str]:
    for i, caller in enumerate(issuer.callers):
        path = f"{at}.callers[{i}]"
        if "admin" not in config.model_fields_set:  # whose teams become known later
            yield from unknown_name(f"{path}.team", caller.team, "teams", config.teams)
        yield from unknown_models(path, caller, config)


def _token_mistakes(config: Config) -> Iterator[str]:
    names, digests = set[str](), set[str]()
    for i, token in enumerate(() if config.admin is None else config.admin.tokens):
        at = f"admin.tokens[{i}]"
        yield from readable(_taken_name(at, token, names))
        yield from readable(_taken_digest(at, token, digests))
        yield from readable(_digest_of_key(at, token, config))


def _taken_name(at: str, token: AdminToken, names: set[str]) -> Iterator[str]:
    if token.name in names:
        yield f'{at}.name: another token has the name "{token.name}"; the audit could not tell them apart'
    names.add(token.name)


def _digest_of_key(at: str, token: AdminToken, config: Config) -> Iterator[str]:
    callers = [key for key in config.keys if token.sha256 and getattr(key, "sha256", "") == token.sha256]
    if callers:
        yield (
            f'{at}.sha256: this is also the digest of key "{callers[-1].name}", and no caller\'s key may open the '
            "admin API; make another token"
        )


def _evals_mistakes(config: Config) -> Iterator[str]:
    """Rejects a key whose traffic is sampled: a judge's calls would be judged, and those calls judged again."""
    if config.evals.api_key is None:
        return
    digest = hashlib.sha256(config.evals.api_key.encode()).hexdigest()
    sampled = [key for key in config.keys if getattr(key, "sha256", "") == digest and key.sample != "never"]
    for key in sampled[:1]:
        yield (
            f'evals.api_key: the traffic of key "{key.name}" is sampled, so judges would judge their own calls; give '
            "that key `sample: never`"
        )
