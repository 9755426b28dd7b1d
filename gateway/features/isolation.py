"""Isolation of work in a consumer: what raises, hangs or is slow stops itself with its reason, and nothing else waits.

A piece of work has a name and takes steps: a feature's task, an experiment, a ramp, a figure of Prometheus. A step that
raises, or makes no progress before its deadline, has failed; after some failures in a row the work is stopped. An
outage of the stream server or the store is nobody's failure, but a wrong statement is. What is stopped is in this
consumer's report, from which `gateway status`, the console, /health and a notice name it. It begins again with a
consumer that starts, or when its token changes.

A deadline ends what awaits something, and a QueryBudget of the store what queries. Python that computes without either
is not interrupted: its step counts as failed, and its thread goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from gateway.core.errors import StreamDown
from gateway.core.plan import StoredPlan
from gateway.runtime.tasks import Tasks
from gateway.store.store import QueryBudget, QueryMistake, QueryTooSlow, StoreDown
from gateway.stream import Corridor

log = logging.getLogger(__name__)
T = TypeVar("T")

RESTART = "restart the consumer once its cause is mended"
MOST_REASON = 300
"""Characters of a reason."""


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """Bounds of work before it is stopped."""

    tries: int = 3
    """Failures in a row after which work is stopped."""
    failing_s: float = 60.0
    """Seconds that they must span: a fault of a moment stops nothing."""
    deadline_s: float = 600.0
    """Seconds without progress after which a step has failed."""
    retry_s: float = 5.0
    """Seconds until the next try of a task that has failed."""
    patience_s: float = 2.0
    """Seconds for which a step is waited for before others go on without it."""
    queries: QueryBudget = field(default_factory=QueryBudget)


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of work."""

    name: str
    """Name for people, such as "experiment swap"."""
    resume: str = RESTART
    """Instruction for people to begin it again."""
    token: object = None
    """Work that was stopped begins again with another token; None: the known one."""


@dataclass(frozen=True, slots=True)
class StoppedWork:
    """Work that was stopped."""

    why: str
    """The newest failure; an error of a scorer may quote an answer."""
    kind: str
    """The failure without any text of an answer: the name of the error, or that time has run out."""
    resume: str
    at: float
    """Unix seconds."""


@dataclass(slots=True)
class _Failures:
    """Failures of work in a row."""

    token: object
    tries: int = 0
    since: float = 0.0
    stopped: StoppedWork | None = None


class IsolatedWork:
    """The work of one consumer. tasks: hold steps that others do not wait for. clock: Unix seconds. pace: monotonic."""

    def __init__(
        self,
        tasks: Tasks | None = None,
        limits: WorkLimits | None = None,
        clock: Callable[[], float] = time.time,
        pace: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits or WorkLimits()
        self._tasks = tasks or Tasks()
        self._clock, self._pace = clock, pace
        self._failures: dict[str, _Failures] = {}
        self._deadlines: dict[str, asyncio.Timeout] = {}
        self._running: dict[str, asyncio.Task[Any]] = {}

    def stopped(self) -> Mapping[str, StoppedWork]:
        """The work that is stopped, by name. May be called on any thread."""
        return {name: of.stopped for name, of in list(self._failures.items()) if of.stopped is not None}

    def is_stopped(self, work: Work) -> bool:
        """Whether the work is stopped. Another token begins it again."""
        known = self._failures.get(work.name)
        if known is not None and work.token is not None and known.token != work.token:
            del self._failures[work.name]
            return False
        return known is not None and known.stopped is not None

    def is_failing(self, work: Work) -> bool:
        """Whether its newest step has failed."""
        return work.name in self._failures

    def progress(self, work: Work) -> None:
        """Notes that a step goes on: its deadline begins again."""
        if (deadline := self._deadlines.get(work.name)) is not None and not deadline.expired():
            deadline.reschedule(asyncio.get_running_loop().time() + self.limits.deadline_s)

    async def attempt(self, work: Work, step: Callable[[], Awaitable[T]], *, endless: bool = False) -> T | None:
        """Takes a step of work; None if it is stopped, or fails. endless: the step has no deadline.

        Raises StreamDown and StoreDown.
        """
        if self.is_stopped(work):
            return None
        try:
            async with asyncio.timeout(None if endless else self.limits.deadline_s) as deadline:
                self._deadlines[work.name] = deadline
                done = await step()
        except QueryMistake as error:
            self.failed(work, error)
        except (StreamDown, StoreDown):
            raise
        except TimeoutError as error:
            late = deadline.expired()
            self.failed(work, TimeoutError(f"no progress within {self.limits.deadline_s:g} s") if late else error)
        except Exception as error:
            self.failed(work, error)
        else:
            self._failures.pop(work.name, None)
            return done
        finally:
            self._deadlines.pop(work.name, None)
        return None

    def failed(self, work: Work, error: Exception) -> None:
        """Counts a failure, and stops the work after too many in a row."""
        now = self._pace()
        of = self._failures.setdefault(work.name, _Failures(work.token, since=now))
        of.tries += 1
        if of.tries == 1:
            log.error("%s: a step failed; retrying", work.name, exc_info=error)
        if of.stopped is None and of.tries >= self.limits.tries and now - of.since >= self.limits.failing_s:
            why = str(error)
            named = why if isinstance(error, QueryTooSlow | TimeoutError) else f"{type(error).__name__}: {why}"
            kind = why if isinstance(error, QueryTooSlow | TimeoutError) else type(error).__name__
            of.stopped = StoppedWork(named[:MOST_REASON], kind[:MOST_REASON], work.resume, self._clock())
            log.error("%s is stopped after %d failures: %s; %s", work.name, of.tries, kind, work.resume)

    def succeeded(self, work: Work) -> None:
        """Forgets the failures of work whose steps are not taken by `attempt`."""
        self._failures.pop(work.name, None)

    async def alongside(
        self, steps: Iterable[tuple[Work, Callable[[], Coroutine[Any, Any, object]]]], patience_s: float | None = None
    ) -> None:
        """Takes the steps at the same time. One that lasts longer than `patience_s` goes on alone, and the next one of
        its work is left out meanwhile. An outage is left to others to report."""
        begun = [self._begin(work, step) for work, step in steps if work.name not in self._running]
        if begun:
            await asyncio.wait(begun, timeout=self.limits.patience_s if patience_s is None else patience_s)

    def _begin(self, work: Work, step: Callable[[], Coroutine[Any, Any, object]]) -> asyncio.Task[Any]:
        async def run() -> None:
            try:
                await self.attempt(work, step)
            except (StreamDown, StoreDown) as error:
                log.debug("%s: %s", work.name, error)
            finally:
                del self._running[work.name]

        task = self._running[work.name] = self._tasks.start(run(), work.name)
        return task

    async def aclose(self) -> None:
        """Ends what still runs."""
        await self._tasks.aclose()


async def stop_plan(corridor: Corridor, plan: StoredPlan, why: StoppedWork, now: float) -> None:
    """Stops a plan whose work is stopped."""
    known = (await corridor.state.plans()).get(plan.plan.name)
    if known is None or not known.running or known.plan.hash != plan.hash:
        return
    if await corridor.state.set_plan(replace(known, state="stopped", since=now, unpaced=False, more=0), known):
        log.error("experiment %s stops, as its work fails: %s; %s", plan.plan.name, why.kind, why.resume)
