"""Small worlds for the tests of searches: a subject that is nobody, and a server that writes down what it gets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from sim import Event, Scenario, Settings, explore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sim import Host, Invariant, Report, Trace, World

ADDRESS = ("127.0.0.1", 9000)


@attrs.frozen
class Toy:
    """A subject that serves nobody: these scenarios bring their own servers."""

    requirement: str = "toy==1"
    kind: str = "model"
    versions: dict[str, str] = attrs.field(factory=lambda: {"toy": "1"})

    def serve(self, world: Any, application: Any, **options: Any) -> Any:
        raise NotImplementedError


@attrs.define(slots=True)
class Noted(Event):
    """A toy notes something."""

    kind: ClassVar[str] = "app.noted"
    what: object

    def describe(self) -> str:
        return f"notes {self.what}"


@attrs.define(slots=True)
class Got(Event):
    """The server's protocol was given data."""

    kind: ClassVar[str] = "app.got"
    data: str

    def describe(self) -> str:
        return f"gets {self.data}"


def toy_scenario(
    play: Callable[..., object], *invariants: Invariant, settings: Settings | None = None, **more: Any
) -> Scenario:
    """A scenario of that play; its worlds do not outlast their scripts."""
    world = settings if settings is not None else Settings(settle=0.0)
    more.setdefault("name", "toy")
    return Scenario(story="A toy.", play=play, invariants=invariants, settings=lambda **_: world, **more)


def search(play: Callable[..., object], *invariants: Invariant, **options: Any) -> Report:
    """Explore a play with the toy subject; scenario's options go by `scenario={...}`."""
    return explore(toy_scenario(play, *invariants, **options.pop("scenario", {})), server=Toy(), **options)


def picking(*widths: int) -> Callable[..., None]:
    """A play that makes choices of these widths and notes the picks."""

    def play(world: World, _subject: Any) -> None:
        picks = tuple(world.choose(range(width), f"of {width}") for width in widths)
        world.trace.record(Noted, "toy", picks)

    return play


def noted(trace: Trace) -> list[object]:
    """What toys noted."""
    return [event.what for event in trace.of(Noted)]


def listening(world: World, *, laps: int = 0) -> None:
    """Start an asyncio server that records what each `data_received` gives it.

    Args:
        world: where.
        laps: iterations of the loop that it takes before it writes down what has come meanwhile.
    """

    class Listener(asyncio.Protocol):
        waiting: list[str]
        task: asyncio.Task[None] | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.waiting = []

        def data_received(self, data: bytes) -> None:
            if laps == 0:
                world.trace.record(Got, "server", data.decode())
                return
            self.waiting.append(data.decode())
            if self.task is None:
                self.task = asyncio.ensure_future(self.work())

        async def work(self) -> None:
            for _ in range(laps):
                await asyncio.sleep(0)
            world.trace.record(Got, "server", "+".join(self.waiting))
            self.waiting.clear()
            self.task = None

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Listener, *ADDRESS)
        async with server:
            await server.serve_forever()

    world.start_process("server", main)
    assert world.run_until(lambda: ADDRESS in world.kernel.listeners, within=1.0)


def chattering(clients: int, messages: int, *, laps: int = 0) -> Callable[..., None]:
    """A play in which each client connects and sends its messages at once; nobody closes."""

    def play(world: World, _subject: Any) -> None:
        listening(world, laps=laps)
        for number in range(clients):
            world.start_script(f"client {number}", talker(f"{chr(97 + number)}{m}" for m in range(messages)))

    return play


def talker(messages: Iterable[str]) -> Callable[[Host], Any]:
    """A script that connects and sends each message."""
    lines = list(messages)

    async def script(host: Host) -> None:
        connection = await host.connect(ADDRESS)
        for line in lines:
            connection.send(line.encode(), line)

    return script


def got(trace: Trace) -> tuple[str, ...]:
    """What the server got, in its order."""
    return tuple(event.data for event in trace.of(Got))
