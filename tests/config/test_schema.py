"""The JSON Schema of gateway.yaml accepts every configuration that ships, and rejects what the models reject."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from gateway.config.config import Config
from gateway.config.schema import SectionSchema, field_docs, json_schema
from gateway.config.types import Section

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MINIMAL: dict[str, Any] = {
    "upstreams": {"a": {"kind": "fake"}},
    "models": {"m": {"targets": [{"upstream": "a", "model": "x"}]}},
}


class EditorLoader(yaml.SafeLoader):
    """Reads YAML as editors do: 1.2, where `on` and `off` are strings and there are no dates."""


EditorLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if not tag.endswith(("bool", "timestamp"))]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
EditorLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))


def read(text: str) -> Any:
    return yaml.load(text, EditorLoader)  # noqa: S506 - a SafeLoader


def examples() -> list[tuple[str, Any]]:
    """(where, document) of each complete configuration: files of deploy/, and blocks of pages."""
    found = [(str(p.relative_to(ROOT)), read(p.read_text())) for p in sorted((ROOT / "deploy").glob("gateway*.yaml"))]
    for manifest in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml")):
        for document in yaml.load_all(manifest.read_text(), EditorLoader):
            text = (document or {}).get("data", {}).get("gateway.yaml") if isinstance(document, dict) else None
            found += [(str(manifest.relative_to(ROOT)), read(text))] if text else []
    for page in PAGES:
        for n, text in enumerate(re.findall(r"^```yaml[^\n]*\n(.*?)^```", page.read_text(), re.M | re.S)):
            document = read(text)
            if isinstance(document, dict) and {"upstreams", "models"} <= set(document):
                found.append((f"{page.stem}-{n}", document))
    return found


EXAMPLES = examples()


@cache
def validator() -> Any:
    return jsonschema_rs.validator_for(json_schema())


def errors(document: Any) -> list[str]:
    return [each.message for each in validator().iter_errors(document)]


def changed(**sections: Any) -> dict[str, Any]:
    return {**MINIMAL, **sections}


def test_the_schema_is_valid_draft_2020_12() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "gateway.yaml"
    assert jsonschema_rs.meta.is_valid(schema)


@pytest.mark.parametrize("document", [e[1] for e in EXAMPLES], ids=[e[0] for e in EXAMPLES])
def test_every_complete_example_is_accepted(document: Any) -> None:
    assert errors(document) == []


def test_examples_are_found_in_every_place() -> None:
    places = {where.partition("/")[0].partition("-")[0] for where, _ in EXAMPLES}
    assert {"deploy", "README", "configuration", "quickstart"} <= places


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (changed(sampelng={}), "'sampelng' was unexpected"),
        (changed(sampling={"rat": 0.1}), "'rat' was unexpected"),
        (changed(upstreams={"a": {"kind": "fake", "base_ur": "x"}}), "'base_ur' was unexpected"),
        (changed(open="yes"), '"yes" is not valid under any of the schemas'),
        (changed(sampling={"rate": 2}), "2 is not valid under any of the schemas"),
        (changed(sampling={"max_kb": 1.5}), "1.5 is not valid under any of the schemas"),
        (changed(models=[]), 'is not of type "object"'),
        (changed(models={"m": {"targets": []}}), "less than 1 item"),
        (changed(upstreams={"a": {"kind": "opnai"}}), '"opnai" is not valid under any of the schemas'),
        (changed(upstreams={"a": {}}), '"kind" is a required property'),
        ({"models": MINIMAL["models"]}, '"upstreams" is a required property'),
    ],
)
def test_a_misspelt_key_or_a_wrong_type_is_rejected(document: Any, expected: str) -> None:
    assert any(expected in message for message in errors(document)), errors(document)


@pytest.mark.parametrize(
    "document",
    [
        changed(open="${OPEN}"),
        changed(sampling={"rate": "${RATE}", "unit": "${UNIT}", "pi_min": "0.${PI}"}),
        changed(keys=[{"name": "a", "sha256": "${DIGEST}", "allow": ["${ALLOWED}"]}]),
        changed(store={"keep_days": "${DAYS}"}),
        changed(upstreams={"a": {"kind": "${KIND}", "base_url": "http://${HOST}/v1"}}),
    ],
)
def test_a_variable_is_accepted_for_any_single_value(document: Any) -> None:
    assert errors(document) == []


def test_a_scorer_may_have_options_of_its_own() -> None:
    assert errors(changed(scorers={"judge": {"use": "judge", "model": "m", "scale": [1, 5]}})) == []
    assert errors(changed(scorers={"judge": {"share": "half"}})) != []


def test_every_key_has_a_description() -> None:
    schema = json_schema()
    sections = {"Config": schema, **schema["$defs"]}
    for name, section in sections.items():
        properties = section.get("properties", {})
        assert [key for key, value in properties.items() if "description" not in value] == [], name
    assert set(schema["properties"]) == set(Config.model_fields)


def test_defaults_are_in_the_schema() -> None:
    schema = json_schema()
    assert schema["$defs"]["Sampling"]["properties"]["rate"]["default"] == 0.1
    assert schema["$defs"]["Model"]["properties"]["strategy"]["default"] == "weighted"


class Plain(Section):
    """A section."""

    first: int = 1
    """The field that is
    the first."""
    bare: int = 2


class Derived(Plain):
    """A section with a field of its own, and another text for one that it inherits."""

    bare: int = 3
    """No longer bare."""
    second: str = ""
    """The second field."""


def test_texts_are_inherited_and_replaced() -> None:
    assert field_docs(Plain) == {"first": "The field that is\nthe first."}
    assert field_docs(Derived) == {
        "first": "The field that is\nthe first.",
        "bare": "No longer bare.",
        "second": "The second field.",
    }


def test_the_schema_has_them_and_no_titles_of_fields() -> None:
    properties = Derived.model_json_schema(schema_generator=SectionSchema)["properties"]
    assert {name: each["description"] for name, each in properties.items()} == field_docs(Derived)
    assert not [name for name, each in properties.items() if "title" in each]


def test_a_program_that_starts_reads_no_source() -> None:
    """Pydantic parses each section once more where it is asked for the strings at import."""
    program = "import ast; ast.parse = None\nimport gateway.config.config, gateway.features.keys.settings"
    subprocess.run([sys.executable, "-c", program], check=True)
