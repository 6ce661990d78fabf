"""The command: what it prints where, its exit codes, and one clear message for every mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from sim import Schedule, explore
from sim.cli import GRANULARITIES, SEARCHES, cli
from sim.search import question as question_module
from sim.search.policy import SAMPLES
from sim.show.case import make_case

from .showing import check_golden

if TYPE_CHECKING:
    from pathlib import Path

APPS = """
    import asyncio

    def lifespan(application):
        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.complete"})
            else:
                await application(scope, receive, send)
        return app

    @lifespan
    async def hang(scope, receive, send):
        await asyncio.Event().wait()

    @lifespan
    async def spin(scope, receive, send):
        while True:
            await asyncio.sleep(0)

    @lifespan
    async def forever(scope, receive, send):
        while True:
            await asyncio.sleep(1)

    @lifespan
    async def stall(scope, receive, send):
        while True:
            pass

    @lifespan
    async def crash(scope, receive, send):
        raise ValueError("[bold]no\\x1b[31m\\nnewline")

    async def no_start(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    number = 5
"""

STORIES = """
    from sim import Scenario, Violation, always

    @always("nothing", "Nothing happens.")
    def nothing(trace):
        return None

    def play(world, subject):
        world.choose("ab", "letter")

    def fail(world, subject):
        raise LookupError("oh no")

    calls = []

    def diverge(world, subject):
        calls.append(1)
        world.choose(range(1 + len(calls)), "letter")

    ours = Scenario("ours", "A story.", play, (nothing,))
    failing = Scenario("failing", "Another.", fail, ())
    diverging = Scenario("diverging", "Another.", diverge, ())
    broken_settings = Scenario("broken", "Another.", play, (), settings=lambda **_: 1 / 0)
    number = 5
"""


def run(*args: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, args, env=env)


def fails(*args: str, code: int = 2) -> str:
    """Run a command that must fail with a message; returns the message, on one line."""
    result = run(*args)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    messages = [line for line in result.stderr.splitlines() if line.startswith("asgi-sim: ")]
    assert len(messages) == 1, result.stderr
    return messages[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's directory, with applications and scenarios of his own."""
    for name, source in (("apps", APPS), ("stories", STORIES), ("broken", "1 / 0")):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("apps", "stories", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def blob() -> str:
    """A counterexample."""
    report = explore("unsolicited_pong", server="granian==1.4.1", params={"receiving": "echo"}, max_runs=3)
    assert report.discovery is not None
    return report.discovery.blob


# list


def test_list() -> None:
    result = run("list")
    assert result.exit_code == 0
    for expected in (
        "unsolicited_pong  A client sends a Pong that nobody asked for",
        "--param receiving=any",
        "(one of any, echo, busy, polling, deaf, starlette)",
        "pong-no-flow-error  always: A Pong never causes a flow error.",
        "granian  model",
        "    granian==1.4.1\n",
        "    uvicorn[httptools,websockets-sansio]\n",
        "hypercorn  real server, hypercorn ",
        "reference",
    ):
        assert expected in result.stdout


def test_list_says_what_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.show.listing.scenario_names", lambda: ["hello", "gone"])
    monkeypatch.setattr("sim.show.listing.subject_names", lambda: ["nobody"])
    result = run("list")
    assert result.exit_code == 2
    assert "gone  cannot be loaded: there is no scenario 'gone'" in result.stdout
    assert "nobody  cannot be loaded: there is no server 'nobody'" in result.stdout
    assert "hello  Two requests" in result.stdout


# check


def test_check_that_holds() -> None:
    result = run("check", "hello", "--server", "hypercorn")
    assert result.exit_code == 0
    assert re.search(r"^hypercorn +real +holds +1 +yes +1 +\d+\.\d$", result.stdout, re.MULTILINE)
    assert result.stderr == ""


def test_check_that_finds_something() -> None:
    result = run(
        "check", "unsolicited_pong", "--server", "granian==1.4.1", "--param", "receiving=echo", "--max-runs", "20"
    )
    assert result.exit_code == 1
    assert "granian==1.4.1 violates pong-no-flow-error in 20 of 20 orders. The simplest of them:" in result.stdout
    assert 'websocket 1 gets RuntimeError("ASGI flow error") out of receive() and dies of it' in result.stdout
    assert "no: max-runs=20" in result.stdout
    line = next(line for line in result.stdout.splitlines() if "replay it:" in line)
    again = run(*line.partition("asgi-sim ")[2].split())
    assert again.exit_code == 1
    assert "violates pong-no-flow-error" in again.stdout


def test_check_on_all_servers_of_the_scenario() -> None:
    result = run("check", "hello", "--json")
    assert result.exit_code == 0
    assert {s["kind"] for s in json.loads(result.stdout)["subjects"]} == {"real", "model"}
    assert len(json.loads(result.stdout)["subjects"]) == 10


def test_check_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    args = ("check", "hello", "--server", "hypercorn", "--checkpoint", str(tmp_path / "it"))
    first = run(*args, "--json")
    assert first.exit_code == 0
    again = run(*args, "--json", "--workers", "1")
    first_said, said = (re.sub('"seconds": .*', "", result.stdout) for result in (first, again))
    assert said == first_said
    assert len((tmp_path / "it").read_text().splitlines()) == 2
    other = run("check", "hello", "--server", "reference", "--checkpoint", str(tmp_path / "it"))
    assert other.exit_code == 2
    assert "is of another search: servers hypercorn was" in other.stderr
    assert other.stdout == ""


def test_json_is_one_object_with_the_fields_that_are_promised() -> None:
    servers = ("--server", "granian==1.4.1", "--server", "hypercorn")
    result = run("check", "unsolicited_pong", *servers, "--param", "receiving=echo", "--max-runs", "5", "--json")
    assert result.exit_code == 1
    assert result.stderr == ""
    answer = json.loads(result.stdout)
    assert set(answer) == {"scenario", "subjects"}
    assert answer["scenario"] == "unsolicited_pong"
    violated, other = answer["subjects"]
    assert {"server", "kind", "verdict", "complete", "runs", "outcomes", "bound", "seconds", "discoveries"} <= set(
        violated
    )
    assert (violated["server"], violated["kind"], violated["verdict"]) == ("granian==1.4.1", "model", "violated")
    assert (violated["complete"], violated["runs"], violated["bound"]) == (False, 5, "max-runs=5")
    assert {"invariant", "schedule", "deviations", "events"} <= set(violated["discoveries"][0])
    assert Schedule.from_blob(violated["discoveries"][0]["schedule"]).server == "granian==1.4.1"
    assert other["verdict"] == "holds"


def test_inconclusive_is_said_and_is_no_failure() -> None:
    result = run("check", "unsolicited_pong", "--server", "hypercorn", "--max-runs", "2")
    assert result.exit_code == 0
    assert "hypercorn is inconclusive: the search ended by max-runs=2. To go on, raise --max-runs." in result.stdout


def test_the_same_server_twice_is_explored_once() -> None:
    result = run("check", "hello", "--server", "hypercorn", "--server", "hypercorn", "--json")
    assert len(json.loads(result.stdout)["subjects"]) == 1


def test_graph(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "graph.png"
    options = ("--param", "receiving=echo", "--max-runs", "3", "--graph", str(path))
    result = run("check", "unsolicited_pong", "--server", "hypercorn", "--server", "granian==1.4.1", *options)
    assert result.exit_code == 1
    assert f"\nState graph of granian==1.4.1: {path}\n" in result.stdout
    assert path.read_bytes().startswith(b"\x89PNG")


def test_graph_of_what_holds(tmp_path: Path) -> None:
    path = tmp_path / "graph.svg"
    result = run("check", "hello", "--server", "hypercorn", "--graph", str(path))
    assert f"State graph of hypercorn: {path}" in result.stdout
    assert path.stat().st_size > 1_000


@pytest.mark.usefixtures("here")
def test_an_application_and_a_scenario_of_ones_own() -> None:
    result = run("check", "hello", "--param", "app=apps:crash", "--server", "hypercorn")
    assert result.exit_code == 1
    assert "violates requests-answered" in result.stdout
    assert "[bold]no\\x1b[31m\\nnewline" in result.stdout
    assert "\x1b" not in result.stdout
    result = run("check", "stories:ours", "--server", "hypercorn", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["subjects"][0]["runs"] == 2


def test_granularity_and_horizon_reach_the_search() -> None:
    result = run("check", "hello", "--server", "hypercorn", "--granularity", "iteration", "--max-runs", "7", "--json")
    assert json.loads(result.stdout)["subjects"][0]["runs"] == 7
    result = run("check", "heartbeat", "--server", "granian==1.4.2", "--horizon", "10", "--json")
    assert json.loads(result.stdout)["subjects"][0]["bound"] == "horizon=10"


# mistakes


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["check", "nope"], r"there is no scenario 'nope'. There are: .*hello.*unsolicited_pong"),
        (["check", "nope:scenario"], "'nope:scenario' could not be imported: No module named 'nope'"),
        (["check", "stories:nope"], "the module 'stories' has no attribute 'nope'"),
        (["check", "stories:number"], "'stories:number' is a int, not a sim.Scenario"),
        (["check", "stories:ours"], "names no servers. Name one with --server"),
        (
            ["check", "broken:scenario"],
            "'broken:scenario' raised ZeroDivisionError while it was imported: division by zero",
        ),
        (
            ["check", "hello", "--server", "nope"],
            "there is no server 'nope'. There are: granian, hypercorn, reference, uvicorn",
        ),
        (["check", "hello", "--server", "==1"], "is not a requirement"),
        (["check", "hello", "--server", "uvicorn[h12]"], r"no combination with 'h12'. It takes one of h11, httptools"),
        (["check", "hello", "--server", "uvicorn[h11,httptools]"], "exclude one another"),
        (["check", "hello", "--server", "granian==9.9"], "granian==9.9"),
        (["check", "hello", "--param", "nope=1"], "has no parameter 'nope'. Its parameters are: app"),
        (["check", "hello", "--param", "app"], "--param 'app' is not of the form NAME=VALUE"),
        (["check", "unsolicited_pong", "--param", "receiving=x"], "not allowed. It can be: any, echo, busy"),
        (["check", "unsolicited_pong", "--param", "patience=x"], "is not of type float"),
        (["check", "hello", "--search", "dijkstra"], "'dijkstra' is not one of 'exhaustive', 'depth-first', 'random'"),
        (["check", "hello", "--granularity", "coarse"], "'coarse' is not one of 'turn', 'iteration'"),
        (["check", "hello", "--max-runs", "0"], "0 is not in the range"),
        (["check", "hello", "--max-runs", "x"], "'x' is not a valid integer"),
        (["check", "hello", "--max-seconds", "0"], "is not in the range"),
        (["check", "hello", "--horizon", "-1"], "is not in the range"),
        (["check", "hello", "--workers", "0"], "0 is not in the range"),
        (["check", "hello", "--graph", "graph.txt"], "must end in one of .png, .svg, .pdf"),
        (["check", "hello", "--graph", "/proc/nope/graph.png"], "cannot be written: No such file"),
        (["check"], "Missing argument 'SCENARIO'. For help: asgi-sim check --help"),
        (["check", "hello", "--nope"], "No such option '--nope'"),
        (["chekc"], "No such command 'chekc'"),
        (["replay"], "Missing argument 'BLOB"),
        (["replay", "hello"], "'hello' is not a schedule: schedules begin with 'sim1.'"),
        (["replay", "sim1."], "damaged or cut off"),
        (["replay", "sim1.!!!!"], "is damaged"),
        (["replay", "sim9.AAAA"], "of format 'sim9', and this version of asgi-sim reads 'sim1'"),
        (["replay", "x", "--python", "3.10"], "it needs --real"),
        (["replay", "x", "--trace", "--mermaid"], "Ask for one of them"),
    ],
)
@pytest.mark.usefixtures("here")
def test_mistakes(args: list[str], message: str) -> None:
    assert re.search(message, fails(*args)), fails(*args)


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("broken:app", "'broken:app' raised ZeroDivisionError while it was imported: division by zero"),
        ("apps:nope", "the module 'apps' has no attribute 'nope'"),
        ("nope:app", "'nope:app' could not be imported: No module named 'nope'"),
        ("apps", "is not of the form module:attribute"),
        ("apps:number", "which cannot be called"),
        ("apps:no_start", "server did not start: .*no database"),
    ],
)
@pytest.mark.usefixtures("here")
def test_applications_that_cannot_be_served(app: str, message: str) -> None:
    result = run("check", "hello", "--param", f"app={app}", "--server", "hypercorn")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert re.search(rf"^asgi-sim: .*{message}", result.stderr, re.MULTILINE)


@pytest.mark.usefixtures("here")
def test_what_all_servers_have_in_common_is_said_once() -> None:
    servers = ("--server", "hypercorn", "--server", "uvicorn[h11,wsproto]")
    result = run("check", "hello", "--param", "app=broken:app", *servers)
    assert result.exit_code == 2
    assert result.stderr.count("division by zero") == 1


@pytest.mark.parametrize(
    ("app", "message"),
    [("hang", "deadlock: client still waits"), ("spin", "livelock: server ran 100,000 iterations")],
)
@pytest.mark.usefixtures("here")
def test_scenarios_that_never_end_violate_progress(app: str, message: str) -> None:
    result = run("check", "hello", "--param", f"app=apps:{app}", "--server", "hypercorn")
    assert result.exit_code == 1
    assert "hypercorn violates progress" in result.stdout
    assert message in " ".join(result.stdout.split())


@pytest.mark.usefixtures("here")
def test_a_scenario_that_runs_for_ever_in_virtual_time_is_inconclusive() -> None:
    result = run("check", "hello", "--param", "app=apps:forever", "--server", "hypercorn", "--horizon", "50")
    assert result.exit_code == 0
    assert "the search ended by horizon=50. To go on, raise --horizon (virtual seconds)." in result.stdout


@pytest.mark.usefixtures("here")
def test_a_scenario_that_runs_for_ever_in_real_time_violates_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.world.watchdog.Watchdog.__init__.__defaults__", (0.5,))
    result = run("check", "hello", "--param", "app=apps:stall", "--server", "hypercorn")
    assert result.exit_code == 1
    assert "hypercorn violates progress" in result.stdout
    assert "apps.py" in result.stdout


@pytest.mark.usefixtures("here")
def test_what_a_scenario_raises_is_said_without_a_traceback() -> None:
    message = fails_after_progress("check", "stories:failing", "--server", "hypercorn")
    assert "LookupError: oh no" in message


@pytest.mark.usefixtures("here")
def test_divergence() -> None:
    message = fails_after_progress("check", "stories:diverging", "--server", "hypercorn")
    assert "two different runs" in message


def fails_after_progress(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 3, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr.partition("asgi-sim: ")[2]


@pytest.mark.usefixtures("here")
def test_internal_errors_have_a_traceback_only_if_asked() -> None:
    args = ("check", "stories:broken_settings", "--server", "hypercorn")
    message = fails_after_progress(*args)
    assert "internal error: ZeroDivisionError: division by zero (at stories.py:" in message
    assert "ASGI_SIM_DEBUG=1" in message
    for result in (run("--debug", *args), run(*args, env={"ASGI_SIM_DEBUG": "1"})):
        assert result.exit_code == 3
        assert "Traceback" in result.stderr


@pytest.mark.usefixtures("here")
def test_errors_of_some_subjects_in_json() -> None:
    result = run("check", "stories:failing", "--server", "hypercorn", "--json")
    assert result.exit_code == 3
    answer = json.loads(result.stdout)
    assert answer["subjects"] == []
    (error,) = answer["errors"]
    assert error["server"] == "hypercorn"
    assert "oh no" in error["message"]


# replay


def test_replay_tells_and_draws(blob: str) -> None:
    result = run("replay", blob)
    assert result.exit_code == 1
    assert result.stderr == ""
    check_golden("replay_pong.txt", result.stdout)


def test_replay_takes_a_blob_that_was_broken_into_lines(blob: str) -> None:
    assert run("replay", blob[:30], blob[30:60], blob[60:]).stdout == run("replay", blob).stdout


def test_replay_of_what_holds() -> None:
    holds = Schedule("hello", "granian==1.4.2", (), versions={"python": "{}.{}".format(*sys.version_info)})
    result = run("replay", holds.to_blob())
    assert result.exit_code == 0
    assert "hello on granian==1.4.2: violates nothing" in result.stdout


def test_replay_trace_is_json_lines_alone_and_the_same_each_time(blob: str) -> None:
    first, second = run("replay", blob, "--trace"), run("replay", blob, "--trace")
    assert first.exit_code == 1
    assert first.stdout_bytes == second.stdout_bytes
    events = [json.loads(line) for line in first.stdout.splitlines()]
    assert [e["seq"] for e in events] == list(range(len(events)))
    assert "asgi.receive_failed" in {e["event"] for e in events}


def test_replay_trace_is_the_same_in_another_process(blob: str) -> None:
    traces = {
        subprocess.run(
            [sys.executable, "-m", "sim", "replay", blob, "--trace"],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": locale},
        ).stdout
        for seed, locale in (("1", "C"), ("2", "C.UTF-8"))
    }
    assert traces == {run("replay", blob, "--trace").stdout_bytes}


def test_replay_mermaid(blob: str) -> None:
    result = run("replay", blob, "--mermaid")
    assert result.exit_code == 1
    assert result.stdout.startswith("sequenceDiagram\n    participant p0 as client\n")


def test_replay_of_another_invariant(blob: str) -> None:
    assert "broken: A Pong logs nothing" in run("replay", blob, "--invariant", "pong-unlogged").stdout
    assert "does not break 'nope'. It breaks: pong-no-flow-error" in fails("replay", blob, "--invariant", "nope")


def test_replay_of_a_truncated_blob(blob: str) -> None:
    for length in (6, 20, len(blob) // 2, len(blob) - 1):
        assert "damaged" in fails("replay", blob[:length])


def test_replay_of_a_changed_blob(blob: str) -> None:
    changed = blob[:-5] + ("A" if blob[-5] != "A" else "B") + blob[-4:]
    assert "checksum is wrong" in fails("replay", changed)


def variant(blob: str, **changes: Any) -> str:
    import attrs

    return attrs.evolve(Schedule.from_blob(blob), **changes).to_blob()


def test_replay_of_an_unknown_scenario_or_server(blob: str) -> None:
    assert "there is no scenario 'gone'" in fails("replay", variant(blob, scenario="gone"))
    assert "there is no server 'gone'" in fails("replay", variant(blob, server="gone"))


def test_replay_of_another_version(blob: str) -> None:
    other = variant(blob, versions={"python": "2.7"})
    assert re.search(r"recorded with python 2.7 \(here: 3.\d+\)\..*--any-version", fails("replay", other))
    assert run("replay", other, "--any-version").exit_code == 1


def test_replay_of_a_schedule_of_another_story(blob: str) -> None:
    assert "choice" in fails("replay", variant(blob, picks=(99,)), code=3)
    assert "choices" in fails("replay", variant(blob, picks=(0,) * 500 + (1,)), code=3)


class Confirmation:
    def __init__(self, confirmed: bool) -> None:
        self.confirmed = confirmed

    def describe(self) -> str:
        return "confirmed on it" if self.confirmed else "not reproduced on it"


@pytest.mark.parametrize(("confirmed", "code"), [(True, 1), (False, 0)])
def test_replay_on_a_real_server(blob: str, monkeypatch: pytest.MonkeyPatch, confirmed: bool, code: int) -> None:
    asked: dict[str, Any] = {}

    def confirm(trace: Any, application: Any, **options: Any) -> Confirmation:
        options.pop("say")("making an environment")
        asked.update(options, application=application, events=len(trace))
        return Confirmation(confirmed)

    monkeypatch.setattr("sim.registry.find_confirm", lambda: confirm)
    result = run("replay", blob, "--real", "granian==1.3.2", "--python", "3.10")
    assert result.exit_code == code
    assert result.stdout.endswith(f"{Confirmation(confirmed).describe()}\n")
    assert result.stderr == "making an environment\n"
    assert asked["requirement"] == "granian==1.3.2"
    assert asked["python"] == "3.10"
    assert asked["application"].target == "scenarios.applications:receiving"
    assert [i.name for i in asked["invariants"]][:2] == ["pong-no-flow-error", "pong-unlogged"]
    one = run("replay", blob, "--real", "granian==1.3.2", "--invariant", "pong-unlogged", "--trace")
    assert [i.name for i in asked["invariants"]] == ["pong-unlogged"]
    assert Confirmation(confirmed).describe() in one.stderr
    assert all(json.loads(line) for line in one.stdout.splitlines())


def test_replay_on_a_real_server_needs_something_to_confirm() -> None:
    holds = Schedule("hello", "granian==1.4.2", (), versions={"python": "{}.{}".format(*sys.version_info)})
    result = run("replay", holds.to_blob(), "--real", "granian==1.4.4")
    assert result.exit_code == 2
    assert "asgi-sim: the run violates nothing, so there is nothing to confirm" in result.stderr


def test_our_own_confirm_is_found() -> None:
    from models.process import confirm
    from sim.registry import find_confirm

    assert find_confirm() is confirm


# the command itself


def test_version_and_help() -> None:
    assert re.fullmatch(r"asgi-sim, version \d+\.\d+\.\d+\n", run("--version").stdout)
    for args in (["--help"], ["-h"], ["list", "--help"], ["check", "--help"], ["replay", "-h"]):
        result = run(*args)
        assert result.exit_code == 0
        assert "Usage: asgi-sim" in result.stdout
    assert "130  interrupted" in run("--help").stdout


def test_without_a_command_there_is_help() -> None:
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


def test_what_help_says_of_defaults_is_true() -> None:
    text = " ".join(run("check", "--help").stdout.split())
    assert f"Default: {question_module.DEFAULT_MAX_RUNS:,}; {SAMPLES:,} if they are drawn." in text
    assert f"Default: {question_module.DEFAULT_MAX_CHOICES:,}." in text
    assert SEARCHES == question_module.SEARCHES
    assert GRANULARITIES == question_module.GRANULARITIES


def test_examples_in_help_can_be_asked() -> None:
    """Each option in them exists."""
    for command in ("check", "replay"):
        text = run(command, "--help").stdout
        for line in re.findall(r"^    asgi-sim (.*)$", text, re.MULTILINE):
            for option in re.findall(r"--[a-z-]+", line):
                assert f"  {option}" in text.partition("Options:")[2]


@pytest.mark.parametrize("command", [["-m", "sim"], ["-c", "from sim.cli import main; main()"]])
def test_entry_points(command: list[str]) -> None:
    done = subprocess.run([sys.executable, *command, "check", "nope"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("asgi-sim: there is no scenario 'nope'.")


def test_a_models_module_of_ones_own_does_no_harm(tmp_path: Path) -> None:
    """Unless Python itself puts the current directory first, as `python -m` does."""
    (tmp_path / "models.py").write_text("mine = True\n")
    command = [os.path.join(os.path.dirname(sys.executable), "asgi-sim"), "check", "hello", "--server", "hypercorn"]
    if not os.path.exists(command[0]):
        command[:1] = [sys.executable, "-P", "-m", "sim"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_interrupt() -> None:
    """As a terminal does it: everybody gets the signal."""
    for wait in (0.05, 3.0):
        process = subprocess.Popen(
            [sys.executable, "-m", "sim", "check", "unsolicited_pong"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        time.sleep(1.0)
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGINT)
        started = time.monotonic()
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - started < 20
        assert process.returncode == 130
        assert out == ""
        assert "Traceback" not in err
        assert err.endswith("asgi-sim: interrupted\n")


def test_a_reader_that_goes_away_is_neither_a_traceback_nor_a_violation() -> None:
    process = subprocess.Popen([sys.executable, "-m", "sim", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert err == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_no_color_and_no_terminal_mean_plain_text(blob: str) -> None:
    assert "\x1b" not in run("replay", blob).stdout
    assert "\x1b[1;31m" in run("replay", blob, env={"FORCE_COLOR": "1", "TERM": "xterm"}).stdout
    assert "\x1b[1;31m" not in run("replay", blob, env={"FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": "1"}).stdout


def test_the_library_shows_the_same_case(blob: str) -> None:
    report = explore("unsolicited_pong", server="granian==1.4.1", params={"receiving": "echo"}, max_runs=3)
    case = make_case(report, report.discoveries[0])
    assert case.replay_line == f"asgi-sim replay {blob}"
    shown = [line.strip() for line in run("replay", blob).stdout.splitlines()]
    assert all(line.strip() in shown for line in str(case.story).splitlines())
