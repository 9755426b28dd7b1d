"""Models that LiteLLM keeps encrypted are listed, or read with its salt key, in each of its three forms."""

from __future__ import annotations

import base64
from dataclasses import fields
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.secret import SecretBox

from gateway.features.litellm.encrypted import NotDecrypted, decrypt, groups_of, with_stored_models
from gateway.features.litellm.rows import LiteLLMDatabase

pytestmark = pytest.mark.quick
SALT = "sk-salt"


def _gcm(text: str, version: str) -> str:
    digest = sha256(SALT.encode()).digest()
    own = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"litellm-at-rest-v3").derive(SALT.encode())
    nonce = bytes(12)
    sealed = AESGCM(own if version == "v3" else digest).encrypt(nonce, text.encode(), None)
    return f"{version}:gcm:" + base64.urlsafe_b64encode(nonce + sealed).decode()


def _box(text: str) -> str:
    return base64.urlsafe_b64encode(SecretBox(sha256(SALT.encode()).digest()).encrypt(text.encode())).decode()


FORMS = {"v3": lambda t: _gcm(t, "v3"), "v2": lambda t: _gcm(t, "v2"), "box": _box}


def database(**tables: Any) -> LiteLLMDatabase:
    return LiteLLMDatabase(**({each.name: [] for each in fields(LiteLLMDatabase)} | tables))


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_opened_by_its_key_and_no_other(form: str) -> None:
    sealed = FORMS[form]("openai/gpt-x")
    assert decrypt(sealed, SALT) == "openai/gpt-x"
    for wrong in ("another", ""):
        with pytest.raises(NotDecrypted):
            decrypt(sealed, wrong)


@pytest.mark.parametrize("text", ["", "gpt-x", "v3:gcm:", "v3:gcm:AAAA", "*", "ä", "A" * 80])
def test_anything_but_a_ciphertext_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(NotDecrypted):
        decrypt(text, SALT)


def test_stored_models_join_those_of_the_file() -> None:
    params = {"model": _box("openai/gpt-x"), "rpm": 60, "litellm_credential_name": _gcm("shared", "v3")}
    stored = database(
        models=[
            {
                "model_name": "chat",
                "litellm_params": params,
                "model_info": {"id": "1", "mode": "chat"},
                "blocked": False,
            },
            {"model_name": "shut", "litellm_params": params, "model_info": None, "blocked": True},
            {"model_name": "odd", "litellm_params": {"model": "plain"}, "model_info": None, "blocked": False},
        ],
        credentials=[{"credential_name": "shared", "credential_values": {"api_key": _gcm("sk-1", "v3")}}],
    )
    raw, notes = with_stored_models({"model_list": []}, stored, SALT)
    plain = {"model": "openai/gpt-x", "rpm": 60, "litellm_credential_name": "shared"}
    assert raw["model_list"] == [{"model_name": "chat", "litellm_params": plain, "model_info": {"mode": "chat"}}]
    assert raw["credential_list"] == [{"credential_name": "shared", "credential_values": {"api_key": "sk-1"}}]
    assert [note.path for note in notes] == ["models[shut]", "models[odd]"]
    raw, notes = with_stored_models({"model_list": []}, stored, "")
    assert raw["model_list"] == []
    assert [note.text for note in notes][-1] == "encrypted; set LITELLM_SALT_KEY to read it"


def test_groups_are_those_of_models_and_of_the_database() -> None:
    raw = {"model_list": [{"model_name": "chat", "model_info": {"access_groups": ["beta"]}}, {"model_name": "b"}]}
    stored = database(
        access_groups=[{"access_group_id": "1", "access_group_name": "beta", "access_model_names": ["b"]}]
    )
    assert groups_of(raw, stored) == {"beta": ["chat", "b"]}
