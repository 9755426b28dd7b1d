"""`gateway demo`: the planted models, `gateway up` and traffic in one process tree, until Ctrl-C or the verdict.

The verdict is that of the product on this traffic. Nothing of its rules is left out but the hours (`min_hours: 0`).
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from gateway.core.errors import CannotRun
from gateway.demo import planted
from gateway.demo.story import Story, Watch, kept_names, searched_enough, tell_verdict
from gateway.demo.traffic import Traffic
from gateway.fake import FakeUpstream, Received
from gateway.reports.model import Report
from gateway.reports.number_format import dollars
from gateway.runtime.child import gateway_argv
from gateway.runtime.tasks import Tasks
from gateway.up.up import RunningGateway, UpOptions, run
from gateway.verdict.decision import SHIPS

DATA = ".gateway"
_PARALLEL = 8
_OWN_MODELS = """
The same with your own models:

  # finds model servers and API keys, and writes gateway.yaml
  {0} up
  # writes the experiment: may the cheaper model take over? It prints a NAME
  {0} ab draft UPSTREAM/MODEL --successor CHEAPER --write
  # starts it; then: {0} report NAME
  {0} ab start NAME
"""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    folder: Path
    """Folder of gateway.yaml and of the data."""
    port: int
    fast: bool = False
    """Send calls faster, and end with the verdict."""
    command: str = "gateway"
    """The command by which the user runs this installation."""


async def demo(options: DemoOptions, say: Callable[[str], None]) -> Report | None:
    """Returns the report with the verdict; None: stopped before. Raises CannotRun, with the last lines of a program
    that cannot start, or with what does not move."""
    this = asyncio.current_task()
    assert this is not None  # noqa: S101 - a coroutine that runs has a task
    story = Story(say, stopping=lambda: this.cancelling() > 0)
    ends: list[Report | CannotRun] = []
    async with FakeUpstream(remember=False) as models, Tasks() as tasks:
        models.replies(_planted)
        _introduce(story)
        _write_config(options.folder, models.base_url)

        async def act(gateway: RunningGateway) -> None:
            try:
                ends.append(await _act(options, gateway, story))
            except CannotRun as error:
                ends.append(error)
            this.cancel()

        up = UpOptions(options.folder / DATA, options.folder / "gateway.yaml", port=options.port)

        def ready(gateway: RunningGateway) -> None:
            tasks.start(act(gateway), "demo")

        await run(up, story.tell_always, ready)
    for end in ends:
        if isinstance(end, CannotRun):
            raise end
        return end
    return None


def _planted(received: Received) -> str:
    body = received.json
    return planted.answer(str(body["model"]), str(body["messages"][-1]["content"]))


def _introduce(story: Story) -> None:
    prices = [
        f"{model} ({dollars(price['input'])} in, {dollars(price['output'])} out)"
        for model, price in planted.PRICES.items()
    ]
    story.tell(f"two scripted models: {' and '.join(prices)}, per million tokens")
    story.tell("nothing is downloaded, and no key is needed; starting the gateway takes a while on a busy machine")


def _write_config(folder: Path, base_url: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(planted.config(base_url), sort_keys=False)
    (folder / "gateway.yaml").write_text(text, encoding="utf-8")


async def _act(options: DemoOptions, gateway: RunningGateway, story: Story) -> Report:
    """Sends traffic and tells what comes of it. Returns only with `fast`."""
    story.tell(f"the gateway listens at {gateway.base_url}; its config is {gateway.config}")
    story.tell(f"watch it in the browser: {gateway.login_url}")
    story.tell(
        f"may {planted.CANDIDATE} replace {planted.CONTROL}? It gets a copy of each call, after the answer was sent"
    )
    traffic = Traffic(gateway, parallel=_PARALLEL, pause_s=0.1 if options.fast else 0.3)
    async with Tasks() as tasks:
        tasks.start(traffic.send(story.tell), "traffic")
        watch = Watch(options.folder / DATA, traffic, story)
        report = await watch.until(lambda report: report.verdict != "hold")
        tell_verdict(report, story)
        if not options.fast:
            if report.verdict in SHIPS:
                await _ramp(watch, report, gateway)
            story.say(_OWN_MODELS.format(options.command))
            story.tell(f"{planted.CANDIDATE} serves; traffic goes on until Ctrl-C, which stops everything")
            await asyncio.Event().wait()
    story.say(_OWN_MODELS.format(options.command))
    return report


async def _ramp(watch: Watch, report: Report, gateway: RunningGateway) -> None:
    """Lets the candidate take over: agrees to what stays with the control, and follows the steps."""
    kept = kept_names(report)
    if kept:
        watch.story.tell("its ramp first searches for weak spots that nobody declared")
        await watch.until(searched_enough)
        excepted = [word for name in kept for word in ("--except", name)]
        words = ("ab", "promote", planted.EXPERIMENT, *excepted, "--reason", "agreed in the demo")
        watch.story.tell(f"it then waits for a person; the demo agrees: gateway {shlex.join(words)}")
        await run_verb(*words, "--config", str(gateway.config), "--data", str(gateway.data))
    ended = await watch.until(lambda report: report.ramp is not None and report.ramp.state not in ("shadow", "ramp"))
    if ended.ramp is None or ended.ramp.state != "promoted":
        raise CannotRun(f"the ramp ended before {planted.CANDIDATE} took over; the log is {gateway.log}")


async def run_verb(*words: str) -> None:
    """Runs a verb of this installation. Raises CannotRun, with its last lines, if it fails."""
    process = await asyncio.create_subprocess_exec(
        *gateway_argv(*words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        lines = output.decode("utf-8", "replace").strip().splitlines()[-12:]
        raise CannotRun("\n  ".join([f"gateway {words[0]} ended with {process.returncode}; its output:", *lines]))
