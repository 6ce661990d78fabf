"""Sleep sets over a graph of states: nothing is missed, neither in programs whose states are known nor in worlds."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from sim import Faults, Settings, SimError
from sim.search.both import LeftOut
from sim.search.classes import Classes, awake
from sim.search.reduction import REDUCTIONS
from sim.world.agenda import Known
from sim.world.clock import EPOCH
from sim.world.fingerprint import worlds
from sim.world.footprint import Footprint, Watch

from .machines import Seen, machines
from .programs import Fingers, Player, Program
from .test_reductions import WAYS, Pair, find, same
from .toys import ADDRESS, Got, Noted, talker, toy_scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim import Host, World
    from sim.world.footprint import Option


class Searched(NamedTuple):
    player: Player
    policy: Classes

    @property
    def missed(self) -> bool:
        """Whether it did not come to every state there is."""
        return self.player.reached != self.player.program.states()


def searched(seed: int, *, round: bool) -> Searched:  # noqa: A002 - as `Program` calls it
    """A program, searched with both reductions."""
    left_out = LeftOut(past="outcome")
    left_out.fingerprinter = Fingers()  # type: ignore[assignment]
    player = Player(Program(seed, round=round), left_out)
    policy = Classes(visit=left_out.visit)
    for _ in policy.runs(player.play):
        pass
    assert policy.complete
    return Searched(player, policy)


# Programs.


@pytest.mark.parametrize("round", [False, True], ids=["straight", "round"])
def test_every_state_of_a_program_is_reached(round: bool) -> None:  # noqa: A002
    assert not [seed for seed in range(25 if round else 100) if searched(seed, round=round).missed]


@pytest.mark.slow
@pytest.mark.parametrize("round", [False, True], ids=["straight", "round"])
def test_every_state_of_many_programs_is_reached(round: bool) -> None:  # noqa: A002
    assert not [seed for seed in range(25, 400) if searched(seed, round=round).missed]


def test_both_together_make_fewer_runs_than_sleep_sets_alone() -> None:
    fewer = 0
    for seed in range(40):
        alone = Player(Program(seed, round=False))
        for _ in Classes(visit=awake).runs(alone.play):
            pass
        assert alone.reached == alone.program.states()
        together = searched(seed, round=False)
        assert together.player.runs <= alone.runs
        fewer += together.player.runs < alone.runs
    assert fewer > 10


def test_a_state_that_is_met_with_less_asleep_is_gone_on_from() -> None:
    """Rule 2: what slept at each visit until now is explored by the first at which it is awake, with less asleep behind."""
    visits: list[tuple[int, int]] = []

    class Counting(LeftOut):
        def visit(self, options: Sequence[Option], asleep: Any) -> Any:
            states = len(self)
            explore, behind = super().visit(options, asleep)
            if len(self) == states:
                visits.append((len(explore), len(asleep) - len(behind)))
            return explore, behind

    for seed in range(60):
        left_out = Counting(past="outcome")
        left_out.fingerprinter = Fingers()  # type: ignore[assignment]
        for _ in Classes(visit=left_out.visit).runs(Player(Program(seed, round=False), left_out).play):
            pass
    assert visits
    assert any(woken for _, woken in visits)


def forgets_the_step_to_a_known_state(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Classes._run

    def forgetful(self: Classes, play: Any) -> Any:
        found = run(self, play)
        if found is not None and found.known:
            self.path[-1].step = Footprint()
        return found

    monkeypatch.setattr(Classes, "_run", forgetful)


def calls_options_by_the_names_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeftOut, "_names", lambda self, world, options: {o.id: o.id for o in options})


def explores_nothing_behind_what_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    visit = LeftOut.visit

    def hasty(self: LeftOut, options: Sequence[Option], asleep: Any) -> Any:
        explore, behind = visit(self, options, asleep)
        if asleep and len(explore) > 1:
            raise Known
        return explore, behind

    monkeypatch.setattr(LeftOut, "visit", hasty)


@pytest.mark.parametrize(
    "plant",
    [forgets_the_step_to_a_known_state, calls_options_by_the_names_of_a_run, explores_nothing_behind_what_sleeps],
)
def test_a_search_that_is_planted_wrong_is_seen(monkeypatch: pytest.MonkeyPatch, plant: Any) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, SimError)):
        assert not [seed for seed in range(60) if searched(seed, round=True).missed]


# Worlds.


def pair(seed: int, **options: Any) -> Pair:
    return Pair(machines(seed, clients=2, **options), Seen())


ONE_EACH = [{"rst": 1}, {"fin": 1}, {"lose": 1}, {"stall": 1}, {"merge": 1}, {"refuse": 1}, {"cut": 1}, {"sigterm": 1}]


def struck(seed: int, **faults: int) -> Pair:
    return pair(seed, faults=Faults(**faults))


def working(world: World, _subject: Any) -> None:
    """A server has a thread do its work; two clients ask, and each waits for its answer."""
    done: list[str] = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.task = asyncio.ensure_future(self.work(data.decode()))

        async def work(self, name: str) -> None:
            await asyncio.get_running_loop().run_in_executor(None, done.append, name)
            world.trace.record(Got, "server", "".join(done))
            self.transport.write(b"done")

    async def main() -> None:
        await (await asyncio.get_running_loop().create_server(Protocol, *ADDRESS)).serve_forever()

    async def script(host: Host) -> None:
        connection = await host.connect(ADDRESS)
        connection.send(host.name.encode(), host.name)
        world.trace.record(Noted, host.name, await connection.receive())

    world.start_process("server", main)
    assert world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1.0)
    for name in "ab":
        world.start_script(name, script)


def telling_time(world: World, _subject: Any) -> None:
    """A server writes down, at each message, in which hour it came."""

    class Protocol(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            world.trace.record(Got, "server", f"{data.decode()} {(time.time() - EPOCH) // 3_600:+.0f}")

    async def main() -> None:
        await (await asyncio.get_running_loop().create_server(Protocol, *ADDRESS)).serve_forever()

    world.start_process("server", main)
    assert world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1.0)
    world.start_script("client", talker("ab"))


def relaying(world: World, _subject: Any) -> None:
    """A client says something to one server, and something more when the other one has answered it."""
    for number in (1, 2):

        class Protocol(asyncio.Protocol):
            name = f"server {number}"

            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                world.trace.record(Got, self.name, data.decode())
                self.transport.write(b"yes")

        async def main(protocol: type[asyncio.Protocol] = Protocol, number: int = number) -> None:
            await (await asyncio.get_running_loop().create_server(protocol, ADDRESS[0], number)).serve_forever()

        world.start_process(Protocol.name, main)
        assert world.run_until(lambda n=number: (ADDRESS[0], n) in world.kernel.listeners, within=1.0)  # type: ignore[misc]

    async def script(host: Host) -> None:
        one, other = [await host.connect((ADDRESS[0], number)) for number in (1, 2)]
        one.send(b"ask", "ask")
        other.send(b"a", "a")
        await one.receive()
        other.send(b"b", "b")

    world.start_script("client", script)


def small(play: Any, **settings: Any) -> Pair:
    slow = Settings(latency=(0.0, 0.1), settle=0.0, **settings)
    return Pair(toy_scenario(play, settings=slow, past="outcome"), Seen())


WORLDS = {
    **{f"machines-{seed}": pair(seed, most=2) for seed in (1, 9, 17)},
    **{f"merged-{seed}": pair(seed, arrivals="merged", most=2) for seed in (7, 15)},
    **{f"any-{seed}": pair(seed, arrivals="any", most=2) for seed in (1, 17)},
    "lose": struck(10, lose=1),
    "stall": struck(11, stall=1),
    "merge": struck(12, merge=1),
    "refuse": struck(13, refuse=1),
    "rst": struck(16, rst=1),
    "fin": struck(17, fin=1),
    "cut": struck(30, cut=1),
    "late": small(working, faults=Faults(late=1)),
    "clock": small(telling_time, faults=Faults(clock=1)),
    "relay-merged": small(relaying, arrivals="merged"),
    "relay-any": small(relaying, arrivals="any"),
}


@pytest.mark.parametrize("name", WORLDS)
def test_worlds_drawn_at_random_keep_their_outcomes(name: str) -> None:
    plain = find(WORLDS[name])
    for way in WAYS:
        same(plain, find(WORLDS[name], reduce=way))


def strikes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watch, "touch_everything", lambda self: None)


def knows_no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "_write_faults", lambda walk, world, striker: None)


def delivers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sent", "delivered"):
        true = getattr(Watch, name)
        monkeypatch.setattr(Watch, name, lambda self, c, s, *, together, true=true: true(self, c, s, together=False))


@pytest.mark.parametrize(
    ("plant", "reduction", "name"),
    [
        (strikes_nobody, "classes", "lose"),
        (knows_no_faults, "states", "clock"),
        (delivers_alone, "classes", "relay-any"),
    ],
)
def test_a_world_that_is_planted_wrong_is_seen(
    monkeypatch: pytest.MonkeyPatch, plant: Any, reduction: str, name: str
) -> None:
    plain = find(WORLDS[name])
    plant(monkeypatch)
    for way in ([reduction], list(REDUCTIONS)):
        with pytest.raises(AssertionError):
            same(plain, find(WORLDS[name], reduce=way))
