"""What more workers are worth, as ratios against one process that does the same search.

Run them with `make bench`. They print ratios and assert nothing about time. Real time says something only on a machine
that does nothing else; how long workers had nothing to do, and the processor time that spreading costs, always do.
"""

from __future__ import annotations

import itertools
import resource
import time
from typing import TYPE_CHECKING, Any

from sim import Progress, explore_many
from sim.search.pool import Pool, worker_pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import pytest
    from pytest_benchmark.fixture import BenchmarkFixture

SEARCH = ("independent_echoes", ["uvicorn[h11,wsproto]"])
PARAMS = {"clients": 2, "messages": 3}
"""12,870 orders: about a minute for one process."""
WORKERS = 2


class Watched(Pool):
    """Writes down when how many units were out."""

    def __init__(self, workers: int, on_progress: Callable[[str, Progress], None] | None) -> None:
        super().__init__(workers, on_progress)
        self.moments: list[tuple[float, int]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self.moments.append((time.perf_counter(), 1))
        future.add_done_callback(lambda _: self.moments.append((time.perf_counter(), -1)))
        return future

    def idle(self) -> float:
        """The part of the workers' time in which there was nothing for them."""
        moments = sorted(self.moments)
        out, idle = 0, 0.0
        for (began, change), (ended, _) in itertools.pairwise(moments):
            out += change
            idle += max(0, self.workers - out) * (ended - began)
        return idle / self.workers / (moments[-1][0] - moments[0][0])


def processor_seconds() -> float:
    """Of this process and of all that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def test_two_workers(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.search.pool.Pool", Watched)
    told: list[Progress] = []

    def search(workers: int) -> tuple[float, float, float]:
        began, used = time.perf_counter(), processor_seconds()
        if workers == 1:
            explore_many(*SEARCH, workers=1, params=PARAMS)
            return time.perf_counter() - began, processor_seconds() - used, 0.0
        with worker_pool(workers) as pool:
            assert isinstance(pool, Watched)
            explore_many(*SEARCH, executor=pool, params=PARAMS, on_progress=lambda _, progress: told.append(progress))
        return time.perf_counter() - began, processor_seconds() - used, pool.idle()

    one = search(1)
    many = benchmark.pedantic(search, args=(WORKERS,), rounds=1)
    with capsys.disabled():
        print(
            f"\n{WORKERS} workers against 1: {one[0] / many[0]:.2f} times as fast in real time, {many[1] / one[1]:.2f} "
            f"times the processor time, {many[2]:.1%} idle, {len(told)} units, "
            f"frontier at most {max(p.frontier or 0 for p in told):,}"
        )
