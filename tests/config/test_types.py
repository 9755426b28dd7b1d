from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.config.types import Digest, ForwardedPath, LogConfig, Name, OtelConfig, Url, Weight


@pytest.mark.parametrize("value", ["half", "0.5", True, 0, -1])
def test_a_weight_is_a_positive_number_and_not_text(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Weight).validate_python(value)


@pytest.mark.parametrize("value", ["", "a b", "a{b}", 'a"b', "a\\b", "x" * 201])
def test_a_name_is_safe_in_labels_and_log_lines(value: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(value)


@pytest.mark.parametrize(("of", "value"), [(Digest, "AB" * 32), (Digest, "ab"), (Url, "ftp://x"), (Url, "127.0.0.1:1")])
def test_a_digest_is_lower_case_hex_and_a_url_is_http(of: object, value: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(of).validate_python(value)


FORWARDED = ("/v1/files*", "GET /v1/batches/*", "GET /v1beta/files*", "/v1beta/models/text-embedding*", "/guardrail/*",
             "POST /guardrail-checks/invoke", "/async-invoke*")  # fmt: skip


@pytest.mark.parametrize("value", FORWARDED)
def test_a_forwarded_path_is_one_of_an_api_that_is_forwarded(value: str) -> None:
    assert TypeAdapter(ForwardedPath).validate_python(value) == value


@pytest.mark.parametrize(
    "value", ["/v2/files", "/model/*", "v1/files", "FETCH /v1/files", "/v1/a b", "/v1/%2e", "/v1/*/x"]
)
def test_other_paths_cannot_be_named(value: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ForwardedPath).validate_python(value)


def test_a_section_refuses_unknown_keys_and_assignment() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        LogConfig.model_validate({"levle": "info"})
    with pytest.raises(ValidationError, match="frozen"):
        LogConfig().level = "debug"  # type: ignore[misc]


def test_an_empty_log_section_logs_calls_from_info_on() -> None:
    assert LogConfig() == LogConfig(format="auto", level="info", access=True)


def test_otel_needs_an_endpoint_and_traces_every_call_by_default() -> None:
    with pytest.raises(ValidationError, match="endpoint"):
        OtelConfig.model_validate({})
    assert OtelConfig(endpoint="http://127.0.0.1:4318").sample == 1.0
