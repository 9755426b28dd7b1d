from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gateway.config.yaml_text import parse_yaml, read_config_text, secret_files, yaml_sections
from gateway.core.errors import ConfigError


def test_variables_are_expanded_anywhere_in_a_value() -> None:
    raw, mistakes = parse_yaml("a: {b: ['x-${ONE}-${TWO}', 3]}", "f.yaml", {"ONE": "1", "TWO": "2"})
    assert raw == {"a": {"b": ["x-1-2", 3]}}
    assert mistakes == []


@pytest.mark.parametrize("environ", [{}, {"ONE": ""}])
def test_an_unset_or_empty_variable_is_a_mistake(environ: dict[str, str]) -> None:
    _, mistakes = parse_yaml("a: {b: [x, '${ONE}']}", "f.yaml", environ)
    assert mistakes == ["a.b[1]: $ONE is not set. Set it, or remove the value that uses it"]


def test_on_and_off_are_strings_as_in_yaml_1_2() -> None:
    raw, _ = parse_yaml("on: [off, no, yes, true, False]", "f.yaml", {})
    assert raw == {"on": ["off", "no", "yes", True, False]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f.yaml: expected sections such as models and upstreams, got NoneType"),
        ("- a", "f.yaml: expected sections such as models and upstreams, got list"),
        ("a: [", "f.yaml: not YAML: "),
        ("models: {}\nmodels: {}", "f.yaml: not YAML: duplicate key 'models'"),
        ("a: {b: 1, b: 2}", "f.yaml: not YAML: duplicate key 'b'"),
    ],
)
def test_text_that_is_not_a_mapping_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f.yaml", {})
    assert caught.value.mistakes[0].startswith(expected)


def test_a_merge_key_copies_the_keys_of_an_anchor() -> None:
    raw, _ = parse_yaml("u: {x: &x {a: 1, b: 2}, y: {<<: *x, b: 3}}", "f.yaml", {})
    assert raw["u"]["y"] == {"a": 1, "b": 3}


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 text"):
        read_config_text(tmp_path / "latin.yaml")


def test_a_value_is_read_from_a_file_without_its_line_break(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("sk-of-a-file\n")
    text = f"a: {{b: 'Bearer ${{file:{secret}}}'}}"
    raw, mistakes = parse_yaml(text, "f.yaml", {})
    assert (raw, mistakes) == ({"a": {"b": "Bearer sk-of-a-file"}}, [])
    assert secret_files(text) == (secret,)


@pytest.mark.parametrize(
    ("named", "mistake"),
    [
        ("relative/key", "a: ${file:relative/key}: the path of the file must begin with /"),
        ("/surely/not/there", "a: ${file:/surely/not/there} cannot be read: No such file or directory"),
        ("/dev/null", "a: ${file:/dev/null} is empty"),
    ],
)
def test_a_secret_that_cannot_be_read_is_a_mistake(named: str, mistake: str) -> None:
    _, mistakes = parse_yaml(f"a: '${{file:{named}}}'", "f.yaml", {})
    assert mistakes == [mistake]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [*a]\n", "is within its own anchor"),
        ("a: &a {b: {c: *a}}\n", "is within its own anchor"),
        (
            "l0: &l0 [1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 9)),
            "stand for too many values",
        ),
    ],
    ids=["list", "mapping", "nine levels of nine"],
)
def test_aliases_make_no_file_endless(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        yaml_sections(text, "gateway.yaml")


def test_aliases_that_repeat_a_section_are_read() -> None:
    text = "limits: &limits {a: 1, b: 2}\nkeys: [" + ",".join(["*limits"] * 2000) + "]\n"
    assert len(yaml_sections(text, "gateway.yaml")["keys"]) == 2000


def test_a_day_that_no_calendar_has_stays_text() -> None:
    assert yaml_sections("a: 2027-02-30\nb: 2027-02-28", "f.yaml") == {"a": "2027-02-30", "b": date(2027, 2, 28)}
