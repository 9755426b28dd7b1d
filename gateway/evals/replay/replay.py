"""`gateway replay`, whole: a dataset, a gateway, the asking, the scores, the reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import orjson

from gateway.config.loading import Config
from gateway.config.prices import prices_of
from gateway.evals.experiments.report import Report
from gateway.evals.http_client import Client, Connections
from gateway.evals.replay.asking import Asker
from gateway.evals.replay.datasets import Dataset
from gateway.evals.replay.design import Design
from gateway.evals.replay.gateway_choice import Place, Say, reached, store_of
from gateway.evals.replay.options import Options, WrongOption, metrics, name_of, question_of, rows_of, sections, single
from gateway.evals.replay.report import Question, Said, examples_of, reports
from gateway.evals.replay.run import Job, Progress, Run, Stopped
from gateway.evals.replay.sheet import sheet
from gateway.evals.replay.targets import Standing, standing
from gateway.evals.reports.samples import turns
from gateway.evals.scoring.asker import Outside
from gateway.evals.scoring.registry import Built, build_all, close_all
from gateway.evals.scoring.threads import Threads
from gateway.evals.scoring.warnings import cautions, mistakes
from gateway.evals.store.query import reading
from gateway.evals.store.replays import Replay, Replays, outcomes, scored, texts
from gateway.evals.store.store import Refused, StoreDown
from gateway.runtime.child import CannotRun
from gateway.runtime.supervisor import cancel_when_told

Watch = Callable[[Progress], None]


class Interrupted(CannotRun):
    """Ctrl-C; what was answered is stored."""


class NotStored(CannotRun):
    """The store could not be written."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it. reports: one for each candidate; none where there is one target."""

    progress: Progress
    question: Question
    targets: tuple[Standing, ...]
    reports: tuple[Report, ...]


async def replay(dataset: Dataset, options: Options, place: Place, say: Say, watch: Watch) -> Replayed:
    """Asks what is not asked yet, and reports. say: notes on the way; watch: told after every answer.

    Raises CannotRun in its many kinds, ConfigError, StoreDown and Refused.
    """
    async with opened(dataset, options, place, say) as (job, asker):
        question = question_of(options, dataset, metrics(job.scorers))
        progress = await carried_out(job, asker, place, watch)
    return _reported(job, question, progress, store_of(place))


@asynccontextmanager
async def opened(dataset: Dataset, options: Options, place: Place, say: Say) -> AsyncIterator[tuple[Job, Asker]]:
    """A gateway that answers, and the job that it is to do."""
    async with reached(place, options.targets, say) as (gateway, targets), Connections() as connections:
        client, prices = Client(gateway.base_url, gateway.api_key, connections), prices_of(place.config)
        outside = Outside(connections, client, prices, directory=place.path.parent)
        built = build_all(sections(options, dataset, place.config), outside)
        _look_at(place.config, built, say)
        design = Design(dataset.hash, targets, options.settings)
        try:
            yield (
                Job(
                    name=name_of(dataset, design.hash), dataset=dataset, design=design, rows=rows_of(options, dataset),
                    repeats=options.repeats, scorers=single(options, built), pace=options.pace,
                ),
                Asker(client, options.pace, prices),
            )  # fmt: skip
        finally:
            await close_all(built)


def _look_at(config: Config, built: Built, say: Say) -> None:
    """Judges that nobody serves are a mistake; one of the family of what it judges is said. Raises WrongOption."""
    if wrong := mistakes(config, built):
        raise WrongOption("\n".join(wrong))
    for caution in cautions(config, built):
        say(f"caution: {caution}")


async def carried_out(job: Job, asker: Asker, place: Place, watch: Watch) -> Progress:
    """Runs the job to its end, in the store of the config. Raises Interrupted, and what Run raises."""
    this = asyncio.current_task()
    assert this is not None  # noqa: S101 - a coroutine that runs has a task
    cancel_when_told(this)
    threads = Threads()
    try:
        async with Replays(store_of(place)) as store:
            design = job.design
            await store.begin(Replay(job.name, job.dataset.name, design.dataset, design.hash, design.json, time.time()))
            run = Run(job, store, asker, threads, watch)
            try:
                return await run.run()
            except asyncio.CancelledError:
                done = run.progress.before + run.progress.done - run.progress.failed
                raise Interrupted(
                    f"stopped with {done} of {job.total} answers stored; the same command goes on from there"
                ) from None
            except Stopped as error:
                raise Stopped(f"{error}. What was answered is stored; the same command goes on from there") from None
    except (StoreDown, Refused) as error:
        raise NotStored(f"{error}. The same command goes on from what is stored") from error
    finally:
        threads.close()


def _reported(job: Job, question: Question, progress: Progress, store: str) -> Replayed:
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
    return Replayed(progress, question, alone, reports(made, question, Said(questions, answers_said)))


def _questions(job: Job, wanted: Sequence[int]) -> dict[int, str]:
    last = max(wanted, default=0)
    found = {}
    for item in job.items() if last else ():
        if item.number in wanted:
            said = turns(orjson.dumps(item.request))
            found[item.number] = "\n\n".join(text if who == "user" else f"[{who}] {text}" for who, text in said)
        if item.number >= last:
            break
    return found
