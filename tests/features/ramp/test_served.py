"""The answers that the arms of a ramp served, read from a store: by step, by unit, with fallbacks as failures."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.plan import Guardrail, Plan, StoredPlan
from gateway.core.ramp import RampDesign
from gateway.core.score import Score, ScoreResult
from gateway.features.ramp.served import failures_now, served_values, switch_line
from gateway.features.runs.rows import save_scores
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.callers import blind_to_callers
from gateway.ramps.periods import StepPeriod
from gateway.ramps.plan_proofs import ServedValues, served_proofs_of
from gateway.ramps.step_values import StepValues
from gateway.scoring.registry import RegisteredRun
from gateway.store.query import reading

DESIGN = RampDesign((0.1, 0.5, 1.0), 0.0, 1)
STEPS = [StepPeriod(0, 1000.0, 2000.0), StepPeriod(1, 2000.0, 3000.0)]


@pytest.fixture
def ramped(plan: Plan) -> Plan:
    """The plan with a ramp by conversation, and guardrails on errors and latency."""
    rails = (Guardrail("error_rate", 0.1), Guardrail("latency_p95", 1.0))
    return replace(plan, mode="both", unit="conversation", guardrails=rails, ramp=DESIGN)


@pytest.fixture
def served(ramped: Plan, exchange: Callable[..., Exchange]) -> Callable[..., Exchange]:
    """Makes a served answer of an arm at a time."""

    def make(arm: str, received: float, text: str = "1", **more: Any) -> Exchange:
        same = {"experiment": ramped.name, "plan": ramped.hash, "target": ramped.target(arm)}
        return exchange(text, arm=arm, received=received, **{**same, **more})

    return make


@pytest.fixture
def read(ramped: Plan, keep: Callable[..., str]) -> Callable[..., ServedValues]:
    """Stores records and reads the served values of the candidate from them."""

    def look(records: list[Exchange], periods: list[StepPeriod]) -> ServedValues:
        plan = StoredPlan(ramped, ramped.hash, "running", 0.0)
        with reading(keep(records)) as connection:
            return served_values(connection, plan, periods, AlarmTerms.of(ramped), 5000.0)

    return look


def of(found: ServedValues, metric: str, step: int) -> StepValues:
    (value,) = (v for v in found.values if (v.metric, v.step) == (metric, step))
    return value


def test_each_unit_counts_once_in_the_step_in_which_it_was_served(served, read) -> None:
    records = [
        *(served("control", 1100.0 + n, "0.5", cluster=f"c{n}") for n in range(4)),
        *(served("candidate", 1200.0, "1", cluster="talk") for _ in range(3)),
        served("candidate", 1300.0, "0", cluster="talk"),
        served("candidate", 2500.0, "0.25", cluster="talk"),
        served("candidate", 2000.5, "0", cluster="early"),  # a gateway may still apply the share before
    ]
    found = read(records, [STEPS[0], replace(STEPS[1], end=math.inf)])
    quality = of(found, "stated", 0)
    assert (quality.a.n, quality.a.mean) == (4, 0.5)
    assert (quality.b.n, quality.b.mean) == (1, 0.75)
    assert (of(found, "stated", 1).b.n, found.units, found.requests) == (1, 1, 6)


def test_calls_without_a_conversation_are_units_by_their_key(served, read) -> None:
    records = [served("control", 1100.0, caller=f"key{n % 2}") for n in range(6)] + [
        served("candidate", 1200.0, caller="x")
    ]
    assert of(read(records, STEPS[:1]), "error_rate", 0).a.n == 2


def test_an_answer_of_a_fallback_is_a_failure_of_its_arm(ramped: Plan, served, read) -> None:
    records = [served("control", 1100.0 + n, cluster=f"a{n}") for n in range(3)]
    records += [
        served("candidate", 1200.0, cluster="b0", target=ramped.control),
        served("candidate", 1200.0, cluster="b1"),
    ]
    errors = of(read(records, STEPS[:1]), "error_rate", 0)
    assert (errors.a.mean, errors.b.mean) == (0.0, 0.5)


def test_a_quick_look_at_failures_finds_what_all_rows_say(ramped: Plan, served, read, keep) -> None:
    records = [served("control", 1100.0 + n, cluster=f"a{n % 7}", status=500 if n % 5 == 0 else 200) for n in range(30)]
    records += [served("candidate", 1200.0 + n, caller=f"k{n % 3}") for n in range(9)]
    records += [served("candidate", 1300.0, cluster="b", target=ramped.control), served("candidate", 900.0)]
    records += [served("candidate", 1300.0, outcome="client_gone")]
    here = [StepPeriod(0, 1000.0, math.inf)]
    whole = of(read(records, here), "error_rate", 0)
    plan = StoredPlan(ramped, ramped.hash, "running", 0.0)
    with reading(keep([])) as connection:
        quick = failures_now(connection, plan, here, 5000.0)
        assert failures_now(connection, plan, STEPS, 5000.0) is None, "the last step has ended"
    assert quick is not None
    for a, b in ((quick.a, whole.a), (quick.b, whole.b)):
        assert (a.n, a.total, a.squares) == pytest.approx((b.n, b.total, b.squares))
    assert (quick.b.n, quick.b.total) == (4, 1.0)


def test_at_all_traffic_the_control_is_that_of_the_step_before(served, read) -> None:
    last = [STEPS[1], StepPeriod(2, 3000.0, math.inf)]
    records = [served("control", 2100.0 + n, cluster=f"a{n}") for n in range(5)]
    records += [served("candidate", 3100.0 + n, cluster=f"b{n}") for n in range(2)]
    errors = of(read(records, last), "error_rate", 2)
    assert (errors.a.n, errors.b.n) == (5, 2)


def test_the_p95_has_an_alarm_where_each_unit_has_one_answer(served, read) -> None:
    records = [served("control", 1100.0 + n / 10, cluster=f"a{n}", total_s=1.0) for n in range(700)]
    slow = [served("candidate", 1100.0 + n / 10, cluster=f"b{n}", total_s=9.0) for n in range(700)]
    (found,) = read(records + slow, STEPS[:1]).findings
    assert (found.metric, found.raised) == ("latency_p95", True)
    twice = [served("candidate", 1500.0, cluster="b1", total_s=9.0)]
    assert read(records + slow + twice, STEPS[:1]).findings == ()


def test_nothing_served_is_nothing_known(read, served) -> None:
    assert read([served("control", 1100.0)], []).values == ()
    early = read([served("candidate", 500.0)], [StepPeriod(0, 1200.0, math.inf)])
    assert (early.values, early.requests) == ((), 1)


def test_rules_2_read_values_by_caller_and_refusals_apart(ramped: Plan, exchange, keep) -> None:
    """A refused request is not a failure, and the quick look at failures says the same as the complete one."""
    plan = replace(ramped, rules=2)
    same = {"experiment": plan.name, "plan": plan.hash, "stratum": f"split:{plan.name}"}

    def make(arm: str, n: int, **more: Any) -> Exchange:
        found = {"target": plan.target(arm), "received": 1200.0 + n, "cluster": f"{arm}{n}", "caller": f"team{n % 3}"}
        return exchange("1", arm=arm, **{**same, **found, **more})

    records = [make("control", n) for n in range(12)] + [make("candidate", n) for n in range(9)]
    records += [make("candidate", n, status=400, outcome="upstream_error") for n in range(20, 26)]
    records += [make("candidate", n, status=429, outcome="upstream_error") for n in (30, 33)]
    period = StepPeriod(0, 1000.0, math.inf)
    with reading(keep(records)) as connection:
        stored = StoredPlan(plan, plan.hash, "running", 0.0)
        found = served_values(connection, stored, [period], AlarmTerms.of(plan), 5000.0)
        quick = failures_now(connection, stored, [period], 5000.0)
    errors, refused = of(found, "error_rate", 0), of(found, "request_refused", 0)
    assert (errors.b.n, errors.b.total) == (11, 2)
    assert (refused.b.n, refused.b.total) == (17, 6)
    assert {c.caller: (c.a.n, c.b.n, c.b.total) for c in errors.callers} == {
        "team0": (4, 5, 2), "team1": (4, 3, 0), "team2": (4, 3, 0),
    }  # fmt: skip
    assert quick is not None
    assert (quick.a, quick.b) == (errors.a, errors.b)
    assert [(c.caller, c.a, c.b) for c in quick.callers] == [(c.caller, c.a, c.b) for c in errors.callers]


def test_rules_1_count_refusals_as_failures(served, read) -> None:
    records = [served("control", 1100.0, cluster="a"), served("candidate", 1200.0, cluster="b", status=400,
                                                              outcome="upstream_error")]  # fmt: skip
    found = read(records, STEPS[:1])
    errors = of(found, "error_rate", 0)
    assert (errors.b.total, errors.callers) == (1.0, ())
    assert not [v for v in found.values if v.metric == "request_refused"]


@pytest.mark.parametrize("alone", [True, False], ids=["one caller", "all callers"])
def test_one_caller_with_slow_calls_raises_no_alarm_on_the_p95(ramped: Plan, exchange, keep, alone: bool) -> None:
    plan = replace(ramped, rules=2, guardrails=(Guardrail("latency_p95", 0.1),))
    same = {"experiment": plan.name, "plan": plan.hash, "stratum": f"split:{plan.name}"}
    records = []
    for n in range(1600):
        arm, caller = ("control", "candidate")[n % 2], f"team{n // 2 % 4}"
        slow = arm == "candidate" and (not alone or caller == "team0")
        found = {"target": plan.target(arm), "received": 1200.0 + n / 10, "cluster": f"u{n}", "caller": caller}
        records.append(exchange("1", arm=arm, total_s=9.0 if slow else 1.0 + n % 7 / 10, **same, **found))
    with reading(keep(records)) as connection:
        stored, period = StoredPlan(plan, plan.hash, "running", 0.0), StepPeriod(0, 1000.0, math.inf)
        (p95,) = served_values(connection, stored, [period], AlarmTerms.of(plan), 5000.0).findings
    assert (p95.raised, p95.rests_on) == (not alone, "team0" if alone else "")


@pytest.fixture
def by_rules_2(ramped: Plan) -> Plan:
    """The ramp by the second version of the plans' rules, with a holdout."""
    design = replace(DESIGN, soak_s=400.0, holdout=0.02, holdout_days=28.0)
    return replace(ramped, rules=2, ramp=design)


def looked(keep: Callable[..., str], plan: Plan, records: list[Exchange], periods: list[StepPeriod]) -> ServedValues:
    with reading(keep(records)) as connection:
        stored = StoredPlan(plan, plan.hash, "running", 0.0)
        return served_values(connection, stored, periods, AlarmTerms.of(plan), 1_250.0)


def test_a_proof_compares_within_steps_and_blocks_of_time(
    by_rules_2: Plan, served: Callable[..., Exchange], keep: Callable[..., str]
) -> None:
    """A quarter of the soak, 100 s, is a block. Answers whose arm was not drawn count in none."""
    of = {"plan": by_rules_2.hash, "stratum": f"split:{by_rules_2.name}"}
    records = [
        *(served("control", at, "0.5", cluster=f"a{at}", **of) for at in (1002.0, 1003.0, 1150.0)),
        *(served("candidate", at, "0.7", cluster=f"b{at}", **of) for at in (1004.0, 1160.0, 1205.0)),
        served("control", 1005.0, "0.1", plan=by_rules_2.hash, stratum="default"),
    ]
    found = looked(keep, by_rules_2, records, [StepPeriod(0, 1000.0, math.inf)])
    blocks = {each.metric: each for each in found.blocks}["stated"].blocks
    assert [(b.a.n, b.b.n, b.complete) for b in blocks] == [(2, 1, True), (1, 1, False), (0, 1, False)]
    assert (blocks[0].a.mean, blocks[0].b.mean) == (0.5, 0.7)
    assert {each.metric for each in found.p95} == {"latency_p95"}


@pytest.mark.parametrize(("cut", "proved"), [(0, True), (2, True), (60, False)])
def test_scores_of_cut_records_prove_nothing(
    cut: int, proved: bool, by_rules_2: Plan, served: Callable[..., Exchange], keep: Callable[..., str]
) -> None:
    """A scorer has not read a cut answer to its end, so what it says is not about what the user got. So few that they
    cannot change the proof are left out; more count as the worst for the candidate."""
    of = {"plan": by_rules_2.hash, "stratum": f"split:{by_rules_2.name}"}
    records = [
        *(served("control", 1001.5 + i / 10, "0.8", cluster=f"a{i}", **of) for i in range(300)),
        *(served("candidate", 1001.5 + i / 10, "0.8", cluster=f"b{i}", truncated=i < cut, **of) for i in range(300)),
    ]
    found = looked(keep, by_rules_2, records, [StepPeriod(0, 1000.0, math.inf)])
    alarm = next(v for v in found.values if (v.metric, v.step) == ("stated", 0))
    assert (alarm.a.n, alarm.b.n) == (300, 300 - cut)
    proof = next(p for p in served_proofs_of(found.blocks, by_rules_2) if p.metric == "stated")
    assert (proof.found == "non_inferior") is proved, proof
    line = f"the records of {cut} answers of the candidate and 0 of the control were cut"
    assert (line in proof.missing()) is not proved


@pytest.mark.parametrize("word", ["none", "broken"], ids=["does not apply", "fails"])
@pytest.mark.parametrize(
    ("control", "candidate", "proved"),
    [(0, 0, True), (24, 24, True), (0, 120, False), (120, 120, True), (120, 0, True)],
)
def test_bad_answers_without_a_score_prove_nothing(
    word: str,
    control: int,
    candidate: int,
    proved: bool,
    by_rules_2: Plan,
    served: Callable[..., Exchange],
    keep: Callable[..., str],
) -> None:
    """The proof must also hold with each missing score as 0 on both arms, if many are missing: arms that are alike lose
    nothing.
    """
    of = {"plan": by_rules_2.hash, "stratum": f"split:{by_rules_2.name}"}
    records = [
        served(arm, 1001.5 + i / 20, word if i < none * 5 and i % 5 == 0 else "0.8", cluster=f"{arm}{i}", **of)
        for arm, none in (("control", control), ("candidate", candidate))
        for i in range(600)
    ]
    found = looked(keep, by_rules_2, records, [StepPeriod(0, 1000.0, math.inf)])
    proof = next(p for p in served_proofs_of(found.blocks, by_rules_2) if p.metric == "stated")
    assert (proof.found == "non_inferior") is proved, proof
    line = f"{candidate} answers of the candidate and {control} of the control have no score, and count as 0"
    assert (line in proof.missing()) is not proved


@pytest.mark.parametrize(
    ("control", "candidate", "callers", "found"),
    [(0.0, 0.0, 3, None), (0.05, 0.05, 3, "non_inferior"), (0.0, 0.3, 3, "inferior"), (0.0, 0.9, 1, "unclear")],
)
def test_clients_that_leave_the_candidate_are_seen(
    control: float,
    candidate: float,
    callers: int,
    found: str | None,
    by_rules_2: Plan,
    served: Callable[..., Exchange],
    keep: Callable[..., str],
) -> None:
    """Such calls are in no other metric; if no client leaves, nothing has to be proved. callers: whose clients leave,
    of three; one alone cannot take the candidate back.
    """
    rng, of = random.Random(4), {"plan": by_rules_2.hash, "stratum": f"split:{by_rules_2.name}"}
    records = [
        served(
            arm, 1001.5 + i / 30, "0.8", cluster=f"{arm}{i}", caller=f"team{i % 3}",
            outcome="client_gone" if i % 3 < callers and rng.random() < share else "ok", **of,
        )
        for arm, share in (("control", control), ("candidate", candidate))
        for i in range(900)
    ]  # fmt: skip
    read = looked(keep, by_rules_2, records, [StepPeriod(0, 1000.0, math.inf)])
    proofs = {p.metric: p for p in served_proofs_of(read.blocks, by_rules_2)}
    assert (proofs["client_left"].found if found else proofs.get("client_left")) == found
    assert "client_left" not in proofs or proofs["client_left"].rests_on == ("team0" if callers == 1 else "")
    assert proofs["error_rate"].found == proofs["stated"].found == "non_inferior"


@pytest.mark.parametrize(("back", "inflation"), [(False, 1.0), (True, 2.0)])
def test_units_that_come_back_in_several_blocks_inflate_the_variance(
    back: bool, inflation: float, by_rules_2: Plan, served: Callable[..., Exchange], keep: Callable[..., str]
) -> None:
    of = {"plan": by_rules_2.hash, "stratum": f"split:{by_rules_2.name}"}
    records = []
    for i in range(12):
        for block in (1002.0, 1102.0):
            unit, text = f"u{i}" if back else f"u{i} {block}", "0.9" if i % 4 < 2 else "0.1"
            records.append(served(("control", "candidate")[i % 2], block + i, text, cluster=unit, **of))
    found = looked(keep, by_rules_2, records, [StepPeriod(0, 1000.0, math.inf)])
    assert {b.metric: b.inflation for b in found.blocks}["stated"] == pytest.approx(inflation)


@pytest.mark.parametrize(("holdout", "control"), [(0.02, (2, 0.8, True)), (0.0, (5, 0.1, False))])
def test_the_holdout_is_compared_with_the_candidate_at_the_same_time(
    holdout: float,
    control: tuple[int, float, bool],
    by_rules_2: Plan,
    served: Callable[..., Exchange],
    keep: Callable[..., str],
) -> None:
    """The control's last answers stand in where there is no holdout, and the values say so."""
    plan = replace(by_rules_2, ramp=replace(DESIGN, holdout=holdout, holdout_days=28.0))
    of = {"plan": plan.hash, "stratum": f"split:{plan.name}"}
    records = [
        *(served("control", 900.0 + i, "0.1", cluster=f"before {i}", **of) for i in range(5)),
        *(served("control", 1010.0 + i, "0.8", cluster=f"a{i}", **of) for i in range(2 if holdout else 0)),
        *(served("candidate", 1010.0 + i, "0.7", cluster=f"b{i}", **of) for i in range(5)),
    ]
    periods = [StepPeriod(1, 890.0, 1000.0), StepPeriod(2, 1000.0, math.inf)]
    last = [v for v in looked(keep, plan, records, periods).values if (v.metric, v.step) == ("stated", 2)]
    assert [(v.a.n, v.a.mean, v.paired) for v in last] == [control]
    assert last[0].b.n == 5


def test_a_small_holdout_does_not_blind_the_last_step(
    by_rules_2: Plan, served: Callable[..., Exchange], keep: Callable[..., str]
) -> None:
    """Two units of the control, and 200 of its step before, which stand in for failures alone."""
    of = {"plan": by_rules_2.hash, "stratum": f"split:{by_rules_2.name}"}
    records = [
        *(served("control", 900.0 + i / 10, cluster=f"before {i}", **of) for i in range(200)),
        *(served("control", 1010.0 + i, cluster=f"a{i}", **of) for i in range(2)),
        *(served("candidate", 1010.0 + i, cluster=f"b{i}", **of) for i in range(60)),
    ]
    periods = [StepPeriod(1, 890.0, 1000.0), StepPeriod(2, 1000.0, math.inf)]
    found, terms = looked(keep, by_rules_2, records, periods), AlarmTerms.of(by_rules_2)
    last = [v for v in found.values if (v.metric, v.step) == ("error_rate", 2)]
    assert [(v.a.n, v.b.n, v.paired) for v in last] == [(2, 60, True), (200, 60, False)]
    assert blind_to_callers(last[:1], terms, 2)
    assert not blind_to_callers(last, terms, 2)


def test_a_metric_is_shown_with_both_arms_and_its_interval() -> None:
    found = {"metric": "quality", "control": 0.8, "candidate": 0.75, "difference": -0.05, "low": -0.06, "high": -0.04,
             "units": [200, 9800]}  # fmt: skip
    assert switch_line(found) == (
        "quality: 0.8 with the control, 0.75 with the candidate, difference −0.05 (−0.06 to −0.04; 200 and 9800 units)"
    )
    assert "too few units for an interval" in switch_line({**found, "low": None, "high": None})


@dataclass(frozen=True)
class LoopsOfRuns:
    """Stands for the scorer whose scores are stored here."""

    name: str = "run_loops"
    version: str = "1"
    kind: str = "code"
    direction: str = "maximise"
    bounds: tuple[float, float] = (0.0, 1.0)


def test_a_ramp_by_run_reads_the_scores_of_its_runs(plan: Plan, exchange: Callable[..., Exchange], store: Any) -> None:
    """Each run once, in the block in which it began; complete half an hour later, when it has been scored."""
    rails = (Guardrail("run_loops", 0.05),)
    hour = replace(DESIGN, soak_s=3600.0)  # blocks of a quarter of an hour
    ramped = replace(plan, mode="both", unit="run", guardrails=rails, ramp=hour, rules=2, of_runs=("run_loops",))
    values = {"control": (1.0, 1.0, 1.0, 0.0), "candidate": (0.0, 0.0, 1.0, None)}
    scorers: Any = {"run_loops": RegisteredRun(LoopsOfRuns(), 1.0, 10.0, "c1")}  # type: ignore[arg-type]
    for arm, scored in values.items():
        for n, value in enumerate(scored):
            same = {"experiment": ramped.name, "plan": ramped.hash, "target": ramped.target(arm), "arm": arm}
            more = {"stratum": f"split:{ramped.name}", "run": f"{arm}{n}", "cluster": f"{arm}{n}"}
            calls = [exchange("0.5", received=1100.0 + n + i, **same, **more) for i in range(3)]
            store.write(*calls)
            place = {"id": calls[0].id, "experiment": ramped.name, "plan": ramped.hash, "arm": arm, "pi": 1.0}
            place |= {"stratum": more["stratum"], "answered": 1105.0}
            if value is not None:
                result = ScoreResult("run_loops", "1", "c1", "scored", Score(value), "", 0.0, 1.0)
                store.run(
                    lambda c, run=f"run_{arm}{n}", of=(place, result): save_scores(c, run, of[0], scorers, [of[1]], 1.0)
                )
    stored, here = StoredPlan(ramped, ramped.hash, "running", 0.0), [StepPeriod(0, 1000.0, math.inf)]

    def look(now: float) -> ServedValues:
        found: ServedValues = store.run(lambda c: served_values(c, stored, here, AlarmTerms.of(ramped), now))
        return found

    loops = of(look(5000.0), "run_loops", 0)
    assert (loops.a.n, loops.a.mean, loops.b.n) == (4, 0.75, 3)
    assert loops.b.mean == pytest.approx(1 / 3)
    for now, complete in ((1000.0 + 900.0 + 61.0, [False]), (1000.0 + 900.0 + 1861.0, [True])):
        [blocks] = [each for each in look(now).blocks if each.metric == "run_loops"]
        assert [(block.a.n, block.b.n) for block in blocks.blocks] == [(4, 3)]
        assert [block.complete for block in blocks.blocks] == complete
    open_ = {each.metric for each in served_proofs_of(look(9000.0).blocks, ramped) if each.found != "non_inferior"}
    assert "run_loops" in open_
