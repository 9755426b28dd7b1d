"""An experiment as the gate of a replay: its arms and terms, and the exit code of its verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.config.config import Config
from gateway.core.errors import CannotRun
from gateway.core.plan import Guardrail
from gateway.features.replay.design import target_word
from gateway.features.replay.gate import exit_code, gate_terms
from gateway.reports.model import Report


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


def test_what_an_arm_changes_in_requests_is_kept() -> None:
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
