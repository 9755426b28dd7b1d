"""The models and credentials in LiteLLM's database, whose parameters it encrypts, as entries of its config.

Three forms of ciphertext exist: `v3:gcm:` and `v2:gcm:`, AES-256-GCM, and an older one without a mark,
XSalsa20-Poly1305.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.config.import_litellm import ImportNote
from gateway.core.errors import CannotRun
from gateway.core.extras import install_command
from gateway.features.litellm.rows import LiteLLMDatabase, Row

_V3, _V2 = "v3:gcm:", "v2:gcm:"
_INFO = b"litellm-at-rest-v3"
_NONCE_BYTES = 12
_LEAST_BOX_BYTES = 40  # a nonce of 24 bytes and a tag of 16


class NotDecrypted(ValueError):
    """Raised for a text that is not a ciphertext under this key."""


def with_stored_models(
    raw: Mapping[str, Any], database: LiteLLMDatabase, salt: str
) -> tuple[dict[str, Any], list[ImportNote]]:
    """The config with the models and credentials of the database, and a note for each that is left out.

    salt: LITELLM_SALT_KEY; "" if unknown, so that they are only listed.
    """
    models, notes, credentials = list(raw.get("model_list") or []), [], list(raw.get("credential_list") or [])
    for row in database.credentials:
        values = _decrypted(row["credential_values"], salt)
        if values is None:
            notes.append(_note(f"credentials[{row['credential_name']}]", salt))
        else:
            credentials.append({"credential_name": row["credential_name"], "credential_values": values})
    for row in database.models:
        params, path = _decrypted(row["litellm_params"], salt), f"models[{row['model_name']}]"
        if row["blocked"]:
            notes.append(ImportNote(path, "lost", "it is blocked in LiteLLM"))
        elif params is None:
            notes.append(_note(path, salt))
        else:
            info = {name: value for name, value in (row["model_info"] or {}).items() if name not in ("id", "db_model")}
            models.append({"model_name": row["model_name"], "litellm_params": params, "model_info": info})
    more = {"credential_list": credentials} if credentials else {}
    return {**raw, "model_list": models, **more}, notes


def groups_of(raw: Mapping[str, Any], database: LiteLLMDatabase) -> dict[str, list[str]]:
    """The members of each access group: those that the models themselves name, and those of the database."""
    found: dict[str, list[str]] = {}
    for entry in raw.get("model_list") or []:
        info = entry.get("model_info") if isinstance(entry, Mapping) else None
        for group in (info or {}).get("access_groups") or []:
            found.setdefault(str(group), []).append(str(entry.get("model_name")))
    for row in database.access_groups:
        found.setdefault(row["access_group_name"], []).extend(row["access_model_names"])
    return found


def _note(path: str, salt: str) -> ImportNote:
    why = "LITELLM_SALT_KEY does not open it" if salt else "encrypted; set LITELLM_SALT_KEY to read it"
    return ImportNote(path, "lost", why)


def _decrypted(values: Any, salt: str) -> dict[str, Any] | None:
    """The parameters in the clear; None if they cannot be read. A value that is not a text was not encrypted."""
    if not salt or not isinstance(values, Mapping):
        return None
    try:
        return dict(_opened(values, salt))
    except NotDecrypted:
        return None


def _opened(values: Row, salt: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        yield name, decrypt(value, salt) if isinstance(value, str) else value


def decrypt(text: str, salt: str) -> str:
    """The plain text. Raises NotDecrypted, and CannotRun without the library."""
    try:
        for mark, key in ((_V3, _hkdf), (_V2, _digest)):
            if text.startswith(mark):
                return _open_gcm(base64.urlsafe_b64decode(text.removeprefix(mark)), key(salt))
        return _open_box(base64.b64decode(text, altchars=b"-_", validate=True), _digest(salt))
    except ImportError as error:
        raise CannotRun(f"reading LiteLLM's models needs: {install_command('litellm')}") from error
    except ValueError as error:  # base64, UTF-8, and a text that is too short
        raise NotDecrypted(str(error)) from None


def _open_gcm(raw: bytes, key: bytes) -> str:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None).decode()
    except InvalidTag:
        raise NotDecrypted("another key") from None


def _open_box(raw: bytes, key: bytes) -> str:
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    if len(raw) < _LEAST_BOX_BYTES:
        raise NotDecrypted("too short")
    try:
        return SecretBox(key).decrypt(raw).decode()
    except CryptoError:
        raise NotDecrypted("another key") from None


def _digest(salt: str) -> bytes:
    return hashlib.sha256(salt.encode()).digest()


def _hkdf(salt: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_INFO).derive(salt.encode())
