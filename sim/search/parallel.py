"""Explore a scenario against many subjects at once, over any `concurrent.futures.Executor`.

Theory of operation
===================

The unit of work is one subject: the scenario's name, the subject's requirement and the settings of the search go out,
a `Report` comes back. All of that is plain data. A scenario holds functions, which do not travel: the worker finds it
by name, and the report comes back without it and gets it again here. What cannot be found by name (a scenario made in
a notebook cell, a subject made by hand) is explored in this process.

Rules for this file:

1. A report is the same whoever made it: here, in a worker, on another machine.
2. Workers of the default pool never outlive this process and never print: each holds the read end of a pipe whose
   write end only this process has, and exits the moment that it is closed. So an interrupt ends them in the middle of
   a run, and so does `kill -9` of this process. They ignore SIGINT, which a terminal sends to everybody.
3. An error of one subject does not stop the others. It is told to `on_error` as it comes, or raised at the end.

Progress travels through a pipe that only the default pool has (one write is smaller than PIPE_BUF, so writers need no
lock that could die with its holder); with an executor of your own, `on_report` is the progress. Start method `spawn`:
a worker imports everything anew, and nothing that this process did leaks in.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs

from sim.errors import SimError, UsageError
from sim.registry import find_scenario, name_of
from sim.search.elsewhere import Elsewhere, find_anywhere
from sim.search.explore import explore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from multiprocessing.connection import Connection

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.explore import Progress
    from sim.search.report import Report


T = TypeVar("T")


@attrs.frozen
class Task:
    """One unit of work. It pickles, and so does what it returns.

    Attributes:
        scenario: a name, or `module:attribute`.
        server: a requirement, or a subject in an environment of its own, for whose process the worker then waits.
        settings: keyword arguments of `explore`.
    """

    scenario: str
    server: str | Elsewhere
    settings: dict[str, Any]

    def __call__(self) -> Report:
        """Search, in whatever process this is. The report comes without its scenario and subject."""
        teller = _teller
        name = self.server if isinstance(self.server, str) else self.server.requirement
        tell = (lambda progress: teller.send((name, progress))) if teller is not None else None
        report = explore(self.scenario, server=self.server, on_progress=tell, **self.settings)
        return strip(report)


def strip(report: Report) -> Report:
    """A report that can travel: without its scenario and subject, which are found again by name."""
    return attrs.evolve(report, scenario=cast("Any", None), subject=None)


def portable(subject: Subject) -> str | Elsewhere:
    """A subject as it travels: by its name, unless that leads to another one."""
    return subject if isinstance(subject, Elsewhere) else subject.requirement


_teller: Connection | None = None
"""In a worker of the default pool: where progress goes. Set once, when the worker begins."""


def explore_many(
    scenario: Scenario | str,
    servers: Sequence[Subject | str],
    *,
    jobs: int | None = None,
    executor: Executor | None = None,
    at_once: int | None = None,
    on_progress: Callable[[str, Progress], None] | None = None,
    on_report: Callable[[Report], None] | None = None,
    on_error: Callable[[str, SimError], None] | None = None,
    **settings: Any,
) -> list[Report]:
    """Explore a scenario against each of `servers`.

    Args:
        scenario: as for `explore`.
        servers: subjects or requirements; each is one unit of work.
        jobs: processes of the default pool; never more than processors and subjects. None: as many as make sense;
            1: this process does the work.
        executor: an executor of your own to spread the work over, such as Dask's `Client.get_executor()`, or a
            `worker_pool` that does other work, too.
        at_once: how many units of work the executor is given at a time, so that work of your own, which `on_report` may
            submit, need not wait behind all of them. None: all.
        on_progress: called with a requirement and its progress; from another thread if there are workers.
        on_report: called with each report as it is finished.
        on_error: called with a requirement and the error that ended its search. None: the first is raised at the end.
        **settings: of the search, as for `explore`.

    Returns:
        The reports in the order of `servers`, without those that ended in an error.

    Raises:
        SimError: the first error, in the order of `servers`, if there is no `on_error`.
    """
    found = find_scenario(scenario) if isinstance(scenario, str) else scenario
    subjects = [find_anywhere(s) if isinstance(s, str) else s for s in servers]
    name = scenario if isinstance(scenario, str) else name_of(found)
    named = [i for i, server in enumerate(servers) if name is not None and isinstance(server, (str, Elsewhere))]
    tasks = {i: Task(str(name), portable(subjects[i]), settings) for i in named}
    tell = on_progress if on_progress is not None else _nobody
    reports: dict[int, Report] = {}
    errors: dict[int, SimError] = {}

    def done(number: int, make: Callable[[], Report]) -> None:
        try:
            report = attrs.evolve(make(), scenario=found, subject=subjects[number])
        except SimError as exc:
            errors[number] = exc
            if on_error is not None:
                on_error(subjects[number].requirement, exc)
        else:
            reports[number] = report
            if on_report is not None:
                on_report(report)

    def search(number: int) -> Report:
        subject = subjects[number]
        return explore(found, server=subject, on_progress=lambda p: tell(subject.requirement, p), **settings)

    processes = processes_for(len(tasks), jobs)
    if tasks and executor is not None:
        _spread(executor, tasks, done, at_once)
    elif processes > 1:
        with worker_pool(processes, on_progress=tell) as pool:
            _spread(pool, tasks, done, at_once)
    else:
        tasks.clear()
    for number in range(len(subjects)):
        if number not in tasks:
            done(number, partial(search, number))
    if errors and on_error is None:
        raise errors[min(errors)]
    return [reports[number] for number in sorted(reports)]


def processes_for(tasks: int, jobs: int | None) -> int:
    """How many processes make sense for so many tasks, if `jobs` were asked for.

    Raises:
        UsageError: `jobs` is not above 0.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs={jobs!r} is not above 0.")
    processors = os.cpu_count() or 1
    return min(jobs if jobs is not None else processors, processors, tasks)


def _spread(
    executor: Executor,
    tasks: Mapping[int, Task],
    done: Callable[[int, Callable[[], Report]], None],
    at_once: int | None,
) -> None:
    """Do the tasks, and hand over each result as it comes."""
    waiting = list(tasks.items())[::-1]
    running: dict[Future[Report], int] = {}
    try:
        while waiting or running:
            with _interrupts_held():
                while waiting and (at_once is None or len(running) < at_once):
                    number, task = waiting.pop()
                    running[executor.submit(task)] = number
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(finished, key=running.__getitem__):
                done(running.pop(future), partial(result_of, future))
    except BaseException:
        for future in running:
            future.cancel()
        raise


def result_of(future: Future[T]) -> T:
    """What a worker has to say.

    Raises:
        SimError: the worker's own, or that it died.
    """
    try:
        return future.result()
    except BrokenProcessPool as exc:
        raise SimError(
            f"a worker process died: {exc} The likeliest causes are the system's memory running out, and a script "
            'that calls this without `if __name__ == "__main__":`. With jobs=1 everything is done in one process.'
        ) from exc


@contextlib.contextmanager
def worker_pool(workers: int, *, on_progress: Callable[[str, Progress], None] | None = None) -> Iterator[Executor]:
    """The default executor: processes that end with this one, and a thread that reads their progress.

    Args:
        workers: how many.
        on_progress: called, in that thread, with a requirement and its progress.
    """
    context = multiprocessing.get_context("spawn")
    told, teller = context.Pipe(duplex=False)
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(teller, theirs))
    reader = threading.Thread(target=_read, args=(told, on_progress or _nobody), name="asgi-sim progress", daemon=True)
    reader.start()
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        ours.close()
        pool.shutdown(cancel_futures=True)
        raise
    finally:
        teller.close()
        reader.join()
        for end in (told, theirs, ours):
            end.close()


def _nobody(_server: str, _progress: Progress) -> None:
    """Who is told of progress if nobody asked."""


def _read(told: Connection, tell: Callable[[str, Progress], None]) -> None:
    """Pass progress on until nobody is left who could tell of any."""
    with contextlib.suppress(EOFError):
        while True:
            tell(*told.recv())


def _begin(teller: Connection, alive: Connection) -> None:
    """The first thing that a worker does (rule 2)."""
    global _teller  # noqa: PLW0603 - one process, one pool
    _teller = teller
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_live_with, args=(alive,), daemon=True).start()


def _live_with(alive: Connection) -> None:
    """Wait for the end of the process that started this one, and end at once."""
    with contextlib.suppress(EOFError, OSError):
        alive.recv_bytes()
    os._exit(1)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back SIGINT in this thread; processes that are started meanwhile are born with it held back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
