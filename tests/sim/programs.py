"""Programs drawn at random, with every state known beforehand: what a search with sleep sets and states has to reach.

A program is a few processes that go through operations on shared variables. An operation waits until its variable has
some value, or changes it; some go round for ever. `Player` plays the part of runner and world for a policy.
"""

from __future__ import annotations

import random
from hashlib import blake2b
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from sim.world.agenda import Known
from sim.world.choices import Choices
from sim.world.footprint import Option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sim.search.both import LeftOut
    from sim.world.footprint import Watch

VARIABLES = 3
VALUES = 3


class Operation(NamedTuple):
    """Waits until `variable` is `awaits` (None: for nothing) and adds to it; or touches everything, like the clock."""

    variable: int
    awaits: int | None
    adds: int
    everything: bool


class State(NamedTuple):
    """Where each process is, and what each variable holds."""

    at: tuple[int, ...]
    holds: tuple[int, ...]


class Program:
    """Drawn from a seed.

    Args:
        seed: of the drawing.
        round: whether processes may go round.
    """

    def __init__(self, seed: int, *, round: bool) -> None:  # noqa: A002 - what it is
        rnd = random.Random(seed)
        self.processes = [
            [
                Operation(
                    rnd.randrange(VARIABLES),
                    rnd.randrange(VALUES) if rnd.random() < 0.25 else None,
                    rnd.choice((0, 1, 1, 2)),
                    rnd.random() < 0.1,
                )
                for _ in range(rnd.randint(1, 3))
            ]
            for _ in range(rnd.randint(2, 4))
        ]
        self.rounds = [round and rnd.random() < 0.4 for _ in self.processes]
        self.start = State((0,) * len(self.processes), (0,) * VARIABLES)

    def enabled(self, state: State) -> list[int]:
        """The processes that can go on."""
        return [
            p
            for p, operations in enumerate(self.processes)
            if state.at[p] < len(operations)
            and operations[state.at[p]].awaits in (None, state.holds[operations[state.at[p]].variable])
        ]

    def step(self, state: State, process: int) -> State:
        """The state behind a step."""
        operations = self.processes[process]
        operation = operations[state.at[process]]
        at, holds = list(state.at), list(state.holds)
        holds[operation.variable] = (holds[operation.variable] + operation.adds) % VALUES
        at[process] += 1
        if at[process] == len(operations) and self.rounds[process]:
            at[process] = 0
        return State(tuple(at), tuple(holds))

    def states(self) -> set[State]:
        """Every state that can be reached."""
        found, new = {self.start}, [self.start]
        while new:
            state = new.pop()
            for process in self.enabled(state):
                behind = self.step(state, process)
                if behind not in found:
                    found.add(behind)
                    new.append(behind)
        return found


class Fingers:
    """Stands in for a fingerprinter.

    Args:
        name: what it calls a lane. By default its process.
    """

    blind: dict[str, int] = {}  # noqa: RUF012 - stays empty
    ordered = False

    def __init__(self, name: Callable[[Any], Any] = lambda lane: int(lane.process)) -> None:
        self.number = name

    def forget(self) -> None:
        pass

    def of(self, world: Any) -> bytes:
        return blake2b(repr(world.state).encode(), digest_size=16).digest()


class Player:
    """Plays schedules of a program, and notes which states it comes to.

    As in a world, the numbers by which a step is known are given out as the run goes, and mean nothing in another run.
    """

    def __init__(self, program: Program, left_out: LeftOut | None = None) -> None:
        self.program = program
        self.left_out = left_out
        self.reached: set[State] = set()
        self.runs = 0

    def play(self, forced: Sequence[int], decide: Any = None, /, *, watch: Watch | None = None) -> Any:
        assert watch is not None
        self.runs += 1
        program, state = self.program, self.program.start
        world: Any = SimpleNamespace(
            state=state, tied=False, failed=None, clock=SimpleNamespace(now=0.0), choices=Choices(forced, watch.pick)
        )
        world.fail = lambda exc: setattr(world, "failed", world.failed or exc)
        note = self.left_out.lookout(forced) if self.left_out is not None else None
        watch.scene_is_set()
        came = [0] * len(program.processes)
        known = False
        own: set[State] = set()
        for step in count(1):
            self.reached.add(state)
            if state in own:
                break  # it goes round for ever, and has no choice
            own.add(state)
            enabled = program.enabled(state)
            if not enabled:
                break
            # The later a process came here, the further in front it stands; so options are in other orders, too.
            enabled.sort(key=lambda p: (-came[p], p))
            lanes = {p: SimpleNamespace(process=p, segments=[_Item(100 * came[p] + p)]) for p in enabled}
            world.agenda = SimpleNamespace(lanes=list(lanes.values()))
            options = [Option(("early", lanes[p].segments[0].order), ("early", p)) for p in enabled]
            if note is not None:
                assert not note(world)
            watch.decision(world, options)
            if isinstance(world.failed, Known):
                known = True
                break
            if world.failed is not None:
                raise world.failed
            process = enabled[world.choices.choose(len(options))]
            if len(options) > 1:
                own.clear()
            operation = program.processes[process][state.at[process]]
            if operation.everything:
                watch.touch_everything()
            watch.touch(f"process {process}")
            watch.touch(f"variable {operation.variable}")
            came[process] = step
            state = world.state = program.step(state, process)
        return SimpleNamespace(known=known, choices=world.choices.made)


class _Item(NamedTuple):
    order: int
