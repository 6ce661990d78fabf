"""Servers drawn at random whose connections have nothing in common but one mailbox; all their states are known.

Each connection has a client, who may choose, and a part of the server. Both hold something and answer what comes by it.
The server's part may also have a thread do something, whose results wait for all connections in one line.
"""

from __future__ import annotations

import random
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from sim.search.both import LeftOut
from sim.world.agenda import Known
from sim.world.choices import Choices
from sim.world.footprint import Option

from .programs import Fingers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.search.apart import Apart
    from sim.world.footprint import Watch

Route: TypeAlias = "tuple[str, int]"
"""What leads to a server's part ("up"), to a client ("down"), or (of all connections, and so of 0) from threads ("box")."""


class State(NamedTuple):
    """What each client and each part of the server holds, and what is under way on each route: of whom, and how far."""

    clients: tuple[int, ...]
    parts: tuple[int, ...]
    ways: tuple[tuple[Route, tuple[tuple[int, int], ...]], ...]


class Step(NamedTuple):
    """A state, what was put under way in it, which connections' parts and which client it touched."""

    state: State
    put: list[Route]
    parts: set[int]
    client: int | None


class Rooms:
    """Drawn from a seed.

    Args:
        seed: of the drawing.
        connections: how many.
        round: whether connections may go round for ever.
        reaches: whether a part may change another connection's, and then touches it.
        hides: whether that it touches it is hidden.
    """

    def __init__(
        self,
        seed: int,
        *,
        connections: int = 2,
        round: bool = False,  # noqa: A002 - as `Program` calls it
        reaches: bool = False,
        hides: bool = False,
    ) -> None:
        self.seed = seed
        self.connections = connections
        self._round = round
        self._reaches = reaches or hides
        self.hides = hides
        level = random.Random(seed).randint(1, 3)
        ways = tuple((("up", c), ((c, level),)) for c in range(connections))
        self.start = State((0,) * connections, (0,) * connections, ways)

    def width(self, state: State, route: Route) -> int:
        """How many picks the step has in which the head of a route arrives."""
        connection, level = dict(state.ways)[route][0]
        rnd = random.Random(f"{self.seed} width {route[0]} {connection} {level} {state.clients[connection]}")
        return rnd.choice((1, 2)) if route[0] == "down" else 1

    def step(self, state: State, route: Route, pick: int) -> Step:
        """The head of a route arrives."""
        ways = {way: list(letters) for way, letters in state.ways}
        connection, level = ways[route].pop(0)
        to_client = route[0] == "down"
        own = list(state.clients if to_client else state.parts)
        rnd = random.Random(f"{self.seed} {route[0]} {connection} {level} {own[connection]} {pick}")
        own[connection] = rnd.randrange(3)
        touched = set() if to_client else {connection}
        if self._reaches and not to_client and self.connections > 1 and rnd.random() < 0.3:
            other = (connection + 1) % self.connections
            own[other] = (own[other] + 1) % 3
            touched.add(other)
        put: list[Route] = []
        further = level if self._round and rnd.random() < 0.3 else level - 1
        answers = [("up", connection)] if to_client else [("down", connection), ("box", 0)]
        for answer in answers:
            if further >= 0 and rnd.random() < 0.6:
                put.append(answer)
                ways.setdefault(answer, []).append((connection, further))
        left = tuple(sorted((way, tuple(letters)) for way, letters in ways.items() if letters))
        clients, parts = (tuple(own), state.parts) if to_client else (state.clients, tuple(own))
        return Step(State(clients, parts, left), put, touched, connection if to_client else None)

    def states(self, most: int) -> set[State] | None:
        """Every state that can be reached; None: there are more than that."""
        found, new = {self.start}, [self.start]
        while new:
            state = new.pop()
            for route, _ in state.ways:
                for pick in range(self.width(state, route)):
                    behind = self.step(state, route, pick).state
                    if behind not in found:
                        found.add(behind)
                        new.append(behind)
            if len(found) > most:
                return None
        return found


def told(states: set[State]) -> set[object]:
    """What claims could be about: how far each connection comes, and what all come to together."""
    found: set[object] = {(s.clients, s.parts) for s in states if not s.ways}
    for state in states:
        ways = dict(state.ways)
        for c in range(len(state.clients)):
            results = tuple(letter for letter in ways.get(("box", 0), ()) if letter[0] == c)
            found.add((c, state.clients[c], state.parts[c], ways.get(("up", c)), ways.get(("down", c)), results))
    return found


class Visits:
    """Plays the part of runner and world for a search with both reductions, and notes which states it comes to."""

    def __init__(self, rooms: Rooms, apart: Apart | None) -> None:
        self.rooms = rooms
        self.left_out = LeftOut(past="outcome", apart=apart)
        self.left_out.fingerprinter = Fingers(lambda lane: lane.route)  # type: ignore[assignment]
        self.reached: set[State] = set()
        self.runs = 0

    def play(self, forced: Sequence[int], decide: Any = None, /, *, watch: Watch | None = None) -> Any:
        """What `sim.search.policy.Play` does."""
        assert watch is not None
        self.runs += 1
        rooms, state = self.rooms, self.rooms.start
        agenda = SimpleNamespace(lanes=[], iterating=False, next_timer=lambda: float("inf"), _orders=0)
        world: Any = SimpleNamespace(
            agenda=agenda,
            choices=Choices(forced, watch.pick),
            clock=SimpleNamespace(now=0.0),
            failed=None,
            processes=[SimpleNamespace(name="server")],
            state=state,
            striker=None,
            tied=False,
        )
        world.fail = lambda exc: setattr(world, "failed", world.failed or exc)
        note = self.left_out.lookout(forced)
        lanes: dict[Route, Any] = {}

        def put(route: Route) -> None:
            if route not in lanes:
                lanes[route] = SimpleNamespace(route=route, segments=deque())
                agenda.lanes.append(lanes[route])
            agenda._orders += 1
            lanes[route].segments.append(SimpleNamespace(order=agenda._orders, earliest=0.0, latest=0.0))

        for route, _ in state.ways:
            put(route)
        watch.scene_is_set()
        own: set[State] = set()
        while state.ways:
            self.reached.add(state)
            if state in own:
                break  # it goes round for ever, and has no choice
            own.add(state)
            heads = sorted((lane for lane in lanes.values() if lane.segments), key=lambda lane: lane.segments[0].order)
            assert not note(world)
            watch.decision(world, [Option(("early", lane.segments[0].order), key_of(lane.route)) for lane in heads])
            if isinstance(world.failed, Known):
                return SimpleNamespace(known=True, choices=world.choices.made)
            if world.failed is not None:
                raise world.failed
            lane = heads[world.choices.choose(len(heads))]
            width = rooms.width(state, lane.route)
            if len(heads) > 1 or width > 1:
                own.clear()
            step = rooms.step(state, lane.route, world.choices.choose(width))
            lane.segments.popleft()
            for route in step.put:
                put(route)
            if lane.route[0] == "box" or ("box", 0) in step.put:
                watch.touch("server")
            mine = dict(state.ways)[lane.route][0][0]
            parts = {mine} & step.parts if rooms.hides else step.parts
            watch.footprint.parts |= {("server", f"connection {part}") for part in parts}
            if step.client is not None:
                watch.touch(f"client {step.client}")
            state = world.state = step.state
        self.reached.add(state)
        watch.ended(world)
        return SimpleNamespace(known=False, choices=world.choices.made)


def key_of(route: Route) -> tuple[str, ...]:
    """The key of an option, as `sim.world.footprint` makes it."""
    if route[0] == "box":
        return "early", "server"
    return "early", f"connection {route[1]}", f"client {route[1]}" if route[0] == "up" else "server"
