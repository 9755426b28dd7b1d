"""What a certificate rests on: its digest differs where that does, and only there."""

from __future__ import annotations

import pytest

from gateway.config.certified import certified_scorer, claim_digest
from gateway.config.loading import parse
from gateway.core.decided import AskedQuestion
from gateway.core.errors import ConfigError

CONFIG = """
open: true
upstreams: {up: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: x}}
models: {triage: {targets: [{route: triage}]}}
scorers: {refund: {use: decided, target: up/small, question: {predicate: "Money back?"}}, plain: {use: valid_json}}
decisions: {certificates: {refund: {scorer: refund}, other: {scorer: plain}}}
cascades:
  triage: {model: triage, first: {upstream: up, model: small}, accept: certificate refund, then: ask}
"""
LARGE = "then: {upstream: up, model: large}"


def test_a_cascade_of_decisions_is_a_route() -> None:
    config = parse(CONFIG)
    assert config.routes["triage"].route.certificates == ("refund",)
    assert certified_scorer(config, "refund") == (AskedQuestion("predicate", "Money back?"), "up/small", "native")
    assert certified_scorer(config, "other") is None, "it is about other scores"
    assert certified_scorer(config, "none") is None
    with_two = parse(CONFIG.replace("then: ask", LARGE)).routes["triage"]
    assert (str(with_two.control.model), str(with_two.moved.model)) == ("large", "small")


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("Money back?", "Money?", False),
        ("up/small}", "up/small}", True),
        ("{scorer: refund}", "{scorer: refund, wrong: 0.1}", False),
        ("{scorer: refund}", "{scorer: refund, confidence: 0.95}", False),
        ("{scorer: refund}", "{scorer: refund, guarantee: average}", False),
        ("{scorer: refund}", "{scorer: refund, wrong: 0.05}", True),
        ("then: ask", LARGE, True),
        ("target: up/small", "reading: native, target: up/small", True),
        ("use: decided, target", "use: decided, share: 0.5, target", True),
    ],
)
def test_another_claim_has_another_digest(old: str, new: str, same: bool) -> None:
    changed = parse(CONFIG.replace(old, new))
    assert (claim_digest(changed, "refund") == claim_digest(parse(CONFIG), "refund")) == same


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("then: ask", "then: null", r"cascades.triage.then: expected a target, or `ask`"),
        (", then: ask", "", r"cascades.triage.then: missing"),
        ("certificate refund", "certificate refnd", r'accept: no certificate "refnd"; did you mean "refund"'),
        ("certificate refund", "certificate other", "is not about answers of decisions"),
        ("certificate refund", "certificate refund and refusal < 1", "accept: it names certificates and conditions"),
        ("accept: certificate refund", "accept: refusal < 1, primary: plain", "`then: ask` belongs to"),
        ("accept: certificate refund, then: ask", f"accept: refusal < 1, {LARGE}", r"cascades.triage.primary: missing"),
        ("target: up/small", "target: up/large", "is about up/large, and up/small answers"),
        ("target: up/small, ", "", "is about the answers of all targets"),
        ("target: up/small", "target: up/small, reading: slot", "about the reading slot, and the answers have native"),
    ],
)
def test_a_cascade_that_rests_on_nothing_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(CONFIG.replace(old, new))
