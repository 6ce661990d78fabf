"""With every reduction a search finds the outcomes, and breaks the invariants, that it does without; and an unsound one fails.

A new reduction joins by its name in `sim.search.reduction.REDUCTIONS`.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import pytest

from models.uvicorn import COMBINATIONS
from sim import Faults, Scenario, Settings, UsageError, Violation, always, eventually, explore
from sim.registry import find_scenario
from sim.search.classes import Classes
from sim.search.isolation import NotIsolated
from sim.search.reduction import REDUCTIONS, chosen
from sim.world.footprint import Footprint

from .toys import ADDRESS, Got, Noted, Toy, chattering, got, listening, noted, picking, search, talker, toy_scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim import Host, Report, Trace, World

pytestmark = pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")
LATENCY = Settings(latency=(0.0, 0.1), settle=0.0)


# Small worlds in which a reduction can go wrong.


@always("first-come", "The server gets a0 before anything else of another client.")
def a_comes_first(trace: Trace) -> Violation | None:
    order = got(trace)
    return Violation(f"it got {order}") if order and not order[0].startswith("a") else None


def racing_with_a_timer(world: World, _subject: Any) -> None:
    """Two clients send, each waits only so long for an answer that never comes, and then sends once more."""
    listening(world)

    def client(name: str) -> Callable[[Host], Any]:
        async def script(host: Host) -> None:
            connection = await host.connect(ADDRESS)
            connection.send(name.encode(), name)
            await connection.receive(within=0.05)
            connection.send(name.upper().encode(), name.upper())

        return script

    for name in ("a", "b"):
        world.start_script(f"client {name}", client(name))


def resetting(world: World, _subject: Any) -> None:
    """One client sends, and resets its connection while an answer may be on its way; the other one just sends."""

    class Answer(asyncio.Protocol):
        transport: asyncio.Transport

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport  # type: ignore[assignment]

        def data_received(self, data: bytes) -> None:
            world.trace.record(Got, "server", data.decode())
            self.transport.write(b"yes")

        def connection_lost(self, exc: Exception | None) -> None:
            world.trace.record(Got, "server", f"lost: {exc}")

    async def main() -> None:
        async with await asyncio.get_running_loop().create_server(Answer, *ADDRESS) as server:
            await server.serve_forever()

    async def resetter(host: Host) -> None:
        connection = await host.connect(ADDRESS)
        connection.send(b"a1", "a1")
        connection.send(b"a2", "a2")
        world.trace.record(Noted, "resetter", await connection.receive())
        connection.abort()

    async def sender(host: Host) -> None:
        connection = await host.connect(ADDRESS)
        connection.send(b"b", "b")
        world.trace.record(Noted, "sender", await connection.receive())

    world.start_process("server", main)
    assert world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1.0)
    world.start_script("resetter", resetter)
    world.start_script("sender", sender)


def choosing(world: World, _subject: Any) -> None:
    """Clients whose second message is a choice of theirs, made when the first was answered by somebody else's."""
    listening(world)

    def client(name: str) -> Callable[[Host], Any]:
        async def script(host: Host) -> None:
            connection = await host.connect(ADDRESS)
            line = f"{name}{host.choose('xyz', 'what to say')}"
            connection.send(line.encode(), line)

        return script

    for name in ("a", "b"):
        world.start_script(f"client {name}", client(name))


def greeting(then: Callable[[World, Host, int], Any], *names: str) -> Callable[..., None]:
    """A play in which one message makes the server greet two scripts, which then do something about it."""

    def play(world: World, _subject: Any) -> None:
        greeted: list[asyncio.Transport] = []
        standing: list[int] = []

        class Greet(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                greeted.append(transport)  # type: ignore[arg-type]

            def data_received(self, data: bytes) -> None:
                for transport in greeted[:2]:
                    transport.write(b"hello")

        async def main() -> None:
            async with await asyncio.get_running_loop().create_server(Greet, *ADDRESS) as server:
                await server.serve_forever()

        def client(number: int) -> Callable[[Host], Any]:
            async def script(host: Host) -> None:
                connection = await host.connect(ADDRESS)
                standing.append(number)
                if number == len(names):
                    connection.send(b"go", "go")
                    return
                await connection.receive()
                await then(world, host, number)

            return script

        world.start_process("server", main)
        assert world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1.0)
        for number, name in enumerate((*names, "starter")):
            world.start_script(name, client(number))
            assert world.run_until(lambda number=number: number in standing, within=1.0)  # type: ignore[misc]

    return play


async def ring(world: World, host: Host, number: int) -> None:
    """Two hosts set timers for one moment, and whoever set his first rings first."""
    await host.sleep(1.0)
    world.trace.record(Noted, "bell", number)


async def note(world: World, host: Host, number: int) -> None:
    """Two connections of one host: the host sees which got something first."""
    world.trace.record(Noted, host.name, number)


def two_servers(world: World, _subject: Any) -> None:
    """Two processes of their own, and a client of each: nothing in common but the clock."""
    for number in (1, 2):
        address = (ADDRESS[0], ADDRESS[1] + number)

        class Note(asyncio.Protocol):
            name = f"server {number}"

            def data_received(self, data: bytes) -> None:
                world.trace.record(Got, self.name, data.decode())

        async def main(protocol: type[asyncio.Protocol] = Note, address: tuple[str, int] = address) -> None:
            async with await asyncio.get_running_loop().create_server(protocol, *address) as server:
                await server.serve_forever()

        world.start_process(f"server {number}", main)
        assert world.run_until(lambda a=address: a in world.kernel.listeners, within=1.0)  # type: ignore[misc]
    lines = {1: "xy", 2: "z"}
    for number in (1, 2):
        address = (ADDRESS[0], ADDRESS[1] + number)

        async def script(host: Host, number: int = number, address: tuple[str, int] = address) -> None:
            connection = await host.connect(address)
            for line in lines[number]:
                connection.send(line.encode(), line)

        world.start_script(f"client {number}", script)


class Pair(NamedTuple):
    """A scenario and a server, small enough to run every order."""

    scenario: Scenario | str
    server: Any
    params: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it
    granularity: str | None = None


def toy(play: Callable[..., Any], *invariants: Any, **settings: Any) -> Scenario:
    return toy_scenario(play, *invariants, settings=attrs.evolve(LATENCY, **settings))


TOYS = {
    "chatter": Pair(toy(chattering(2, 2), a_comes_first), Toy()),
    "chatter-3-clients": Pair(toy(chattering(3, 1), a_comes_first), Toy()),
    "chatter-slow-links": Pair(toy(chattering(2, 2), latency=(0.01, 0.03)), Toy()),
    "chatter-iterations": Pair(toy(chattering(1, 3, laps=3)), Toy(), granularity="iteration"),
    "chatter-2-iterations": Pair(toy(chattering(2, 1, laps=2), a_comes_first), Toy(), granularity="iteration"),
    "timers": Pair(toy(racing_with_a_timer), Toy()),
    "timers-settling": Pair(toy(racing_with_a_timer, settle=1.0), Toy()),
    "reset": Pair(toy(resetting), Toy()),
    "script-choices": Pair(toy(choosing, a_comes_first), Toy()),
    "same-moment": Pair(toy(greeting(ring, "a", "b")), Toy()),
    "one-host": Pair(toy(greeting(note, "host", "host")), Toy()),
    "two-servers": Pair(toy(two_servers), Toy()),
    "two-servers-iterations": Pair(toy(two_servers), Toy(), granularity="iteration"),
    "no-choice": Pair(toy(picking(1)), Toy()),
    "only-script-choices": Pair(toy(picking(2, 3)), Toy()),
}
QUICK = (*COMBINATIONS, "hypercorn", "reference")
REAL = {
    **{f"racing-{s}": Pair("racing_clients", s, {"clients": 3}) for s in QUICK},
    **{f"echoes-{s}": Pair("independent_echoes", s) for s in QUICK},
    **{f"pong-{s}": Pair("unsolicited_pong", s, {"receiving": "echo"}) for s in QUICK},
    **{
        f"hello-iterations-{s}": Pair("hello", s, {}, "iteration")
        for s in ("uvicorn[h11,wsproto]", "granian==1.4.1", "granian==1.4.2", "reference")
    },
    "pong-deaf-granian": Pair("unsolicited_pong", "granian==1.4.1", {"receiving": "deaf"}),
    "pong-polling": Pair("unsolicited_pong", "uvicorn[h11,wsproto]", {"receiving": "polling"}),
    "racing-granian": Pair("racing_clients", "granian==1.4.2", {"clients": 2}),
}


def altered(name: str, server: str, params: dict[str, Any], granularity: str | None = None, **changes: Any) -> Pair:
    """A pair whose worlds differ from those of the scenario."""
    scenario = find_scenario(name)

    def settings(**given: Any) -> Settings:
        return attrs.evolve(scenario.settings(**given), **changes)

    return Pair(attrs.evolve(scenario, settings=settings), server, params, granularity)


TWO, WSPROTO = {"clients": 2}, "uvicorn[h11,wsproto]"
STRUCK = {
    "fin-uvicorn": altered("racing_clients", WSPROTO, TWO, faults=Faults(fin=1)),
    "rst-hypercorn": altered("racing_clients", "hypercorn", TWO, faults=Faults(rst=1)),
    "cancel-uvicorn": altered("racing_clients", WSPROTO, TWO, faults=Faults(cancel=1)),
    "lose-reference": altered("independent_echoes", "reference", {"messages": 1}, faults=Faults(lose=1)),
    "cancel-reference": altered("hello", "reference", {}, faults=Faults(cancel=1)),
    "cancel-iterations": altered("hello", "reference", {}, "iteration", faults=Faults(cancel=1)),
    "sigterm-fin-uvicorn": altered("hello", WSPROTO, {}, faults=Faults(sigterm=1, fin=1)),
    "lost-client": Pair("lost_client", WSPROTO),
    "racing-any": altered("racing_clients", WSPROTO, {"clients": 3}, arrivals="any"),
    "pong-any": altered("unsolicited_pong", WSPROTO, {"receiving": "echo"}, arrivals="any"),
}
PAIRS = {**TOYS, **REAL, **STRUCK}


class Found(NamedTuple):
    outcomes: set[str]
    violated: set[str]
    report: Report


WAYS = (*([name] for name in REDUCTIONS), list(REDUCTIONS))
"""Each reduction alone, and all together."""


def find(pair: Pair, **options: Any) -> Found:
    """The outcomes of a pair, and the invariants that it breaks. Whatever the scenario's claims look at, outcomes are too.

    Nothing is run a second time, for that would be to the end, and show outcomes that the search itself may have missed.
    """
    outcomes: set[str] = set()

    @eventually("seen", "Every whole run is seen.")
    def see(trace: Trace) -> None:
        outcomes.add(repr(trace.outcome()))

    scenario = find_scenario(pair.scenario) if isinstance(pair.scenario, str) else pair.scenario
    past = scenario.past if isinstance(scenario.past, str) else "outcome"
    watched = attrs.evolve(scenario, invariants=(*scenario.invariants, see), past=past)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sim.search.tally.in_sample", lambda _choices: False)
        report = explore(watched, server=pair.server, params=pair.params, granularity=pair.granularity, **options)
    assert report.complete
    return Found(outcomes, {d.invariant for d in report.discoveries}, report)


def same(plain: Found, reduced: Found) -> None:
    assert reduced.outcomes == plain.outcomes
    assert reduced.violated == plain.violated
    assert reduced.report.verdict == plain.report.verdict
    if "states" not in reduced.report.reduce:  # that one may have to begin a second time
        assert reduced.report.runs <= plain.report.runs


def test_there_are_at_least_thirty_pairs_with_something_to_reduce():
    assert len(PAIRS) >= 30


@pytest.mark.parametrize("name", PAIRS)
def test_every_reduction_preserves_outcomes_and_violations(name: str) -> None:
    plain = find(PAIRS[name])
    for way in WAYS:
        same(plain, find(PAIRS[name], reduce=way))


# Planted faults: each of these makes a reduction unsound, and the suite has to see it.


def without(attribute: str) -> Callable[..., bool]:
    """`Footprint.meets`, blind to one thing."""
    meets = Footprint.meets

    def blind(self: Footprint, other: Footprint, *, isolated: bool = False) -> bool:
        ours, theirs = Footprint(), Footprint()
        ours.add(self)
        theirs.add(other)
        for footprint in (ours, theirs):
            setattr(footprint, attribute, type(getattr(footprint, attribute))())
        return meets(ours, theirs, isolated=isolated)

    return blind


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("parts", "chatter"),
        ("parts", "racing-reference"),
        ("moments", "same-moment"),
        ("places", "one-host"),
    ],
)
def test_a_blind_reduction_is_seen(monkeypatch: pytest.MonkeyPatch, attribute: str, name: str) -> None:
    plain = find(PAIRS[name])
    monkeypatch.setattr(Footprint, "meets", without(attribute))
    with pytest.raises(AssertionError):
        same(plain, find(PAIRS[name], reduce=["classes"]))


def test_a_false_declaration_is_seen() -> None:
    pair = PAIRS["racing-uvicorn[h11,wsproto]"]
    liar = attrs.evolve(find_scenario("racing_clients"), isolated=True)
    with pytest.raises(AssertionError):
        same(find(pair), find(pair._replace(scenario=liar), reduce=["classes"]))


# How many classes there are.


@pytest.mark.parametrize("clients", [1, 2, 3, 4, 5, pytest.param(6, marks=pytest.mark.slow)])
def test_racing_clients_have_a_class_for_each_order_of_their_messages(clients: int) -> None:
    report = explore("racing_clients", server="uvicorn[h11,wsproto]", params={"clients": clients}, reduce=["classes"])
    assert report.complete
    assert report.verdict == "holds"
    assert report.runs == report.outcomes == math.factorial(clients)
    assert report.abandoned == 0


@pytest.mark.parametrize("server", ["uvicorn[h11,wsproto]", "hypercorn", "reference"])
def test_what_a_server_gets_from_different_clients_is_ordered_and_what_they_get_is_not(server: str) -> None:
    scenario = attrs.evolve(find_scenario("independent_echoes"), isolated=False)
    report = explore(scenario, server=server, reduce=["classes"])
    assert report.complete
    assert report.assumes == ()
    # Of each client, the request and the message reach the server.
    assert report.runs == math.comb(4, 2)


@pytest.mark.parametrize("messages", [1, 3])
def test_isolated_clients_have_one_class(messages: int) -> None:
    report = explore(
        "independent_echoes", server="uvicorn[h11,wsproto]", params={"messages": messages}, reduce=["classes"]
    )
    assert (report.complete, report.runs, report.outcomes) == (True, 1, 1)
    assert report.assumes
    assert report.swaps is None


def test_hosts_and_servers_with_nothing_in_common_have_one_class_once_they_are_connected() -> None:
    assert find(TOYS["two-servers"], reduce=["classes"]).report.runs == 2, "which SYN comes first: the kernel counts"
    assert find(TOYS["two-servers"]).report.runs == math.comb(5, 2)


@pytest.mark.parametrize("widths", [(), (2,), (2, 3, 2)])
def test_the_choices_of_scripts_are_never_reduced(widths: tuple[int, ...]) -> None:
    seen = []

    @always("seen", "Every run is seen.")
    def see(trace: Trace) -> None:
        seen.extend(noted(trace))

    report = search(picking(*widths), see, reduce=["classes"])
    assert report.runs == math.prod(widths) == len(set(seen))
    assert report.complete


# Bounds and mistakes.


def test_a_bound_makes_it_inconclusive() -> None:
    report = search(chattering(2, 2), reduce=["classes"], max_runs=3)
    assert (report.verdict, report.runs, report.complete) == ("inconclusive", 3, False)
    assert str(report.bound) == "max-runs=3"


def test_as_many_runs_as_classes_are_complete() -> None:
    runs = search(chattering(2, 1), reduce=["classes"]).runs
    assert search(chattering(2, 1), reduce=["classes"], max_runs=runs).complete


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_bound_on_choices_cuts_runs_and_is_never_complete(limit: int) -> None:
    report = search(chattering(2, 2), reduce=["classes"], max_choices=limit)
    assert (report.verdict, report.complete) == ("inconclusive", False)
    assert 1 <= report.runs <= 2**limit


def test_schedules_replay_without_the_reduction() -> None:
    report = find(PAIRS["chatter"], reduce=["classes"]).report
    assert report.discovery is not None
    again = find(PAIRS["chatter"]).report
    assert again.discovery is not None
    assert report.discovery.blob == again.discovery.blob


def test_a_world_that_asks_something_else_the_second_time_is_a_divergence() -> None:
    calls = []

    def play(world: World, _subject: Any) -> None:
        calls.append(1)
        listening(world)
        for name in "ab" if len(calls) < 3 else "ba":
            world.start_script(f"client {name}", talker([name, name]))

    from sim import Divergence

    with pytest.raises(Divergence, match="the same schedule gave two different runs"):
        search(play, reduce=["classes"])


@pytest.mark.parametrize(
    ("given", "names"),
    [((), ()), ("none", ()), (["none"], ()), ("classes", ("classes",)), (["classes", "classes"], ("classes",))],
)
def test_reductions_by_name(given: Any, names: tuple[str, ...]) -> None:
    assert chosen(given) == names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("clases", r"reduce 'clases' does not exist. There are: none, classes"),
        (["none", "classes"], "asks for none and for one"),
    ],
)
def test_reductions_that_do_not_exist(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(given)


# Isolation.


def test_isolation_that_is_there_is_looked_for_and_held() -> None:
    for server in ("uvicorn[h11,wsproto]", "hypercorn", "reference"):
        report = explore("independent_echoes", server=server, reduce=["classes"], check_isolation=True)
        assert report.complete
        assert report.swaps == 9


@pytest.mark.parametrize("server", ["uvicorn[h11,wsproto]", "hypercorn", "reference"])
def test_a_scenario_that_lies_is_named(server: str) -> None:
    liar = attrs.evolve(find_scenario("racing_clients"), isolated=True)
    assert explore(liar, server=server, reduce=["classes"]).runs == 1
    with pytest.raises(NotIsolated) as caught:
        explore(liar, server=server, reduce=["classes"], check_isolation=True)
    message = str(caught.value)
    assert "the scenario racing_clients declares that its connections are isolated" in message
    assert "what client-1 sent on connection 1" in message
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("options", [{"check_isolation": True}, {"check_isolation": True, "reduce": ["classes"]}])
def test_there_has_to_be_a_declaration_to_check(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="there is nothing to check"):
        search(chattering(1, 1), **options)


def test_help_and_table_say_what_is_preserved_and_what_is_assumed() -> None:
    from click.testing import CliRunner

    from sim.cli import REDUCTIONS as OFFERED
    from sim.cli import cli

    assert tuple(REDUCTIONS) == OFFERED
    helped = " ".join(CliRunner().invoke(cli, ["check", "--help"]).output.split())
    arguments = ["check", "independent_echoes", "--server", "reference", "--reduce", "classes", "--check-isolation"]
    ran = CliRunner().invoke(cli, [*arguments, "--workers", "1"])
    assert ran.exit_code == 0
    for reduction in REDUCTIONS.values():
        assert f"preserves {reduction.preserves}" in helped
    assert f"It preserves {REDUCTIONS['classes'].preserves}." in ran.output
    assert "It assumes that connections of one server process have nothing to do with one another" in ran.output
    assert "looked for in deliveries that changed places (9 on reference)" in ran.output
    assert "broken off" not in ran.output


def test_the_policy_counts_what_it_broke_off() -> None:
    report = find(PAIRS["fin-uvicorn"], reduce=["classes"]).report
    assert report.abandoned == report.to_json()["abandoned"] > 0
    assert report.to_json()["reduce"] == ["classes"]
    assert "reduce" not in find(PAIRS["no-choice"]).report.to_json()
    assert Classes().abandoned == 0
