"""What a search keeps: of each broken claim the simplest run, counted; witnesses; names of what was seen; the stuck."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sim import (
    CheckFailed,
    Discovery,
    Observation,
    Schedule,
    Settings,
    Violation,
    always,
    eventually,
    replay,
    sometimes,
)
from sim.world.watchdog import Watchdog

from .toys import ADDRESS, Noted, Toy, listening, noted, picking, search, toy_scenario

if TYPE_CHECKING:
    from sim import Host, Trace, World


def the_picks(trace: Trace) -> tuple[int, ...]:
    (picks,) = noted(trace)
    assert isinstance(picks, tuple)
    return picks


@always("sum-below-3", "The picks' sum is below 3.", source="a toy")
def sum_below_3(trace: Trace) -> Violation | None:
    total = sum(the_picks(trace))
    return Violation(f"the sum is {total}", next(trace.of(Noted))) if total >= 3 else None


@always("no-two", "No pick is 2.")
def no_two(trace: Trace) -> Violation | None:
    return Violation("a pick is 2") if 2 in the_picks(trace) else None


def test_the_discovery_is_the_run_with_the_fewest_deviations() -> None:
    report = search(picking(3, 3, 3), sum_below_3)
    found = report.discovery
    assert isinstance(found, Discovery)
    # (0, 1, 2) has two deviations and so has every other run whose sum is 3 or more; the first of them is kept.
    assert found.schedule.picks == (0, 1, 2)
    assert found.schedule.deviations == 2
    assert (found.invariant, found.claim, found.message) == (
        "sum-below-3",
        "The picks' sum is below 3.",
        "the sum is 3",
    )
    assert found.runs == sum(a + b + c >= 3 for a in range(3) for b in range(3) for c in range(3))
    assert (found.events, found.seq) == (1, 0)


def test_of_equal_deviations_the_run_with_fewer_events() -> None:
    def play(world: World, _subject: Any) -> None:
        pick = world.choose(range(3), "how many")
        for _ in range({0: 1, 1: 5, 2: 2}[pick]):
            world.trace.record(Noted, "toy", (3 if pick else 0,))

    @always("no-three", "Nothing is 3.")
    def no_three(trace: Trace) -> Violation | None:
        return Violation("a 3") if (3,) in noted(trace) else None

    found = search(play, no_three).discovery
    assert found is not None
    assert (found.schedule.picks, found.events, found.runs) == ((2,), 2, 2)


def test_each_broken_claim_has_its_discovery_the_simplest_first() -> None:
    report = search(picking(3, 3), sum_below_3, no_two)
    assert [(d.invariant, d.schedule.picks, d.runs) for d in report.discoveries] == [
        ("no-two", (0, 2), 5),
        ("sum-below-3", (1, 2), 3),
    ]
    assert report.discovery is report.discoveries[0]
    assert (report.verdict, report.complete, report.runs) == ("violated", True, 9)


def test_a_discovery_replays() -> None:
    scenario = toy_scenario(picking(3, 3), no_two)
    found = search(picking(3, 3), no_two).discovery
    assert found is not None
    assert found.replay_line == f"asgi-sim replay {found.blob}"
    assert Schedule.from_blob(found.blob) == found.schedule
    _, run = replay(found.blob, scenario=scenario, server=Toy())
    assert run.picks == (0, 2)
    assert [(i.name, v.message) for i, v in run.violations] == [("no-two", "a pick is 2")]


def test_what_was_observed_is_counted_commonest_first() -> None:
    report = search(picking(2, 2, 2), scenario={"observe": lambda trace: f"sum {sum(the_picks(trace))}"})
    assert [(o.name, o.runs, o.schedule.picks) for o in report.observed] == [
        ("sum 1", 3, (0, 0, 1)),
        ("sum 2", 3, (0, 1, 1)),
        ("sum 0", 1, ()),
        ("sum 3", 1, (1, 1, 1)),
    ]
    assert all(isinstance(o, Observation) for o in report.observed)


def test_outcomes_are_counted_without_the_way_there() -> None:
    def play(world: World, _subject: Any) -> None:
        world.choose("ab", "of no consequence")
        world.trace.record(Noted, "toy", world.choose("cd", "of consequence"))

    report = search(play)
    assert (report.runs, report.outcomes) == (4, 2)


@sometimes("shows-two", "Some run has a 2.")
def shows_two(trace: Trace) -> Violation | None:
    return None if 2 in the_picks(trace) else Violation(f"the picks are {the_picks(trace)}", next(trace.of(Noted)))


def test_sometimes_with_a_witness_holds() -> None:
    report = search(picking(3, 2), shows_two)
    assert (report.verdict, report.discoveries, report.unwitnessed) == ("holds", (), ())


def test_sometimes_without_a_witness_is_a_discovery_once_all_runs_are_done() -> None:
    report = search(picking(2, 2), shows_two)
    assert report.verdict == "violated"
    found = report.discovery
    assert found is not None
    assert (found.invariant, found.claim) == ("shows-two", "Some run has a 2.")
    assert found.message == "no run shows it, out of all 4. The plainest run: the picks are (0, 0)"
    assert (found.schedule.picks, found.runs, found.seq) == ((), 4, 0)
    with pytest.raises(CheckFailed, match="violates shows-two in 4 of 4 runs"):
        report.check()


def test_sometimes_without_a_witness_is_open_while_runs_are_missing() -> None:
    report = search(picking(3, 2), shows_two, max_runs=2)
    assert (report.verdict, report.discoveries, report.unwitnessed) == ("inconclusive", (), ("shows-two",))
    with pytest.raises(CheckFailed, match=r"No run showed shows-two\."):
        report.check()


def test_a_witness_before_the_bound_is_a_witness() -> None:
    report = search(picking(3, 2), shows_two, max_runs=5)
    assert (report.verdict, report.unwitnessed) == ("inconclusive", ())


def test_counterexamples_come_before_missing_witnesses() -> None:
    report = search(picking(4), sum_below_3, sometimes("nine", "Some run has a 9.")(lambda _trace: Violation("no 9")))
    assert [d.invariant for d in report.discoveries] == ["sum-below-3", "nine"]


def test_a_deadlock_is_a_discovery() -> None:
    def play(world: World, _subject: Any) -> None:
        listening(world)

        async def script(host: Host) -> None:
            connection = await host.connect(ADDRESS)
            if host.choose(("go", "wait"), "whether to wait for an answer") == "wait":
                await connection.receive()
            world.trace.record(Noted, "toy", ("done",))

        world.start_script("patient", script)

    @eventually("noted", "Something is noted.")
    def is_noted(trace: Trace) -> Violation | None:
        return None if noted(trace) else Violation("nothing is")

    report = search(play, is_noted)
    assert report.verdict == "violated"
    assert (report.complete, report.runs) == (True, 2)
    # What must have happened by the end of a run is not asked of a run that has no end.
    assert [d.invariant for d in report.discoveries] == ["progress"]
    found = report.discoveries[0]
    assert (found.schedule.picks, found.runs, found.seq) == ((1,), 1, found.events - 1)
    assert found.message.startswith("deadlock: patient still waits at 0.000 s of virtual time")
    assert "nothing waits for ever" in found.claim


def test_a_livelock_is_a_discovery() -> None:
    def play(world: World, _subject: Any) -> None:
        spins = world.choose((False, True), "whether the server spins")

        async def main() -> None:
            while spins:
                await asyncio.sleep(0)

        world.start_process("server", main)

    found = search(play).discovery
    assert found is not None
    assert (found.invariant, found.schedule.picks) == ("progress", (1,))
    assert found.message.startswith("livelock: server ran 100,000 iterations of its event loop at one moment")


def test_code_that_never_gives_control_back_is_a_discovery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.search.explore.Watchdog", lambda: Watchdog(0.2))

    def play(world: World, _subject: Any) -> None:
        computes = world.choose((False, True), "whether the server computes")

        async def main() -> None:
            here = there = 0
            while computes:
                here += 1
                there += 1

        world.start_process("server", main)

    found = search(play).discovery
    assert found is not None
    assert (found.invariant, found.schedule.picks, found.runs) == ("progress", (1,), 1)
    assert found.message.startswith("no control: server did not give control back for 0.2 real seconds")


TRACED = """
import sys
import threading
from sim.world import watchdog

ident = watchdog.get_ident()

def send_and_take_back():
    watchdog._raise_in(ident, watchdog.Interruption)
    watchdog._raise_in(ident, watchdog._NULL)

thread = threading.Thread(target=send_and_take_back)
thread.start()
thread.join()
watchdog.disarm()
calls = []
sys.settrace(lambda frame, event, arg: calls.append(event))
(lambda: None)()
sys.settrace(None)
print(len(calls))
"""


def test_what_is_left_of_an_interruption_does_not_stop_who_traces() -> None:
    done = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_report_as_json() -> None:
    report = search(picking(3), no_two, scenario={"observe": lambda _trace: "a run"})
    found = report.discovery
    assert found is not None
    record = report.to_json()
    assert record.pop("seconds") >= 0
    assert record == {
        "server": "toy==1",
        "kind": "model",
        "verdict": "violated",
        "complete": True,
        "runs": 3,
        "outcomes": 3,
        "bound": None,
        "discoveries": [
            {
                "invariant": "no-two",
                "message": "a pick is 2",
                "schedule": found.blob,
                "deviations": 1,
                "events": 1,
                "runs": 1,
            }
        ],
        "observed": {"a run": 3},
    }


def test_a_report_that_holds_checks_out() -> None:
    report = search(picking(2))
    report.check()
    assert repr(report) == "<Report: toy on toy==1 (model): holds, 2 runs>"
    assert repr(search(picking(2), max_runs=1)) == "<Report: toy on toy==1 (model): inconclusive, 1 run, max-runs=1>"


def test_check_fails_with_a_sentence_the_story_and_the_line() -> None:
    report = search(picking(3, 3), sum_below_3, no_two)
    with pytest.raises(CheckFailed) as failed:
        report.check(allow_inconclusive=True)
    first, *middle, last = str(failed.value).split("\n")
    assert first == "toy on toy==1 (model) violates no-two in 5 of 9 runs: a pick is 2"
    assert "broken: No pick is 2. (no-two)" in middle
    assert "also broken: sum-below-3 (3 runs)" in middle
    found = report.discovery
    assert found is not None
    assert last == f'sim.replay("{found.blob}", scenario=..., server=...)'
    assert isinstance(failed.value, AssertionError)


def test_settings_reach_the_worlds() -> None:
    horizons = []

    def play(world: World, _subject: Any) -> None:
        horizons.append((world.settings.horizon, world.settings.granularity))

    search(play, scenario={"settings": Settings(horizon=9.0)})
    search(play, horizon=5.0, granularity="iteration", scenario={"settings": Settings(horizon=9.0)})
    assert set(horizons) == {(9.0, "turn"), (5.0, "iteration")}
