"""What fingerprints keep from one look to the next makes them faster, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from sim.registry import find_scenario, find_subject
from sim.search.runner import Runner
from sim.search.states import knowledge_of
from sim.world.fingerprint import Fingerprinter, lasting
from tests.sim.worlds import a_world

if TYPE_CHECKING:
    from sim.check.scenario import Scenario
    from sim.world.world import World

SERVERS = ("uvicorn[h11,wsproto]", "uvicorn[httptools,websockets-sansio]", "hypercorn", "granian==1.4.1", "reference")
PICKS: tuple[tuple[int, ...], ...] = ((), (1,), (1, 1), (0, 1), (1, 0, 1))


@pytest.fixture
def scenario() -> Scenario:
    return find_scenario("independent_echoes")


@pytest.mark.parametrize("most", [lasting.MOST, 20], ids=["kept", "soon full"])
@pytest.mark.parametrize("server", SERVERS)
def test_a_look_that_remembers_sees_what_a_first_look_sees(
    scenario: Scenario, server: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lasting, "MOST", most)
    subject = find_subject(server)
    runner = Runner(scenario, subject, params={"clients": 2, "messages": 2, "pongs": True})
    remembers = Fingerprinter(past="conversations", knowledge=knowledge_of(subject))
    looks = 0

    def look(world: World) -> bool:
        nonlocal looks
        looks += 1
        found = remembers.of(world)
        assert found == remembers.of(world)
        assert found == Fingerprinter(past="conversations", knowledge=knowledge_of(subject)).of(world)
        return False

    with runner.session():
        for picks in PICKS:
            runner.run(picks, lookout=look)
    assert looks > 10 * len(PICKS)


def test_what_is_in_a_set_is_seen_alike_each_time() -> None:
    """Tuples and methods are values, and some of them are kept; in a set they are put in order all the same."""
    maker = Fingerprinter(past="outcome")
    found = []

    class Thing:
        def one(self) -> None:
            pass

        def two(self) -> None:
            pass

    thing = Thing()
    members = {(1, 2), (3, "four"), (b"a", b"b"), (thing, 5), thing.one, thing.two, "text", 1.5, None, Thing}

    async def main(*held: Any) -> None:
        await asyncio.get_running_loop().create_future()

    def play(world: World) -> None:
        world.start_process("main", lambda: main(members))
        world.run_until(lambda: False, within=1.0)
        found.extend(maker.of(world) for _ in range(3))
        found.append(Fingerprinter(past="outcome").of(world))

    with a_world() as world:
        world.run(play)
    assert len(set(found)) == 1


def test_a_text_that_is_counted_later_is_a_name_from_then_on() -> None:
    """And in a world that counts no names it is a text: one fingerprinter looks at all."""
    maker = Fingerprinter(past="outcome")

    def look(name: str, *, counted: bool) -> tuple[bytes, bytes]:
        found = []

        async def main(held: str) -> None:
            await asyncio.get_running_loop().create_future()

        def play(world: World) -> None:
            world.start_process("main", lambda: main(name))
            world.run_until(lambda: False, within=1.0)
            found.append(maker.of(world))
            if counted:
                world.trace.counted.add(name)
            found.append(maker.of(world))

        with a_world() as world:
            world.run(play)
        return found[0], found[1]

    one, two = look("call 1", counted=True), look("call 2", counted=True)
    assert one[0] != two[0]
    assert one[1] == two[1]
    assert look("call 1", counted=False) == (one[0], one[0])


def test_nothing_of_a_world_is_kept() -> None:
    maker = Fingerprinter()
    held: list[weakref.ref[Any]] = []

    class Thing:
        def use(self) -> None:
            pass

    async def main() -> None:
        thing = Thing()
        held.append(weakref.ref(thing))
        asyncio.get_running_loop().call_later(1_000.0, thing.use)
        del thing
        await asyncio.get_running_loop().create_future()

    def play(world: World) -> None:
        held.append(weakref.ref(world.start_process("main", main)))
        world.run_until(lambda: False, within=1.0)
        maker.of(world)
        assert all(reference() is not None for reference in held)

    with a_world() as world:
        world.run(play)
    del world
    maker.forget()
    gc.collect()
    assert [reference() for reference in held] == [None, None]


def test_how_a_class_is_written_does_not_depend_on_what_was_met_before() -> None:
    class Base:
        def __init__(self) -> None:
            self.one = 1

    class Derived(Base):
        pass

    def look(maker: Fingerprinter, *things: Any) -> bytes:
        found = []

        async def main(*held: Any) -> None:
            await asyncio.get_running_loop().create_future()

        def play(world: World) -> None:
            world.start_process("main", lambda: main(*things))
            world.run_until(lambda: False, within=1.0)
            found.append(maker.of(world))

        with a_world() as world:
            world.run(play)
        return found[0]

    before = Fingerprinter()
    look(before, Base())
    assert look(before, Derived()) == look(Fingerprinter(), Derived())
