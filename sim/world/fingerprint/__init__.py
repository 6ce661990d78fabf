"""Fingerprints of live worlds: sixteen bytes that two worlds share if their futures, and what is said of them, agree.

`Fingerprinter.of(world)` walks everything that a world's future can depend on (`walk`, `types`, `builtin`, `worlds`),
and adds as much of its past as the scenario's claims look at (`past`). See there for how, and for what is assumed:

- code under test keeps no state where no object of the world leads: in C extensions' own variables, in module variables
  of packages that the subject calls constant, in files;
- it does not depend on what a run counts (ports, descriptors, connection numbers) nor on the order of a set;
- tracebacks are looked at by nobody.

What cannot be seen into makes a state that is like no other; `Fingerprinter.blind` says what that was.
"""

from __future__ import annotations

from itertools import groupby, permutations, product
from math import factorial, prod
from typing import TYPE_CHECKING, Any

from sim.world.fingerprint import worlds
from sim.world.fingerprint.past import PASTS, Past
from sim.world.fingerprint.types import Knowledge, Types
from sim.world.fingerprint.walk import Walk

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Sequence

    from sim.world.fiber import Fiber
    from sim.world.world import World

__all__ = ["PASTS", "Fingerprinter", "Knowledge"]

MOST_ORDERS = 120
"""Orders of interchangeable scripts that are tried; where there are more, some equal states are told apart."""


class Fingerprinter:
    """Makes fingerprints for one search.

    Args:
        past: how much of the past counts: one of `PASTS`.
        knowledge: what is known of the code in these worlds.
        symmetry: whether scripts that were started as `alike` are interchangeable.
    """

    def __init__(self, *, past: str = "trace", knowledge: Knowledge | None = None, symmetry: bool = False) -> None:
        self._kind = past
        self._symmetry = symmetry
        self._types = Types(knowledge or Knowledge(), worlds.HANDLERS, worlds.CONSTANTS)
        self._past: Past
        self._world: World | None = None
        self._walk: Walk | None = None

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
        self._world = self._walk = None

    def of(self, world: World) -> bytes:
        """A world's fingerprint: sixteen bytes. Its loops have to be idle, and its scene set."""
        if self._world is not world:
            self._world, self._past = world, Past(world, self._kind)
        self._past.catch_up()
        scripts = list(world.scripts.values())
        orders = self._orders(world, scripts) if self._symmetry else [scripts]
        digest, self._walk = min((self._digest(world, order) for order in orders), key=lambda found: found[0])
        return digest

    def number(self, value: object) -> float:
        """What the last fingerprint calls an object of its world: in worlds with one fingerprint, its counterpart's number.

        Raises:
            KeyError: it was not met.
        """
        assert self._walk is not None
        return self._walk.seen[id(value)]

    def _digest(self, world: World, scripts: Sequence[Fiber]) -> tuple[bytes, Walk]:
        past = self._past
        walk = Walk(world, self._types, past.of_name, past.of_wire)
        worlds.write_world(walk, world, scripts, past)
        walk.run()
        walk.put(past.rest())
        return walk.digest(), walk

    def _orders(self, world: World, scripts: Sequence[Fiber]) -> Iterable[Sequence[Fiber]]:
        """Orders in which to write the scripts, the same for worlds that differ by an exchange of scripts alike.

        Alike scripts are put in order by what can be seen of each alone; those that this does not tell apart, in every
        order.
        """
        ranked = sorted(scripts, key=lambda f: (f.alike or f.name, self._own(world, f) if f.alike else b""))
        groups = [
            list(group)
            for _, group in groupby(ranked, key=lambda f: (f.alike or f.name, self._own(world, f) if f.alike else b""))
        ]
        if prod(factorial(len(group)) for group in groups) > MOST_ORDERS:
            return [ranked]
        return ([f for group in order for f in group] for order in product(*map(permutations, groups)))

    def _own(self, world: World, fiber: Fiber) -> bytes:
        """What can be seen of a script alone: its past, and where it stands."""
        walk = Walk(world, self._types, self._past.of_name, self._past.of_wire)
        walk.put(self._past.of_script(fiber.name), fiber.done, fiber.entropy and fiber.entropy.drawn())
        coroutine: Any = fiber._coroutine
        while hasattr(coroutine, "cr_frame"):
            walk.put(coroutine.cr_frame.f_lasti if coroutine.cr_frame is not None else None)
            coroutine = coroutine.cr_await
        return walk.digest()
