"""Many subjects at once: the same reports, the errors of the workers, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from sim import SimError, StartupError, UsageError
from sim.registry import find_scenario
from sim.search.parallel import explore_many
from sim.search.pool import worker_pool

from .stories import plain, write_stories
from .toys import Toy, picking, toy_scenario

if TYPE_CHECKING:
    from pathlib import Path

    from sim import Progress

SERVERS = ["hypercorn", "uvicorn[h11,wsproto]"]


@pytest.fixture
def stories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a module of stories, which is the current one, also for workers."""
    return write_stories(tmp_path, monkeypatch)


def test_reports_are_the_same_from_workers_and_from_here() -> None:
    here = explore_many("hello", SERVERS, workers=1)
    there = explore_many("hello", SERVERS, workers=2)
    assert [r.server for r in there] == SERVERS
    assert [plain(r) for r in here] == [plain(r) for r in there]
    assert all(r.scenario is find_scenario("hello") for r in there)
    assert [r.subject.requirement for r in there if r.subject is not None] == SERVERS


@pytest.mark.usefixtures("stories")
def test_a_scenario_of_ones_own_is_found_by_workers() -> None:
    told: list[tuple[str, Progress]] = []
    finished: list[str] = []
    reports = explore_many(
        "stories:scenario",
        SERVERS,
        workers=2,
        params={"ways": 2},
        on_progress=lambda server, progress: told.append((server, progress)),
        on_report=lambda report: finished.append(report.server),
    )
    assert all(r.runs >= 32 for r in reports)
    assert sorted(finished) == sorted(SERVERS)
    assert {server for server, _ in told} <= set(SERVERS)
    assert told
    assert reports[0].scenario.name == "stories:scenario"


def test_an_object_that_has_no_name_is_explored_here() -> None:
    reports = explore_many(toy_scenario(picking(2, 3)), [Toy(), Toy(requirement="toy==2")], workers=2)
    assert [(r.server, r.runs) for r in reports] == [("toy==1", 6), ("toy==2", 6)]


def test_an_object_that_can_be_found_by_name_goes_by_name() -> None:
    reports = explore_many(find_scenario("hello"), SERVERS, workers=2)
    assert [r.verdict for r in reports] == ["holds", "holds"]


def test_an_object_that_only_borrows_a_name_is_itself() -> None:
    impostor = attrs.evolve(
        find_scenario("hello"), play=picking(2), params=(), invariants=(), settings=toy_scenario(picking()).settings
    )
    assert [r.runs for r in explore_many(impostor, [Toy(), Toy()], workers=2)] == [2, 2]


@pytest.mark.usefixtures("stories")
def test_errors_come_back_with_their_type_and_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_FAIL_STARTUP", "1")
    errors: dict[str, SimError] = {}
    reports = explore_many("stories:scenario", SERVERS, workers=2, on_error=lambda s, e: errors.update({s: e}))
    assert reports == [] or all(r.server not in errors for r in reports)
    assert errors
    assert all(type(e) is StartupError and "did not start" in str(e) for e in errors.values())
    with pytest.raises(StartupError, match="did not start"):
        explore_many("stories:scenario", SERVERS, workers=2)


def test_an_error_of_one_does_not_stop_the_others() -> None:
    finished: list[str] = []
    with pytest.raises(UsageError, match="max_runs=-1 is not above 0"):
        explore_many("hello", SERVERS, workers=1, max_runs=-1, on_report=lambda r: finished.append(r.server))
    assert finished == []
    errors: list[str] = []
    explore_many("hello", SERVERS, workers=1, max_runs=-1, on_error=lambda server, _: errors.append(server))
    assert errors == SERVERS


def test_unknown_names_are_said_before_anything_runs() -> None:
    with pytest.raises(UsageError, match="no server 'nope'"):
        explore_many("hello", ["hypercorn", "nope"])
    with pytest.raises(UsageError, match="no scenario 'nope'"):
        explore_many("nope", SERVERS)


@pytest.mark.usefixtures("stories")
def test_a_unit_that_kills_its_workers_is_an_error_that_says_so() -> None:
    """Also where the pool replaces them."""
    with pytest.raises(SimError, match="a worker process died"), worker_pool(1) as executor:
        explore_many("stories:killer", SERVERS, executor=executor)
    with pytest.raises(SimError, match="a worker process died"):
        explore_many("stories:killer", SERVERS, executor=ProcessPoolExecutor(1, mp_context=get_context("spawn")))


def test_any_executor_will_do() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        reports = explore_many("hello", SERVERS, executor=executor)
    assert [r.verdict for r in reports] == ["holds", "holds"]


def test_workers_must_be_above_0() -> None:
    with pytest.raises(UsageError, match="workers=0 is not above 0"):
        explore_many("hello", SERVERS, workers=0)


def _pids(executor: Any) -> list[int]:
    return [executor.submit(os.getpid).result()]


def test_an_exception_ends_the_workers_at_once() -> None:
    pids: list[int] = []
    with pytest.raises(ZeroDivisionError), worker_pool(1) as executor:  # noqa: PT012
        pids += _pids(executor)
        executor.submit(time.sleep, 60)
        started = time.monotonic()
        raise ZeroDivisionError
    assert time.monotonic() - started < 10
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Even if that is killed."""
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, time
            from sim.search.pool import worker_pool

            if __name__ == "__main__":
                with worker_pool(1) as executor:
                    print(executor.submit(os.getpid).result(), flush=True)
                    executor.submit(time.sleep, 60)
                    time.sleep(60)
            """
        )
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _alive(worker):
        time.sleep(0.05)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
