"""The sentences of `gateway guards` about a guard."""

from __future__ import annotations

from dataclasses import replace

from gateway.features.guards.evidence import GuardEvidence, KeyShare, LabelledShare
from gateway.features.guards.report import sections, sentence
from gateway.statistics.detection import ShareEstimate

SHARE = ShareEstimate(0.012, 0.010, 0.014)
RIGHT = LabelledShare(0.775, 0.62, 0.88, 31, 40)
EVIDENCE = GuardEvidence(
    guard="secrets",
    on="answer",
    action="block",
    config_hash="c",
    since=0.0,
    recorded=1,
    other_configs=0,
    calls=10_000,
    hit=SHARE,
    near=SHARE,
    failed=SHARE,
    keys=tuple(KeyShare(f"key {i}", 100, 20 - i, SHARE) for i in range(12)),
    labels=40,
    precision=RIGHT,
    recall=None,
    missed=None,
    recall_unknown="of a reason",
)


def plain(text: str) -> str:
    return text.replace("\u202f", " ")


def test_one_sentence_says_how_often_it_acts_and_is_right() -> None:
    ends = "1.2 % of calls; of those 31 of 40 labelled were right: 62 to 88 %"
    assert plain(sentence(EVIDENCE)) == f"blocks {ends}"
    assert plain(sentence(replace(EVIDENCE, action="observe"))) == f"observes; it would block {ends}"
    assert plain(sentence(replace(EVIDENCE, precision=None))) == "blocks 1.2 % of calls; none of those is labelled"
    assert sentence(replace(EVIDENCE, hit=None)) == "it has judged no recorded call in this time"


def test_an_interval_is_never_shown_as_a_point() -> None:
    narrow = replace(EVIDENCE, precision=LabelledShare(0.981, 0.979, 0.984, 3900, 4000))
    assert plain(sentence(narrow)).endswith("97.9 to 98.4 %")


def test_ten_keys_are_shown_and_the_others_counted() -> None:
    _, keys, labels = sections([EVIDENCE], whole=True)
    assert keys.rows is not None
    assert [row.name.text for row in keys.rows.rows] == [f"key {i}" for i in range(10)]
    assert keys.items == ("2 more keys with fewer hits; --json has all",)
    assert "recall is unknown: of a reason" in labels.items
    assert not any("strata" in item for item in labels.items)
    *_, labels = sections([replace(EVIDENCE, unsampled=("default", "cheap"))], whole=True)
    assert any("no call was drawn of the strata default, cheap" in item for item in labels.items)
