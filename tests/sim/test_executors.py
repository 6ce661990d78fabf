"""Work in other processes: the same answer from every executor, and from workers that are killed."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import signal
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from click.testing import CliRunner

from sim import SimError, UsageError, explore_many
from sim.cli import cli
from sim.search import parallel
from sim.search.pool import executor_at, worker_pool, workers_of

from .stories import plain, write_stories

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sim import Report

SCENARIO = "stories:scenario"
SERVERS = ["hypercorn", "reference"]


@pytest.fixture
def stories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a module of stories, which is the current one, also for workers."""
    monkeypatch.setattr(parallel, "UNIT_SECONDS", 0.1)
    monkeypatch.setattr(parallel, "FAR_UNIT_SECONDS", 0.5)
    monkeypatch.setattr(parallel, "ALONE", 0.1)
    return write_stories(tmp_path, monkeypatch)


def answer(reports: list[Report]) -> str:
    return json.dumps([plain(r) | {"reruns": r.reruns} for r in reports])


@functools.cache
def in_one_piece(ways: int, *servers: str, max_runs: int = 1000) -> str:
    return answer(explore_many(SCENARIO, servers or SERVERS, workers=1, params={"ways": ways}, max_runs=max_runs))


@pytest.mark.usefixtures("stories")
def test_the_answer_does_not_depend_on_the_number_of_workers() -> None:
    """Nor does that of a search that a bound ends, or of one subject alone."""
    for max_runs, workers in (1000, 2), (100, 3):
        reports = explore_many(SCENARIO, SERVERS, workers=workers, params={"ways": 3}, max_runs=max_runs)
        assert answer(reports) == in_one_piece(3, max_runs=max_runs)
    one = explore_many(SCENARIO, ["reference"], workers=2, params={"ways": 3}, max_runs=1000)
    assert answer(one) == in_one_piece(3, "reference")


@pytest.mark.usefixtures("stories")
def test_threads_will_do() -> None:
    """They gain nothing, but any executor is one."""
    with ThreadPoolExecutor(2) as executor:
        assert answer(
            explore_many(SCENARIO, SERVERS, executor=executor, params={"ways": 2}, max_runs=1000)
        ) == in_one_piece(2)


class Backwards(Executor):
    """It does what it was given last first, and only when somebody waits for it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Any]] = []
        self.most = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, fn))
        self.most = max(self.most, len(self.waiting))
        if len(self.waiting) > 4:
            while self.waiting:
                future, fn = self.waiting.pop()
                future.set_result(fn())
        else:
            threading.Timer(0.3, self.work, [len(self.waiting)]).start()
        return future

    def work(self, seen: int) -> None:
        if len(self.waiting) == seen:
            while self.waiting:
                future, fn = self.waiting.pop()
                future.set_result(fn())


@pytest.mark.usefixtures("stories")
def test_how_many_units_are_out_is_asked_for() -> None:
    executor = Backwards()
    reports = explore_many(SCENARIO, SERVERS, executor=executor, workers=3, params={"ways": 2}, max_runs=1000)
    assert answer(reports) == in_one_piece(2)
    assert 1 < executor.most <= 4


def test_how_many_workers_an_executor_has() -> None:
    with ThreadPoolExecutor(7) as threads, worker_pool(3) as pool:
        assert (workers_of(threads), workers_of(pool), workers_of(Backwards())) == (7, 3, os.cpu_count())


@pytest.mark.usefixtures("stories")
def test_a_worker_that_raises_nonsense_is_an_error_with_a_name() -> None:
    class Broken(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(ModuleNotFoundError("No module named 'sim'"))
            return future

    with pytest.raises(SimError, match="came back with ModuleNotFoundError: No module named 'sim' The likeliest"):
        explore_many(SCENARIO, SERVERS, executor=Broken())


class Killer:
    """Kills a random one of the workers that this process starts now and then, until it has killed so many."""

    def __init__(self, seed: int, kills: int) -> None:
        self.killed = 0
        self._kills = kills
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._parent = psutil.Process()
        self._others = set(self._parent.children(recursive=True))
        self._thread = threading.Thread(target=self._kill)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _kill(self) -> None:
        while self.killed < self._kills and not self._over.wait(self._chance.uniform(0.05, 0.6)):
            workers = self._workers()
            if workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self._chance.choice(workers).send_signal(signal.SIGKILL)
                    self.killed += 1

    def _workers(self) -> list[psutil.Process]:
        """Processes that work already: they have imported a server."""
        found = []
        for child in set(self._parent.children(recursive=True)) - self._others:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if "spawn_main" in " ".join(child.cmdline()) and child.cpu_times().user > 0.4:
                    found.append(child)
        return sorted(found, key=lambda process: process.pid)


@pytest.mark.usefixtures("stories")
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_workers_that_are_killed_are_replaced_and_lose_nothing(seed: int) -> None:
    with Killer(seed, 2) as killer:
        reports = explore_many(SCENARIO, ["hypercorn"], workers=2, params={"ways": 5}, max_runs=3000)
    assert answer(reports) == in_one_piece(5, "hypercorn", max_runs=3000)
    assert killer.killed >= 1


# Dask


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Dask cluster of two processes on loopback."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as local:
        yield local


def address(cluster: Any) -> str:
    return "dask://" + cluster.scheduler_address.partition("://")[2]


@pytest.fixture
def there(stories: Path, cluster: Any) -> Path:
    """Its workers find the stories, too."""
    from distributed import Client

    def look(where: str) -> None:
        sys.path.insert(0, where)
        sys.modules.pop("stories", None)

    with Client(cluster) as client:
        client.run(look, str(stories))
    return stories


@pytest.mark.usefixtures("there")
def test_dask_gives_the_same_answer(cluster: Any) -> None:
    with executor_at(address(cluster)) as (executor, threads):
        assert threads == 2
        reports = explore_many(
            SCENARIO, ["reference"], executor=executor, workers=threads, params={"ways": 3}, max_runs=1000
        )
    assert answer(reports) == in_one_piece(3, "reference")


@pytest.mark.usefixtures("there")
def test_the_command_works_on_dask(cluster: Any) -> None:
    asked = ["check", SCENARIO, "--server", "hypercorn", "--param", "ways=2", "--json"]
    there, here = (
        json.loads(CliRunner().invoke(cli, [*asked, *more]).stdout)
        for more in (["--executor", address(cluster)], ["--workers", "1"])
    )
    assert there["subjects"][0].pop("seconds") is not here["subjects"][0].pop("seconds")
    assert there == here


@pytest.mark.slow
@pytest.mark.usefixtures("there")
def test_a_dask_worker_that_is_killed_loses_nothing(cluster: Any) -> None:
    with executor_at(address(cluster)) as (executor, threads):
        pids = list(executor._client.run(os.getpid).values())
        timer = threading.Timer(0.7, os.kill, [pids[0], signal.SIGKILL])
        timer.start()
        reports = explore_many(
            SCENARIO, ["hypercorn"], executor=executor, workers=threads, params={"ways": 4}, max_runs=1000
        )
        timer.join()
        with pytest.raises(ProcessLookupError):
            os.kill(pids[0], 0)
    assert answer(reports) == in_one_piece(4, "hypercorn")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("slurm://here:1", "is not of the form dask://HOST:PORT"),
        ("dask://here", "is not of the form dask://HOST:PORT"),
        ("dask://here:port", "is not of the form dask://HOST:PORT"),
        ("dask://:8786", "is not of the form dask://HOST:PORT"),
        ("dask://here:1/there", "is not of the form dask://HOST:PORT"),
        ("dask://127.0.0.1:1", r"no Dask scheduler answers at 127\.0\.0\.1:1 .*dask scheduler --port 1"),
    ],
)
def test_addresses_that_lead_nowhere(url: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.search.pool.CONNECT_WITHIN", 1)
    with pytest.raises(UsageError, match=why), executor_at(url):
        pass
    result = CliRunner().invoke(cli, ["check", "hello", "--executor", url])
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_without_dask_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(
            UsageError, match=r"needs Dask, which is not installed\. Install it: pip install 'asgi-sim\[dask"
        ),
        executor_at("dask://127.0.0.1:8786"),
    ):
        pass


def test_dask_is_not_imported_unless_it_is_asked_for() -> None:
    import subprocess

    code = "import sys, sim.search.parallel, sim.cli; print({'dask', 'distributed'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_processes_of_ones_own() -> None:
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        reports = explore_many("hello", SERVERS, executor=executor)
    assert [r.verdict for r in reports] == ["holds", "holds"]
