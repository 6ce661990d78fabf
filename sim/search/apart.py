"""One connection after the other: where connections are isolated, a state asks only for the options of one of them.

Theory of operation
===================

Clients that have nothing in common have a product of states. None of it shows in a claim that does not ask how far one had
come when another did something. So, with the reductions "classes" and "states" together, a decision explores only the
options of *one* connection: of the one at which the last delivery was, as long as it has any, and then of another one.
What is visited is a sum: each way of one connection, and behind each state that it may end in, each way of the next.

These options are a persistent set (P. Godefroid, 1996, chapter 4): whatever the others do, they remain possible and come to
the same; that is what a scenario declares with `isolated`. And they are never put off for ever, for at one moment of
virtual time each connection comes to its end, unless it goes round in a circle (rule 4).

Results of native threads wait in one mailbox, whatever connection they are for, first in, first out. That ties connections
together by who is ahead of whom, and by nothing else: a result that waits behind another one is late, and not another
one. Since a connection is begun only when the mailbox is empty, all that is in it belongs to that connection, and no
order in which results of several could have waited there leads one of them to a place where it cannot come alone.

Rules for this file:

1. It is for scenarios that declare `isolated`, and whose `past` is types of events, without the log: each actor's events
   of these types, in their order, are then all that a claim looks at. The order in which two connections log is nobody's.
2. Preserved is which claims are violated, as far as they are claims about each connection, or about what all of them come
   to. States in which two connections are half way are not visited, nor is what a claim would say of an order between
   two connections.
3. It does not rely on the declaration alone. Each step has to touch nothing but its own connection, the client there, and
   the process as a whole (the mailbox, native threads, the log). If one touches another connection, or another client, or
   the kernel or the clock, connections are not apart. What no footprint shows (a loop that stands still for the sake of
   one connection, say) is declared not to be, and `sim.search.isolation` looks for it.
4. Nor are they if a state comes round again on the way to itself: others might then be put off for ever.
5. Nor if a timer may come into play at the moment, or more than deliveries (as in rule 3 of `sim.search.races`): a timer is
   due when all under way may wait, and concerns everybody.
6. Where connections turn out not to be apart, everything is forgotten, and the search begins again without this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sim.world.events import LoggedError, LoggedWarning
from sim.world.footprint import KERNEL, latest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.check.scenario import Scenario
    from sim.search.classes import Node
    from sim.world.footprint import Footprint, Option
    from sim.world.world import World


class _Place(NamedTuple):
    """A decision on the way: how deep, its state, the moment, and by when all that was under way in it must arrive."""

    depth: int
    key: bytes
    now: float
    latest: float


class Apart:
    """Whether the connections of a search's runs are apart, and what that leaves to explore."""

    def __init__(self) -> None:
        self.hold = True
        """Whether they are, as far as is known."""
        self._way: list[_Place] = []
        self._owners: dict[str, str] = {}
        """Whose connection each place but the processes is at."""

    def state(self) -> Any:
        """Where it is, in JSON types."""
        way = [[place.depth, place.key.hex(), place.now, place.latest] for place in self._way]
        return [self.hold, way, self._owners]

    def resume(self, state: Any) -> None:
        """Be there."""
        self.hold, way, self._owners = state
        self._way = [_Place(depth, bytes.fromhex(key), now, latest) for depth, key, now, latest in way]

    def options(self, world: World, path: Sequence[Node], options: Sequence[Option], key: bytes) -> set[int]:
        """The numbers of the options to explore.

        Args:
            world: at the decision, its last step done.
            path: the decisions before, and their steps.
            options: of this one.
            key: the world's fingerprint.
        """
        way = self._way
        while way and way[-1].depth >= len(path):
            way.pop()
        now, moment = world.clock.now, latest(world)
        mine: str | None = None
        if way and way[-1].now == now:
            moment = max(moment, way[-1].latest)
            mine = _connection(path)
            self._look(world, mine, path[-1].ran)
        if world.agenda.next_timer() <= moment or any(place.key == key for place in way):
            self.hold = False
        way.append(_Place(len(path), key, now, moment))
        return self._of_one(options, mine)

    def ended(self, world: World, path: Sequence[Node], footprint: Footprint) -> None:
        """A run has come to its end, behind a last step that touched this."""
        way = self._way
        if way and way[-1].now == world.clock.now:
            self._look(world, _connection(path), footprint)
            if world.agenda.next_timer() <= max(latest(world), way[-1].latest):
                self.hold = False

    def _look(self, world: World, mine: str | None, footprint: Footprint) -> None:
        """Rule 3, of a step that was of a connection."""
        strangers = any(connection != mine for _, connection in footprint.parts)
        if mine is None or strangers or footprint.everything or footprint.moments or KERNEL in footprint.places:
            self.hold = False
            return
        processes = {process.name for process in world.processes}
        for place in footprint.places - processes:
            if self._owners.setdefault(place, mine) != mine:
                self.hold = False

    def _of_one(self, options: Sequence[Option], mine: str | None) -> set[int]:
        posts: set[int] = set()
        channels: dict[str, set[int]] = {}
        for number, option in enumerate(options):
            if option.key[:1] != ("early",):  # type: ignore[index]
                self.hold = False
            elif len(option.key) == 2:  # type: ignore[arg-type]
                posts.add(number)
            else:
                channels.setdefault(str(option.key[1]), set()).add(number)  # type: ignore[index]
        if posts and mine is None:
            self.hold = False
        if not self.hold:
            return set(range(len(options)))
        if not posts and mine not in channels:
            mine = next(iter(channels))
        return posts | channels.get(mine or "", set())


def apart(scenario: Scenario) -> Apart | None:
    """For a scenario that declares what is needed (rule 1)."""
    past = scenario.past
    if not scenario.isolated or isinstance(past, str) or LoggedWarning in past or LoggedError in past:
        return None
    return Apart()


def _connection(path: Sequence[Node]) -> str | None:
    """At which the last delivery was."""
    for node in reversed(path):
        key = node.picked.key if node.options else None
        if isinstance(key, tuple) and key[0] == "early" and len(key) == 3:
            return str(key[1])
    return None
