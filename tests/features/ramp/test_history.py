"""A change of a ramp in one line, and as JSON."""

from __future__ import annotations

from fixtures.ramps import DESIGN, PLAN

from gateway.core.ramp import RampChange, RampEvent, advanced, overridden, started
from gateway.features.ramp.history import event_view, history_line

BEGUN = started("swap", PLAN.hash, RampChange(0.0, "controller", ""))
FIRST = advanced(BEGUN, DESIGN, RampChange(60.0, "controller", "everything holds"))
FORCED = overridden(FIRST, DESIGN, RampChange(120.5, "ada", "it ends tonight"))


def test_a_line_says_when_what_who_and_why() -> None:
    lines = [
        history_line(RampEvent("1-0", BEGUN, None, {})),
        history_line(RampEvent("2-0", FIRST, ("shadow", -1), {})),
        history_line(RampEvent("3-0", FORCED, ("ramp", 0), {})),
    ]
    assert lines[0] == "1970-01-01 00:00:00  shadowing  by controller: no reason given"
    assert lines[1] == "1970-01-01 00:01:00  advanced to step 1  by controller: everything holds"
    assert lines[2] == "1970-01-01 00:02:00  overridden to step 2  by ada: it ends tonight"


def test_as_json_it_has_its_evidence() -> None:
    found = event_view(RampEvent("2-0", FIRST, ("shadow", -1), {"verdict": "ship"}))
    assert found["before"] == {"state": "shadow", "step": -1}
    assert (found["kind"], found["at"], found["version"]) == ("advanced", "1970-01-01T00:01:00.000+00:00", 2)
    assert found["evidence"] == {"verdict": "ship"}
