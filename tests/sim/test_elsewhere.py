"""A subject in an environment of its own: the same answers from another process, and nothing of it left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from click.testing import CliRunner
from rich.console import Console

import sim
from models.asgi import AsgiSend
from sim import Divergence, Schedule, SimError, StartupError, UsageError
from sim.cli import cli
from sim.registry import find_scenario, find_subject
from sim.search import failure
from sim.search.checkpoint import opened
from sim.search.elsewhere import Elsewhere, find_anywhere, find_here, recorded_with
from sim.search.explore import replayed
from sim.search.parallel import explore_many
from sim.search.schedule import python_version
from sim.search.there import Beside, PackedRun
from sim.search.unit import portable
from sim.show.table import check_page
from sim.world.events import TcpClosed

from .places import stand_in
from .toys import Toy, picking, toy_scenario

if TYPE_CHECKING:
    from pathlib import Path

    from sim import Progress, Report

GRANIAN = {"server": "granian==1.4.1", "params": {"receiving": "echo"}, "max_runs": 30}
THERE = {"params": GRANIAN["params"], "max_runs": GRANIAN["max_runs"]}
STARLETTE = metadata.version("starlette")

STORIES = """
    import os
    from models.application import Application
    from sim import Scenario, Settings

    async def failing(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    def play(world, subject):
        subject.serve(world, Application("stories_of_elsewhere:failing"))

    def die(**_):
        print("the last words", flush=True)
        os._exit(7)

    def fail(world, subject):
        raise KeyError("nobody expects this")

    def long(world, subject):
        for _ in range(40):
            world.choose("ab", "letter")

    settings = lambda **_: Settings(settle=0.0)
    failing_startup = Scenario("failing_startup", "A story.", play, ())
    dying = Scenario("dying", "A story.", play, (), settings=die)
    raising = Scenario("raising", "A story.", fail, (), settings=settings)
    endless = Scenario("endless", "A story.", long, (), settings=settings)
"""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in, and the current directory with stories of one's own."""
    stand_in(tmp_path, monkeypatch)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "stories_of_elsewhere.py").write_text(textwrap.dedent(STORIES))
    monkeypatch.chdir(tmp_path / "here")
    for name in ("stories_of_elsewhere", "places_of_tests"):
        sys.modules.pop(name, None)
    import places_of_tests

    return places_of_tests


def elsewhere(server: str = "reference", *also: str) -> Elsewhere:
    subject = find_anywhere(server, also=also or ("starlette",))
    assert isinstance(subject, Elsewhere)
    return subject


def plain(report: Report) -> dict[str, Any]:
    """A report without what differs: how long it took, and the versions in its schedules."""
    record = report.to_json()
    del record["seconds"]
    for discovery in record["discoveries"]:
        discovery["schedule"] = Schedule.from_blob(discovery["schedule"]).picks
    return record


# Where a subject is.


def test_what_is_installed_here_is_searched_here() -> None:
    assert type(find_anywhere("reference")) is type(find_subject("reference"))
    version = metadata.version("hypercorn")
    assert find_anywhere(f"hypercorn=={version}").requirement == "hypercorn"


def test_another_version_is_elsewhere_and_so_is_everything_beside_something() -> None:
    assert find_anywhere("uvicorn[wsproto, h11]==0.20.0") == Elsewhere("uvicorn[h11,wsproto]==0.20.0", "real")
    assert elsewhere("granian==1.4.1", "h11<1") == Elsewhere("granian==1.4.1", "model", ("h11<1",))
    assert find_anywhere("hypercorn", python="3.12") == Elsewhere("hypercorn", "real", (), "3.12")


def test_names_that_are_wrong_everywhere_are_wrong_elsewhere() -> None:
    with pytest.raises(UsageError, match="there is no server 'nope'"):
        find_anywhere("nope", also=("starlette",))
    with pytest.raises(UsageError, match="exclude one another"):
        find_anywhere("uvicorn[h11,httptools]==0.20.0")
    with pytest.raises(UsageError, match=r"'x y' is no requirement: .*starlette==0\.38\.2"):
        find_anywhere("reference", also=("x y",))


def test_what_is_here_in_whatever_version() -> None:
    assert find_here("uvicorn[h11,wsproto]==0.1").requirement == "uvicorn[h11,wsproto]"
    assert find_here("reference").requirement == "reference"
    with pytest.raises(UsageError, match="exclude one another"):
        find_here("uvicorn[h11,httptools]==0.1")


def test_the_versions_of_a_schedule_name_an_environment(places: Any) -> None:
    there = recorded_with("hypercorn", {"python": "3.10", "hypercorn": "0.14.4", "h11": "0.14.0"})
    assert (there.kind, there.python) == ("real", "3.10")
    there.prepare()
    versions = {"hypercorn": "0.14.4", "h11": "0.14.0"}
    assert [("hypercorn", False, (), "3.10", versions)] == places.CALLS
    assert recorded_with("reference", {}).python == python_version()


def test_it_cannot_be_served_here() -> None:
    with pytest.raises(UsageError, match="reference runs in an environment of its own"):
        elsewhere().serve(None, None)


# The same answers.


def test_a_search_there_gives_the_report_of_a_search_here() -> None:
    here = sim.explore("unsolicited_pong", **GRANIAN)
    there = sim.explore("unsolicited_pong", server=elsewhere("granian==1.4.1"), **THERE)
    assert here.verdict == "violated"
    assert plain(there) == plain(here)
    assert there.settings == here.settings
    assert there.scenario is find_scenario("unsolicited_pong")
    assert there.subject == elsewhere("granian==1.4.1")
    schedule = there.discoveries[0].schedule
    assert schedule.versions == {"python": python_version(), "starlette": STARLETTE}


def test_a_search_in_one_go_there_is_kept_here(tmp_path: Path) -> None:
    path = tmp_path / "it.checkpoint"
    for reduce, bounds in ("classes", (20, 50)), ("classes,states", (20, 50)):
        path.unlink(missing_ok=True)
        for bound in bounds:
            settings: dict[str, Any] = {"params": GRANIAN["params"], "reduce": reduce, "max_runs": bound}
            asked = explore_many(
                "unsolicited_pong", [elsewhere("granian==1.4.1")], workers=2, checkpoint=path, **settings
            )
            here = sim.explore("unsolicited_pong", server="granian==1.4.1", **settings)
            assert [plain(report) for report in asked] == [plain(here)]
            with opened(path) as journal:
                first, snapshot = path.read_text().splitlines()
                journal.recall(json.loads(first))
                assert json.loads(snapshot)["server"] == asked[0].server
                assert journal.snapshot(asked[0].server)["part"]["runs"] == bound
    with pytest.raises(UsageError, match="settings reduce was"):
        explore_many("unsolicited_pong", [elsewhere("granian==1.4.1")], checkpoint=path, params=GRANIAN["params"])


def test_a_schedule_is_replayed_there_to_the_last_byte() -> None:
    there = sim.explore("unsolicited_pong", server=elsewhere("granian==1.4.1"), **THERE)
    found = there.discoveries[0]
    schedule = attrs.evolve(found.schedule, versions={"python": python_version()})
    _, here = sim.replay(schedule)
    said: list[str] = []
    runner, run = sim.replay(found.blob, say=said.append)
    assert run.trace.to_jsonl() == here.trace.to_jsonl()
    assert run.picks[: len(schedule.picks)] == schedule.picks
    assert [c.width for c in run.choices] == [c.width for c in here.choices]
    assert [(i, v.message) for i, v in run.violations] == [(i, v.message) for i, v in here.violations]
    assert [v.event and v.event.seq for _, v in run.violations] == [v.event and v.event.seq for _, v in here.violations]
    assert run.notes == here.notes
    assert run.observed == here.observed
    assert said == ["preparing granian==1.4.1"]
    assert runner.schedule(run).versions == found.schedule.versions
    _, once_more = sim.replay(found.schedule, server=there.subject)
    assert once_more.trace.to_jsonl() == here.trace.to_jsonl()
    report = replayed(found.schedule, scenario=there.scenario, server=there.subject)
    assert report.discoveries[0].schedule == found.schedule


def test_a_report_from_there_is_told_drawn_and_failed_like_any_other() -> None:
    here = sim.explore("unsolicited_pong", **GRANIAN)
    there = sim.explore("unsolicited_pong", server=elsewhere("granian==1.4.1"), **THERE)
    ours, theirs = here.graph(), there.graph()
    assert theirs.graph == ours.graph
    assert list(theirs.nodes(data=True)) == list(ours.nodes(data=True))
    assert list(theirs.edges(data=True)) == list(ours.edges(data=True))
    assert failure.story(there, there.discoveries[0]) == failure.story(here, here.discoveries[0])
    console = Console(width=1000)
    with console.capture() as captured:
        console.print(*check_page([there], width=1000), soft_wrap=True)
    assert f"replay {there.discoveries[0].blob}" in captured.get()
    with pytest.raises(sim.CheckFailed) as caught:
        there.check()
    assert caught.value.replay_line == f"asgi-sim replay {there.discoveries[0].blob}"


def test_many_at_once_here_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, Progress]] = []
    servers = ["reference", elsewhere("granian==1.4.1"), elsewhere("granian==1.4.2")]
    reports = explore_many("hello", servers, workers=2, on_progress=lambda *t: told.append(t))
    assert [(r.server, r.verdict) for r in reports] == [
        ("reference", "holds"),
        ("granian==1.4.1", "holds"),
        ("granian==1.4.2", "holds"),
    ]
    assert [r.subject for r in reports[1:]] == servers[1:]
    assert portable(servers[1]) == servers[1]


def test_a_search_there_in_many_hands_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each worker has a process there, which ends without a word; and what they did is on the disk."""
    monkeypatch.setattr("sim.search.parallel.UNIT_SECONDS", 0.05)
    subject = elsewhere("granian==1.4.1")
    one = sim.explore("unsolicited_pong", server=subject, **THERE)
    path = tmp_path / "it"
    for workers in 2, 1:
        (many,) = explore_many("unsolicited_pong", [subject], workers=workers, checkpoint=path, **THERE)
        assert many.to_json() | {"seconds": 0} == one.to_json() | {"seconds": 0}
        assert (many.discoveries, many.reruns, many.subject) == (one.discoveries, one.reruns, subject)
        assert many.discoveries[0].schedule.versions == one.discoveries[0].schedule.versions
        assert len(path.read_text().splitlines()) > 2
    assert capfd.readouterr().err == ""


def test_progress_is_told_from_there() -> None:
    told: list[Progress] = []
    sim.explore(
        "stories_of_elsewhere:endless", server=elsewhere(), max_seconds=1.0, on_progress=lambda p: told.append(p)
    )
    assert [p.runs for p in told] == sorted(p.runs for p in told)
    assert told[-1].runs > 1


def test_versions_of_what_is_beside_are_the_subjects() -> None:
    beside = Beside(find_subject("hypercorn"), "hypercorn>0", ("starlette",))
    assert beside.versions == {**find_subject("hypercorn").versions, "starlette": STARLETTE}
    assert (beside.requirement, beside.kind) == ("hypercorn>0", "real")


# What does not travel.


def test_what_does_not_pickle_is_told_in_words() -> None:
    _, run = sim.replay(Schedule("hello", "reference", (), versions={"python": python_version()}))
    lock = object()
    odd = AsgiSend(0, 0.0, None, "http 1", {"type": "x", "with": lambda: lock})
    run.trace.events = [odd, TcpClosed(1, 2.0, None, "client", "eof")]
    run.notes["odd"] = lambda: lock
    packed = PackedRun.of(run)
    assert packed.notes == {"application": run.notes["application"]}
    again = packed.unpack(find_scenario("hello"))
    assert again.trace.events[1] == run.trace.events[1]
    assert "<lambda>" in again.trace.events[0].message["with"]
    assert " at 0x" not in again.trace.to_jsonl()
    assert again.trace.record(TcpClosed, "client", "eof").time == 2.0
    assert len(again.trace) == 2


def test_a_scenario_without_a_name_stays_here() -> None:
    with pytest.raises(UsageError, match=r"the scenario 'toy' has to be found by a name\. Put it into a module"):
        sim.explore(toy_scenario(picking(2)), server=elsewhere())


# Errors.


def test_errors_come_back_with_their_type_and_message() -> None:
    with pytest.raises(StartupError, match="server did not start.*no database"):
        sim.explore("stories_of_elsewhere:failing_startup", server=elsewhere())
    with pytest.raises(SimError, match="a run of .*raising on reference raised KeyError: 'nobody expects this'"):
        sim.explore("stories_of_elsewhere:raising", server=elsewhere())
    with pytest.raises(UsageError, match="has no parameter 'nope'"):
        sim.explore("hello", server=elsewhere(), params={"nope": 1})
    versions = {"python": python_version(), "starlette": STARLETTE}
    with pytest.raises(Divergence, match="the world asked for"):
        sim.replay(Schedule("hello", "reference", (0,) * 8 + (1,), versions=versions), server=elsewhere())


def test_a_job_that_breaks_says_where() -> None:
    with pytest.raises(SimError, match=r"TypeError: .*\(at .*there\.py:\d+\)"):
        elsewhere().do(partial(Beside, "too", "many", "arguments"))


def test_a_process_that_dies_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SimError, match=r"ended with status 7 and gave no answer\. What it printed stands above"):
        sim.explore("stories_of_elsewhere:dying", server=elsewhere())
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "the last words" in captured.err


def children() -> list[str]:
    """This process's children that search in an environment, by what Linux says of them."""
    found: list[str] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{entry}/stat") as stat,
                open(f"/proc/{entry}/cmdline") as line,
            ):
                if (
                    stat.read().rpartition(")")[2].split()[1] == str(os.getpid())
                    and "environments.begin" in line.read()
                ):
                    found.append(entry)
    return found


def test_an_interrupt_ends_the_process() -> None:
    def interrupt(_: Progress) -> None:
        assert len(children()) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sim.explore("stories_of_elsewhere:endless", server=elsewhere(), on_progress=interrupt)
    assert children() == []


ORPHAN = """
import os, sys, sim
from sim.search.elsewhere import find_anywhere
def tell(progress):
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            print(*file.read().split(), flush=True)
sim.explore("stories_of_elsewhere:endless", server=find_anywhere("reference", also=("starlette",)), on_progress=tell)
"""


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_process_does_not_outlive_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
    deadline = time.monotonic() + 20
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


# The command.


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, list(arguments))


def test_the_command_searches_elsewhere_and_goes_there_again_by_itself(places: Any) -> None:
    asked = (
        "check",
        "unsolicited_pong",
        "--server",
        "granian==1.4.1",
        "--param",
        "receiving=echo",
        "--max-runs",
        "30",
        "--workers",
        "1",
    )
    here = run(*asked, "--json")
    there = run(*asked, "--json", "--with", f"starlette=={STARLETTE}", "--python", python_version())
    assert (here.exit_code, there.exit_code) == (1, 1)
    ours, theirs = (json.loads(result.stdout)["subjects"] for result in (here, there))
    blob = theirs[0]["discoveries"][0]["schedule"]
    for subject in (*ours, *theirs):
        del subject["seconds"]
        for discovery in subject["discoveries"]:
            discovery["schedule"] = Schedule.from_blob(discovery["schedule"]).picks
    assert theirs == ours
    assert "preparing granian==1.4.1" in there.stderr
    places.CALLS.clear()
    again = run("replay", blob)
    assert again.exit_code == 1
    assert "unsolicited_pong on granian==1.4.1: violates" in again.stdout
    assert places.CALLS[0] == ("granian==1.4.1", True, (), python_version(), {"starlette": STARLETTE})
    places.CALLS.clear()
    assert run("replay", blob, "--any-version").stdout == again.stdout
    assert places.CALLS == []


def test_the_command_draws_a_graph_from_elsewhere(tmp_path: Path) -> None:
    drawn = run("check", "hello", "--server", "reference", "--with", "starlette", "--graph", str(tmp_path / "g.svg"))
    assert drawn.exit_code == 0
    assert f"State graph of reference: {tmp_path / 'g.svg'}" in drawn.stdout.replace("\n", "")
    assert b"<svg" in (tmp_path / "g.svg").read_bytes()


def test_an_environment_that_cannot_be_made_is_one_message_and_stops_nobody_else() -> None:
    result = run("check", "hello", "--server", "reference", "--server", "uvicorn[h11,wsproto]==0.1", "--python", "3.99")
    assert result.exit_code == 2
    assert result.stderr.count("asgi-sim: pip says: no such thing") == 1
    record = json.loads(run("check", "hello", "--server", "reference", "--python", "3.99", "--json").stdout)
    assert record["subjects"] == []
    assert record["errors"] == [{"server": "reference", "error": "UsageError", "message": "pip says: no such thing"}]


def test_a_replay_whose_environment_cannot_be_made_says_which_it_was() -> None:
    blob = Schedule("hello", "reference", (), versions={"python": "3.99"}).to_blob()
    result = run("replay", blob)
    assert result.exit_code == 2
    assert "recorded with python 3.99 (here: 3." in result.stderr
    assert "pip says: no such thing Or try with what is here: asgi-sim replay --any-version." in result.stderr


def test_a_subject_by_hand_is_never_looked_for_elsewhere() -> None:
    schedule = Schedule("toy", "toy==1", (1,), versions={"python": "2.7"})
    with pytest.raises(UsageError, match="recorded with python 2.7.*Install those versions"):
        sim.replay(schedule, scenario=toy_scenario(picking(2)), server=Toy())
