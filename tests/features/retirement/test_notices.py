"""Notices: aliases, successor, calls a day and the draft, in one sentence each."""

from __future__ import annotations

from datetime import timedelta

from fixtures.retirements import OLD, TODAY, config_of

from gateway.features.retirement.notices import NoticeCache, due_notices, notices
from gateway.features.retirement.traffic import DailyCalls

TRAFFIC = DailyCalls({("chat", "openai", "gpt-4o-mini"): 100.0, ("code", "openai", "gpt-4o-mini"): 5000.0})


def test_a_notice_names_all_that_one_must_know() -> None:
    [found] = notices(config_of(), TRAFFIC, TODAY)
    assert found.sentence == (
        "openai/gpt-4o-mini retires in 41 days (2027-01-14). 2 aliases (chat, code), 5\u202f100 calls a day. "
        "Successor: gpt-6-luna."
    )
    assert found.draft is not None
    assert found.draft.alias == "code", "the alias with the most calls is decided soonest"
    assert found.text == f"{found.sentence} {found.draft.summary}: gateway ab draft openai/gpt-4o-mini"


def test_without_a_store_it_says_nothing_of_calls() -> None:
    [found] = notices(config_of(), None, TODAY)
    assert "calls a day" not in found.sentence
    assert found.calls_a_day is None


def test_variants_of_one_alias_are_counted_once() -> None:
    targets = [OLD, {**OLD, "set": {"temperature": 0}}]
    [found] = notices(config_of(models={"chat": {"targets": targets}}), TRAFFIC, TODAY)
    assert (found.calls_a_day, found.aliases) == (100.0, ("chat",))


def test_a_model_behind_a_star_is_known_by_its_calls() -> None:
    config = config_of(
        models={"chat": {"targets": [{**OLD, "model": "x"}]}, "o/*": {"targets": [{**OLD, "model": "*"}]}}
    )
    traffic = DailyCalls({("o/*", "openai", "gpt-4o-mini"): 7.0, ("o/*", "openai", "unlisted"): 9.0})
    [found] = notices(config, traffic, TODAY)
    assert (found.name, found.aliases, found.calls_a_day) == ("openai/gpt-4o-mini", ("o/*",), 7.0)
    assert found.text.endswith('No draft: "o/*" stands for many models, and an experiment compares targets of one')
    assert notices(config, None, TODAY) == []


def test_only_what_comes_soon_is_announced() -> None:
    config = config_of()
    assert len(due_notices(config, None, TODAY)) == 1
    early = TODAY - timedelta(days=20)
    assert due_notices(config, None, early) == []
    assert [each.days for each in notices(config, None, early)] == [61]
    [late] = due_notices(config, None, TODAY + timedelta(days=44))
    assert late.sentence.startswith("openai/gpt-4o-mini retired 3 days ago (2027-01-14).")
    assert late.draft is not None


def test_notices_are_made_again_when_something_changed() -> None:
    """A page asks with each request, and a draft takes a forecast."""
    cache, config = NoticeCache(), config_of()
    calls = TRAFFIC
    first = cache.get(config, calls, TODAY)
    assert first == notices(config, calls, TODAY)
    assert cache.get(config, DailyCalls(dict(calls.by_target)), TODAY) is first
    assert cache.get(config, calls, TODAY, due=True) == due_notices(config, calls, TODAY)
    assert cache.get(config, calls, TODAY) is first
    for changed in ((config_of(), calls, TODAY), (config, None, TODAY), (config, calls, TODAY + timedelta(days=1))):
        assert cache.get(*changed) is not first, changed
