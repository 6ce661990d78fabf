"""What a fingerprint of a live world costs, and what share of a run that is.

The world is that of row D in the comparison with other simulators: real uvicorn (h11, wsproto), two WebSocket clients
with three echoes each, graceful shutdown. It is looked at wherever a search with `--reduce states` would look: at each
point where the world decides what happens next. The bare run is the same run without anybody looking.

Run it with `make bench`. Times are CPU times, the least of several runs. One is asserted, that of row D itself (`MOST`).
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import pytest

from scenarios.independent_echoes import scenario
from sim import Settings
from sim.registry import find_subject
from sim.search.runner import Runner
from sim.search.states import knowledge_of
from sim.world.fingerprint import PASTS, Fingerprinter

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from sim import World

PARAMS = {"clients": 2, "messages": 3}
ROUNDS = 15
MOST = {"uvicorn[h11,wsproto]": 1.0}
"""Milliseconds that a fingerprint may cost."""
SERVERS = ("uvicorn[h11,wsproto]", "uvicorn[httptools,websockets-sansio]", "hypercorn", "granian==1.4.1")


def runner_of(server: str) -> Runner:
    """Row D's story on a server."""
    runner = Runner(scenario, find_subject(server), params=PARAMS)
    runner.settings = Settings(latency=runner.settings.latency, settle=0.0, shutdown=True)
    return runner


def cpu_of_a_run(runner: Runner, lookout: Callable[[World], bool] | None = None) -> float:
    began = time.process_time()
    runner.run(lookout=lookout)
    return time.process_time() - began


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("past", PASTS)
def test_a_fingerprint(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], server: str, past: str) -> None:
    """Milliseconds for each fingerprint of row D's world, and in units of one bare run."""
    runner = runner_of(server)
    maker = Fingerprinter(past=past, knowledge=knowledge_of(runner.subject))
    looked, taken = [], 0

    def lookout(world: World) -> bool:
        nonlocal taken
        taken += 1
        maker.of(world)
        return False

    def look() -> None:
        nonlocal taken
        taken = 0
        looked.append(cpu_of_a_run(runner, lookout))
        maker.forget()

    with runner.session():
        bare = min(cpu_of_a_run(runner) for _ in range(ROUNDS))
        benchmark.pedantic(look, rounds=ROUNDS, warmup_rounds=2)
    each = (min(looked) - bare) / taken
    benchmark.extra_info.update(ms=each * 1e3, ratio=each / bare, blind=dict(maker.blind))
    with capsys.disabled():
        print(
            f"\n{server}, past={past}: {each * 1e3:.2f} ms for each of {taken} fingerprints; a bare run takes "
            f"{bare * 1e3:.1f} ms, ratio {each / bare:.2f}"
        )
    assert each * 1e3 <= MOST.get(server, math.inf)
