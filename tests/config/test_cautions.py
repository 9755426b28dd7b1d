"""`gateway check` warns about settings that are valid and probably not meant."""

from __future__ import annotations

import os
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from fixtures.program_command import gateway_command

from gateway.config.cautions import DAY_S, FILE, MAX_KEYS, cautions, directory_summary, is_due
from gateway.config.loading import parse

LONG = sha256(b"a long random value").hexdigest()
PLAIN = 'upstreams: {l: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}\n'
MODELS = "models: {chat: {targets: [{upstream: l, model: m}]}}\n"


def cautions_of(sections: str, models: str = MODELS, key: str = "") -> str:
    return "\n".join(cautions(parse(f'{PLAIN}{models}keys: [{{name: web, sha256: "{LONG}"{key}}}]\n{sections}')))


@pytest.mark.parametrize("sections", ["", "sampling: {rate: 0, rules: [{when: {outcome: error}, rate: 1.0}]}"])
def test_prompts_in_clear_are_a_loud_caution(sections: str) -> None:
    assert "PROMPTS AND ANSWERS ARE STORED IN CLEAR" in cautions_of(sections)
    assert "the traffic of web" in cautions_of(sections)


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ("redaction: {}", ""),
        ("sampling: {rate: 0}", ""),
        ("", ", content: metadata"),
        ("", ", sample: never"),
        ("", ", content: redacted"),
    ],
)
def test_content_that_is_not_stored_in_clear_needs_no_caution(sections: str, key: str) -> None:
    assert cautions_of(sections, key=key) == ""


def test_a_gateway_that_is_open_stores_everyones_prompts() -> None:
    config = parse(f"{PLAIN}{MODELS}open: true\n")
    assert "of the traffic of everyone" in "\n".join(cautions(config))


def test_a_key_that_anybody_guesses_is_named() -> None:
    text = cautions_of("redaction: {}", key=f'}}, {{name: old, sha256: "{sha256(b"test").hexdigest()}"')
    assert 'keys[1] (old): its key is "test"' in text


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("ingest: {bind: '127.0.0.1:4318', sha256: DIGEST}", 'ingest: its key is "test"'),
        ("metrics: {sha256: DIGEST}", 'metrics: its key is "test"'),
        ("admin: {tokens: [{name: ada, sha256: DIGEST, role: owner}]}", 'admin.tokens[0] (ada): its key is "test"'),
    ],
)
def test_every_digest_of_a_guessable_key_is_named(section: str, said: str) -> None:
    assert said in cautions_of("redaction: {}\n" + section.replace("DIGEST", sha256(b"test").hexdigest()))


@pytest.mark.parametrize(
    ("key", "cautioned"),
    [
        (", allow: [passthrough], models: [chat]", True),
        (", allow: [passthrough], team: narrow", True),
        (", allow: [passthrough], models: [chat], paths: [/v1/files*]", False),
        (", allow: [passthrough]", False),
        (", models: [chat]", False),
    ],
)
def test_a_key_whose_models_other_paths_do_not_heed_is_noted(key: str, cautioned: bool) -> None:
    sections = "redaction: {}\npassthrough: l\nteams: {narrow: {models: [chat]}}"
    assert ("list their `paths`" in cautions_of(sections, key=key)) is cautioned


GPU_PRICE = "prices: {as_of: 2026-11-29, gpu_seconds: {NAME: {input: 1, output: 20}}}\n"


@pytest.mark.parametrize(
    ("limits", "prices", "said"),
    [
        ("gpu_seconds_per_day: 10", "", "has no price of l/m: keys with a limit in GPU-seconds cannot call it"),
        ("per_user: {gpu_seconds_per_day: 1}", "", "limits in GPU-seconds count nothing"),
        ("models: {chat: {gpu_seconds_per_day: 1}}", GPU_PRICE.replace("NAME", "l/other"), "count nothing"),
        ("gpu_seconds_per_day: 10", GPU_PRICE.replace("NAME", "l/m"), ""),
        ("usd_per_day: 10", "", ""),
    ],
)
def test_limits_in_gpu_seconds_need_prices(limits: str, prices: str, said: str) -> None:
    found = cautions_of(f"redaction: {{}}\n{prices}", key=f", limits: {{{limits}}}")
    assert said in found
    assert said or not found


def test_an_open_gateway_with_keys_is_cautioned() -> None:
    assert "`open: true` is set together with 1 keys" in cautions_of("redaction: {}\nopen: true")
    assert "set together with" not in cautions_of("redaction: {}")


@pytest.mark.parametrize(("alias", "cautioned"), [("openai/*", False), ("*", False), ("*-large", True), ("a*b*", True)])
def test_a_star_is_a_wildcard_only_at_the_end_of_an_alias(alias: str, cautioned: bool) -> None:
    text = cautions_of("redaction: {}", f'models: {{"{alias}": {{targets: [{{upstream: l, model: m}}]}}}}\n')
    assert ("`*` is a wildcard only at the end" in text) is cautioned


def test_a_predictor_that_does_not_say_adaptive_is_noted() -> None:
    predictor = "redaction: {}\nscorers: {valid_json: {}}\npredictor: {target: valid_json%s}"
    assert "the judge sees every exchange with the same probability" in cautions_of(predictor % "")
    assert cautions_of(predictor % ", adaptive: true") == ""
    assert cautions_of(predictor % ", adaptive: false") == ""


ISSUER = '{issuer: "https://sso.example", audience: [g], callers: [{claims: {sub: a}}]}'
ADMIN = f'admin: {{tokens: [{{name: NAME, sha256: "{sha256(b"another").hexdigest()}", role: owner}}]'


@pytest.mark.parametrize(("name", "cautioned"), [("sso:alice", True), ("jwt:alice", True), ("sso", False)])
def test_a_key_with_the_name_of_a_tokens_caller_is_noted(name: str, cautioned: bool) -> None:
    key = f'keys: [{{name: "{name}", sha256: "{LONG}"}}]\njwt: {{sso: {ISSUER}}}'
    found = "\n".join(cautions(parse(f"{PLAIN}{MODELS}{key}")))
    assert (f'keys[0] ({name}): callers with tokens have names that begin with "' in found) is cautioned
    assert "begin with" not in cautions_of("")


def test_issuers_whose_callers_may_share_a_name_are_noted() -> None:
    two = f'jwt: {{sso: {ISSUER}, "sso:eu": {ISSUER.replace("sso.example", "eu.example")}}}'
    assert "jwt sso:eu: its callers may have the same names as those of jwt sso" in cautions_of(two)
    assert "the same names" not in cautions_of(two.replace("sso:eu", "sso-eu"))


@pytest.mark.parametrize(
    ("name", "more", "noted"),
    [
        ("ada", "", ""),
        ("ada", ', proxy_login: {networks: ["10.0.0.0/8"], users: {ada: {role: viewer}}}', "admin.proxy_login.users"),
        ("controller", "", "the audit has entries of"),
        ('"oidc:ada"', "", "the audit has entries of"),
    ],
)
def test_a_token_with_another_actors_name_is_noted(name: str, more: str, noted: str) -> None:
    found = cautions_of(f"{ADMIN.replace('NAME', name)}{more}}}")
    assert ("admin.tokens[0]" in found) is bool(noted)
    assert noted in found


def test_check_prints_cautions_and_still_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(f"{PLAIN}{MODELS}open: true\n")
    environ = {**os.environ, "GATEWAY_DATA": str(tmp_path / "none")}
    words = gateway_command("check", str(path))
    done = subprocess.run(words, capture_output=True, text=True, env=environ)
    assert done.returncode == 0
    assert "caution: PROMPTS AND ANSWERS ARE STORED IN CLEAR" in done.stderr


def test_check_says_once_a_day_that_prompts_are_in_clear(tmp_path: Path) -> None:
    """This caution is printed once a day where there is a data directory to remember it in; other cautions are printed
    each time.
    """
    path, data = tmp_path / "gateway.yaml", tmp_path / "data"
    path.write_text(f"{PLAIN}{MODELS}open: true\nkeys: [{{name: web, sha256: {LONG}}}]\n")

    def check() -> str:
        environ = {**os.environ, "GATEWAY_DATA": str(data)}
        words = gateway_command("check", str(path))
        return subprocess.run(words, capture_output=True, text=True, check=True, env=environ).stderr

    for _ in range(2):
        assert "ARE STORED IN CLEAR" in check()
    data.mkdir()
    assert "ARE STORED IN CLEAR" in check()
    again = check()
    assert "ARE STORED IN CLEAR" not in again
    assert "`open: true` is set together with 1 keys" in again


def test_a_caution_is_due_once_a_day(tmp_path: Path) -> None:
    assert is_due("stored in clear", tmp_path, now=1000.0)
    assert not is_due("stored in clear", tmp_path, now=1000.0 + DAY_S - 1)
    assert is_due("another text", tmp_path, now=1001.0), "each text by itself"
    assert not is_due("another text", tmp_path, now=1002.0)
    assert not is_due("stored in clear", tmp_path, now=1002.0)
    assert is_due("stored in clear", tmp_path, now=1000.0 + DAY_S)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert b"clear" not in (tmp_path / FILE).read_bytes()


def test_without_a_data_directory_it_is_always_due_and_none_is_made(tmp_path: Path) -> None:
    for _ in range(2):
        assert is_due("stored in clear", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_caution_that_cannot_be_noted_is_always_due(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    for _ in range(2):
        assert is_due("stored in clear", tmp_path, now=1000.0)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"a": "b"}', b"\xff", b"1"])
def test_a_file_with_something_else_is_replaced(text: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(text)
    assert is_due("stored in clear", tmp_path, now=1000.0)
    assert not is_due("stored in clear", tmp_path, now=1001.0)


def test_a_clock_that_was_ahead_hides_nothing(tmp_path: Path) -> None:
    assert is_due("stored in clear", tmp_path, now=2000.0)
    assert is_due("stored in clear", tmp_path, now=1000.0)


HEAD = """
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:8001/v1"}}
models: {chat: {targets: [{upstream: local, model: m}]}}
"""


def test_every_scope_is_described_with_its_limits() -> None:
    config = parse(
        HEAD
        + f"""
organizations: {{acme: {{limits: {{usd_per_month: 1000, time_zone: Europe/Berlin}}}}}}
teams:
  search: {{organization: acme, limits: {{requests_per_minute: 60, concurrency: 8}}, models: [chat]}}
  off: {{disabled: true}}
keys:
  - {{name: plain, sha256: {"a" * 64}}}
  - {{name: web, sha256: {"b" * 64}, team: search, expires: "2027-01-01T00:00:00Z", limits: {{tokens_per_day: 10000}}}}
"""
    )
    assert directory_summary(config) == [
        "organization acme: $1,000.00 a month (Europe/Berlin)",
        "team search of acme: 60 requests a minute, 8 calls at once; models chat; 1 key here",
        "team off: no limit; 0 keys here; disabled",
        "key web of search: 10,000 tokens a day; expires 2027-01-01 00:00 UTC",
    ]


def test_many_keys_are_not_all_listed() -> None:
    keys = "".join(f'  - {{name: k{n}, sha256: "{n:064x}", disabled: true}}\n' for n in range(MAX_KEYS + 5))
    lines = directory_summary(parse(HEAD + "keys:\n" + keys))
    assert len(lines) == MAX_KEYS + 1
    assert lines[-1] == "and 5 more keys with limits"
    assert directory_summary(parse(HEAD + "open: true\n")) == []


LIKELIHOOD = """
experiments:
  same:
    model: chat
    control: {upstream: l, model: m}
    candidate: {upstream: %s, model: %s}
    mode: likelihood
"""


@pytest.mark.parametrize(
    ("upstream", "model", "cautioned"),
    [("l", "tuned", True), ("also", "tuned", True), ("l", "m", False), ("o", "m", False)],
)
def test_two_models_of_one_engine_are_a_caution(upstream: str, model: str, cautioned: bool) -> None:
    """A base model and its adapter cannot be compared by their likelihoods."""
    more = (
        ', also: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}, o: {kind: vllm, base_url: "http://127.0.0.1:2/v1"}}'
    )
    section = LIKELIHOOD % (upstream, model)
    if (upstream, model) == ("l", "m"):
        section = section.replace("model: m}\n    mode", "model: m, set: {temperature: 0.5}}\n    mode")
    text = f'{PLAIN.rstrip()[:-1]}{more}\n{MODELS}keys: [{{name: web, sha256: "{LONG}"}}]\n{section}'
    assert ("are served by one engine" in "\n".join(cautions(parse(text)))) is cautioned


def test_objectives_of_single_calls_ring_too_often() -> None:
    models = "models: {chat: {targets: [{upstream: l, model: m}], score_objectives: {valid_json: 0.9}}}\n"
    sections = "redaction: {}\nscorers: {valid_json: {}}\n"
    assert "models chat: the alerts of score_objectives count calls" in cautions_of(sections, models)
    assert cautions_of(f"{sections}sampling: {{unit: conversation}}\n", models) == ""
