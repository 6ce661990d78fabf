"""Who does the work: processes of this machine, this process itself, or whatever executor an address stands for.

Rules for this file:

1. Workers of the default pool never outlive this process and never print: each holds the read end of a pipe whose
   write end only this process has, and exits the moment that it is closed. So an interrupt ends them in the middle of
   a run, and so does `kill -9` of this process. They ignore SIGINT, which a terminal sends to everybody.
2. Start method `spawn`: a worker imports everything anew, and nothing that this process did leaks in.
3. A pool that has lost a worker is broken, and all that it was doing is lost; the next that is submitted starts a new
   one. To submit again what was lost is the caller's business, who knows what may be done twice.
4. Progress of a whole search travels through a pipe that only this pool has; one write is smaller than PIPE_BUF, so
   writers need no lock that could die with its holder.
5. Dask is imported when somebody names it, and not before.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from sim.errors import SimError, UsageError
from sim.search.unit import settle_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import BrokenExecutor, Future
    from multiprocessing.connection import Connection

    from sim.search.explore import Progress

T = TypeVar("T")

CONNECT_WITHIN = 10
"""Real seconds."""


class Pool(Executor):
    """A `ProcessPoolExecutor` that survives its workers. Use it from one thread, by `worker_pool`."""

    def __init__(self, workers: int, on_progress: Callable[[str, Progress], None] | None) -> None:
        self.workers = workers
        self._context = multiprocessing.get_context("spawn")
        self._theirs, self._ours = self._context.Pipe(duplex=False)
        self._told, self._teller = self._context.Pipe(duplex=False)
        self._reader = threading.Thread(
            target=_read, args=(self._told, on_progress), name="asgi-sim progress", daemon=True
        )
        self._reader.start()
        self._inner = self._new()

    def _new(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.workers, mp_context=self._context, initializer=_begin, initargs=(self._theirs, self._teller)
        )

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        with _interrupts_held():
            try:
                return self._inner.submit(fn, *args, **kwargs)
            except BrokenProcessPool:
                self._inner.shutdown()
                self._inner = self._new()
                return self._inner.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._inner.shutdown(wait, cancel_futures=cancel_futures)

    def abandon(self) -> None:
        """End the workers, whatever they are doing."""
        self._ours.close()
        self._inner.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Give back what is left when the workers have ended."""
        self._teller.close()
        self._reader.join()
        for end in (self._told, self._ours, self._theirs):
            end.close()


@contextlib.contextmanager
def worker_pool(workers: int, *, on_progress: Callable[[str, Progress], None] | None = None) -> Iterator[Pool]:
    """The default executor: processes that end with this one. They are started when there is work for them.

    Args:
        workers: how many.
        on_progress: called, in a thread, with a requirement and the progress of its search, if it is done in one go.
    """
    pool = Pool(workers, on_progress)
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        pool.abandon()
        raise
    finally:
        pool.close()


def default_workers(workers: int | None) -> int:
    """How many processes to work in, if so many were asked for; None: one for each processor.

    Raises:
        UsageError: it is not above 0.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers={workers!r} is not above 0.")
    return workers if workers is not None else os.cpu_count() or 1


def workers_of(executor: Executor) -> int:
    """How many units an executor can do at a time, as far as it says so; else as many as there are processors."""
    said = getattr(executor, "workers", None) or getattr(executor, "_max_workers", None)
    return said if isinstance(said, int) and said > 0 else default_workers(None)


@contextlib.contextmanager
def executor_at(address: str) -> Iterator[tuple[Executor, int]]:
    """The executor that an address stands for, and how many units it can do at a time.

    Args:
        address: `dask://host:port`, a Dask scheduler. Its workers need asgi-sim and the scenario.

    Raises:
        UsageError: nothing is known by such an address, Dask is not installed, or nobody answers there.
    """
    url = urlsplit(address)
    try:
        port = url.port
    except ValueError:
        port = None
    if url.scheme != "dask" or not url.hostname or port is None or url.path.strip("/"):
        raise UsageError(f"--executor {address!r} is not of the form dask://HOST:PORT, with a Dask scheduler there.")
    try:
        distributed = importlib.import_module("distributed")
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] not in ("distributed", "dask"):
            raise
        raise UsageError(
            f"--executor {address} needs Dask, which is not installed. Install it: pip install 'asgi-sim[dask]'."
        ) from None
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    try:
        client = distributed.Client(f"tcp://{host}:{port}", timeout=CONNECT_WITHIN)
    except (OSError, TimeoutError) as exc:
        raise UsageError(
            f"no Dask scheduler answers at {host}:{port} ({exc}). Start one there: dask scheduler --port {port}; and "
            f"workers: dask worker {host}:{port}."
        ) from None
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise UsageError(
                f"the Dask scheduler at {host}:{port} has no workers. Start one: dask worker {host}:{port}"
            )
        yield client.get_executor(), threads


def died(exc: BrokenExecutor) -> SimError:
    """The error for workers that die."""
    return SimError(
        f"a worker process died: {exc} The likeliest causes are the system's memory running out, and a script "
        'that calls this without `if __name__ == "__main__":`. With workers=1 everything is done in one process.'
    )


def _read(told: Connection, tell: Callable[[str, Progress], None] | None) -> None:
    """Pass progress on until nobody is left who could tell of any."""
    with contextlib.suppress(EOFError):
        while True:
            server, progress = told.recv()
            if tell is not None:
                tell(server, progress)


def _begin(alive: Connection, teller: Connection) -> None:
    """The first thing that a worker does (rule 1)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_live_with, args=(alive,), daemon=True).start()
    settle_down(lambda server, progress: teller.send((server, progress)))


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
