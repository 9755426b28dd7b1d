"""Everything is killed at random moments while exchanges flow, as programs on real servers: what the stream server took
and kept is stored once, with the sums of an undisturbed run; what was lost is counted, and the ledger closes.

A few seeds run with the suite; many, with ten times the exchanges, with `pytest -m long`.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Collection
from typing import Any

import pytest

from gateway.config.derive import prices_of
from gateway.core.exchange import Exchange, Record, from_fields
from gateway.core.usage import nano_usd
from gateway.store.loss_accounting import Delivery, delivery

KINDS = ("gateway", "consumer", "server", "both")


def moments_of(seed: int, n: int, kills: int) -> dict[int, str]:
    rng = random.Random(seed)
    whats = [KINDS[i % len(KINDS)] for i in range(kills)]
    rng.shuffle(whats)
    return dict(zip(sorted(rng.sample(range(n // 10, n * 9 // 10), kills)), whats, strict=True))


async def check(flows: Any, flow: Any, capsys: pytest.CaptureFixture[str], title: str) -> None:
    records: list[Record] = [from_fields(fields) for fields in await flow.kept()]
    kept = {r.id: r for r in records if isinstance(r, Exchange)}
    await flow.finish(flows.NAME, flow.store, lambda: flows.is_closed(flow.store, len(kept)))
    assert {i for (i,) in flows.rows(flow.store, "SELECT id FROM exchanges")} == set(kept), "stored is what was kept"

    other = f"sqlite:///{flow.directory / 'undisturbed.db'}"
    corridor = flow.corridor("undisturbed")
    await corridor.append([r.to_fields() for r in records])
    await corridor.aclose()
    await flow.finish("undisturbed", other, lambda: flows.is_closed(other, len(kept)))
    assert flows.sums(flow.store) == flows.sums(other), "and the sums are those of an undisturbed run"
    assert flows.read(other, delivery).unaccounted == 0, "no kill left a hole in what one gateway appended"

    check_usage(flows, flow, records, kept.values())
    stood: Delivery = flows.read(flow.store, delivery)
    assert stood.unaccounted == 0
    assert "stream_lost" not in stood.lost, "a killed server has lost nothing that it acknowledged"
    for incarnation, tally in flows.newest(records).items():
        if tally.final:
            its = sum(e.incarnation == incarnation for e in kept.values())
            assert sum(c.n for c in tally.enqueued) == its, "acknowledged is kept"
    lost, bound = set(flow.answered) - set(kept), flows.unseen(flow, records)
    counted = stood.lost.get("gateway_lost", 0)
    assert counted <= len(lost) + flows.CLIENTS * len(flow.gateway_deaths), (
        "calls under way are taken, and answer nobody"
    )
    assert len(lost) <= counted + bound
    with capsys.disabled():
        sys.stdout.write(
            f"\n{title}: killed {', '.join(flow.kills)}; {len(flow.answered)} answered, {len(kept)} stored, "
            f"{counted} counted as gateway_lost, {max(0, len(lost) - counted)} not seen by anybody (bound {bound}) "
        )


def check_usage(flows: Any, flow: Any, records: list[Record], kept: Collection[Exchange]) -> None:
    """The usage of a gateway that stopped in order is that of its calls, all of which were sampled."""
    query = "SELECT incarnation, sum(calls), sum(input_tokens), sum(output_tokens), sum(nano_usd) FROM usage GROUP BY 1"
    stored = {row[0]: row[1:] for row in flows.rows(flow.store, query)}
    prices = prices_of(flow.config)
    for incarnation, tally in flows.newest(records).items():
        its = [e for e in kept if e.incarnation == incarnation]
        if tally.final and its:
            assert stored[incarnation][0] == sum(c.n for c in tally.seen) == len(its)
            used = [(e.target, e.usage) for e in its if e.usage is not None]
            assert len(used) == len(its)
            usd = [nano_usd(prices.cost(target, usage) or 0.0) for target, usage in used]
            tokens = sum(u.input_tokens for _, u in used), sum(u.output_tokens for _, u in used)
            assert stored[incarnation][1:] == (*tokens, sum(usd))


@pytest.fixture
def disturbed(program: str, servers: Any, flows: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs traffic while the stream server, gateways and consumers are killed, and checks what remains."""

    async def run(seed: int, n: int, kills: int) -> None:
        with servers.directory() as directory:
            *ports, stream = servers.free_ports(3)
            # With everysec a write waits while a sync is under way: a kill then takes what was acknowledged meanwhile.
            node = servers.Node(program, stream, directory / "stream", appendfsync="no").start()
            # Nothing is trimmed while others read too: so at the end the stream tells what the server kept.
            node.ask("XGROUP", "CREATE", f"{flows.NAME}:exchanges", "others", "0", "MKSTREAM")
            try:
                async with flows.flowing(node, {"url": node.url}, ports, directory, n) as flow:
                    async with asyncio.timeout(60 + n / 20):
                        await flow.run(moments_of(seed, n, kills))
                    await flow.stop_gateway()
                    await flow.consumer.kill()
                    await check(flows, flow, capsys, f"seed {seed}")
            finally:
                node.kill()

    return run


@pytest.mark.timeout(180)
async def test_after_random_kills_the_store_holds_each_entry_once(disturbed, program):
    """A seed for each program: each is one run of all programs, from start to end."""
    await disturbed(len(program) % 7, 2_000, 4)


@pytest.mark.long
@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("seed", range(100, 112))
async def test_the_same_with_twenty_thousand_and_many_kills(disturbed, seed):
    await disturbed(seed, 20_000, 12)


def test_the_moments_are_those_of_the_seed():
    assert moments_of(1, 2_000, 3) == moments_of(1, 2_000, 3) != moments_of(2, 2_000, 3)
    assert Counter(moments_of(5, 20_000, 8).values()) == dict.fromkeys(KINDS, 2)
