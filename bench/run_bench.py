"""Measures the gateway, nginx as a bare proxy, and every peer that is installed, in one run on the same upstreams.

CPU is user and system time of the whole process tree, from /proc; what is compared is the ratio within each round, and
its median over the rounds. A busy machine still decides: on its upstream's core a system is cheaper,
and cheap ones most. The report says what other programs took; --pin fixes the places. Linux; needs nginx and wrk.

    python bench/run_bench.py
    python bench/run_bench.py --only plain,stream --rounds 5 --peers .peers --svg cpu.svg --json run.json
    python bench/run_bench.py --only agent --markdown docs/contributing/bench.md

The last one renews the section of coding agents' requests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import figures
import scaling
import show
import systems
from agent import AGENT_ROWS
from rows import ROWS, Bench

QUIET = 0.05  # of the machine for other programs
COUNTED = ("calls",)
MEASUREMENTS = ROWS | AGENT_ROWS
GROUPS = {"agent": list(AGENT_ROWS)}
"""Measurements under one name."""


def main() -> None:
    asked = _arguments()
    need(asked.peers)
    signal.signal(signal.SIGTERM, told_to_end)
    signal.signal(signal.SIGINT, told_to_end)  # a shell starts what is in the background with it ignored
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 32_768)), hard))
    bench = Bench(asked.seconds, asked.rounds, systems.peers(asked.peers), note, asked.pin)
    try:
        bench.run({name: MEASUREMENTS[name] for name in asked.only})
    except KeyboardInterrupt:
        note("stopped; everything that was started has ended, and no file was written. What was measured before:")
        say(show.text(bench.rows))
        sys.exit(130)
    _report(asked, bench)
    sys.exit(1 if bench.troubles else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, metavar="N", help="of load in each round (5)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="A B C A B C …; 3 are the fewest that count")
    parser.add_argument("--only", type=_names, default=list(MEASUREMENTS), metavar="NAMES",
                        help=f"some of {','.join(MEASUREMENTS)}; agent: all of that name")  # fmt: skip
    parser.add_argument("--peers", type=Path, metavar="DIR", help="where peers are installed, besides PATH")
    parser.add_argument("--pin", action="store_true", help="each system on one core, upstream and load on the others")
    for form in ("json", "svg", "markdown"):
        parser.add_argument(f"--{form}", type=Path, metavar="FILE", help=f"also write the report as {form}")
    parser.add_argument("--scaling", type=Path, metavar="FILE", help="also put the figures into this page (scaling.md)")
    parser.add_argument("--evidence", type=Path, metavar="FILE", help="also renew the table of this page (evidence.md)")
    asked = parser.parse_args()
    if asked.seconds < 1 or asked.rounds < 1:
        parser.error("--seconds and --rounds are 1 or more")
    if asked.pin and len(os.sched_getaffinity(0)) < 2:
        parser.error("--pin needs two cores")
    return asked


def _names(text: str) -> list[str]:
    wanted = {name for word in text.split(",") for name in GROUPS.get(word, [word])}
    for name in wanted:
        if name not in MEASUREMENTS:
            there = ", ".join([*MEASUREMENTS, *GROUPS])
            raise argparse.ArgumentTypeError(f"no measurement {name!r}; there are {there}")
    return [name for name in MEASUREMENTS if name in wanted]


def need(peers: Path | None) -> None:
    lacks = [name for name in ("wrk", "nginx") if not systems.installed(name)]
    if lacks or not Path("/proc/self/stat").exists():
        note(f"not found: {' and '.join(lacks) or '/proc'}. It runs on Linux, with the packages nginx and wrk")
        sys.exit(2)
    if peers and not peers.is_dir():
        note(f"--peers {peers}: no such directory")
        sys.exit(2)


def told_to_end(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _report(asked: argparse.Namespace, bench: Bench) -> None:
    machine = this_machine()
    versions = _versions(bench)
    caption = _caption(machine, versions, asked, bench)
    say(show.text(bench.rows))
    say(f"\n{caption}\n")
    say("\n".join(show.summary(bench.rows)))
    busy = _busiest(bench)
    if busy > QUIET:
        say(f"not to be quoted: other programs took up to {busy:.0%} of the machine; {QUIET:.0%} is quiet")
    for trouble in bench.troubles:
        say(f"trouble: {trouble}")
    if asked.markdown:
        partly = show.only_agents(bench.rows) and asked.markdown.exists()
        page = show.with_agents(asked.markdown.read_text(), bench.rows, caption) if partly else None
        asked.markdown.write_text(page or show.markdown(bench.rows, caption))
    if asked.json:
        run = {"date": _now(), "seconds": asked.seconds, "rounds": asked.rounds, "pinned": asked.pin}
        run |= {"others_share": bench.others, "quotable": busy <= QUIET}
        found = {"versions": versions, "run": run, **show.as_json(bench.rows)}
        found |= {"troubles": bench.troubles, "configurations": bench.configurations}
        asked.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if asked.scaling:
        _scaling(asked.scaling, machine, bench)
    if asked.evidence:
        place = f"{_now()[:10]}, {machine['cpu']}"
        measured = {row.key: show.medians(row) for row in bench.rows}
        asked.evidence.write_text(figures.renewed(asked.evidence.read_text(), measured, place))
    plain = next((row for row in bench.rows if row.key == "plain" and show.medians(row)), None)
    if asked.svg and plain:
        asked.svg.write_text(show.svg(plain, "one worker each"))


def _scaling(page: Path, machine: dict[str, Any], bench: Bench) -> None:
    found = {row.key: show.medians(row).get(show.OURS) for row in bench.rows if row.key in scaling.NEEDED}
    figures = {key: value for key, value in found.items() if value is not None}
    if len(figures) < len(scaling.NEEDED):
        note(f"{page} is left as it was: not all of {', '.join(scaling.NEEDED)} was measured")
        return
    place = f"{machine['cpu']}, {machine['cores']} shared cores, Python {platform.python_version()}"
    page.write_text(scaling.renewed(page.read_text(), figures, _now()[:10], place))


def _caption(machine: dict[str, Any], versions: dict[str, str], asked: argparse.Namespace, bench: Bench) -> str:
    programs = ", ".join(f"{name} {version}" for name, version in versions.items())
    cores = f"{machine['cores']} cores" if machine["cores"] != 1 else "1 core"
    place = "Systems have a core of their own" if asked.pin else "Nothing is pinned to a core"
    return (
        f"{_now()[:10]}; {machine['cpu']}, {cores}, {machine['memory_gb']} GB, {machine['system']}; {programs}. "
        f"Medians of {asked.rounds} rounds of {asked.seconds} s; ratios are taken within a round. One worker each; the "
        "gateway with 1 000 keys, 50 aliases, routing, metrics, usage, 10 % sampling and an experiment; peers with "
        "routing alone, LiteLLM with a key. Upstreams, Valkey and the load generator run on the same machine and are "
        f"not counted. {place}. Other programs took up to {_busiest(bench):.0%} of the machine."
    )


def _busiest(bench: Bench) -> float:
    """Counts do not depend on what else runs."""
    return max((share for row, share in bench.others.items() if row not in COUNTED), default=0.0)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def this_machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
    }


def _versions(bench: Bench) -> dict[str, str]:
    finished = subprocess.run([str(systems.installed("wrk")), "-v"], capture_output=True, text=True, check=False)
    wrk = (finished.stdout + finished.stderr).split()[1]
    return {s.name: s.version for s in bench.all()} | {"Python": platform.python_version(), "wrk": wrk}


if __name__ == "__main__":
    main()
