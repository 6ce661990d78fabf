"""Searches that are done in one go, on disk: killed at any moment, each goes on and ends as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest

from sim import UsageError, explore_many
from sim.search import checkpoint, kept
from sim.search.checkpoint import Checkpoint
from sim.search.kept import Kept

from .stories import plain

if TYPE_CHECKING:
    from pathlib import Path

    from sim.search.isolation import IsolationCheck
    from sim.search.part import Part
    from sim.search.policy import Policy

UVICORN, GRANIAN = "uvicorn[h11,wsproto]", "granian==1.4.1"
REDUCED: list[tuple[str, str, dict[str, Any]]] = [
    ("racing_clients", UVICORN, {"params": {"clients": 4}, "reduce": "classes"}),
    ("independent_echoes", UVICORN, {"params": {"clients": 3}, "reduce": "classes", "check_isolation": True}),
    ("unsolicited_pong", GRANIAN, {"reduce": "classes", "max_runs": 90}),
    ("lost_client", "reference", {"reduce": "classes", "faults": {"rst": 1}}),
    ("independent_echoes", UVICORN, {"params": {"messages": 2}, "reduce": "states"}),
    ("unsolicited_pong", GRANIAN, {"reduce": "states", "max_runs": 60}),
    ("unsolicited_pong", "reference", {"reduce": "states", "search": "depth-first"}),
    (
        "independent_echoes",
        GRANIAN,
        {"params": {"pongs": True}, "reduce": "states", "symmetry": True, "max_runs": 100},
    ),
    ("independent_echoes", UVICORN, {"params": {"clients": 3}, "reduce": "classes,states"}),
    ("racing_clients", "hypercorn", {"params": {"clients": 3}, "reduce": "classes,states"}),
    ("unsolicited_pong", GRANIAN, {"reduce": "classes,states", "granularity": "iteration", "max_runs": 60}),
]
DRAWN: list[tuple[str, str, dict[str, Any]]] = [
    ("unsolicited_pong", "granian==1.4.2", {"search": search, "seed": 3, "max_runs": 130})
    for search in ("random", "pct", "pos", "coverage", "hypothesis")
] + [
    ("unsolicited_pong", GRANIAN, {"search": "pos", "seed": 1, "stop_early": False, "max_runs": 60}),
    ("racing_clients", "reference", {"search": "random", "params": {"clients": 3}}),
    ("racing_clients", "reference", {"search": "hypothesis", "params": {"clients": 3}}),
]


class Killed(BaseException):
    """What stands for SIGKILL where a whole process would cost too much: nothing catches it."""


@pytest.fixture
def at_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots as often as they can be taken."""
    monkeypatch.setattr(kept, "SNAPSHOT_EVERY", 0.0)
    monkeypatch.setattr(kept, "SNAPSHOT_SHARE", float("inf"))


def told(scenario: str, server: str, path: Path | None, settings: dict[str, Any]) -> dict[str, Any]:
    """What the report says, the number of second runs included."""
    (report,) = explore_many(scenario, [server], workers=1, checkpoint=path, **settings)
    return plain(report) | {"reruns": report.reruns, "shrink_runs": report.shrink_runs}


@pytest.mark.usefixtures("at_each_run")
@pytest.mark.parametrize(("scenario", "server", "settings"), REDUCED + DRAWN)
def test_ended_at_random_moments_it_ends_with_the_same_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str, server: str, settings: dict[str, Any]
) -> None:
    path = tmp_path / "it.checkpoint"
    chance = random.Random(repr(settings))
    undisturbed = told(scenario, server, None, settings)
    saves, kills, patience = 0, 0, 0
    keep = Checkpoint.keep

    def dying(journal: Checkpoint, server: str, state: Any) -> None:
        nonlocal saves
        saves += 1
        if saves < patience or (saves == patience and chance.random() < 0.5):
            keep(journal, server, state)
        if saves >= patience:
            raise Killed

    monkeypatch.setattr(Checkpoint, "keep", dying)
    resume = Kept.resume

    def looking(kept: Kept, policy: Policy, isolation: IsolationCheck | None) -> tuple[Part, float]:
        found = resume(kept, policy, isolation)
        state = kept.snapshot
        assert state is None or json.loads(json.dumps(policy.state())) == state["policy"]
        return found

    monkeypatch.setattr(Kept, "resume", looking)
    most = 3 if settings.get("search") == "hypothesis" else max(2, min(undisturbed["runs"] // 2, 40))
    while kills < 4:
        saves, patience = 0, chance.randrange(1, most)
        try:
            told(scenario, server, path, settings)
        except Killed:
            kills += 1
        else:
            break
    assert kills >= 1
    monkeypatch.setattr(Checkpoint, "keep", keep)
    runs = 0

    def counting(*arguments: Any) -> None:
        nonlocal runs
        runs += 1
        keep(*arguments)

    monkeypatch.setattr(Checkpoint, "keep", counting)
    assert told(scenario, server, path, settings) == undisturbed
    # What is finished is not done again.
    runs = 0
    assert told(scenario, server, path, settings) == undisturbed
    assert runs <= 1


@pytest.mark.usefixtures("at_each_run")
@pytest.mark.parametrize(("scenario", "server", "settings"), [REDUCED[0], REDUCED[4], REDUCED[8], DRAWN[0], DRAWN[4]])
def test_bounds_may_be_raised_and_lowered(tmp_path: Path, scenario: str, server: str, settings: dict[str, Any]) -> None:
    path = tmp_path / "it.checkpoint"
    for bound in (2, 2, 5, 3, 10_000):
        bounded = settings | {"max_runs": min(bound, settings.get("max_runs", bound))}
        assert told(scenario, server, path, bounded) == told(scenario, server, None, bounded)


def test_a_damaged_snapshot_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "it.checkpoint"
    scenario, server, settings = REDUCED[0]
    told(scenario, server, path, settings)
    good = path.read_bytes()
    place = good.index(b'"state"') + 40
    for bad in (good[:place] + b"x" + good[place + 1 :], good.replace(b'"state"', b'"stale"'), good + b"[]\n"):
        path.write_bytes(bad)
        with pytest.raises(UsageError, match=r"line \d is not what a search writes .* begin anew"):
            told(scenario, server, path, settings)
        assert path.read_bytes() == bad
    path.write_bytes(good)
    with pytest.raises(UsageError, match="settings reduce was .*states"):
        told(scenario, server, path, settings | {"reduce": "states"})


def test_several_servers_are_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it.checkpoint"
    servers = ["reference", UVICORN, "hypercorn"]
    settings: dict[str, Any] = {"params": {"clients": 3}, "reduce": "classes"}
    undisturbed = [plain(r) for r in explore_many("racing_clients", servers, workers=1, **settings)]
    keep = Checkpoint.keep
    with monkeypatch.context() as patch:

        def dying(journal: Checkpoint, server: str, state: Any) -> None:
            keep(journal, server, state)
            if server == UVICORN:
                raise Killed

        patch.setattr(Checkpoint, "keep", dying)
        with pytest.raises(Killed):
            explore_many("racing_clients", servers, workers=2, checkpoint=path, **settings)
    kept: list[str] = []
    monkeypatch.setattr(Checkpoint, "keep", lambda j, s, state: (kept.append(s), keep(j, s, state))[1])
    reports = explore_many("racing_clients", servers, workers=2, checkpoint=path, **settings)
    assert [plain(r) for r in reports] == undisturbed
    assert "hypercorn" in kept


def test_a_file_that_was_replaced_is_still_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "it.checkpoint"
    with checkpoint.opened(path) as journal:
        journal.recall({"checkpoint": 1})
        journal.keep("a", {"some": "state"})
        with pytest.raises(UsageError, match="is being written by another search"), checkpoint.opened(path):
            pass
        journal.keep("a", {"another": "state"})
        assert journal.snapshot("a") == {"another": "state"}
    with checkpoint.opened(path) as journal:
        journal.recall({"checkpoint": 1})
        assert journal.snapshot("a") == {"another": "state"}


def test_a_snapshot_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    """A directory that nobody may write to; and a disk that is full, which a bound on the size of files stands for."""
    path = tmp_path / "it.checkpoint"
    scenario, server, settings = REDUCED[4]
    told(scenario, server, path, settings | {"max_runs": 2})
    kept = path.read_bytes()
    (tmp_path / "it.checkpoint.new").mkdir()
    with pytest.raises(
        UsageError, match=r"Is a directory \(.*it.checkpoint.new\)\. What .* let this process write there"
    ):
        told(scenario, server, path, settings)
    (tmp_path / "it.checkpoint.new").rmdir()
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept), before[1]))
    try:
        with pytest.raises(UsageError, match=r"cannot be written: File too large\. What .* free some space"):
            told(scenario, server, path, settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == kept
    assert sorted(p.name for p in tmp_path.iterdir()) == ["it.checkpoint"]
    assert told(scenario, server, path, settings) == told(scenario, server, None, settings)


MAIN = """
    import json, sys
    from sim import explore_many
    from sim.search import kept

    if __name__ == "__main__":
        kept.SNAPSHOT_EVERY = 0.05
        kept.SNAPSHOT_SHARE = 1.0
        reports = explore_many(
            {scenario!r}, [{server!r}], workers=2, checkpoint={path!r},
            on_progress=lambda server, progress: print(progress.runs, flush=True), **{settings!r},
        )
        print("done", json.dumps([r.to_json() | {{"seconds": 0, "reruns": r.reruns}} for r in reports]), flush=True)
"""
LONG = [
    ("racing_clients", UVICORN, {"params": {"clients": 5}, "reduce": "classes"}),
    ("unsolicited_pong", "hypercorn", {"reduce": "states"}),
    ("independent_echoes", "granian==1.4.2", {"params": {"pongs": True}, "reduce": "states", "max_runs": 250}),
    pytest.param(
        *("independent_echoes", UVICORN, {"params": {"clients": 3, "messages": 2}, "reduce": "states"}),
        marks=pytest.mark.slow,
    ),
    ("unsolicited_pong", "granian==1.4.2", {"search": "coverage", "max_runs": 500}),
]


@pytest.mark.parametrize(("scenario", "server", "settings"), LONG)
def test_killed_at_random_moments_it_ends_with_the_same_answer(
    tmp_path: Path, scenario: str, server: str, settings: dict[str, Any]
) -> None:
    """A real process, and real SIGKILLs; each process has another seed of Python's hashes."""
    path = tmp_path / "it.checkpoint"
    script = tmp_path / "main.py"
    script.write_text(textwrap.dedent(MAIN.format(scenario=scenario, server=server, path=str(path), settings=settings)))
    chance = random.Random(scenario)
    answer, kills = "", 0
    deadline = time.monotonic() + 300
    while not answer and time.monotonic() < deadline:
        seed = {**os.environ, "PYTHONHASHSEED": str(kills)}
        with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=seed) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("done "):
                    answer = line.removeprefix("done ")
                elif kills < 3:
                    time.sleep(chance.random() * 0.15)
                    os.kill(process.pid, signal.SIGKILL)
                    kills += 1
                    break
            process.stdout.close()
    assert kills >= 2
    undisturbed = explore_many(scenario, [server], workers=1, **settings)
    assert json.loads(answer) == [r.to_json() | {"seconds": 0, "reruns": r.reruns} for r in undisturbed]
