"""Ramps over the admin API: the gate as Argo Rollouts and Flagger ask it, commands by role, the history."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fixtures.ramps import DESIGN, PLAN

from gateway.core.plan import HarmStop
from gateway.core.ramp import RampChange, RampEvent, advanced, overridden, rolled_back, started
from gateway.features.keys.directory import read_audit
from gateway.features.ramp.operations import event_view, history_line
from gateway.store.ramp_events import add_ramp_events
from gateway.stream import Corridor

# In the form of Argo Rollouts' web provider and of Flagger's webhooks, after their documentation and sources: Go's HTTP
# client, which makes Basic authentication of a URL's user info.
ARGO = (
    "GET /admin/v1/experiments/swap/gate HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\n"
    "Authorization: Bearer {token}\r\nAccept-Encoding: gzip\r\n\r\n"
)
FLAGGER_BODY = json.dumps({
    "name": "assistant", "namespace": "prod", "phase": "Progressing", "checksum": "85d557f47b",
    "buildId": "1", "type": "confirm-promotion", "failedChecks": 0, "canaryWeight": 10, "iterations": 3,
    "remainingTime": 1800000000000, "metadata": {"owner": "search"},
})  # fmt: skip
FLAGGER = (
    "POST /admin/v1/experiments/swap/gate{query} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\n"
    "Content-Length: {length}\r\nAuthorization: Basic {basic}\r\nContent-Type: application/json\r\n"
    "Accept-Encoding: gzip\r\n\r\n{body}"
)


@pytest.fixture
async def ramp(console: Any, ramp_on_server: Any) -> Any:
    """A ramp at its first step."""
    found = ramp_on_server(console.corridor, at=time.time())
    await found.plan_runs()
    await found.begins()
    await found.steps()
    return found


async def raw(url: str, request: str) -> tuple[int, dict[str, Any]]:
    """Sends the bytes as they were recorded."""
    host = url.removeprefix("http://")
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(request.replace("{host}", host).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    body = await reader.readexactly(int(length))
    writer.close()
    return int(head.split()[1]), json.loads(body)


async def argo(console: Any) -> str:
    """The value of `result` with `jsonPath: {$.status}`."""
    status, body = await raw(console.url, ARGO.replace("{token}", "token-of-viewer"))
    assert status == 200
    return str(body["status"])


async def flagger(console: Any, query: str = "", password: str = "token-of-viewer") -> int:  # noqa: S107 - of tests
    basic = base64.b64encode(f"flagger:{password}".encode()).decode()
    request = FLAGGER.replace("{query}", query).replace("{basic}", basic).replace("{body}", FLAGGER_BODY)
    status, _ = await raw(console.url, request.replace("{length}", str(len(FLAGGER_BODY))))
    return status


async def test_argo_reads_success_failure_and_inconclusive(console: Any, ramp: Any) -> None:
    assert await argo(console) == "inconclusive", "there is no evidence"
    await ramp.says("hold", "soaks for another 60 s")
    assert await argo(console) == "inconclusive"
    await ramp.says("ready", "everything holds")
    assert await argo(console) == "success"
    done = await console.owner.post("/experiments/swap/rollback", json={"reason": "customers complain"})
    assert done.status_code == 200
    assert await argo(console) == "failure"


async def test_flagger_reads_the_status_code(console: Any, ramp: Any) -> None:
    await ramp.says("hold")
    assert [await flagger(console), await flagger(console, "?expect=failure")] == [409, 409]
    await ramp.says("ready")
    assert [await flagger(console), await flagger(console, "?expect=failure")] == [200, 409]
    await ramp.says("roll_back")
    assert [await flagger(console), await flagger(console, "?expect=failure")] == [409, 200]


async def test_a_wrong_password_opens_nothing(console: Any, ramp: Any) -> None:
    assert await flagger(console, password="guess") == 401
    assert await flagger(console, password="") == 401


async def test_basic_authentication_is_for_the_gate_alone(console: Any, ramp: Any) -> None:
    async with httpx2.AsyncClient(base_url=f"{console.url}/admin/v1", auth=("x", "token-of-owner")) as client:
        assert (await client.get("/keys")).status_code == 401
        assert (await client.get("/experiments/swap/gate")).status_code == 401
        assert (await client.post("/experiments/swap/pause", json={"reason": "x"})).status_code == 401


@pytest.mark.parametrize("verb", ["pause", "rollback", "promote", "override"])
async def test_each_command_needs_its_role_and_a_reason(console: Any, ramp: Any, verb: str) -> None:
    await ramp.says("ready")
    least = "owner" if verb == "override" else "operator"
    for role, client in console.clients.items():
        if role == "viewer" or (least == "owner" and role == "operator"):
            assert (await client.post(f"/experiments/swap/{verb}", json={"reason": "x"})).status_code == 403
    for body in ({}, {"reason": ""}, {"reason": "  "}, {"reason": 5}, {"reason": "x", "share": 1}):
        refused = await console.clients[least].post(f"/experiments/swap/{verb}", json=body)
        assert refused.status_code == 400, (body, refused.text)
    done = await console.clients[least].post(f"/experiments/swap/{verb}", json={"reason": "as agreed"})
    assert done.status_code == 200, done.text
    assert (done.json()["by"], done.json()["reason"]) == ("ada" if least == "owner" else "otto", "as agreed")
    assert (await ramp.record()).by == done.json()["by"]


async def test_a_change_that_a_ramp_refuses_is_a_conflict(console: Any, ramp: Any) -> None:
    await ramp.says("hold", "12 of 100 units at this step")
    refused = await console.owner.post("/experiments/swap/promote", json={"reason": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert "12 of 100 units" in refused.json()["error"]["message"]
    resumed = await console.owner.post("/experiments/swap/resume", json={"reason": "x"})
    assert "nothing to resume" in resumed.json()["error"]["message"]


@pytest.mark.parametrize("design", [DESIGN, None])
async def test_resume_ends_a_stop_for_harm(console: Any, ramp_on_server: Any, design: Any) -> None:
    """A plan without a ramp has nothing else to resume."""
    ramp = ramp_on_server(console.corridor, plan=replace(PLAN, ramp=design), at=time.time() - 7200.0)
    await ramp.plan_runs()
    if design is not None:
        begun = await ramp.begins()
        back = rolled_back(begun, RampChange(ramp.at, "controller", "harm"), 0.0)
        assert await console.corridor.ramps.change(begun, back, b"{}")
    states = console.corridor.state
    known = (await states.plans())["swap"]
    assert await states.set_plan(replace(known, harm=HarmStop(ramp.at, 60, -0.3, 7.5)), known)
    for role, status in (("viewer", 403), ("operator", 200)):
        done = await console.clients[role].post("/experiments/swap/resume", json={"reason": "seen"})
        assert done.status_code == status, done.text
    assert (done.json()["state"], done.json()["by"], done.json()["plan"]) == ("shadow", "otto", ramp.plan.hash)
    assert not (await states.plans())["swap"].harmed
    again = await console.owner.post("/experiments/swap/resume", json={"reason": "seen"})
    assert again.status_code == (404 if design is None else 409)
    if design is None:
        (row,) = await read_audit(console.admin, None, 10, "swap")
        assert (row.action, row.actor, row.after) == ("resume", "otto", {"after": "harm", "reason": "seen"})


async def test_an_override_may_go_to_all_traffic(console: Any, ramp: Any) -> None:
    done = await console.owner.post("/experiments/swap/override", json={"reason": "it ends", "full": True})
    assert (done.json()["state"], done.json()["overridden"]) == ("promoted", True)


async def test_a_missing_ramp_is_not_found(console: Any) -> None:
    for path in ("gate", "history"):
        assert (await console.owner.get(f"/experiments/nothing/{path}")).status_code == 404
    assert (await console.owner.post("/experiments/nothing/pause", json={"reason": "x"})).status_code == 404


async def test_the_history_has_pages_newest_first(console: Any, ramp: Any) -> None:
    assert (await console.owner.get("/experiments/swap/history")).json() == {"data": [], "next": None}
    for verb in ("pause", "resume", "rollback"):
        await console.owner.post(f"/experiments/swap/{verb}", json={"reason": f"{verb} it"})
    waiting = (await console.corridor.ramps.waiting()).events
    await console.admin.store.run(lambda c: add_ramp_events(c, waiting))
    page = (await console.owner.get("/experiments/swap/history?limit=3")).json()
    assert [row["kind"] for row in page["data"]] == ["rolled_back", "resumed", "paused"]
    assert [row["by"] for row in page["data"]] == ["ada"] * 3
    rest = (await console.owner.get(f"/experiments/swap/history?before={page['next']}")).json()
    assert [row["kind"] for row in rest["data"]] == ["advanced", "shadowing"]
    assert rest["next"] is None
    assert (await console.owner.get("/experiments/swap/history?before=x")).status_code == 400


async def test_an_unreachable_stream_server_is_a_503(
    admin_of: Any, opened: Any, serving: Any, stream_server: Any
) -> None:
    corridor = Corridor(stream_server.url, "test")
    admin = await admin_of(await opened())
    async with serving(type(admin)(admin.store, admin.publisher, admin.config, corridor), corridor) as console:
        stream_server.kill()
        found = await console.owner.get("/experiments/swap/gate")
        assert (found.status_code, found.json()["error"]["code"]) == (503, "stream_unavailable")
    await corridor.aclose()


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
