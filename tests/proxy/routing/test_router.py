"""The route of a call: decided once, and not changed by experiments that the call is not in."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fixtures.secret_of_draws import SECRET
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.config import Config
from gateway.core.errors import BadRequest, ModelNotFound, NotAllowed
from gateway.core.exchange import Target
from gateway.core.plan import PlanState
from gateway.proxy.request.call import Call, Caller, RequestOptions
from gateway.proxy.routing.concurrency_limiter import ConcurrencyLimiter
from gateway.proxy.routing.router import Route, Router
from gateway.proxy.routing.sampling import Sampler
from gateway.proxy.routing.strategies import order
from gateway.proxy.routing.target_state import UpstreamState

CONFIG: dict[str, Any] = {
    "open": True,
    "upstreams": {n: {"kind": "fake"} for n in "abc"},
    "models": {
        "chat": {
            "targets": [{"upstream": "a", "model": "m", "weight": 3}, {"upstream": "b", "model": "m", "weight": 1}],
            "fallback": [{"upstream": "c", "model": "m", "on": ["timeout", "content_filter"]}],
            "timeouts": {"total_s": 60},
            "retries": {"attempts": 3},
        },
        "other": {"targets": [{"upstream": "a", "model": "m"}]},
        "third": {"targets": [{"upstream": "c", "model": "m"}]},
    },
}
SWAP = {"model": "chat", "control": {"upstream": "a", "model": "m"}, "candidate": {"upstream": "c", "model": "new"}}
EXPERIMENTS = {"experiments": {"swap": {**SWAP, "shadow": 0.5}}}

Make = Callable[..., Router]


@pytest.fixture
def make() -> Make:
    """Makes a router."""
    return a_router


def a_router(seed: int = 0, **sections: Any) -> Router:
    config = Config.model_validate({**CONFIG, **sections})
    states = {
        n: UpstreamState(n, u, Any, Any, ConcurrencyLimiter(None, 0, 1.0))  # type: ignore[arg-type]
        for n, u in config.upstreams.items()
    }
    router = Router(config, states, Sampler(config.sampling), lambda: 0.0, random.Random(seed))
    experiments = router.experiments
    experiments.follow({n: PlanState(p, "running", 0.0) for n, p in experiments.plans.items()}, 0.0, secret=SECRET)
    return router


def a_call(**changes: Any) -> Call:
    call = Call("id", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", False, b"{}")
    return replace(call, **changes)


def drawn(route: Route) -> bool:
    return route.assignment is not None and route.assignment.shadowed


def names(route: Route) -> list[str]:
    return [c.target_state.name for c in route.candidates]


def test_fallbacks_follow_the_targets_in_order() -> None:
    route = a_router().decide(a_call(), RequestOptions())
    assert sorted(names(route)[:2]) == ["a/m", "b/m"]
    assert names(route)[2] == "c/m"
    assert route.candidates[1].on == {"error", "timeout", "rate_limit"}, "another target has the same context"
    assert route.candidates[2].on == {"timeout", "content_filter"}
    assert (route.timeouts.total_s, route.retries.attempts) == (60, 3)
    assert route.on_cut == "continue", "there is a fallback"
    assert a_router().decide(a_call(alias="other"), RequestOptions()).on_cut == "error"


@given(aliases=st.lists(st.sampled_from(["other", "third", "chat"]), max_size=30), seed=st.integers(0, 50))
def test_experiments_do_not_change_the_routing_of_other_calls(aliases: list[str], seed: int) -> None:
    """A shadow does not send a call of an experiment elsewhere either: the same random numbers give the same
    targets.
    """
    without, with_them = a_router(seed), a_router(seed, **EXPERIMENTS)
    for at, alias in enumerate(aliases):
        call = a_call(id=str(at), alias=alias)
        one, two = without.decide(call, RequestOptions()), with_them.decide(call, RequestOptions())
        assert names(one) == names(two)
        assert replace(one, candidates=()) == replace(two, candidates=(), assignment=None, recordable=one.recordable)
        assert two.recordable == (one.recordable or drawn(two))
        assert (two.assignment is not None) == (alias == "chat")


def test_the_shadow_is_drawn_with_the_route_and_once_for_all() -> None:
    router = a_router(**EXPERIMENTS)
    routes = [router.decide(a_call(id=str(i)), RequestOptions()) for i in range(400)]
    other = a_router(7, **EXPERIMENTS)
    again = [drawn(other.decide(a_call(id=str(i)), RequestOptions())) for i in range(400)]
    assert [drawn(r) for r in routes] == again
    assert abs(sum(again) / 400 - 0.5) < 3 * (0.25 / 400) ** 0.5


SPLIT = {"experiments": {"swap": {**SWAP, "mode": "split", "split": 0.5}}}


@pytest.mark.parametrize("seed", range(5))
def test_a_split_puts_the_arms_target_first(seed: int) -> None:
    without, split = a_router(seed), a_router(seed, **SPLIT)
    first: set[str] = set()
    for at in range(40):
        call = a_call(id=str(at))
        route, usual = split.decide(call, RequestOptions()), names(without.decide(call, RequestOptions()))
        assert route.assignment is not None
        assert names(route)[0] == str(route.assignment.target)
        assert names(route)[1:] == [n for n in usual if n != names(route)[0]]
        assert route.candidates[0].on == {"error", "timeout", "rate_limit"}
        first.add(names(route)[0])
    assert first == {"a/m", "c/new"}, "the alias's other targets serve no call of the split first"


def test_a_split_ignores_pinned_and_opted_out_calls() -> None:
    split, may = a_router(**SPLIT), Caller("web", allow=frozenset({"target", "sample"}))
    for options, home in (
        (RequestOptions(target="b/m"), None),
        (RequestOptions(sample="never"), None),
        (RequestOptions(), "b"),
    ):
        assert split.decide(a_call(caller=may), options, home).assignment is None
    assert split.decide(a_call(caller=Caller("web", sampled=False)), RequestOptions()).assignment is None


def test_aliases_share_the_state_of_a_target() -> None:
    router = a_router()
    chat = {c.target_state.name: c.target_state for c in router.decide(a_call(), RequestOptions()).candidates}
    assert router.decide(a_call(alias="other"), RequestOptions()).candidates[0].target_state is chat["a/m"]
    assert router.target_state(Target("a", "m")) is chat["a/m"]
    assert len(router.target_states) == 3


def test_an_unknown_model_suggests_similar_names() -> None:
    router = a_router()
    with pytest.raises(ModelNotFound, match='did you mean "chat"') as missing:
        router.decide(a_call(alias="chatt"), RequestOptions())
    assert missing.value.param == "model"
    with pytest.raises(ModelNotFound, match="GET /v1/models"):
        router.check("something else", Caller("web"))


def test_a_model_that_a_key_may_not_use_does_not_exist_for_it() -> None:
    router, caller = a_router(), Caller("web", frozenset({"other"}))
    with pytest.raises(ModelNotFound, match="does not exist") as missing:
        router.decide(a_call(caller=caller), RequestOptions())
    assert "chat" not in str(missing.value).replace('"chat"', "", 1), "nor is it suggested"
    assert router.aliases(caller) == ["other"]
    assert router.aliases(Caller("web")) == ["chat", "other", "third"]
    assert [u.name for u in router.upstreams(caller)] == ["a"]
    assert sorted(u.name for u in router.upstreams(Caller("web"))) == ["a", "b", "c"]


def test_a_target_may_be_chosen_by_header_only_by_a_key_that_may() -> None:
    router = a_router()
    with pytest.raises(NotAllowed):
        router.decide(a_call(), RequestOptions(target="b/m"))
    may = Caller("web", allow=frozenset({"target"}))
    assert names(router.decide(a_call(caller=may), RequestOptions(target="b/m"))) == ["b/m"], (
        "and no other target answers then"
    )
    assert names(router.decide(a_call(caller=may), RequestOptions(target="c/m"))) == ["c/m"], (
        "a fallback is a target too"
    )
    with pytest.raises(BadRequest, match="it has a/m, b/m, c/m"):
        router.decide(a_call(caller=may, alias="chat"), RequestOptions(target="a/other"))
    with pytest.raises(BadRequest):
        router.decide(a_call(caller=may, alias="other"), RequestOptions(target="b/m"))


@pytest.mark.parametrize(("requested", "total"), [(None, 60), (5.0, 5.0), (1e5, 60)])
def test_a_client_can_only_shorten_the_time(requested: float | None, total: float) -> None:
    route = a_router().decide(a_call(), RequestOptions(timeout_s=requested))
    assert route.timeouts.total_s == total
    assert route.timeouts.idle_s == 30


def test_a_continued_response_goes_to_the_upstream_that_made_it() -> None:
    router = a_router()
    assert names(router.decide(a_call(), RequestOptions(), home="b")) == ["b/m"]
    assert names(router.decide(a_call(), RequestOptions(), home="c")) == ["c/m"]
    assert len(names(router.decide(a_call(), RequestOptions(), home="gone"))) == 3, (
        "its upstream is not a target any more"
    )


def test_an_alias_without_a_ready_target_is_unready() -> None:
    router = a_router()
    assert router.unready() == []
    router.target_state(Target("a", "m")).upstream.down = True
    assert router.unready() == ["other"], "chat has b, and its fallback"
    router.target_state(Target("c", "m")).breaker.pause(1.0)
    assert router.unready() == ["other", "third"]


WEIGHTS = st.lists(st.floats(0.1, 9), min_size=2, max_size=5)


@given(WEIGHTS, st.integers(0, 999), st.sets(st.integers(0, 4), max_size=4))
def test_looked_up_orders_equal_computed_ones(weights: list[float], seed: int, failing: set[int]) -> None:
    """Orders are equal, too, if some targets are not ready: then nothing is looked up, and these targets come last."""
    targets = [{"upstream": "a", "model": f"m{i}", "weight": w} for i, w in enumerate(weights)]
    router = a_router(seed, models={"chat": {"targets": targets}})
    routes = router.check("chat", Caller("web"))
    for at in failing & set(range(len(weights))):
        for _ in range(5):
            routes.targets[at].target_state.breaker.record_failure()
    assert routes.all_healthy == (not failing & set(range(len(weights))))
    found = [c.target_state.name for c in router.decide(a_call(), RequestOptions()).candidates]
    assert found == [p.name for p in order(routes.targets, "weighted", a_call(), random.Random(seed))]
