"""How many runs each policy needs to its first find, on bugs that were planted at depths 1 to 4.

Three clients send five messages each, at once, to a server on asyncio. A bug of depth d shows when d orders hold: a zigzag
between the first two clients, each turn of which is one change of priorities more; the third is noise. First in first
out shows none of them. What is counted is runs, which are the same on every machine.

Where `ASGI_SIM_PEERS` names a Python that has simloop and simloom installed (they need 3.12), their own random searches
are counted on the same story: `ASGI_SIM_PEERS=/tmp/peers/bin/python make bench`.

Run it with `make bench`. It prints the medians over `SEEDS` seeds, and asserts nothing about them but that depth 1
is found.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim import Violation, always
from sim.search.policy import POLICIES
from sim.search.runner import Runner

from ..sim.toys import Toy, chattering, got, toy_scenario

if TYPE_CHECKING:
    import pytest
    from pytest_benchmark.fixture import BenchmarkFixture

    from sim import Trace

ZIGZAG = (("b1", "a0"), ("a1", "b2"), ("b3", "a2"), ("a3", "b4"))
"""Which message is in front of which; a bug of depth d needs the first d of them."""
BOUND = 500
"""Runs behind which a policy has not found the bug."""
SEEDS = 5


def runner_of(depth: int) -> Runner:
    @always("planted", "Nobody steps on it.")
    def planted(trace: Trace) -> Violation | None:
        order = got(trace)
        stepped = all(order.index(early) < order.index(late) for early, late in ZIGZAG[:depth])
        return Violation(" ".join(order)) if stepped else None

    return Runner(toy_scenario(chattering(3, 5), planted), Toy())


def runs_to_find(runner: Runner, policy: str, seed: int) -> int:
    """The number of the first run that shows the bug, or one more than `BOUND`."""

    def play(forced: Any, decide: Any = None) -> Any:
        return runner.run(forced, decide=decide)

    for number, run in enumerate(POLICIES[policy].make(seed).runs(play), 1):
        if run.violations:
            return number
        if number == BOUND:
            break
    return BOUND + 1


def table() -> dict[str, list[float]]:
    rows: dict[str, list[float]] = {}
    for policy, entry in POLICIES.items():
        for depth in range(1, len(ZIGZAG) + 1):
            runner = runner_of(depth)
            with runner.session():
                seeds = range(SEEDS if entry.samples is not None else 1)
                found = [runs_to_find(runner, policy, seed) for seed in seeds]
            rows.setdefault(policy, []).append(statistics.median(found))
    return rows


def peers() -> dict[str, list[float]]:
    """The same for the peers' random searches, if there are any here."""
    python = os.environ.get("ASGI_SIM_PEERS")
    if python is None:
        return {}
    script = Path(__file__).with_name("peers_planted.py")
    command = [python, str(script), str(BOUND), str(SEEDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1_800)
    return {f"{name}, random": medians for name, medians in json.loads(done.stdout).items()}


def test_runs_to_the_first_find(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """The medians, for each policy and depth."""
    rows = {**benchmark.pedantic(table, rounds=1), **peers()}
    with capsys.disabled():
        print("\n\nmedian runs to the first find     depth 1   depth 2   depth 3   depth 4")
        for policy, medians in rows.items():
            cells = "".join(f"{f'> {BOUND}' if found > BOUND else f'{found:g}':>10}" for found in medians)
            print(f"{policy:<31}{cells}")
    assert all(rows[policy][0] <= BOUND for policy in ("random", "pct", "pos", "coverage", "hypothesis"))
