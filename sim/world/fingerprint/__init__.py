"""Fingerprints of live worlds: sixteen bytes that two worlds share if their futures, and what is said of them, agree.

`Fingerprinter.of(world)` walks everything that a world's future can depend on (`walk`, `types`, `builtin`, `worlds`),
and adds as much of its past as the scenario's claims look at (`past`). See there for how, and for what is assumed:

- code under test keeps no state where no object of the world leads: in C extensions' own variables, in module variables
  of packages that the subject calls constant, in files;
- it does not depend on what a run counts (ports, descriptors, connection numbers), on the value of a UUID, nor on the
  order of a set;
- it does not go from a frame to its caller (`f_back`).

What cannot be seen into makes a state that is like no other; `Fingerprinter.blind` says what that was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.world.fingerprint import worlds
from sim.world.fingerprint.past import PASTS, Past
from sim.world.fingerprint.types import Knowledge, Types
from sim.world.fingerprint.walk import Walk
from sim.world.lanes import Mailbox

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from sim.world.fiber import Fiber
    from sim.world.fingerprint.past import Kind
    from sim.world.world import World

__all__ = ["PASTS", "Fingerprinter", "Knowledge"]


class Fingerprinter:
    """Makes fingerprints for one search.

    Args:
        past: how much of the past counts: one of `PASTS`, or types of events.
        knowledge: what is known of the code in these worlds.
        symmetry: whether scripts that were started as `alike` are interchangeable.
    """

    def __init__(self, *, past: Kind = "trace", knowledge: Knowledge | None = None, symmetry: bool = False) -> None:
        self._kind = past
        self._symmetry = symmetry
        self._types = Types(knowledge or Knowledge(), worlds.HANDLERS, worlds.CONSTANTS)
        self._world: World | None = None
        self._past: Past | None = None
        self._seen: dict[int, bytes] = {}

    @property
    def blind(self) -> Counter[str]:
        """Types that could not be seen into, and how often they were met."""
        return self._types.blind

    @property
    def ordered(self) -> bool:
        """Whether fingerprints tell the order of timers that are due at one moment; false at first."""
        return self._types.ordered

    @ordered.setter
    def ordered(self, value: bool) -> None:
        self._types.ordered = value

    def forget(self) -> None:
        """Let go of the last world."""
        self._world = self._past = None
        self._seen = {}
        self._types.lasting.forget_world()

    def of(self, world: World) -> bytes:
        """A world's fingerprint: sixteen bytes. Its loops have to be idle, and its scene set."""
        past = self._past
        if past is None or self._world is not world:
            self.forget()
            self._world, self._past = world, (past := Past(world, self._kind, progress=self._symmetry))
        past.catch_up()
        scripts = list(world.scripts.values())
        if self._symmetry:
            scripts = _in_order(world, scripts, past)
        walk = Walk(world, self._types, past.of_name, past.of_wire, self._types.lasting.of(world))
        worlds.write_world(walk, world, scripts, past)
        walk.run()
        walk.put(*past.rest())
        self._seen = walk.seen
        return walk.end()

    def number(self, value: object) -> bytes:
        """What the last fingerprint calls an object of its world: in worlds with one fingerprint, its counterpart's number.

        Raises:
            KeyError: it was not met.
        """
        return self._seen[id(value)]


def _in_order(world: World, scripts: Iterable[Fiber], past: Past) -> list[Fiber]:
    """The scripts in an order that is the same for worlds which differ by an exchange of scripts alike.

    Alike scripts are put in order by how far each has come (rule 5 of `sim.world.fingerprint.past`).
    """
    waiting: dict[str | None, int] = {}
    for lane in world.agenda.lanes:
        if isinstance(lane, Mailbox):
            for post in lane.segments:
                waiting.setdefault(past.of_event(post.sent_by), len(waiting))

    def rank(fiber: Fiber) -> tuple[Any, ...]:
        if fiber.alike is None:
            return (fiber.name,)
        return (
            fiber.alike,
            past.of_script(fiber.name) or b"",
            past.of_progress(fiber.name),
            waiting.get(fiber.name, -1),
        )

    return sorted(scripts, key=rank)
