"""The options of `gateway replay`, a Ray cluster and a gate among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.config.scorers import ScorerConfig
from gateway.core.errors import CannotRun
from gateway.core.plan import Guardrail
from gateway.features.replay.datasets.datasets import Dataset, DatasetFile, scan
from gateway.features.replay.options import (
    RayAddress,
    ReplayOptions,
    address_of,
    exit_code,
    gate_terms,
    metrics,
    name_of,
    question_of,
    rows_of,
    sections,
    single,
)
from gateway.features.targets import RequestSettings, target_word
from gateway.reports.model import Report
from gateway.scoring.registry import build, build_all


@pytest.mark.parametrize(
    ("on", "address"),
    [
        ("local", None),
        ("ray://head", RayAddress("head", 10001)),
        ("ray://head:20001", RayAddress("head", 20001)),
        ("ray://10.0.0.7/", RayAddress("10.0.0.7", 10001)),
        ("ray://[::1]:9", RayAddress("::1", 9)),
    ],
)
def test_an_address_is_read_and_shown(on: str, address: RayAddress | None) -> None:
    assert address_of(on) == address
    if address is not None:
        assert address_of(str(address)) == address


@pytest.mark.parametrize("on", ["", "head", "http://head", "ray://", "ray://head:x", "ray://u@head", "ray://head/a"])
def test_other_addresses_are_refused_with_the_expected_form(on: str) -> None:
    with pytest.raises(ValueError, match=r"expected local, or ray://HOST"):
        address_of(on)


BARE = """
open: true
upstreams: {a: {kind: fake}}
models: {m: {targets: [{upstream: a, model: m}]}}
"""
OPTIONS = ReplayOptions(("one", "two"))


@pytest.fixture
def dataset(questions: Callable[[int], Path]) -> Dataset:
    """A dataset of 30 questions."""
    return scan(questions(30))


@pytest.fixture
def bare() -> Config:
    """The parsed BARE."""
    return parse(BARE)


def test_the_default_scorers_fit_the_dataset(dataset: Dataset, bare: Config) -> None:
    assert list(sections(OPTIONS, dataset, bare)) == ["exact", "f1", "rouge_l"]
    without = replace(dataset, references=0)
    assert "refusal" in sections(OPTIONS, without, bare)
    own = parse(BARE + "scorers: {length: {share: 0.1}}\n")
    assert sections(OPTIONS, without, own) == {"length": ScorerConfig(share=1.0)}, "a share is of traffic"


def test_a_repeated_or_pairwise_scorer_is_refused(dataset: Dataset, bare: Config) -> None:
    with pytest.raises(CannotRun, match="--scorers: exact is named twice"):
        sections(replace(OPTIONS, scorers=("exact", "exact")), dataset, bare)
    pairwise = replace(OPTIONS, scorers=("exact", "edit_distance"))
    with pytest.raises(CannotRun, match="edit_distance: compares two answers without saying which is better"):
        single(pairwise, build_all(sections(pairwise, dataset, bare)))
    of_runs = replace(OPTIONS, scorers=("exact", "run_loops"))
    with pytest.raises(CannotRun, match="run_loops: scores whole runs, and a replay has single answers"):
        single(of_runs, build_all(sections(of_runs, dataset, bare)))


def test_the_first_scorer_with_a_best_and_a_worst_is_primary(dataset: Dataset) -> None:
    found = metrics(build({"length": ScorerConfig(), "f1": ScorerConfig(), "exact": ScorerConfig()}))
    made = question_of(OPTIONS, dataset, found)
    assert made.primary == "f1"
    assert (made.rows, made.of, made.planned) == (30, 30, 30)
    assert [g.metric for g in made.guardrails] == ["error_rate"]
    assert rows_of(replace(OPTIONS, limit=7), dataset) == 7
    assert rows_of(replace(OPTIONS, limit=70), dataset) == 30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"primary": "exat"}, '--primary exat: not among --scorers; did you mean "exact"?'),
        ({"primary": "length"}, "--primary length: a neutral metric has no better direction"),
        (
            {"guardrails": (Guardrail("cost", 0.1),)},
            "--guard cost: there is no such metric; expected one of length, exact,",
        ),
        ({"guardrails": (Guardrail("exact", 0.1),)}, "--guard exact: it is the primary metric"),
    ],
)
def test_a_wrong_option_is_refused_with_the_known_values(
    dataset: Dataset, changes: dict[str, object], message: str
) -> None:
    found = metrics(build({"length": ScorerConfig(), "exact": ScorerConfig()}))
    with pytest.raises(CannotRun, match=message.replace("?", r"\?")):
        question_of(replace(OPTIONS, **changes), dataset, found)  # type: ignore[arg-type]


def test_the_report_lists_the_settings(dataset: Dataset) -> None:
    asked = replace(OPTIONS, settings=RequestSettings((("temperature", 0),), "be short", None), repeats=3)
    made = question_of(asked, dataset, metrics(build({"exact": ScorerConfig()})))
    assert made.settings == (("temperature", "0"), ("system", "be short"), ("seed", "none"))
    assert made.planned == 90


def test_the_name_has_the_file_and_the_designs_hash(dataset: Dataset) -> None:
    assert name_of(dataset, "0123456789abcdef") == "questions-0123456789abcdef"
    odd = replace(dataset, source=DatasetFile(Path("/x/my file (2).csv")))
    assert name_of(odd, "ff") == "my-file-2--ff"


def config(**candidate: Any) -> Config:
    return Config.model_validate(
        {
            "open": True,
            "upstreams": {"a": {"kind": "fake"}, "b": {"kind": "fake"}},
            "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
            "scorers": {"exact": {}, "refusal": {}},
            "experiments": {
                "swap": {
                    "model": "chat",
                    "control": {"upstream": "a", "model": "m"},
                    "candidate": {"upstream": "b", "model": "n", **candidate},
                    "primary": "exact",
                    "margin": 0.03,
                    "alpha": 0.1,
                    "guardrails": {"error_rate": 0.01, "refusal": 0.02, "latency_p95": 1.0},
                }
            },
        }
    )


def test_the_gate_has_the_terms_of_its_experiment() -> None:
    terms = gate_terms(config(), "swap")
    assert terms.targets == ("a/m", "b/n")
    assert (terms.primary, terms.margin, terms.alpha, terms.scorers) == ("exact", 0.03, 0.1, ("exact", "refusal"))
    assert terms.guardrails == (Guardrail("error_rate", 0.01), Guardrail("refusal", 0.02))
    assert terms.unmeasured == ("latency_p95",)


def test_an_arms_changes_of_requests_are_kept() -> None:
    terms = gate_terms(config(set={"temperature": 0.5, "stop": ["a", "b"]}, system="Be brief, please."), "swap")
    word = target_word(terms.targets[1])
    assert (word.base, word.system) == ("b/n", "Be brief, please.")
    assert dict(word.fields) == {"temperature": 0.5, "stop": ["a", "b"]}
    with pytest.raises(CannotRun, match="changes headers"):
        gate_terms(config(headers={"x-a": "1"}), "swap")


def test_an_unknown_experiment_is_named() -> None:
    with pytest.raises(CannotRun, match='no experiment "swop"; did you mean "swap"'):
        gate_terms(config(), "swop")


@pytest.mark.parametrize(
    ("verdicts", "complete", "code"),
    [
        (["ship"], True, 0), (["reject"], True, 1), (["hold"], True, 2), (["ship"], False, 2), ([], True, 2),
        (["ship", "reject"], True, 1), (["ship", "hold"], True, 2), (["reject"], False, 1),
    ],
)  # fmt: skip
def test_only_ship_of_every_candidate_passes(
    report: Callable[..., Report], verdicts: list[str], complete: bool, code: int
) -> None:
    reports = [replace(report("nothing"), verdict=verdict) for verdict in verdicts]  # type: ignore[arg-type]
    assert exit_code(reports, complete=complete) == code
