"""`gateway replay` from the dataset to the reports: opens a gateway, runs the job, reads the store back."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from gateway.config.config import Config
from gateway.config.derive import prices_of
from gateway.core.conversation import turns
from gateway.core.errors import CannotRun
from gateway.features.gateway_choice import GatewayLocation, Say, reached, store_of
from gateway.features.replay.datasets.datasets import Dataset
from gateway.features.replay.design import ReplayDesign
from gateway.features.replay.options import (
    ERROR_RATE,
    RayAddress,
    ReplayOptions,
    check_reuse,
    check_runs,
    metrics,
    name_of,
    preferring,
    question_of,
    rows_of,
    sections,
    single,
)
from gateway.features.replay.results.by_run import run_reports
from gateway.features.replay.results.findings import ReplayAnswers, ReportScope, examples_of, reports
from gateway.features.replay.results.sheet import TargetSummary, fill_preferences, sheet, summarize
from gateway.features.replay.rows import Replay, ReplayStore, alike_answers, outcomes, scored, texts
from gateway.features.replay.run_turns import RunsReplayed, runs_replayed
from gateway.features.replay.sending.asking import RetryingRequester
from gateway.features.replay.sending.logged_answers import ReusingRequester
from gateway.features.replay.sending.ray_cluster import (
    PooledClient,
    PooledScoring,
    RayWorkers,
    WorkerPool,
    WorkerRequest,
    WorkerSetup,
    ray_workers,
    sent_away,
)
from gateway.features.replay.sending.run import (
    AnswerScoring,
    LocalScoring,
    PairScoring,
    ReplayJob,
    ReplayProgress,
    ReplayRun,
    ReplayStopped,
    against,
)
from gateway.reports.model import Report
from gateway.runtime.tasks import cancel_on_signal
from gateway.scoring.asker import ExternalServices
from gateway.scoring.http_client import GatewayClient, HttpConnections
from gateway.scoring.registry import BuiltScorers, RegisteredScorer, build_all, close_all
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.warnings import config_mistakes, config_warnings
from gateway.store.query import reading
from gateway.store.store import StoreDown, WriteRejected

Watch = Callable[[ReplayProgress], None]


@dataclass(frozen=True, slots=True)
class Workplace:
    """The place where requests are sent and answers are scored."""

    requester: RetryingRequester
    pool: WorkerPool | None = None
    """The workers; None if everything is done in this process."""
    remote: frozenset[str] = frozenset()
    """The scorers that the pool computes."""

    def scoring(self, threads: ScoringThreads) -> AnswerScoring:
        here = LocalScoring(threads)
        return here if self.pool is None else PooledScoring(self.pool, self.remote, here)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    progress: ReplayProgress
    question: ReportScope
    targets: tuple[TargetSummary, ...]
    reports: tuple[Report, ...]
    """One for each candidate; empty if there is one target."""
    runs: RunsReplayed | None = None
    """Runs whose turns the rows are; None if they are not of recorded runs."""


async def replay(
    dataset: Dataset, options: ReplayOptions, location: GatewayLocation, say: Say, watch: Watch
) -> ReplayResult:
    """Sends the requests without a stored answer, and reports. say: for notes; watch: called after every answer.

    Raises CannotRun and its subclasses, and ConfigError.
    """
    check_reuse(options, dataset)
    price = check_runs(options, dataset)
    if price is not None:
        errors = {g.metric: g.margin for g in (ERROR_RATE, *options.guardrails)}[ERROR_RATE.metric]
        say(price.described(options.margin, options.alpha / max(1, price.targets - 1), errors))
    async with opened(dataset, options, location, say) as (job, workplace):
        question = question_of(options, dataset, metrics(job.scorers, job.pairs))
        progress = await run_job(job, workplace, location, watch)
    if options.reuse_control:
        say(f"{progress.reused} answers of {job.design.targets[0].name} were taken from recorded calls by this run")
    found = _reported(job, question, progress, store_of(location), by_run=price is not None)
    return (
        found if price is None else replace(found, runs=runs_replayed(job, price, found.question, store_of(location)))
    )


@asynccontextmanager
async def opened(
    dataset: Dataset, options: ReplayOptions, location: GatewayLocation, say: Say
) -> AsyncIterator[tuple[ReplayJob, Workplace]]:
    """The job, and the place where it runs, with a gateway that answers, while the context is open."""
    async with (
        reached(location, options.targets, say, options.settings) as (gateway, targets),
        HttpConnections() as connections,
    ):
        client, prices = GatewayClient(gateway.base_url, gateway.api_key, connections), prices_of(location.config)
        outside = ExternalServices(connections, client, prices, directory=location.path.parent)
        built = build_all(sections(options, dataset, location.config), outside)
        _check_judges(location.config, built, say)
        design = ReplayDesign(dataset.hash, targets, options.settings, options.reuse_control)
        name, rows, pairs = name_of(dataset, design.hash), rows_of(options, dataset), preferring(built)
        scorers, compared = single(options, built), against(pairs, targets[0].name)
        job = ReplayJob(name, dataset, design, rows, options.repeats, scorers, options.pace, compared)
        try:
            if options.on is None:
                yield job, Workplace(RetryingRequester(client, options.pace, prices))
                return
            setup = WorkerSetup(gateway.base_url, sent_away(sections(options, dataset, location.config), job.scorers))
            wanted = WorkerRequest(options.on, gateway, setup, options.pace.concurrency)
            async with ray_workers(wanted, job.scorers, say) as workers:
                say(_split(options.on, workers, job.scorers))
                away = RetryingRequester(PooledClient(workers.pool), options.pace, prices)
                yield job, Workplace(away, workers.pool, workers.scorers)
        finally:
            await close_all(built)


def _split(on: RayAddress, workers: RayWorkers, scorers: Mapping[str, RegisteredScorer]) -> str:
    here = sorted(scorers.keys() - workers.scorers)
    noted = f"asking from {workers.pool.size} workers of {on}"
    return f"{noted}; scored in this process: {', '.join(here)}" if here else noted


def _check_judges(config: Config, built: BuiltScorers, say: Say) -> None:
    """Notes every judge of the same family as a target. Raises CannotRun for a judge that no model serves."""
    if wrong := config_mistakes(config, built):
        raise CannotRun("\n".join(wrong))
    for caution in config_warnings(config, built):
        say(f"caution: {caution}")


async def run_job(job: ReplayJob, workplace: Workplace, location: GatewayLocation, watch: Watch) -> ReplayProgress:
    """Runs the job to its end in the store of the config. Raises CannotRun."""
    this = asyncio.current_task()
    assert this is not None  # noqa: S101 - a coroutine that runs has a task
    cancel_on_signal(this)
    threads = ScoringThreads()
    try:
        async with ReplayStore(store_of(location)) as store:
            design = job.design
            await store.begin(Replay(job.name, job.dataset.name, design.dataset, design.hash, design.json, time.time()))
            requester = workplace.requester
            asks = ReusingRequester(store, requester, design.targets[0]) if design.reuse_control else requester
            run = ReplayRun(job, store, asks, workplace.scoring(threads), watch)
            try:
                progress = await run.run()
                await PairScoring(job, store, threads).run()
                progress.reused = asks.reused if isinstance(asks, ReusingRequester) else 0
                return progress
            except asyncio.CancelledError:
                done = run.progress.before + run.progress.done - run.progress.failed
                raise CannotRun(
                    f"stopped with {done} of {job.total} answers stored; the same command continues from there"
                ) from None
            except ReplayStopped as error:
                raise ReplayStopped(
                    f"{error}. The answers so far are stored; the same command continues from there"
                ) from None
    except (StoreDown, WriteRejected) as error:
        raise CannotRun(f"{error}. The same command continues from what is stored") from error
    finally:
        threads.close()


def _reported(
    job: ReplayJob, question: ReportScope, progress: ReplayProgress, store: str, *, by_run: bool
) -> ReplayResult:
    alone = {name: (r.scorer.version, r.config_hash) for name, r in job.scorers.items()}
    versions = alone | {name: (r.scorer.version, r.config_hash) for name, r in job.pairs.items()}
    targets = [t.name for t in job.design.targets]
    with reading(store) as connection:
        times: list[float] = []
        answers = (times.append(a.asked) or a for a in outcomes(connection, job.name))  # type: ignore[func-returns-value]
        scores = sheet((job.rows, job.repeats), targets, versions, answers, scored(connection, job.name))
        fill_preferences(scores, question.metrics)
        question = replace(
            question,
            name=job.name,
            design=job.design.hash,
            versions=tuple((name, version) for name, (version, _) in versions.items()),
            created=time.time(),
            first=min(times, default=None),
            last=max(times, default=None),
        )
        wanted = sorted({number for numbers in examples_of(scores, question).values() for number in numbers})
        stored_texts = texts(connection, job.name, wanted)
        same = {each: alike_answers(connection, job.name, targets[0], each) for each in targets[1:]}
    questions = _questions(job, wanted)
    shown_answers = {(key.item, key.target): text for key, text in stored_texts.items() if key.repeat == 1}
    summaries = tuple(summarize(scores, target, question.metrics, question.alpha) for target in targets)
    answered = ReplayAnswers(questions, shown_answers, same)
    found = (run_reports if by_run else reports)(scores, question, answered)
    return ReplayResult(progress, question, summaries, found)


def _questions(job: ReplayJob, wanted: Sequence[int]) -> dict[int, str]:
    last = max(wanted, default=0)
    found = {}
    for item in job.items() if last else ():
        if item.number in wanted:
            conversation = turns(orjson.dumps(item.request))
            found[item.number] = "\n\n".join(t if role == "user" else f"[{role}] {t}" for role, t in conversation)
        if item.number >= last:
            break
    return found


_CHUNK = 500


async def write_references(
    dataset: Dataset, options: ReplayOptions, location: GatewayLocation, say: Say, watch: Watch
) -> Path:
    """Asks the one target of the options, and writes DATASET.with-references.jsonl next to the dataset.

    Rows without an answer have no reference. Raises what replay() raises.
    """
    async with opened(dataset, options, location, say) as (job, workplace):
        job = replace(job, scorers={}, pairs={})
        await run_job(job, workplace, location, watch)
    path = dataset.path.with_name(f"{dataset.path.stem}.with-references.jsonl")
    written = _write(job, store_of(location), path)
    if written < job.rows:
        say(f"{job.rows - written} of {job.rows} rows have no answer and so no reference")
    return path


def _write(job: ReplayJob, store: str, path: Path) -> int:
    """The number of rows with a reference. The file gets its name only when it is complete."""
    [target] = job.design.targets
    part = path.with_suffix(".part")
    known = 0
    with reading(store) as connection, part.open("wb") as file:
        for chunk in job.chunks(_CHUNK):
            answers = texts(connection, job.name, [item.number for item in chunk])
            own = {key.item: text for key, text in answers.items() if (key.target, key.repeat) == (target.name, 1)}
            for item in chunk:
                reference = own.get(item.number) or None
                known += reference is not None
                file.write(replace(item, reference=reference).canonical() + b"\n")
    os.replace(part, path)
    return known
