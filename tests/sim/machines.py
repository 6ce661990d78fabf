"""Small worlds drawn at random: clients that talk to little state machines, of which a reduction knows nothing."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import attrs

from sim import Faults, Scenario, Settings, Violation, always
from sim.world.fingerprint import Knowledge

from .toys import ADDRESS, Got, Noted, Toy, toy_scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim import Host, Trace, World

LETTERS = "xyz"


class Seen(Toy):
    """A toy that can be seen into: events are attrs classes, and attrs keeps a thread's variable of its own."""

    knowledge = Knowledge(constant=frozenset({"attr", "attrs"}))


@attrs.frozen
class Machine:
    """What a server does: where each message takes it, where it answers, and where it writes down that it is there."""

    then: dict[tuple[int, str], int]
    answers: frozenset[int]
    notes: frozenset[int]

    @classmethod
    def draw(cls, rnd: random.Random, states: int) -> Machine:
        turns = {letter: rnd.sample(range(states), states) for letter in LETTERS}
        then = {(state, letter): turns[letter][state] for state in range(states) for letter in LETTERS}
        return cls(then, *(frozenset(rnd.sample(range(states), states // 2)) for _ in range(2)))


@attrs.frozen
class Client:
    """What a client does: whom it talks to, what it says, whether it waits for answers between, and how it ends."""

    server: int
    says: str
    waits: bool
    ends: str

    @classmethod
    def draw(cls, rnd: random.Random, servers: int, most: int) -> Client:
        says = "".join(rnd.choice(LETTERS) for _ in range(rnd.randint(1, most)))
        return cls(rnd.randrange(servers), says, rnd.random() < 0.4, rnd.choice(("", "", "close", "abort")))


def address(number: int) -> tuple[str, int]:
    return (ADDRESS[0], ADDRESS[1] + number)


def serving(world: World, number: int, machine: Machine) -> None:
    """Start a server that is `machine`, for all its connections together."""
    state = [0]

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            for letter in data.decode():
                state[0] = machine.then[state[0], letter]
                if state[0] in machine.answers and not self.transport.is_closing():
                    self.transport.write(str(state[0]).encode())
                if state[0] in machine.notes:
                    world.trace.record(Got, f"server {number}", f"{letter}{state[0]}")

    async def main() -> None:
        await (await asyncio.get_running_loop().create_server(Protocol, *address(number))).serve_forever()

    world.start_process(f"server {number}", main)
    assert world.run_until(lambda: address(number) in world.kernel.listeners, within=1.0)


def talking(client: Client) -> Callable[[Host], Any]:
    async def script(host: Host) -> None:
        try:
            connection = await host.connect(address(client.server))
            for letter in client.says:
                connection.send(letter.encode(), letter)
                if client.waits:
                    host.world.trace.record(Noted, host.name, await connection.receive(within=0.05))
            if client.ends == "close":
                connection.close()
            if client.ends == "abort":
                connection.abort()
        except OSError as exc:
            host.world.trace.record(Noted, host.name, type(exc).__name__)

    return script


@always("no-x-first", "The first thing that server 0 writes down is no x.")
def no_x_first(trace: Trace) -> Violation | None:
    first = next((event.data for event in trace.of(Got) if event.actor == "server 0"), "")
    return Violation(f"it is {first}") if first.startswith("x") else None


def machines(seed: int, *, clients: int = 3, most: int = 1, faults: Faults | None = None, **settings: Any) -> Scenario:
    """A scenario drawn from a seed.

    Args:
        seed: draws all but what follows.
        clients: how many.
        most: how much each of them says.
        faults: what may go wrong.
        settings: of its worlds.
    """
    rnd = random.Random(seed)
    servers = [Machine.draw(rnd, 6) for _ in range(rnd.randint(1, 2))]
    drawn = [Client.draw(rnd, len(servers), most) for _ in range(clients)]

    def play(world: World, _subject: Any) -> None:
        for number, machine in enumerate(servers):
            serving(world, number, machine)
        for number, client in enumerate(drawn):
            world.start_script(f"client {number}", talking(client))

    worlds = Settings(latency=(0.0, 0.1), settle=0.0, faults=faults or Faults(), **settings)
    return toy_scenario(play, no_x_first, settings=worlds, past="outcome")
