"""Paths of Gemini's and Bedrock's own clients: the model in them, however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.proxy.request.endpoints import VENDORS
from gateway.proxy.request.vendor_paths import (
    api_of,
    asks_model,
    below_base,
    check_key_in_query,
    is_vertex,
    names_routed_model,
    split_model,
    vendor_of,
)


@pytest.mark.parametrize(
    ("path", "template", "model"),
    [
        (b"/v1beta/models/gemini-2.5:generateContent", b"/v1beta/models/{model}:generateContent", "gemini-2.5"),
        (b"/v1/models/g:countTokens", b"/v1beta/models/{model}:countTokens", "g"),
        (b"/v1alpha/models/g:streamGenerateContent", b"/v1beta/models/{model}:streamGenerateContent", "g"),
        (b"/model/eu.amazon.nova-lite-v1%3A0/converse", b"/model/{model}/converse", "eu.amazon.nova-lite-v1:0"),
        (b"/model/anthropic.claude-v2:1/invoke", b"/model/{model}/invoke", "anthropic.claude-v2:1"),
        (b"/model/arn%3Aaws%3Abedrock%3Ar%3A1%3Ap%2Fx/converse-stream", b"/model/{model}/converse-stream",
         "arn:aws:bedrock:r:1:p/x"),
    ],
)  # fmt: skip
def test_the_model_is_read_from_the_path(path: bytes, template: bytes, model: str) -> None:
    assert split_model(path) == (template, model)
    assert template in VENDORS


@pytest.mark.parametrize(
    "path",
    [b"/v1beta/models/g", b"/v1beta/files", b"/v1beta/models/a/b:generateContent", b"/model/m", b"/model//invoke"],
)
def test_other_paths_name_no_model(path: bytes) -> None:
    assert split_model(path) is None


@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_every_name_survives_as_clients_write_it(name: str) -> None:
    from urllib.parse import quote

    quoted = quote(name, safe="").encode()
    for path in (b"/model/%b/invoke" % quoted, b"/v1beta/models/%b:generateContent" % quoted):
        found = split_model(path)
        assert found is not None
        assert found[1] == name


def test_a_path_belongs_to_a_vendor_and_below_its_base_url() -> None:
    assert vendor_of("/v1beta/files") == "gemini"
    assert vendor_of("/guardrail/g/version/1/apply") == vendor_of("/async-invoke") == "bedrock"
    assert vendor_of("/v1/files") is None
    assert below_base(b"/v1beta/files/a") == b"/files/a"
    assert below_base(b"/v1alpha/files") == below_base(b"/v1/files") == b"/files"
    assert below_base(b"/guardrail/g/apply") == b"/guardrail/g/apply"


GOOGLES = [
    "/v1/models/gemini-embedding-001:embedContent", "/v1/models/g:batchEmbedContents", "/v1/models/imagen:predict",
    "/v1/models/veo:predictLongRunning", "/v1/models/veo/operations/o1", "/v1/files:register", "/v1/files/f1:download",
    "/v1/cachedContents", "/v1/cachedContents/c1", "/v1/tunedModels/t:embedContent", "/v1/fileSearchStores/s/documents",
    "/v1/dynamic/x:generateContent", "/v1/auth_tokens", "/v1/operations/o1", "/v1/projects/p/locations/l/endpoints/e",
    "/v1/publishers/google/models/g:generateContent", "/v1/corpora", "/v1beta1/projects/p", "/v1alpha/auth_tokens",
    "/v1beta/files", "/v1beta/openai/embeddings",
]  # fmt: skip
OPENAIS = [
    "/v1/files", "/v1/files/file-1/content", "/v1/batches", "/v1/models/ft:gpt-4o-mini:acme::AbCdEfGh",
    "/v1/models/ft:x", "/v1/fine_tuning/checkpoints/ft:gpt-4o:acme::a/permissions", "/v1/vector_stores/vs_1/files",
    "/v1/organization/projects", "/v1/videos", "/v1/agents", "/v1/embeddings", "/v1/threads/runs",
]  # fmt: skip


@pytest.mark.parametrize("path", GOOGLES)
def test_a_path_of_googles_alone_is_googles(path: str) -> None:
    """Headers do not matter: another vendor would get the request with that vendor's key."""
    for headers in ([], [(b"anthropic-version", b"2023-06-01")], [(b"authorization", b"Bearer x")]):
        assert api_of(path, headers) == "gemini"


@pytest.mark.parametrize("path", OPENAIS)
def test_a_path_that_several_have_is_of_the_clients_api(path: str) -> None:
    assert api_of(path, [(b"authorization", b"Bearer x")]) == "openai"
    assert api_of(path, [(b"anthropic-version", b"2023-06-01")]) == "anthropic"
    assert api_of(path, [(b"x-goog-api-key", b"x")]) == "gemini"
    assert api_of(path, [(b"x-goog-api-client", b"google-genai-sdk/3.6.1 gl-python/3.11")]) == "gemini"


def test_paths_of_vertex_are_known() -> None:
    assert is_vertex(b"/v1/projects/p/locations/l/publishers/google/models/g:generatecontent")
    assert is_vertex(b"/v1beta1/publishers/google/models")
    assert not is_vertex(b"/v1beta/models/g:generatecontent")
    assert not is_vertex(b"/v1/organization/projects")


@pytest.mark.parametrize("query", [b"key=x", b"a=1&key=x", b"%6bey=x", b"KEY=x", b"a;key"])
def test_a_key_in_the_query_is_refused(query: bytes) -> None:
    with pytest.raises(BadRequest, match="x-goog-api-key"):
        check_key_in_query(query)
    check_key_in_query(b"alt=sse&pageToken=key")


def test_methods_that_generate_are_never_forwarded() -> None:
    assert names_routed_model(b"/v1beta/models/g:batchgeneratecontent")
    assert names_routed_model(b"/v1beta/tunedmodels/g:generatecontent")
    assert names_routed_model(b"/v1/models/g:batchgeneratecontent")
    assert names_routed_model(b"/v1beta/dynamic/x:generatecontent")
    assert not names_routed_model(b"/v1beta/models/g:embedcontent")
    assert not names_routed_model(b"/v1beta/batches/b:updategeneratecontentbatch")


@pytest.mark.parametrize(
    "path",
    [
        b"/v1beta/openai/chat/completions", b"/v1beta/openai/embeddings", b"/v1/openai/images/generations",
        b"/v1beta/interactions", b"/v1beta/models/g:predict", b"/v1/models/g:predictlongrunning",
        b"/v1beta/models/g:embedcontent", b"/v1beta/tunedmodels/g:averbofnextyear", b"/v1beta/dynamic/x:stream",
        b"/v1alpha/auth_tokens", b"/async-invoke",
    ],
)  # fmt: skip
def test_a_path_that_asks_a_model_is_known(path: bytes) -> None:
    assert asks_model("POST", path)
    assert not asks_model("GET", path)


@pytest.mark.parametrize(
    "path",
    [
        b"/v1beta/files:register", b"/v1beta/models/g:counttokens", b"/v1beta/batches/b:cancel",
        b"/v1beta/cachedcontents", b"/v1/files", b"/v1/batches", b"/v1/models/ft:gpt-5:org::abc",
        b"/guardrail/g/version/1/apply",
    ],
)  # fmt: skip
def test_a_path_that_asks_no_model_is_known(path: bytes) -> None:
    assert not asks_model("POST", path)
