"""A config becomes scorers: all mistakes are collected, foreign classes work, golden cases decide."""

from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError

import pytest

from gateway.config.scorers import ScorerConfig as Section
from gateway.core.errors import ConfigError
from gateway.scoring.registry import DEFAULTS, SCORERS, build, config_hash

STRANGER = """
from gateway.core.completion import Completion
from gateway.scorers import Golden, Score

class Shout:
    version, kind, direction, bounds, heavy = "7", "code", "maximise", (0.0, 1.0), False
    def __init__(self, name, loud: float = 0.5, **more):
        self.name, self.loud, self.more = name, loud, more
    async def score(self, subject):
        return Score(float(subject.completion.text.isupper()))
    def golden(self):
        return (Golden("loud", {}, Completion("HEY"), 1.0), Golden("soft", {}, Completion("hey"), self.soft))
    soft = 0.0

class Deaf(Shout):
    soft = 1.0

class Half:
    name = "half"

class Odd(Shout):
    kind, bounds = "magic", 3

def broken(name):
    raise RuntimeError("no disk")

not_a_class = 3
"""


def mistakes(**sections):
    with pytest.raises(ConfigError) as caught:
        build({name: Section(**options) for name, options in sections.items()})
    return list(caught.value.mistakes)


def test_the_defaults_are_built_ins_without_options():
    built = build({name: Section() for name in DEFAULTS})
    assert list(built) == list(DEFAULTS)
    assert set(DEFAULTS) <= set(SCORERS)
    assert not any(r.foreign for r in built.values())


def test_a_rule_may_stand_under_another_name_with_its_options():
    built = build({"quick": Section(use="latency", first_token_s=1, total_s=None, share=0.5, deadline_s=2)})["quick"]
    assert (built.scorer.name, built.scorer.first_token_s, built.scorer.total_s) == ("quick", 1.0, None)
    assert (built.share, built.deadline_s) == (0.5, 2.0)
    with pytest.raises(FrozenInstanceError):
        built.share = 1.0


def test_all_mistakes_are_named_at_once():
    assert mistakes(
        json={"use": "valid_jsn"},
        refusl={},
        latency={"total": 3, "total_s": "10", "first_token_s": -1},
        none={"use": "latency", "total_s": None},
        strict={"use": "valid_json", "strict": True},
        secrets={"kinds": ["card", "emal"]},
    ) == [
        'scorers.json.use: no scorer "valid_jsn"; did you mean "valid_json"?',
        'scorers.refusl: no scorer "refusl"; did you mean "refusal"?',
        'scorers.latency.total: unknown option; did you mean "total_s"?',
        "scorers.latency.total_s: input should be a valid number, got '10'",
        "scorers.latency.first_token_s: input should be greater than 0, got -1",
        "scorers.none: no objective: set first_token_s, total_s or per_token_s",
        "scorers.strict.strict: unknown option; it takes none",
        "scorers.secrets.kinds[1]: input should be 'key', 'private_key', 'card', 'iban', 'email' or 'phone'",
    ]


def test_a_service_is_not_called_before_its_first_subject():
    """Nothing listens there: a service that is down does not prevent start-up. The hash excludes its secrets."""
    far = build({"far": Section(use="http://127.0.0.1:1/score", headers={"authorization": "Bearer one"})})["far"]
    assert (far.waits, far.foreign, far.scorer.golden()) == (True, False, ())
    again = build({"far": Section(use="http://127.0.0.1:1/score", headers={"authorization": "Bearer two"})})["far"]
    other = build({"far": Section(use="http://127.0.0.1:1/score", version="2")})["far"]
    assert far.config_hash == again.config_hash != other.config_hash


def test_an_unknown_use_lists_the_known_scorers():
    (line,) = mistakes(far={"use": "ftp://127.0.0.1/score"})
    assert line.startswith('scorers.far.use: no scorer "ftp://127.0.0.1/score"; known: bertscore_minilm, bleu, ')
    assert line.endswith("an entry point of gateway.scorers, package.module:Class, or http://…")


def test_the_hash_depends_on_use_and_options_only():
    one = build({"a": Section(use="latency", total_s=3, first_token_s=1)})["a"].config_hash
    assert one == build({"b": Section(use="latency", first_token_s=1, total_s=3, share=0.1)})["b"].config_hash
    assert one != build({"a": Section(use="latency", total_s=4, first_token_s=1)})["a"].config_hash
    assert config_hash("valid_json", {}) == build({"valid_json": Section()})["valid_json"].config_hash == "3714db80d8b4"


def test_a_dotted_path_names_a_class_of_others(module):
    module("stranger_a", STRANGER)
    built = build({"loud": Section(use="stranger_a:Shout", loud=1, anything={"a": 1})})["loud"]
    assert (built.foreign, built.scorer.name, built.scorer.loud) == (True, "loud", 1.0)
    assert built.scorer.more == {"anything": {"a": 1}}


def test_mistakes_of_a_foreign_class_are_named(module):
    module("stranger_b", STRANGER)
    module("stranger_c", "import nothing_of_that_name")
    assert mistakes(
        deaf={"use": "stranger_b:Deaf"},
        half={"use": "stranger_b:Half"},
        odd={"use": "stranger_b:Odd"},
        near={"use": "stranger_b:Shoot"},
        broken={"use": "stranger_b:broken"},
        three={"use": "stranger_b:not_a_class"},
        gone={"use": "stranger_c:Shout"},
        builtin={"use": "collections:OrderedDict"},
    ) == [
        'scorers.deaf: golden case "soft": expected 1, got 0.0',
        "scorers.half.use: stranger_b:Half is not a scorer: "
        "it has no version, kind, direction, bounds, heavy, score, golden",
        "scorers.odd.use: stranger_b:Odd is not a scorer: its kind is 'magic', expected one of code, model, llm",
        "scorers.odd.use: stranger_b:Odd is not a scorer: its bounds are 3, expected (low, high)",
        'scorers.near.use: stranger_b has no Shoot; did you mean "Shout"?',
        "scorers.broken: RuntimeError: no disk",
        "scorers.three.use: 3 is not a class",
        "scorers.gone.use: cannot import stranger_c: ModuleNotFoundError: No module named 'nothing_of_that_name'",
        "scorers.builtin.use: the parameters of <class 'collections.OrderedDict'> cannot be read",
    ]


def test_an_entry_point_is_found_by_its_name(module, tmp_path):
    module("stranger_d", STRANGER)
    package = tmp_path / "stranger-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[gateway.scorers]\nshout = stranger_d:Shout\nlost = stranger_d:Lost\nvalid_json = stranger_d:Shout\n"
    )
    assert build({"shout": Section()})["shout"].foreign
    assert not build({"valid_json": Section()})["valid_json"].foreign, "a built-in name is ours"
    (lost,) = mistakes(lost={})
    assert lost.startswith('scorers.lost.use: "lost" (stranger_d:Lost) cannot be loaded: AttributeError')
    assert mistakes(shut={"use": "shot"}) == ['scorers.shut.use: no scorer "shot"; did you mean "shout"?']


def test_a_missing_package_is_named_with_its_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    monkeypatch.delitem(sys.modules, "gateway.scorers.language", raising=False)
    assert mistakes(language={}) == [
        "scorers.language: language needs py3langid, which is not installed: pip install py3langid"
    ]
