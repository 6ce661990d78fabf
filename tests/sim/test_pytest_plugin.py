"""The pytest plugin: what a user writes, what a failure looks like, and what is said of mistakes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import sim.search.explore  # so that sessions inside this process do not import the engine a second time
import sim.show.story  # noqa: F401
from sim import Schedule

if TYPE_CHECKING:
    from pytest import Pytester, RunResult  # noqa: PT013

STORY = """
    import attrs
    import sim


    @attrs.frozen
    class Toy:
        requirement: str = "toy==1"
        kind: str = "model"
        versions: dict = attrs.field(factory=dict)


    def play(world, subject, *, eggs):
        async def client(host):
            laid = host.choose(range(eggs), "how many eggs")
            if subject.requirement == "toy==raises":
                raise LookupError("where is the hen?")
            connection = await host.connect(("127.0.0.1", 80))
            connection.send(b"egg" * laid, f"{laid} eggs")

        async def main():
            import asyncio
            server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 80)
            await server.serve_forever()

        world.start_process("server", main)
        world.run_until(lambda: world.kernel.listeners, within=1.0)
        world.start_script("hen", client)


    @sim.always("few-eggs", "There are fewer than two eggs.")
    def few_eggs(trace):
        from sim.world.events import TcpSend
        for event in trace.of(TcpSend):
            if event.segment == "2 eggs":
                return sim.Violation("there are 2 eggs", event)


    @sim.always("fewer-eggs", "There are fewer than two eggs, once more.")
    def fewer_eggs(trace):
        return few_eggs.check(trace)


    def scenario(*invariants, name="eggs", servers=()):
        eggs = sim.Param("eggs", 2, "how many there can be")
        return sim.Scenario(name, "Hens lay eggs.", play, invariants, servers, (eggs,))


    holds = scenario(few_eggs, fewer_eggs, servers=("hypercorn",))
"""


@pytest.fixture
def project(pytester: Pytester, monkeypatch: pytest.MonkeyPatch) -> Pytester:
    """A user's project with a story of its own."""
    for name in ("GRANULARITY", "MAX_RUNS", "MAX_CHOICES", "MAX_SECONDS", "HORIZON"):
        monkeypatch.delenv(f"SIM_{name}", raising=False)
    pytester.makepyfile(story=STORY)
    pytester.makeini("[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider\nfilterwarnings = error")
    return pytester


def run_one(project: Pytester, body: str, *args: str, marker: str = "holds, servers=[Toy()]") -> RunResult:
    """Run one test with that body."""
    project.makepyfile(
        test_it=f"""
        import pytest
        from story import *

        @pytest.mark.sim({marker})
        def test_it(sim_report):
            {body}
        """
    )
    return project.runpytest("--import-mode=prepend", *args)


THREE = "holds, servers=[Toy()], params={'eggs': 3}"


def test_a_scenario_that_holds_passes(project: Pytester) -> None:
    result = run_one(project, "sim_report.check()", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["sim: bounds as each test and scenario says", "*test_it.py::test_it[[]toy==1[]] PASSED*"]
    )
    result.stdout.no_fnmatch_line("*Simulation*")


def test_a_violation_fails_with_the_story_and_last_the_line(project: Pytester) -> None:
    result = run_one(project, "sim_report.check()", marker=THREE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "sim_report = <Report: eggs on toy==1 (model): violated, 3 runs>",
            ">*sim_report.check()",
            "E*sim.CheckFailed: eggs on toy==1 (model) violates few-eggs in 1 of 3 runs: there are 2 eggs",
            "*- Simulation -*",
            "*hen sends 2 eggs*",
            "broken: There are fewer than two eggs. (few-eggs)",
            "also broken: fewer-eggs (1 run)",
            "",
            "pytest 'test_it.py::test_it?toy==1?' --sim-replay sim1.*",
            "*short test summary info*",
            "FAILED test_it.py::test_it[[]toy==1[]] - sim.CheckFailed: eggs on toy==1*",
        ],
        consecutive=False,
    )
    text = result.stdout.str()
    assert text.count("hen sends 2 eggs") == 1
    assert "sim/search" not in text
    assert len(text.splitlines()) < 45


def test_the_whole_story_is_in_the_error_where_sections_are_not_shown(project: Pytester) -> None:
    result = run_one(project, "sim_report.check()", "--show-capture=no", marker=THREE)
    result.stdout.fnmatch_lines(["E*hen sends 2 eggs*", 'E*sim.replay("sim1.*", scenario=..., server=...)'])
    result.stdout.no_fnmatch_line("*Simulation*")


def test_an_assertion_of_the_tests_own_gets_the_section_too(project: Pytester) -> None:
    result = run_one(project, "assert sim_report.verdict == 'holds'", marker=THREE)
    result.stdout.fnmatch_lines(
        [
            "E*assert 'violated' == 'holds'",
            "*- Simulation -*",
            "eggs on toy==1*violates few-eggs*",
            "*hen sends 2 eggs*",
        ]
    )


def test_a_violation_that_was_expected_passes_in_silence(project: Pytester) -> None:
    result = run_one(project, "assert sim_report.discovery.invariant == 'few-eggs'", marker=THREE)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*Simulation*")


def test_a_failure_of_something_that_holds_has_no_section(project: Pytester) -> None:
    result = run_one(project, "assert not sim_report.complete")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*Simulation*")


def test_inconclusive_fails_and_says_how_to_go_on(project: Pytester) -> None:
    result = run_one(project, "sim_report.check()", marker="holds, servers=[Toy()], max_runs=1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*CheckFailed: eggs on toy==1 (model): inconclusive, for max-runs=1 was reached.*--sim-max-runs*"]
    )


def test_inconclusive_passes_where_it_is_allowed(project: Pytester) -> None:
    marker = "holds, servers=[Toy()], max_runs=1"
    run_one(project, "sim_report.check(allow_inconclusive=True)", marker=marker).assert_outcomes(passed=1)


def test_each_server_is_a_test(project: Pytester) -> None:
    result = run_one(
        project,
        "sim_report.check()",
        "-v",
        marker="""holds, servers=[
            Toy(), Toy("toy==2"), pytest.param(Toy("toy==3"), marks=pytest.mark.xfail(strict=True)),
            pytest.param(Toy("toy==4"), marks=pytest.mark.sim(params={'eggs': 3})),
            pytest.param(Toy("toy==5"), id="named"),
        ]""",
    )
    result.stdout.fnmatch_lines(
        ["*[[]toy==1] PASSED*", "*[[]toy==2] PASSED*", "*[[]toy==3] FAILED*", "*[[]toy==4] FAILED*"]
    )
    result.stdout.fnmatch_lines(["*[[]named[]] PASSED*", "*XPASS(strict)*", "*eggs on toy==4*violates few-eggs*"])
    result.assert_outcomes(passed=3, failed=2)


def test_a_single_server_and_settings_that_say_nothing(project: Pytester) -> None:
    marker = "holds, servers='hypercorn', max_runs=None, params=None"
    result = run_one(project, "assert sim_report.server == 'hypercorn'", "-v", marker=marker)
    result.assert_outcomes(passed=1)
    marker = "holds, servers=None"
    result = run_one(project, "assert sim_report.server == 'hypercorn'", "-v", marker=marker)
    result.assert_outcomes(passed=1)


def test_markers_of_the_class_and_the_module_add_to_the_functions(project: Pytester) -> None:
    project.makepyfile(
        test_it="""
        import pytest
        from story import *

        pytestmark = pytest.mark.sim(servers=[Toy()], max_runs=1, params={"eggs": 3})

        @pytest.mark.sim(holds)
        class TestEggs:
            def test_few(self, sim_report):
                assert (sim_report.runs, sim_report.bound.name) == (1, "max-runs")

            @pytest.mark.sim(max_runs=2)
            def test_two(self, sim_report):
                assert sim_report.runs == 2

            @pytest.mark.sim(max_runs=9, params={"eggs": 4})
            def test_all(self, sim_report):
                assert sim_report.runs == 4

            def test_something_else(self):
                pass
        """
    )
    project.runpytest().assert_outcomes(passed=4)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ('"goodbye"', "test_it cannot be collected: there is no scenario 'goodbye'. There are: *hello*"),
        ("7", "test_it cannot be collected: its marker names 7, which is neither a scenario nor the name of one."),
        ("", "*its marker names 0 scenarios, and a test explores one: write @pytest.mark.sim(*"),
        ("holds, holds", "*its marker names 2 scenarios*"),
        (
            "holds, max_run=7",
            "*its marker takes no max_run. It takes: servers, params, faults, search, granularity, arrivals, max_runs, *",
        ),
        ("holds, max_runs=0", "*cannot be collected: max_runs=0 is not possible. It can be: a whole number above 0."),
        ("holds, granularity='step'", "*granularity='step' is not possible. It can be: turn, iteration."),
        ("holds, params={'hens': 1}", "*scenario 'eggs' has no parameter 'hens'. Its parameters are: eggs."),
        ("scenario(few_eggs)", "*scenario 'eggs' names no servers, and neither does its marker*"),
        ('"story:nothing"', "*the module 'story' has no attribute 'nothing'."),
    ],
)
def test_a_mistake_in_the_marker_is_told_at_collection(project: Pytester, marker: str, message: str) -> None:
    result = run_one(project, "pass", marker=marker)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [f"test_it.py:*: {message}" if message[0] != "*" else f"test_it.py:*: test_it {message}"]
    )
    assert len(result.stdout.lines) < 20


def test_a_marker_without_the_fixture_and_the_fixture_without_a_marker(project: Pytester) -> None:
    project.makepyfile(
        test_one="import pytest\n\n@pytest.mark.sim('hello')\ndef test_one(): pass",
        test_two="def test_two(sim_report): pass",
    )
    result = project.runpytest()
    result.stdout.fnmatch_lines(
        [
            "test_one.py:3: test_one is marked as sim and asks for no sim_report: add that to its arguments.",
            "test_two.py:1: test_two asks for sim_report and is not marked: write @pytest.mark.sim(*) above it.",
        ]
    )


def test_a_search_that_cannot_be_trusted_is_an_error_without_a_traceback(project: Pytester) -> None:
    result = run_one(project, "sim_report.check()", marker='holds, servers=[Toy("toy==raises"), "no such"]')
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_it*",
            "SimError: a run of eggs on toy==raises raised LookupError: where is the hen? (at *story.py:*raise Look*",
            "UsageError: the server 'no such' is not a requirement*",
        ]
    )
    assert len(result.stdout.lines) < 25
    whole = run_one(project, "pass", "--full-trace", marker='holds, servers=[Toy("toy==raises")]')
    whole.stdout.fnmatch_lines(["*raise LookupError*", "*sim/search/explore.py:*"])


def blob_of(result: RunResult) -> str:
    (line,) = [line for line in result.stdout.lines if "--sim-replay" in line]
    return line.rpartition(" ")[2]


def test_replay_runs_that_schedule_alone(project: Pytester) -> None:
    blob = blob_of(run_one(project, "sim_report.check()", marker=THREE))
    servers = THREE.replace("[Toy()]", '[Toy("toy==2"), Toy(), Toy("toy==3")]')
    result = run_one(project, "sim_report.check()", "-v", f"--sim-replay={blob}", marker=servers)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "sim: replays one schedule of eggs on toy==1",
            "*test_it[[]toy==1[]] FAILED*",
            "*eggs on toy==1 (model) violates few-eggs in 1 of 1 run: there are 2 eggs",
            "*hen sends 2 eggs*",
            f"pytest * --sim-replay {blob}",
        ]
    )


def test_replay_passes_where_the_run_breaks_nothing(project: Pytester) -> None:
    schedule = Schedule(
        "eggs",
        "toy==1",
        (1,),
        versions=Schedule.from_blob(blob_of(run_one(project, "sim_report.check()", marker=THREE))).versions,
    )
    body = "sim_report.check(); assert (sim_report.runs, sim_report.verdict) == (1, 'inconclusive')"
    run_one(project, body, f"--sim-replay={schedule.to_blob()}").assert_outcomes(passed=1)


def test_replay_of_another_tests_schedule_is_an_error(project: Pytester) -> None:
    blob = blob_of(run_one(project, "sim_report.check()", marker=THREE))
    for marker, message in (
        (
            "scenario(few_eggs, name='hens'), servers=[Toy()]",
            "*of scenario 'eggs', and this test explores 'hens'. Select*",
        ),
        ("holds, servers=[Toy('toy==2')]", "*of server 'toy==1', and this test explores 'toy==2'. Select*"),
        ("holds, servers=[Toy()]", "*of parameters {'eggs': 3}, and this test explores {'eggs': 2}. Select*"),
    ):
        result = run_one(project, "sim_report.check()", f"--sim-replay={blob}", marker=marker)
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines([f"UsageError: --sim-replay: the schedule is {message}"])


def test_a_damaged_blob_ends_the_session_before_it_begins(project: Pytester) -> None:
    result = run_one(project, "pass", "--sim-replay=sim1.AXic")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --sim-replay: 'sim1.AXic' is damaged or cut off*"])


def test_a_replay_from_a_registered_scenario_is_a_line_of_shell(project: Pytester) -> None:
    project.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.sim("story:holds", servers=["hypercorn"], params={"eggs": 3})
        def test_it(sim_report):
            sim_report.check()
        """
    )
    result = project.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*story:holds on hypercorn (real) violates few-eggs in 1 of 3 runs*"])
    (line,) = [line for line in result.stdout.lines if line.startswith("asgi-sim replay ")]
    schedule = Schedule.from_blob(line.rpartition(" ")[2])
    assert (schedule.scenario, schedule.server, schedule.picks) == ("story:holds", "hypercorn", (2,))


def test_what_a_report_carries_is_plain_and_survives_other_processes(project: Pytester) -> None:
    pytest.importorskip("xdist")
    project.makeconftest(
        """
        import json

        def pytest_runtest_logreport(report):
            if report.when == "call":
                with open(f"{report.outcome}.json", "w") as file:
                    json.dump([report.user_properties, report.sections], file)
        """
    )
    marker = THREE.replace("[Toy()]", '[Toy(), pytest.param(Toy("toy==2"), marks=pytest.mark.sim(max_runs=1))]')
    result = run_one(
        project, "assert sim_report.check(allow_inconclusive=True) is None", "-n2", "--junitxml=out.xml", marker=marker
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*- Simulation -*", "*hen sends 2 eggs*", "pytest 'test_it.py::*--sim-replay sim1.*"])
    properties, sections = json.loads((project.path / "failed.json").read_text())
    assert [name for name, _ in sections] == ["Simulation"]
    assert dict(properties) == {
        "sim_scenario": "eggs",
        "sim_server": "toy==1",
        "sim_verdict": "violated",
        "sim_runs": 3,
        "sim_outcomes": 1,
        "sim_schedule": blob_of(result),
    }
    properties, sections = json.loads((project.path / "passed.json").read_text())
    assert sections == []
    assert dict(properties)["sim_bound"] == "max-runs=1"
    assert 'name="sim_verdict" value="inconclusive"' in (project.path / "out.xml").read_text()
