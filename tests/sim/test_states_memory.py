"""Memory stays bounded: a search of a million states, in a process that may not have more than 1 GiB."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

GIB = 1 << 30
PROGRAM = """
import resource
import sys

from sim import Settings
from tests.sim.toys import search

resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
digits, steps = map(int, sys.argv[1:])


def play(world, _subject):
    async def script(host):
        chain = [host.choose(range(10), "digit") for _ in range(digits)]
        for _ in range(steps):
            await host.sleep(0.001)
        chain.clear()

    world.start_script("script", script)


report = search(play, reduce=("states",), scenario=dict(past="outcome", settings=Settings(settle=0.0)))
assert report.verdict == "holds", report.verdict
print(report.states, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def searched(digits: int, steps: int) -> tuple[int, int]:
    """Search a world of `10**digits` chains of `steps` states each. Returns how many states were met, and the peak of memory."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(limit=GIB), str(digits), str(steps)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
        capture_output=True,
        text=True,
        timeout=3_000,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    states, peak = map(int, done.stdout.split())
    return states, peak


def test_states_cost_what_the_table_costs() -> None:
    """What a search of many states needs more than one of few is below 64 bytes a state, with all that it keeps of runs."""
    few, least = searched(1, 10)
    many, most = searched(1, 2_000)
    assert (few, many) == (101, 20_001)
    assert most - least < 64 * (many - few) + (4 << 20)


@pytest.mark.slow
def test_a_million_states_fit_in_a_gibibyte() -> None:
    states, peak = searched(3, 1_000)
    assert states > 1_000_000
    assert peak < GIB
