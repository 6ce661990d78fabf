"""The Hypothesis bridge: inputs and schedule are one example, which shrinks, is kept, and comes back as one."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, reproduce_failure, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from models.websocket import Refused, WebSocketClient, WsText, pong, text
from scenarios.unsolicited_pong import LATENCY, receiving_application
from sim import CheckFailed, Param, Scenario, Settings, Stuck, UsageError, Violation, World, eventually
from sim import strategies as sims

from .toys import ADDRESS, Got, Toy, got, listening, picking, toy_scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sim import Connection, Host, Trace

pytest_plugins = ["pytester"]
QUIET = settings(deadline=None, database=None, print_blob=False)


@pytest.fixture(autouse=True, scope="module")
def one_boundary() -> Iterator[None]:
    with sims.session():
        yield


# Inputs and schedule together, on Granian's model: a text is lost if the application cancels the receive() that a Pong
# behind the text has made fail; that takes one client, one text, and one delivery that is early.


def play(world: World, subject: Any, *, clients: int, texts: int) -> None:
    server = subject.serve(world, receiving_application("polling"))

    async def client(host: Host) -> None:
        websocket = WebSocketClient(host)
        try:
            await websocket.connect(server.address)
        except Refused:
            return
        for number in range(texts):
            websocket.send(text(f"hello {number}"))
        websocket.send(pong())
        while websocket.open and await websocket.receive(within=0.5) is not None:
            pass
        await websocket.close(1000)

    for number in range(clients):
        world.start_script(f"client {number}", client)


@eventually("first-echoed", "Each client gets the echo of its first text.")
def first_echoed(trace: Trace) -> Violation | None:
    sent = {event.actor for event in trace.of(WsText) if event.way == "sends"}
    have = {event.actor for event in trace.of(WsText) if event.way == "gets"}
    return Violation(f"{', '.join(sorted(sent - have))} got nothing") if sent - have else None


POLLED = Scenario(
    name="tests.sim.test_strategies:POLLED",
    story="Texts and Pongs to an application that polls.",
    play=play,
    invariants=(first_echoed,),
    params=(Param("clients", 1, "how many"), Param("texts", 1, "of each client")),
    settings=lambda **_: Settings(latency=LATENCY, horizon=120.0),
    observe=lambda trace: f"{sum(e.way == 'gets' for e in trace.of(WsText))} echoes",
)
EXAMPLES = sims.runs(POLLED, server="granian==1.4.1", params={"clients": st.integers(1, 3), "texts": st.integers(1, 3)})


def minimal(test: Callable[[], object]) -> CheckFailed:
    """How a test fails, once Hypothesis has shrunk it."""
    with pytest.raises(CheckFailed) as failed:
        test()
    return failed.value


def test_inputs_and_schedule_shrink_together_to_the_minimal_story() -> None:
    shrunk: list[sims.Played] = []

    @settings(QUIET, max_examples=400, derandomize=True)
    @given(EXAMPLES)
    def no_text_is_lost(run: sims.Played) -> None:
        shrunk.append(run)
        run.check()

    failure = minimal(no_text_is_lost)
    least = shrunk[-1]
    assert (least.params, least.run.deviations) == ({"clients": 1, "texts": 1}, 1)
    assert least.broken == ("first-echoed",)
    assert failure.summary == (
        "tests.sim.test_strategies:POLLED on granian==1.4.1 violates first-echoed: client 0 got nothing"
    )
    assert "broken: Each client gets the echo of its first text. (first-echoed)" in failure.story
    assert failure.story.count("client 0") == 1 or "client 1" not in failure.story
    assert failure.replay_line.startswith("asgi-sim replay sim1.") or failure.replay_line.startswith("sim.replay(")
    assert repr(least) == (
        "<run of tests.sim.test_strategies:POLLED on granian==1.4.1, clients=1, texts=1: "
        f"1 of {len(least.run.choices)} choices deviate, {len(least.trace)} events, breaks first-echoed>"
    )


# A toy is enough for the rest: three picks, and the sum must not be 4 or more.

SUMS = toy_scenario(
    lambda world, _subject, most: picking(*[most] * 3)(world, _subject),
    eventually("small", "The sum is below 4.")(
        lambda trace: next((Violation(f"{e.what}") for e in trace if sum(getattr(e, "what", ())) >= 4), None)  # type: ignore[arg-type]
    ),
    params=(Param("most", 2, "possibilities"),),
    observe=lambda trace: f"sum {sum(next(iter(trace)).what)}",  # type: ignore[attr-defined]
)


LEAST = [({"most": 3}, (0, 2, 2)), ({"most": 5}, (0, 0, 4))]
"""Nothing is left to take from either of these."""


def sums(**options: Any) -> Any:
    return sims.runs(SUMS, server=Toy(), **{"params": {"most": st.integers(2, 5)}, **options})


def failing_test(executed: list[Any], **options: Any) -> Any:
    @settings(QUIET, **options)
    @given(sums())
    def test(run: sims.Played) -> None:
        executed.append(run)
        run.check()

    return test


def test_what_is_shrunk_is_the_least() -> None:
    executed: list[sims.Played] = []
    minimal(failing_test(executed, derandomize=True))
    assert (executed[-1].params, executed[-1].run.picks) in LEAST


def test_its_database_keeps_the_example() -> None:
    database = InMemoryExampleDatabase()
    first: list[Any] = []
    again: list[Any] = []
    minimal(failing_test(first, database=database))
    minimal(failing_test(again, database=database, phases=[Phase.reuse]))
    assert len(again) < len(first)
    assert {run.run.picks for run in again} <= {run.run.picks for run in first if run.broken}


def test_reproduce_failure(capsys: pytest.CaptureFixture[str]) -> None:
    executed: list[sims.Played] = []
    failure = minimal(failing_test(executed, print_blob=True))
    text = "\n".join([*getattr(failure, "__notes__", ()), capsys.readouterr().out])
    arguments = text.partition("@reproduce_failure(")[2].partition(") as a decorator")[0]
    assert arguments, text
    again: list[sims.Played] = []
    minimal(eval(f"reproduce_failure({arguments})", {"reproduce_failure": reproduce_failure})(failing_test(again)))
    assert {run.run.picks for run in again} == {executed[-1].run.picks}


def test_the_replay_line_needs_no_hypothesis() -> None:
    import sim

    executed: list[sims.Played] = []
    failure = minimal(failing_test(executed))
    blob = failure.replay_line.split('"')[1]
    _, run = sim.replay(blob, scenario=SUMS, server=Toy())
    assert run.picks == executed[-1].run.picks
    assert run.trace.to_jsonl() == executed[-1].trace.to_jsonl()


def test_statistics_and_the_falsifying_example(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        from hypothesis import given, settings
        from sim import strategies as sims
        from sim import Scenario, Settings

        def play(world, subject):
            world.choose("ab", "which")

        quiet = Scenario(name="quiet", story="s", play=play, invariants=(), observe=lambda trace: "one of two")

        @sims.session()
        @settings(deadline=None, database=None)
        @given(sims.runs(quiet, server="reference"), sims.schedules())
        def test_it(run, schedule):
            assert schedule.choose(3, "of three") != 2
    """)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--hypothesis-show-statistics")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*run=<run of quiet on reference: 0 of 1 choices deviate, 0 events>,*",
            "*schedule=<schedule>,*",
            "*Choice 1: pick 2 of 3 (of three)",
            "*100.00%, one of two*",
        ]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"params": {"least": st.integers()}}, "no parameter 'least'"),
        ({"params": {"most": "many"}}, "most='many' is not of type int"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_is_drawn(options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sums(**options)


def test_check_of_some_invariants_only() -> None:
    run = find(sums(), lambda run: bool(run.broken), settings=QUIET)
    assert run.observed == "sum 4"
    with pytest.raises(CheckFailed, match="violates small"):
        run.check("small")
    run.check("progress")
    with pytest.raises(UsageError, match="claims no tall"):
        run.check("tall")


@pytest.mark.parametrize("granularity", ["turn", "iteration"])
def test_more_choices_than_hypothesis_can_draw_are_no_error(granularity: str) -> None:
    """The run is whole; behind `max_choices` it is first in, first out, and an overrun ends an example in silence."""

    def endless(world: World, _subject: Any) -> None:
        listening(world)

        async def script(host: Host) -> None:
            connection = await host.connect(ADDRESS)
            connection.send(b"x")
            for _ in range(40):
                host.choose(range(3), "of three")

        for number in range(6):
            world.start_script(f"client {number}", script)

    scenario = toy_scenario(endless)
    executed: list[int] = []

    @settings(QUIET, max_examples=10, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(
        st.lists(sims.runs(scenario, server=Toy(), granularity=granularity, max_choices=200), min_size=1, max_size=90)
    )
    def test(runs: list[sims.Played]) -> None:
        executed.extend(len(run.run.choices) for run in runs)

    test()
    assert executed
    assert set(executed) == {200}


# Schedules.


def test_a_schedule_is_drawn_when_a_world_asks() -> None:
    found = find(sims.schedules(), lambda schedule: schedule.choose(5, "of five") >= 3, settings=QUIET)
    assert repr(found) == "<schedule: 3>"


def test_schedules_drive_worlds_of_ones_own() -> None:
    orders: set[tuple[str, ...]] = set()

    @settings(QUIET, max_examples=60)
    @given(sims.schedules())
    def test(schedule: Any) -> None:
        from .toys import chattering

        with World(schedule, Settings(settle=0.0)) as world:
            world.run(lambda world: chattering(2, 1)(world, None))
            orders.add(got(world.trace))

    test()
    assert orders == {("a0", "b0"), ("b0", "a0")}


def test_behind_its_limit_a_schedule_is_first_in_first_out() -> None:
    @settings(QUIET, max_examples=20)
    @given(sims.schedules(max_choices=2))
    def test(schedule: Any) -> None:
        answers = [schedule.choose(4, "of four") for _ in range(5)]
        assert answers[2:] == [0, 0, 0]
        assert schedule.truncated

    test()


# Segmentations and scripts.


@given(st.data(), st.binary(max_size=12), st.none() | st.integers(1, 4))
def test_segmentations_are_cuts(data: st.DataObject, whole: bytes, most: int | None) -> None:
    pieces = data.draw(sims.segmentations(whole, max_pieces=most))
    assert b"".join(pieces) == whole
    assert all(pieces)
    assert most is None or len(pieces) <= most


def test_every_segmentation_is_drawn_and_one_piece_is_the_least() -> None:
    seen = set()

    @settings(QUIET, max_examples=300)
    @given(sims.segmentations(b"abcd"))
    def test(pieces: tuple[bytes, ...]) -> None:
        seen.add(pieces)

    test()
    assert len(seen) == 2**3
    assert find(sims.segmentations(b"abcd"), lambda _: True, settings=QUIET) == (b"abcd",)
    assert find(sims.segmentations(b"abcd"), lambda pieces: len(pieces) > 1, settings=QUIET) == (b"a", b"bcd")
    with pytest.raises(UsageError, match="max_pieces=0"):
        sims.segmentations(b"abcd", max_pieces=0)


def test_scripts_and_schedule_shrink_together() -> None:
    """A server that cannot stand "b" in front of "a": two clients' scripts, cut in pieces, and the schedule."""
    tried: list[tuple[Any, Any, Any]] = []

    @settings(QUIET, max_examples=300, derandomize=True)
    @given(*[sims.scripts(sims.tcp_steps(st.sampled_from([b"a", b"bc"])), max_size=3)] * 2, sims.schedules())
    def test(one: sims.Script, two: sims.Script, schedule: Any) -> None:
        def scene(world: World) -> None:
            listening(world)
            for name, script in (("one", one), ("two", two)):

                async def client(host: Host, script: sims.Script = script) -> None:
                    await script.play(await host.connect(ADDRESS))

                world.start_script(name, client)

        with World(schedule, Settings(settle=0.0)) as world:
            world.run(scene)
            tried.append((one, two, schedule))
            seen = "".join(got(world.trace))
        assert not ("a" in seen and "b" in seen and seen.index("b") < seen.index("a"))

    with pytest.raises(AssertionError):
        test()
    one, two, schedule = tried[-1]
    sent = sorted(str(step) for script in (one, two) for step in script.steps)
    assert sent == ["Send(pieces=(b'a',))", "Send(pieces=(b'bc',))"]
    assert sum(choice.pick != 0 for choice in schedule.made) <= 1


def test_a_script_ends_where_its_connection_does() -> None:
    done = []

    def scene(world: World) -> None:
        listening(world)

        async def client(host: Host) -> None:
            script = sims.Script((sims.Send((b"a", b"b")), sims.Receive(0.1), sims.ShutWrite(), sims.Send((b"c",))))
            done.append(await script.play(await host.connect(ADDRESS)))

        world.start_script("client", client)

    with World(settings=Settings(settle=0.0)) as world:
        world.run(scene)
        assert got(world.trace) == ("a", "b")
    assert done == [3]


@pytest.mark.parametrize("end", [sims.Close(), sims.Abort()])
def test_after_close_nothing_can_be_sent(end: Any) -> None:
    done = []

    def scene(world: World) -> None:
        listening(world)

        async def client(host: Host) -> None:
            done.append(await sims.Script((end, sims.Send((b"c",)))).play(await host.connect(ADDRESS)))

        world.start_script("client", client)

    with World(settings=Settings(settle=0.0)) as world:
        world.run(scene)
    assert done == [1]


# Live worlds.


def test_a_live_world_stands_still_between_actions() -> None:
    with sims.Live(listening) as live:
        host = live.host("client")
        connection = live.run(host.connect(ADDRESS))
        live.call(connection.send, b"one")
        assert got(live.trace) == ()
        assert live.step()
        assert got(live.trace) == ("one",)
        assert not live.step()
        before = live.now
        live.run_for(5.0)
        assert live.now == before + 5.0


def test_a_world_in_which_nothing_can_happen_goes_on_when_something_is_done() -> None:
    with sims.Live(listening) as live:
        assert not live.step()
        connection = live.run(live.host("client").connect(ADDRESS))
        live.call(connection.send, b"late")
        live.run_for(0.1)
        assert got(live.trace) == ("late",)


def test_what_an_action_raises_is_raised_and_the_world_goes_on() -> None:
    with sims.Live(listening) as live:
        host = live.host("client")
        with pytest.raises(ConnectionRefusedError):
            live.run(host.connect(("127.0.0.1", 1)))
        connection = live.run(host.connect(ADDRESS))
        live.run(sims.Send((b"fine",))(connection))
        live.run_for(0.1)
        assert got(live.trace) == ("fine",)


def test_an_action_that_cannot_end_is_stuck() -> None:
    with sims.Live(listening) as live:
        connection = live.run(live.host("client").connect(ADDRESS))
        with pytest.raises(Stuck, match=r"an action waits for ever: Connection\.receive has not ended at"):
            live.run(connection.receive(), within=2.0)


def test_a_scene_that_cannot_be_set_leaves_nothing_behind() -> None:
    def scene(world: World) -> None:
        raise ZeroDivisionError("in the scene")

    with pytest.raises(ZeroDivisionError):
        sims.Live(scene)
    with sims.Live(listening) as live:
        assert live.now == 0.0


class Chats(RuleBasedStateMachine):
    """Clients of a live server connect, send, shut down; each thing in flight arrives when the machine says so."""

    lossy = False

    @initialize(schedule=sims.schedules())
    def start(self, schedule: Any) -> None:
        self.live = sims.Live(listening, schedule)
        self.connections: list[Connection] = []
        self.sent: list[list[str]] = []

    @rule()
    def connect(self) -> None:
        host = self.live.host(f"client {len(self.connections)}")
        self.connections.append(self.live.run(host.connect(ADDRESS)))
        self.sent.append([])

    @precondition(lambda self: self.connections)
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.connections) - 1))
        message = f"{number}.{len(self.sent[number])} "
        self.live.call(self.connections[number].send, message.encode())
        self.sent[number].append(message)

    @rule()
    def something_arrives(self) -> None:
        self.live.step()

    def arrived(self, number: int) -> str:
        return "".join(e.data for e in self.live.trace.of(Got) if e.data.startswith(f"{number}."))

    @invariant()
    def what_arrived_was_sent_in_this_order(self) -> None:
        for number, sent in enumerate(getattr(self, "sent", ())):
            assert "".join(sent).startswith(self.arrived(number))

    @precondition(lambda self: self.lossy)
    @invariant()
    def no_two_clients_overtake_one_another(self) -> None:
        heard = [e.data[0] for e in self.live.trace.of(Got)] if hasattr(self, "live") else []
        assert heard == sorted(heard), heard

    def teardown(self) -> None:
        if hasattr(self, "live"):
            with self.live:
                self.live.run_for(1.0)
                for number, sent in enumerate(self.sent):
                    assert self.arrived(number) == "".join(sent)


MACHINE = settings(QUIET, max_examples=25, stateful_step_count=15, suppress_health_check=list(HealthCheck))


def test_a_stateful_machine_against_a_live_world() -> None:
    run_state_machine_as_test(Chats, settings=MACHINE)  # type: ignore[no-untyped-call]


def test_a_stateful_machine_shrinks_to_its_story(capsys: pytest.CaptureFixture[str]) -> None:
    class Strict(Chats):
        lossy = True

    with pytest.raises(AssertionError) as failed:
        run_state_machine_as_test(
            Strict, settings=settings(MACHINE, max_examples=60, derandomize=True, phases=[Phase.generate, Phase.shrink])
        )  # type: ignore[no-untyped-call]
    story = "\n".join([*getattr(failed.value, "__notes__", ()), capsys.readouterr().out])
    assert story.count("state.send(") == 2, story
    moves = story.count("state.connect()") + story.count("state.something_arrives()")
    assert moves <= 4, story  # two clients; a third one's connect lets things arrive as well as the rule for it


# Without Hypothesis.


def test_without_hypothesis_the_import_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "hypothesis.py").write_text("raise ModuleNotFoundError('no')\n")
    code = "import sys; sys.path.insert(0, sys.argv[1])\nimport sim, sim.search.explore\nimport sim.strategies"
    done = subprocess.run(  # noqa: PLW1510
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert (
        "sim.strategies needs Hypothesis, and it is not installed here. Install it: pip install 'asgi-sim[hypothesis]'."
        in done.stderr
    )
