"""`gateway replay`, whole: a dataset, a gateway, the asking, the scores, the reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import orjson

from gateway.config.derive import prices_of
from gateway.config.models import Config
from gateway.core.conversation import turns
from gateway.core.errors import CannotRun
from gateway.evals.experiments.report import Report
from gateway.evals.http_client import GatewayClient, HttpConnections
from gateway.evals.replay.asking import RetryingRequester
from gateway.evals.replay.compare import TargetSummary, standing
from gateway.evals.replay.datasets import Dataset
from gateway.evals.replay.design import ReplayDesign
from gateway.evals.replay.gateway_choice import GatewayLocation, Say, reached, store_of
from gateway.evals.replay.options import (
    OptionError,
    ReplayOptions,
    metrics,
    name_of,
    question_of,
    rows_of,
    sections,
    single,
)
from gateway.evals.replay.report import ReplayAnswers, ReportScope, examples_of, reports
from gateway.evals.replay.run import ReplayJob, ReplayProgress, ReplayRun, ReplayStopped
from gateway.evals.replay.sheet import sheet
from gateway.evals.scoring.asker import ExternalServices
from gateway.evals.scoring.registry import BuiltScorers, build_all, close_all
from gateway.evals.scoring.threads import ScoringThreads
from gateway.evals.scoring.warnings import config_mistakes, config_warnings
from gateway.evals.store.query import reading
from gateway.evals.store.replays import Replay, ReplayStore, outcomes, scored, texts
from gateway.evals.store.store import StoreDown, WriteRejected
from gateway.runtime.tasks import cancel_on_signal

Watch = Callable[[ReplayProgress], None]


class Interrupted(CannotRun):
    """Ctrl-C; what was answered is stored."""


class StoreWriteFailed(CannotRun):
    """The store could not be written."""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What came of it. reports: one for each candidate; none where there is one target."""

    progress: ReplayProgress
    question: ReportScope
    targets: tuple[TargetSummary, ...]
    reports: tuple[Report, ...]


async def replay(
    dataset: Dataset, options: ReplayOptions, place: GatewayLocation, say: Say, watch: Watch
) -> ReplayResult:
    """Asks what is not asked yet, and reports. say: notes on the way; watch: told after every answer.

    Raises CannotRun in its many kinds, ConfigError, StoreDown and Refused.
    """
    async with opened(dataset, options, place, say) as (job, asker):
        question = question_of(options, dataset, metrics(job.scorers))
        progress = await carried_out(job, asker, place, watch)
    return _reported(job, question, progress, store_of(place))


@asynccontextmanager
async def opened(
    dataset: Dataset, options: ReplayOptions, place: GatewayLocation, say: Say
) -> AsyncIterator[tuple[ReplayJob, RetryingRequester]]:
    """A gateway that answers, and the job that it is to do."""
    async with reached(place, options.targets, say) as (gateway, targets), HttpConnections() as connections:
        client, prices = GatewayClient(gateway.base_url, gateway.api_key, connections), prices_of(place.config)
        outside = ExternalServices(connections, client, prices, directory=place.path.parent)
        built = build_all(sections(options, dataset, place.config), outside)
        _look_at(place.config, built, say)
        design = ReplayDesign(dataset.hash, targets, options.settings)
        try:
            yield (
                ReplayJob(
                    name=name_of(dataset, design.hash), dataset=dataset, design=design, rows=rows_of(options, dataset),
                    repeats=options.repeats, scorers=single(options, built), pace=options.pace,
                ),
                RetryingRequester(client, options.pace, prices),
            )  # fmt: skip
        finally:
            await close_all(built)


def _look_at(config: Config, built: BuiltScorers, say: Say) -> None:
    """Judges that nobody serves are a mistake; one of the family of what it judges is said. Raises WrongOption."""
    if wrong := config_mistakes(config, built):
        raise OptionError("\n".join(wrong))
    for caution in config_warnings(config, built):
        say(f"caution: {caution}")


async def carried_out(job: ReplayJob, asker: RetryingRequester, place: GatewayLocation, watch: Watch) -> ReplayProgress:
    """Runs the job to its end, in the store of the config. Raises Interrupted, and what Run raises."""
    this = asyncio.current_task()
    assert this is not None  # noqa: S101 - a coroutine that runs has a task
    cancel_on_signal(this)
    threads = ScoringThreads()
    try:
        async with ReplayStore(store_of(place)) as store:
            design = job.design
            await store.begin(Replay(job.name, job.dataset.name, design.dataset, design.hash, design.json, time.time()))
            run = ReplayRun(job, store, asker, threads, watch)
            try:
                return await run.run()
            except asyncio.CancelledError:
                done = run.progress.before + run.progress.done - run.progress.failed
                raise Interrupted(
                    f"stopped with {done} of {job.total} answers stored; the same command goes on from there"
                ) from None
            except ReplayStopped as error:
                raise ReplayStopped(
                    f"{error}. What was answered is stored; the same command goes on from there"
                ) from None
    except (StoreDown, WriteRejected) as error:
        raise StoreWriteFailed(f"{error}. The same command goes on from what is stored") from error
    finally:
        threads.close()


def _reported(job: ReplayJob, question: ReportScope, progress: ReplayProgress, store: str) -> ReplayResult:
    versions = {name: (r.scorer.version, r.config_hash) for name, r in job.scorers.items()}
    targets = [t.name for t in job.design.targets]
    with reading(store) as connection:
        times: list[float] = []
        answers = (times.append(a.asked) or a for a in outcomes(connection, job.name))  # type: ignore[func-returns-value]
        made = sheet((job.rows, job.repeats), targets, versions, answers, scored(connection, job.name))
        question = replace(
            question, name=job.name, design=job.design.hash, versions=tuple((n, v) for n, (v, _) in versions.items()),
            created=time.time(), first=min(times, default=None), last=max(times, default=None),
        )  # fmt: skip
        wanted = sorted({number for numbers in examples_of(made, question).values() for number in numbers})
        said = texts(connection, job.name, wanted)
    questions = _questions(job, wanted)
    answers_said = {(key.item, key.target): text for key, text in said.items() if key.repeat == 1}
    alone = tuple(standing(made, target, question.metrics, question.alpha) for target in targets)
    return ReplayResult(progress, question, alone, reports(made, question, ReplayAnswers(questions, answers_said)))


def _questions(job: ReplayJob, wanted: Sequence[int]) -> dict[int, str]:
    last = max(wanted, default=0)
    found = {}
    for item in job.items() if last else ():
        if item.number in wanted:
            said = turns(orjson.dumps(item.request))
            found[item.number] = "\n\n".join(text if who == "user" else f"[{who}] {text}" for who, text in said)
        if item.number >= last:
            break
    return found
