"""Fingerprints of live worlds: what they tell apart, what they do not, and that looking changes nothing."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import uuid
import weakref
import zlib
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

import pytest

from sim.world.fingerprint import Fingerprinter, Knowledge
from tests.sim.worlds import a_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    from sim.world.world import World

LIVE: list[Any] = []
"""A module variable that the application of these tests changes."""

LIVING: list[Any] = []
"""What only weak references lead to."""


class Thing:
    """An object without an order: it hashes by its address."""

    def __init__(self, name: str = "") -> None:
        self.name = name


class Slotted:
    __slots__ = ("one", "two")


async def for_ever(*_held: Any) -> None:
    """Wait, holding something."""
    await asyncio.get_running_loop().create_future()


def fingerprint(main: Callable[[], Coroutine[Any, Any, Any]], maker: Fingerprinter | None = None) -> bytes:
    """The fingerprint of a world with one process, when that has nothing to do any more."""
    found: list[bytes] = []

    def play(world: World) -> None:
        process = world.start_process("main", main)
        world.run_until(lambda: False, within=10.0)
        assert not process.exited, process.exit_reason
        found.append((maker or Fingerprinter(past="outcome")).of(world))

    with a_world() as world:
        world.run(play)
    return found[0]


def holding(*values: Any) -> bytes:
    return fingerprint(lambda: for_ever(*values))


def shared_pair() -> list[Any]:
    one = Thing()
    return [one, one]


def ring(length: int) -> Thing:
    first = last = Thing()
    for _ in range(length - 1):
        last.next = last = Thing()  # type: ignore[attr-defined]
    last.next = first  # type: ignore[attr-defined]
    return first


def slotted(**values: Any) -> Slotted:
    made = Slotted()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def generator(steps: int) -> Any:
    def count() -> Any:
        for _ in (0, 0, 0, 0):
            yield

    made = count()
    for _ in range(steps):
        next(made)
    return made


def advanced(iterable: Iterable[Any], steps: int) -> Any:
    made = iter(iterable)
    for _ in range(steps):
        next(made)
    return made


SAME: dict[str, Callable[[], tuple[Any, Any]]] = {
    "equal text": lambda: ("".join(["a", "b"]), "ab"),
    "objects alike": lambda: (Thing("a"), Thing("a")),
    "sets of objects": lambda: ({Thing("a"), Thing("b"), Thing("c")}, {Thing("c"), Thing("a"), Thing("b")}),
    "sets of values": lambda: ({1, "a", None, 2.5}, {2.5, None, "a", 1}),
    "sets within dictionaries": lambda: ({"a": {Thing("x"), Thing("y")}}, {"a": {Thing("y"), Thing("x")}}),
    "shared alike": lambda: (shared_pair(), shared_pair()),
    "rings": lambda: (ring(3), ring(3)),
    "partials": lambda: (functools.partial(len, [1]), functools.partial(len, [1])),
    "weak references to the dead": lambda: (weakref.ref(Thing()), weakref.ref(Thing("other"))),
    "methods": lambda: ([].append, [].append),
    "addresses of connections": lambda: (("127.0.0.1", 32768), ("127.0.0.1", 40000)),
    "addresses whose ports are text": lambda: (("127.0.0.1", "32768"), ("127.0.0.1", "40000")),
    "UUIDs": lambda: (uuid.UUID(int=1), uuid.UUID(int=2)),
    "weak proxies": lambda: ((one := Thing("a"), weakref.proxy(one)), (two := Thing("a"), weakref.proxy(two))),
}

DIFFERENT: dict[str, Callable[[], tuple[Any, Any]]] = {
    "values": lambda: (1, 2),
    "an integer and a truth": lambda: (1, True),
    "an integer and a float": lambda: (1, 1.0),
    "text and bytes": lambda: ("a", b"a"),
    "orders of a list": lambda: ([1, 2], [2, 1]),
    "orders of a dictionary": lambda: ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "orders of a deque": lambda: (deque([1, 2]), deque([2, 1])),
    "a list and a tuple": lambda: ([1], (1,)),
    "shared and alike": lambda: (shared_pair(), [Thing(), Thing()]),
    "rings of two lengths": lambda: (ring(3), ring(4)),
    "members of a set": lambda: ({Thing("a"), Thing("b")}, {Thing("a"), Thing("c")}),
    "attributes": lambda: (Thing("a"), Thing("b")),
    "which slot": lambda: (slotted(one=1), slotted(two=1)),
    "functions": lambda: (len, max),
    "closures": lambda: ((lambda x: lambda: x)(1), (lambda x: lambda: x)(2)),
    "defaults": lambda: (lambda x=1: x, lambda x=2: x),
    "bound to": lambda: ([1].append, [2].append),
    "generators": lambda: (generator(1), generator(2)),
    "iterators": lambda: (advanced([0, 0, 0], 1), advanced([0, 0, 0], 2)),
    "iterators of tuples": lambda: (advanced((0, 0, 0), 1), advanced((0, 0, 0), 2)),
    "iterators of dictionaries": lambda: (advanced({1: 0, 2: 0}, 0), advanced({1: 0, 2: 0}, 1)),
    "counting iterators": lambda: (advanced(enumerate("aaa"), 1), advanced(enumerate("aaa"), 2)),
    "exceptions": lambda: (ValueError("a"), ValueError("b")),
    "causes": lambda: (caused(KeyError("a")), caused(KeyError("b"))),
    "ordered dictionaries": lambda: (OrderedDict(a=1), OrderedDict(a=2)),
    "orders of an ordered dictionary": lambda: (OrderedDict(a=1, b=1), moved(OrderedDict(a=1, b=1), "a")),
    "an empty list and an empty dictionary": lambda: ([], {}),
    "an empty set and an empty deque": lambda: (set(), deque()),
    "tuples of an integer and of a truth": lambda: ((1, "a"), (True, "a")),
    "tuples of texts and of bytes": lambda: (("a", "b"), (b"a", b"b")),
    "one UUID and two": lambda: ([uuid.UUID(int=1), uuid.UUID(int=1)], [uuid.UUID(int=1), uuid.UUID(int=2)]),
    "one address and two": lambda: ([("a", "32768"), ("a", "32768")], [("a", "32768"), ("a", "32769")]),
    "well-known ports": lambda: (("127.0.0.1", "80"), ("127.0.0.1", "81")),
    "what weak proxies stand for": lambda: ((one := Thing("a"), weakref.proxy(one)), (Thing("a"), proxy_of("a"))),
    "bytearrays": lambda: (bytearray(b"a"), bytearray(b"b")),
}


def proxy_of(name: str) -> Any:
    LIVING.append(Thing(name))
    return weakref.proxy(LIVING[-1])


def moved(made: OrderedDict[str, Any], key: str) -> OrderedDict[str, Any]:
    made.move_to_end(key)
    return made


def caused(cause: BaseException) -> BaseException:
    error = ValueError()
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("what", SAME)
def test_one_state(what: str) -> None:
    one, two = SAME[what]()
    assert holding(one) == holding(two)


@pytest.mark.parametrize("what", DIFFERENT)
def test_two_states(what: str) -> None:
    one, two = DIFFERENT[what]()
    assert holding(one) != holding(two)
    assert holding(one) == holding(one)


def test_the_value_stack_of_a_loop() -> None:
    """Nothing but the iterator on the stack, which no variable names, tells the rounds apart."""

    async def main(rounds: list[None]) -> None:
        for _ in [0, 0, 0, 0]:
            await (done(rounds.pop()) if rounds else for_ever())

    async def done(_: None) -> None:
        pass

    prints = {fingerprint(lambda n=n: main([None] * n)) for n in (0, 1, 2, 3)}
    assert len(prints) == 4


def test_which_names_are_bound() -> None:
    """At one place in the code, and with the same values in the same order."""

    async def main(first: list[bool]) -> None:
        if first.pop():
            one = 7
        else:
            two = 7
        await asyncio.get_running_loop().create_future()
        print(one, two)

    assert fingerprint(lambda: main([True])) != fingerprint(lambda: main([False]))


def test_names_that_are_bound_now_and_not_before() -> None:
    """Each frame is looked at twice, so that what was learnt of one is used for the next."""

    async def main(first: list[bool]) -> None:
        if first.pop():
            one = two = None
        else:
            one = None
        await asyncio.get_running_loop().create_future()
        print(one, two)

    maker = Fingerprinter(past="outcome")
    found = [fingerprint(lambda flag=flag: main([flag]), maker) for flag in (True, False, True, False)]
    assert found[0] == found[2] != found[1] == found[3]


def test_a_frame_while_an_exception_is_handled() -> None:
    """It holds one thing more, behind what is on its stack."""

    async def main(numbers: list[int]) -> None:
        number = numbers.pop()
        try:
            if number:
                raise ValueError(number)
            await asyncio.get_running_loop().create_future()
        except ValueError:
            await asyncio.get_running_loop().create_future()

    maker = Fingerprinter(past="outcome")
    found = [fingerprint(lambda n=n: main([n]), maker) for n in (0, 1, 2, 0, 1, 2)]
    assert found[:3] == found[3:]
    assert len(set(found)) == 3


def test_asynchronous_generators() -> None:
    async def rounds() -> AsyncIterator[int]:
        for number in (0, 0, 0):
            yield number

    async def main(steps: int) -> None:
        left = [None] * steps
        del steps
        running = rounds()
        while left:
            await running.__anext__()
            left.pop()
        await asyncio.get_running_loop().create_future()

    maker = Fingerprinter(past="outcome")
    found = [fingerprint(lambda n=n: main(n), maker) for n in (0, 1, 2, 0, 1, 2)]
    assert found[:3] == found[3:]
    assert len(set(found)) == 3
    assert not maker.blind


def test_the_order_in_which_asyncio_went_through_a_set_does_not_count() -> None:
    async def main(first: int) -> None:
        tasks = [asyncio.ensure_future(for_ever()) for _ in range(2)]
        chosen = {tasks[first]}
        tasks = [tasks[first], tasks[1 - first]]
        del first
        await asyncio.wait({*tasks, *chosen})

    assert fingerprint(lambda: main(0)) == fingerprint(lambda: main(1))


def test_a_moment_is_a_distance_from_now() -> None:
    """Both wait for 50 seconds, and began to at different moments."""

    async def main(*delays: float) -> None:
        left = list(delays)
        del delays
        while left:
            await asyncio.sleep(left.pop(0))

    assert fingerprint(lambda: main(2.0, 50.0)) == fingerprint(lambda: main(1.0, 3.0, 50.0))
    assert fingerprint(lambda: main(2.0, 50.0)) != fingerprint(lambda: main(2.0, 51.0))


def test_what_a_task_waits_for_and_whether_it_is_cancelled() -> None:
    async def main(cancel: bool) -> None:
        async def stubborn() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                await asyncio.get_running_loop().create_future()

        task = asyncio.ensure_future(stubborn())
        await asyncio.sleep(0)
        if cancel:
            task.cancel()
        del cancel
        await asyncio.get_running_loop().create_future()

    assert fingerprint(lambda: main(True)) != fingerprint(lambda: main(False))


def test_the_names_that_asyncio_counts_do_not_count() -> None:
    async def main(*before: int) -> None:
        for _ in before:
            await asyncio.ensure_future(asyncio.sleep(0))
        del before, _
        task = asyncio.ensure_future(for_ever())
        await task

    assert fingerprint(lambda: main(1, 2, 3)) == fingerprint(lambda: main(1))


def test_a_module_variable_of_the_application() -> None:
    async def main() -> None:
        LIVE.append("call")
        await asyncio.get_running_loop().create_future()

    LIVE[:] = []
    first = fingerprint(main)
    assert fingerprint(main) != first
    LIVE[:] = []
    assert fingerprint(main) == first
    LIVE[:] = []


def test_what_cannot_be_seen_into_is_like_nothing() -> None:
    maker = Fingerprinter()
    hashing = hashlib.md5(b"")
    assert fingerprint(lambda: for_ever(hashing), maker) != fingerprint(lambda: for_ever(hashing), maker)
    (name,) = maker.blind
    assert "hashlib" in name


def test_what_cannot_be_seen_into_is_like_nothing_that_an_earlier_process_met() -> None:
    """A checkpoint carries the fingerprints, and what was `blind`."""
    maker, later = Fingerprinter(), Fingerprinter()
    hashing = hashlib.md5(b"")
    met = [fingerprint(lambda: for_ever(hashing), maker) for _ in range(3)]
    later.blind.update(maker.blind)
    behind = [fingerprint(lambda: for_ever(hashing), later) for _ in range(3)]
    assert len({*met, *behind}) == 6


def test_what_only_its_connection_feeds_needs_a_connection() -> None:
    maker = Fingerprinter(knowledge=Knowledge())
    packed = zlib.decompressobj()
    assert fingerprint(lambda: for_ever(packed), maker) != fingerprint(lambda: for_ever(packed), maker)
    assert maker.blind


def test_what_does_not_change_is_not_looked_into() -> None:
    maker = Fingerprinter(knowledge=Knowledge(frozen=frozenset({f"{Thing.__module__}.Thing"})))
    assert fingerprint(lambda: for_ever(Thing("a")), maker) == fingerprint(lambda: for_ever(Thing("b")), maker)


def test_looking_keeps_nothing_alive() -> None:
    """A frame's snapshot of its variables would keep what they referred to (up to Python 3.12)."""
    died: list[bool] = []

    async def main(gate: asyncio.Future[None]) -> None:
        thing = Thing()
        reference = weakref.ref(thing)
        await gate
        del thing
        died.append(reference() is None)
        await asyncio.get_running_loop().create_future()

    def play(world: World) -> None:
        gates: list[Any] = []

        async def run() -> None:
            gates.append(asyncio.get_running_loop().create_future())
            await main(gates[0])

        process = world.start_process("main", run)
        world.run_until(lambda: bool(gates), within=1.0)
        process.run_until_idle()
        Fingerprinter().of(world)
        process.loop.call_soon(gates[0].set_result, None)
        process.run_until_idle()

    with a_world() as world:
        world.run(play)
    assert died == [True]


def test_nothing_of_the_program_is_called() -> None:
    class Touchy:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        def __hash__(self) -> int:
            raise AssertionError("hashed")

        def __repr__(self) -> str:
            raise AssertionError("printed")

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

        def __len__(self) -> int:
            raise AssertionError("counted")

        def __bool__(self) -> bool:
            raise AssertionError("tested")

    holding(Touchy(), [Touchy()], {"a": Touchy()})
