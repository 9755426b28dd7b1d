"""The likely cause of a change, with the evidence and what is excluded."""

from __future__ import annotations

from dataclasses import replace

from gateway.features.models.watch.attribution import CauseEvidence, attribution, nearby
from gateway.features.models.watch.monitor import CustomerShift, Moved

LENGTH = Moved("length", "up", 100, (99, 101), 5.0, 5.3, 12.0)
SCORE = Moved("score judge 1.abc", "down", 100, (99, 101), 0.9, 0.8, 12.0)
ALL = tuple(CustomerShift(f"k{i}", 30.0, 3.0, 100.0) for i in range(4))
SILENT = CauseEvidence((LENGTH,), ALL, 0.2)


def test_without_anything_of_yours_it_is_the_provider() -> None:
    found = attribution(SILENT)
    assert found.cause == "provider"
    assert found.text == (
        "Probably the provider: 4 of 4 customers moved beyond chance, and nothing of yours changed at that time. "
        "Excluded: the scorer, since not only a score moved; the config, unchanged at that time; "
        "the mix of customers and prompt lengths, since it is taken out; prompts of another length."
    )


def test_a_model_that_answers_name_is_the_evidence() -> None:
    named = nearby("chat, a/m: model returned m-2", 90.0, LENGTH.between)
    assert named.hours == -9.0
    found = attribution(replace(SILENT, named=(named,), config=(nearby("config 4e1f", 100.2, LENGTH.between),)))
    assert (found.cause, found.because) == ("provider", "chat, a/m: model returned m-2")


def test_a_config_counts_at_that_time_only() -> None:
    at, later = (nearby("config 4e1f", hour, LENGTH.between) for hour in (98.5, 104.5))
    assert (at.hours, later.hours) == (-0.5, 2.5)
    assert attribution(replace(SILENT, config=(at,))).cause == "config"
    found = attribution(replace(SILENT, config=(later,)))
    assert found.cause == "provider"
    assert "the config, unchanged at that time" in found.excluded


def test_one_customer_is_traffic_and_longer_prompts_are_prompts() -> None:
    one = (CustomerShift("app/1f2e", 60.0, 4.0, 100.0), *(CustomerShift(f"k{i}", 1.0, 4.0, 100.0) for i in range(3)))
    found = attribution(replace(SILENT, customers=one))
    assert (found.cause, found.because) == ("traffic", "only the answers to a user (1f2e) of the key app moved")
    assert attribution(replace(SILENT, customers=ALL[:1])).cause == "provider", "one customer confines nothing"
    assert "there is one customer" in attribution(replace(SILENT, customers=ALL[:1])).text
    assert attribution(replace(SILENT, prompts=-9.0)).because == "prompts are shorter since then"


def test_a_score_that_moves_everywhere_is_the_scorer() -> None:
    judged = replace(SILENT, moved=(SCORE,), same_scorer=(2, 3))
    assert attribution(judged).cause == "scorer"
    assert "judge moved on 0 of 3 other targets" in attribution(replace(judged, same_scorer=(0, 3))).text
    assert "judge has no other target" in attribution(replace(judged, same_scorer=(0, 0))).text
    assert attribution(replace(judged, moved=(SCORE, LENGTH))).cause == "provider"
