"""Which orders a world offers: time as a constraint, first in first out, ticks, granularity, and where it all ends."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import Stuck, UsageError
from sim.world import agenda
from sim.world.boundary import Boundary
from sim.world.choices import Choices
from sim.world.events import HandedOver, TcpDeliver, TcpSend, Timer
from sim.world.fiber import Signal
from sim.world.world import QUIET_SECONDS, Mailbox, Settings, World

from .worlds import ADDRESS, a_world, every_schedule, play_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sim.world.host import Host

UNBOUNDED = (0.0, math.inf)


@pytest.fixture(scope="module", autouse=True)
def boundary() -> Iterator[None]:
    with Boundary():
        yield


Seen = list[tuple[str, float]]


def noting_server(world: World, seen: Seen, *, timer: float | None = None, laps: int = 0) -> None:
    """Notes what arrives, and when; and when a timer fires that it sets at the start."""

    class Noting(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            seen.append((data.decode(), world.clock.now))
            if laps:
                self.task = asyncio.ensure_future(self.work(data.decode()))

        async def work(self, name: str) -> None:
            for _ in range(laps):
                await asyncio.sleep(0)
            seen.append((f"{name} done", world.clock.now))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_server(Noting, *ADDRESS)
        if timer is not None:
            loop.call_later(timer, lambda: seen.append(("timer", world.clock.now)))
        await asyncio.Event().wait()

    world.start_process("server", main)
    assert world.run_until(lambda: ADDRESS in world.kernel.listeners, within=0.0)


def sender(*messages: str, at: float = 0.0, gap: float = 0.0) -> Callable[[Host], Any]:
    """A script that connects, and at a time sends messages."""

    async def script(host: Host) -> None:
        connection = await host.connect(ADDRESS)
        await host.sleep(at - host.now)
        for message in messages:
            connection.send(message.encode(), message)
            if gap:
                await host.sleep(gap)

    return script


def orders(scene: Callable[[World, Seen], None], **options: Any) -> set[tuple[str, ...]]:
    """The orders in which a scene's events were seen, over all schedules."""
    return {tuple(name for name, _ in seen) for seen in runs(scene, **options)}


def runs(scene: Callable[[World, Seen], None], **options: Any) -> list[Seen]:
    def play(world: World) -> Seen:
        seen: Seen = []
        scene(world, seen)
        return seen

    return list(every_schedule(play, **options).values())


# Time is a constraint.


@pytest.mark.parametrize(
    ("latency", "timer", "possible"),
    [
        ((0.1, 0.2), 0.05, {("timer", "m")}),
        ((0.1, 0.2), 0.3, {("m", "timer")}),
        ((0.1, 0.2), 0.15, {("timer", "m"), ("m", "timer")}),
        ((0.1, 0.2), 0.2, {("timer", "m"), ("m", "timer")}),
        ((0.1, 0.2), 0.1, {("timer", "m"), ("m", "timer")}),
        (UNBOUNDED, 0.001, {("timer", "m"), ("m", "timer")}),
        (UNBOUNDED, 3_000.0, {("timer", "m"), ("m", "timer")}),
        ((0.0, 0.0), 0.001, {("m", "timer")}),
    ],
)
def test_a_timer_and_a_delivery(latency: tuple[float, float], timer: float, possible: set[tuple[str, ...]]) -> None:
    """A message is sent at 1 s; the timer fires `timer` seconds after that."""

    def scene(world: World, seen: Seen) -> None:
        noting_server(world, seen, timer=1.0 + timer)
        world.start_script("client", sender("m", at=1.0))

    assert orders(scene, latency=latency, settle=3_500.0) == possible


def test_a_delivery_comes_as_early_as_it_can_or_just_before_the_timer() -> None:
    def scene(world: World, seen: Seen) -> None:
        noting_server(world, seen, timer=1.15)
        world.start_script("client", sender("m", at=1.0))

    times = {
        tuple((name, round(when, 9)) for name, when in seen) for seen in runs(scene, latency=(0.1, 0.2), settle=5.0)
    }
    assert times == {
        (("m", 1.1), ("timer", 1.15)),
        (("m", 1.15), ("timer", 1.15)),
        (("timer", 1.15), ("m", 1.15)),
    }


def test_a_scripts_alarm_and_a_delivery() -> None:
    def scene(world: World, seen: Seen) -> None:
        noting_server(world, seen)
        world.start_script("client", sender("m", at=1.0))
        world.call_later(1.05, lambda: seen.append(("early alarm", 0)))
        world.call_later(1.15, lambda: seen.append(("alarm", 0)))
        world.call_later(1.25, lambda: seen.append(("late alarm", 0)))

    assert orders(scene, latency=(0.1, 0.2), settle=5.0) == {
        ("early alarm", "m", "alarm", "late alarm"),
        ("early alarm", "alarm", "m", "late alarm"),
    }


def test_the_latency_is_kept_by_every_delivery() -> None:
    def scene(world: World, seen: Seen) -> None:
        noting_server(world, seen, timer=0.35)
        for name in ("a", "b"):
            world.start_script(name, sender(f"{name}1", f"{name}2", at=0.25, gap=0.07))
        scene.worlds.append(world)  # type: ignore[attr-defined]

    scene.worlds = []  # type: ignore[attr-defined]
    runs(scene, latency=(0.05, 0.1), settle=1.0)
    assert len(scene.worlds) > 50  # type: ignore[attr-defined]
    for world in scene.worlds:  # type: ignore[attr-defined]
        sent = {event.seq: event.time for event in world.trace.of(TcpSend)}
        for event in world.trace.of(TcpDeliver):
            assert 0.05 - 1e-9 <= event.time - sent[event.cause] <= 0.1 + 1e-9


def test_the_clock_never_goes_back() -> None:
    def scene(world: World, seen: Seen) -> None:
        noting_server(world, seen, timer=0.5)
        world.start_script("a", sender("1", "2", at=0.3, gap=0.1))
        world.start_script("b", sender("3", at=0.35))

    for seen in runs(scene, latency=(0.0, 0.3), settle=2.0):
        times = [when for _, when in seen]
        assert times == sorted(times)


# First in, first out.


def test_each_direction_is_in_order_and_all_interleavings_of_directions_are_there() -> None:
    def scene(world: World, seen: Seen) -> None:
        noting_server(world, seen)
        for name in ("a", "b"):
            world.start_script(name, sender(f"{name}1", f"{name}2", at=1.0))

    found = orders(scene, latency=(0.0, 0.5))
    assert found == {order for order in orders(scene, latency=(0.0, 0.5)) if order.index("a1") < order.index("a2")}
    assert all(order.index("b1") < order.index("b2") for order in found)
    assert len(found) == 6, "four things, two before two"


def test_pick_0_is_the_order_of_sending_with_timers_last() -> None:
    seen: Seen = []

    def play(world: World) -> None:
        noting_server(world, seen, timer=1.5)
        world.start_script("b", sender("b1", "b2", at=1.0))
        world.start_script("a", sender("a1", "a2", at=1.0))

    play_world(play, settle=10.0)
    assert [name for name, _ in seen] == ["b1", "b2", "a1", "a2", "timer"]


def test_the_menu_reads() -> None:
    def play(world: World) -> None:
        noting_server(world, [], timer=1.5)
        world.start_script("a", sender("ping", at=1.0))
        world.start_script("b", sender("pong", at=1.0))

    world = play_world(play, latency=(0.1, 1.0), settle=10.0)
    labels = [str(choice.label) for choice in world.choices.made]
    assert (
        "a → server: ping | b → server: pong | a → server: ping just before the timer | "
        "b → server: pong just before the timer | a timer fires first"
    ) in labels
    assert any(label.startswith("a → 127.0.0.1:8000: SYN | b → 127.0.0.1:8000: SYN") for label in labels)


@given(st.lists(st.integers(0, 10), max_size=30), st.sampled_from([UNBOUNDED, (0.0, 0.1), (0.05, 0.3), (0.0, 0.0)]))
@settings(max_examples=60)
def test_whatever_is_picked_the_rules_hold(picks: list[int], latency: tuple[float, float]) -> None:
    """Any schedule: each direction in order, every delivery within its interval, timers at their time, all delivered."""
    seen: Seen = []
    answers = iter(picks)
    choices = Choices(policy=lambda width: next(answers, 0) % width)

    def play(world: World) -> None:
        noting_server(world, seen, timer=0.4)
        world.start_script("a", sender("a1", "a2", "a3", at=0.2, gap=0.1))
        world.start_script("b", sender("b1", "b2", "b3", at=0.25, gap=0.15))

    with World(choices, Settings(latency=latency, settle=100.0)) as world:
        world.run(play)
        arrived = "".join(name for name, _ in seen if name != "timer")
        for side in "ab":
            pieces = [arrived[i : i + 2] for i in range(0, len(arrived), 2) if arrived[i] == side]
            assert pieces == [f"{side}1", f"{side}2", f"{side}3"]
        assert [when for name, when in seen if name == "timer"] == [pytest.approx(0.4)]
        sent = {event.seq: event.time for event in world.trace.of(TcpSend)}
        for event in world.trace.of(TcpDeliver):
            assert event.cause is not None
            assert latency[0] - 1e-9 <= event.time - sent[event.cause] <= latency[1] + 1e-9
        assert len(sent) == len(list(world.trace.of(TcpDeliver)))


# Ticks.


def polling_server(world: World, seen: Seen, *, on_tick: Callable[[int], None] | None = None) -> None:
    """As uvicorn: a main loop that looks at something every 0.1 s; its sleeps are ticks."""

    async def main() -> None:
        await asyncio.get_running_loop().create_server(lambda: Noting(world, seen), *ADDRESS)
        await poll()

    async def poll() -> None:
        number = 0
        while True:
            await asyncio.sleep(0.1)
            number += 1
            if on_tick is not None:
                on_tick(number)

    world.start_process("server", main, frozenset([id(poll.__code__)]))
    assert world.run_until(lambda: ADDRESS in world.kernel.listeners, within=0.0)


class Noting(asyncio.Protocol):
    def __init__(self, world: World, seen: Seen) -> None:
        self.world, self.seen = world, seen

    def data_received(self, data: bytes) -> None:
        self.seen.append((data.decode(), self.world.clock.now))


def test_ticks_really_run_and_are_no_choices() -> None:
    ticks: list[float] = []

    def play(world: World) -> None:
        polling_server(world, [], on_tick=lambda _n: ticks.append(world.clock.now))
        world.start_script("client", sender("m", at=10.0))

    world = play_world(play, settle=0.0)
    assert ticks == pytest.approx([n / 10 for n in range(1, len(ticks) + 1)])
    assert 99 <= len(ticks) <= 101
    assert world.choices.made == []
    assert list(world.trace.of(Timer)) == []


def test_a_decision_survives_the_ticks_before_it() -> None:
    """Two messages, a second away: one choice, not one for each tick."""
    ticks: Counter[int] = Counter()

    def scene(world: World, seen: Seen) -> None:
        polling_server(world, seen, on_tick=lambda n: ticks.update([n]))
        for name in ("a", "b"):
            world.start_script(name, sender(name, at=2.0))

    results = runs(scene, latency=(1.0, 1.0), settle=2.0)
    assert sorted("".join(name for name, _ in seen) for seen in results) == ["ab", "ab", "ba", "ba"]
    assert all(when == pytest.approx(3.0) for seen in results for _, when in seen)
    assert ticks[25] == 4


def test_a_tick_that_cancels_the_timer_that_was_picked() -> None:
    """The timer was decided to come first; a tick takes it away; what is in flight is offered again."""
    timers: list[asyncio.TimerHandle] = []

    def scene(world: World, seen: Seen) -> None:
        def on_tick(number: int) -> None:
            if number == 1:
                timers.append(asyncio.get_running_loop().call_later(0.5, lambda: seen.append(("timer", 0))))
            if number == 4:
                timers.pop().cancel()

        polling_server(world, seen, on_tick=on_tick)
        world.start_script("client", sender("m", at=0.15))

    assert orders(scene, latency=(0.0, 10.0), settle=2.0) == {("m",)}


def test_a_tick_that_sends_something_with_a_deadline_before_the_timer_that_was_picked() -> None:
    mailbox = Mailbox("server")

    def scene(world: World, seen: Seen) -> None:
        def on_tick(number: int) -> None:
            if number == 3:
                world.post(mailbox, lambda: seen.append(("post", world.clock.now)), "post", 0.1)

        polling_server(world, seen, on_tick=on_tick)
        world.start_script("client", sender("m", at=0.05))
        world.call_later(0.95, lambda: seen.append(("alarm", world.clock.now)))

    for seen in runs(scene, latency=(0.0, 10.0), settle=12.0):
        times = dict(seen)
        assert times["alarm"] == 0.95
        assert 0.3 - 1e-9 <= times["post"] <= 0.4 + 1e-9


# Native threads' results.


def test_posts_are_in_order_and_within_their_patience() -> None:
    def scene(world: World, seen: Seen) -> None:
        noting_server(world, seen)
        mailbox = Mailbox("server")

        def note(name: str) -> Callable[[], None]:
            return lambda: seen.append((name, world.clock.now))

        async def native(host: Host) -> None:
            await host.sleep(1)
            world.post(mailbox, note("patient"), "patient", 100.0)
            world.post(mailbox, note("urgent"), "urgent", 0.5)
            await host.sleep(2)

        world.start_script("native", native)
        world.start_script("client", sender("m", at=1.0))

    results = runs(scene, latency=(0.0, 1.0))
    found = {tuple(name for name, _ in seen) for seen in results}
    assert found == {("patient", "urgent", "m"), ("patient", "m", "urgent"), ("m", "patient", "urgent")}
    assert all(dict(seen)["patient"] <= dict(seen)["urgent"] <= 1.5 for seen in results)


def test_a_post_is_an_event_with_a_cause() -> None:
    def play(world: World) -> None:
        noting_server(world, [])
        cause = world.trace.record(Timer, "native").seq
        world.trace.cause = cause
        world.post(Mailbox("server"), lambda: None, "a result", 1.0)

    world = play_world(play)
    (event,) = world.trace.of(HandedOver)
    assert (event.actor, event.what, event.describe()) == (
        "server",
        "a result",
        "hands over to the event loop: a result",
    )


# Granularity.


def test_between_two_iterations_things_arrive_only_with_that_granularity() -> None:
    def scene(world: World, seen: Seen) -> None:
        noting_server(world, seen, laps=2)
        world.start_script("client", sender("a", "b", at=1.0))

    turn = orders(scene, latency=(0.0, 0.5))
    iteration = orders(scene, latency=(0.0, 0.5), granularity="iteration")
    assert turn == {("a", "a done", "b", "b done")}
    assert turn < iteration
    assert ("a", "b", "a done", "b done") in iteration


def test_with_iterations_pick_0_is_nothing_yet() -> None:
    seen: Seen = []

    def play(world: World) -> None:
        noting_server(world, seen, laps=3)
        world.start_script("client", sender("a", "b", at=1.0))

    world = play_world(play, granularity="iteration")
    assert [name for name, _ in seen] == ["a", "a done", "b", "b done"]
    labels = {str(choice.label) for choice in world.choices.made}
    assert "the loop runs on | client → server: b" in labels


def test_what_cannot_have_arrived_yet_does_not_arrive_between_iterations() -> None:
    def scene(world: World, seen: Seen) -> None:
        noting_server(world, seen, laps=2)
        world.start_script("client", sender("a", "b", at=1.0, gap=0.001))

    assert orders(scene, latency=(0.5, 0.5), granularity="iteration") == {("a", "a done", "b", "b done")}


# The ends of a world.


def test_a_world_settles_after_its_last_script() -> None:
    seen: Seen = []

    def play(world: World) -> None:
        async def main() -> None:
            while True:
                await asyncio.sleep(0.4)
                seen.append(("tick", world.clock.now))

        world.start_process("server", main)
        world.start_script("client", sender_of_nothing)

    world = play_world(play, settle=1.0)
    assert [when for _, when in seen] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8])
    assert world.clock.now <= 3.0
    assert not world.horizon_reached


async def sender_of_nothing(host: Host) -> None:
    await host.sleep(2.0)


def test_the_horizon_breaks_a_run_off() -> None:
    def play(world: World) -> None:
        async def script(host: Host) -> None:
            while True:
                await host.sleep(1.0)

        world.start_script("client", script)

    world = play_world(play, horizon=10.5)
    assert world.horizon_reached
    assert world.clock.now == 10.0


def test_settling_ends_at_the_horizon_too() -> None:
    def play(world: World) -> None:
        async def main() -> None:
            while True:
                await asyncio.sleep(1.0)

        world.start_process("server", main)

    world = play_world(play, settle=100.0, horizon=5.0)
    assert world.clock.now <= 5.0


def test_nothing_but_ticks_is_the_end() -> None:
    """A script waits for what cannot come; the server's polling does not keep the world alive, or cost much."""
    ticks: list[int] = []

    def play(world: World) -> None:
        polling_server(world, [], on_tick=ticks.append)

        async def script(host: Host) -> None:
            await host.connect(ADDRESS)
            await Signal()

        world.start_script("client", script)

    with pytest.raises(Stuck, match="deadlock: client still waits at") as raised:
        play_world(play)
    assert len(ticks) < 20 * QUIET_SECONDS
    assert float(str(raised.value).partition(" waits at ")[2].partition(" s ")[0]) < 2 * QUIET_SECONDS


@pytest.mark.parametrize("processes", [1, 2])
def test_the_end_of_a_quiet_time_counts_from_the_last_real_timer(processes: int) -> None:
    """A timer after hours of polling, and what follows from it, is not cut off."""
    seen: Seen = []

    def play(world: World) -> None:
        flag = [False]

        def on_tick(_number: int) -> None:
            if flag[0]:
                flag[0] = False
                seen.append(("noticed", world.clock.now))
                gate.fire()

        polling_server(world, seen, on_tick=on_tick)
        if processes == 2:

            async def other() -> None:
                await asyncio.Event().wait()

            world.start_process("other", other)
        world.processes[0].loop.call_later(3_000.05, lambda: flag.__setitem__(0, True))
        gate = Signal()

        async def script(host: Host) -> None:
            await gate

        world.start_script("client", script)

    play_world(play)
    assert seen == [("noticed", pytest.approx(3_000.1))]


def test_two_sides_that_answer_one_another_for_ever_are_a_livelock(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(world: World) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(10):
                writer.write(data)

        async def main() -> None:
            await asyncio.start_server(echo, *ADDRESS)
            await asyncio.Event().wait()

        world.start_process("server", main)
        world.run_until(lambda: ADDRESS in world.kernel.listeners, within=0.0)

        async def script(host: Host) -> None:
            connection = await host.connect(ADDRESS)
            connection.send(b"ball")
            while data := await connection.receive():
                connection.send(data)

        world.start_script("client", script)

    monkeypatch.setattr(agenda, "LIVELOCK_EVENTS", 1_000)
    with pytest.raises(Stuck, match=r"livelock: 1,000 things happened at one moment .* client .*; ") as raised:
        play_world(play)
    assert "gets 4 bytes from" in str(raised.value)


def test_a_script_that_sleeps_no_time_for_ever_is_a_livelock() -> None:
    async def script(host: Host) -> None:
        while True:
            await host.sleep(0)

    with pytest.raises(Stuck, match="livelock"):
        play_world(lambda world: world.start_script("client", script))


def test_many_things_at_many_moments_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that passes only while a loop is alone counts too."""

    def play(world: World) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(10):
                await asyncio.sleep(0.001)
                writer.write(data)

        async def main() -> None:
            await asyncio.start_server(echo, *ADDRESS)
            await asyncio.Event().wait()

        world.start_process("server", main)
        world.run_until(lambda: ADDRESS in world.kernel.listeners, within=0.0)

        async def script(host: Host) -> None:
            connection = await host.connect(ADDRESS)
            for _ in range(500):
                connection.send(b"ball")
                await connection.receive()

        world.start_script("client", script)

    monkeypatch.setattr(agenda, "LIVELOCK_EVENTS", 100)
    world = play_world(play)
    assert world.clock.now > 0.4


def test_a_choice_between_things_behind_the_limit_is_not_asked() -> None:
    def play(world: World) -> None:
        noting_server(world, [])
        for name in ("a", "b"):
            world.start_script(name, sender(name, at=1.0))

    assert play_world(play, latency=(0.5, 1.0), settle=0.4).choices.made[2:] == []
    assert play_world(play, latency=(0.3, 1.0), settle=0.4).choices.made[2:] != []


# The observer, the state, the settings.


def test_the_observer_is_told_of_each_thing_when_its_effects_are_there() -> None:
    seen: Seen = []
    told: list[tuple[str, int]] = []

    def play(world: World) -> None:
        noting_server(world, seen, timer=5.0)
        world.start_script("client", sender("a", "b", at=1.0))

    with a_world(settle=1.0) as world:
        world.observer = lambda w, what: told.append((what, len(seen)))
        world.run(play)
    assert told == [
        ("the scene is set", 0),
        ("client → server: SYN", 0),
        ("a script's timer", 0),
        ("client → server: a", 1),
        ("client → server: b", 2),
    ]


def test_the_observer_is_told_of_timers_that_something_competes_with() -> None:
    told: list[str] = []

    def play(world: World) -> None:
        noting_server(world, [], timer=1.0)
        world.start_script("client", sender("a", at=0.5))

    with World(Choices([0, 2]), Settings(settle=10.0)) as world:
        world.observer = lambda w, what: told.append(what)
        world.run(play)
    assert told[-2:] == ["a timer fires", "client → server: a"]


def test_the_state_is_what_the_probes_say_and_what_is_in_flight() -> None:
    states: list[tuple[tuple[str, str], ...]] = []

    def play(world: World) -> None:
        noting_server(world, [])
        world.probe("weather", lambda: "fine")
        world.start_script("client", sender("a", "b", at=1.0))

    with a_world() as world:
        world.observer = lambda w, what: states.append(w.state())
        world.run(play)
    assert states[0] == (("weather", "fine"), ("in flight", "client → 127.0.0.1:8000: SYN"))
    assert (("weather", "fine"), ("in flight", "client → server: a b")) in states
    assert states[-1] == (("weather", "fine"), ("in flight", "nothing"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"granularity": "iterations"}, "granularity='iterations' does not exist. There are: turn, iteration"),
        ({"arrivals": "double"}, "arrivals='double' does not exist. There are: single, merged, any"),
        ({"latency": (0.2, 0.1)}, r"latency=\(0.2, 0.1\) is no interval"),
        ({"latency": (-1.0, 0.1)}, "is no interval"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**wrong)


# Arriving together.


@pytest.mark.parametrize(
    ("arrivals", "possible"),
    [
        ("single", {("a", "b", "c")}),
        ("merged", {("abc",)}),
        ("any", {("a", "b", "c"), ("ab", "c"), ("a", "bc"), ("abc",)}),
    ],
)
def test_segments_arrive_alone_or_together(arrivals: str, possible: set[tuple[str, ...]]) -> None:
    def scene(world: World, seen: Seen) -> None:
        noting_server(world, seen)
        world.start_script("client", sender("a", "b", "c"))

    assert orders(scene, arrivals=arrivals) == possible
    assert len(runs(scene, arrivals=arrivals)) == len(possible), "each once"


def test_only_what_may_be_there_by_then_arrives_together() -> None:
    def scene(world: World, seen: Seen) -> None:
        noting_server(world, seen)
        world.start_script("client", sender("a", "b", "c", at=5.0, gap=0.5))

    assert orders(scene, arrivals="merged", latency=(1.0, 1.0)) == {("a", "b", "c")}
    assert ("a", "bc") in orders(scene, arrivals="merged", latency=(0.0, 0.7))


def test_each_of_those_that_arrive_together_has_its_own_cause() -> None:
    def play(world: World) -> None:
        noting_server(world, [])
        world.start_script("client", sender("a", "b"))

    events = play_world(play, arrivals="merged").trace.events
    sent = {event.seq: event for event in events if isinstance(event, TcpSend)}
    delivered = [event for event in events if isinstance(event, TcpDeliver)]
    assert [event.segment for event in delivered] == [
        sent[event.cause].segment for event in delivered if event.cause is not None
    ]
    assert [event.segment for event in delivered][:3] == ["SYN", "a", "b"]
