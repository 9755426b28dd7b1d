"""What can be said about a Ray cluster without one; tests/real/test_replay_on_ray.py has the rest."""

from __future__ import annotations

import importlib.util

import pytest

from gateway.core.errors import CannotRun
from gateway.features.replay.gateway_choice import ReachedGateway
from gateway.features.replay.ray_address import RayAddress
from gateway.features.replay.ray_cluster import WorkerRequest, check_reach, ray_workers
from gateway.features.replay.remote_worker import WorkerSetup

HERE = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("host", "url", "reached"),
    [
        ("127.0.0.1", HERE, True),
        ("localhost", "http://[::1]:8000/v1", True),
        ("head.example", HERE, False),
        ("10.0.0.7", "http://localhost:8000/v1", False),
        ("10.0.0.7", "https://gateway.example/v1", True),
    ],
)
def test_workers_elsewhere_need_a_gateway_that_they_reach(host: str, url: str, reached: bool) -> None:
    if reached:
        check_reach(RayAddress(host), url)
        return
    with pytest.raises(CannotRun, match=r"is on this machine only; .*--gateway"):
        check_reach(RayAddress(host), url)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed here")
async def test_without_ray_the_error_names_the_extra() -> None:
    wanted = WorkerRequest(RayAddress("127.0.0.1", 9), ReachedGateway(HERE, None), WorkerSetup(HERE, {}), 1)
    where = ray_workers(wanted, {}, lambda _: None)
    with pytest.raises(CannotRun, match=r"pip install 'assay-gateway\[ray\]'"):
        async with where:
            pass
