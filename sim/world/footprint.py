"""What each step of a world touches: the ground on which a reduction says that two steps do not concern one another.

Theory of operation
===================

A *step* goes from one decision of the agenda to the next: a delivery and all that the loops and scripts do of it, a
timer, an iteration of a loop. Its `Footprint` is what it read or wrote, noted while it runs. Two steps that can both
happen in one state, and whose footprints do not meet, commute there: in either order each finds what it would have
found, and the state behind both is the same but for numbers that mean nothing (of events, of segments, of times).

Rules for this file:

1. A place is a scripted host or a process. A step touches the place that it delivers to, each place whose code runs
   in it, and each place on whose behalf something enters flight. Hosts are machines of their own: scripts that share a
   variable, and no `Signal`, do what machines cannot, and it is not seen here.
2. In a process a step also knows on which connection it was. Without a declaration that connections are isolated this
   makes no difference: what touches a process touches all of it.
3. Native threads belong to the process. Where there are several processes they touch everything.
4. SYN, FIN and RST touch both ends: they change what the sender may do, and RST destroys what is in flight to it. Data
   touch the receiver alone, as long as the window cannot matter: until half of the smaller buffer was ever sent. From
   then on, sending and delivering touch both ends.
5. New connections draw on numbers that the kernel has for all (ports, names), so their making touches the kernel.
6. The clock concerns everybody. A step in which it moves, or a timer fires, touches everything; so do signals and the
   beginning of a process. Scripts' timers for one moment ring in the order in which they were set, so two steps that
   set one for the same moment meet.
7. While the scene is set, each step touches everything: `play` may do anything when it goes on.
8. Where segments of a direction may arrive together, a delivery looks at all that is under way there: both it and what
   sends there touch the lane.
9. A fault touches everything, and so does each step while a cancellation is to come, and a client that reads on.
   Work in an executor that may be late draws on a budget, and may be so only until the last script ends: asking
   for it touches that budget, and so does each script that runs.

Random numbers are not noted. Which of them a place draws depends on who drew before; they mask frames and make keys, and
whoever decides by them ought to be a choice.

Who does not ask pays one test of an attribute at each of these points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sim.world.channel import DATA, SYN
from sim.world.lanes import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from sim.world.endpoint import Channel, Endpoint, Segment
    from sim.world.faults import Strike
    from sim.world.fiber import Fiber
    from sim.world.lanes import Lane
    from sim.world.world import World

INFINITY = float("inf")
KERNEL = "the kernel"
LATE = "how much work may be late"


class Option(NamedTuple):
    """One possibility of a decision.

    `id` tells it from the other things under way in this run; it stays the same as long as the thing is under way.
    `key` says the same in words that hold in other runs, too: which lane's head it is, and how it happens.
    """

    id: Hashable
    key: Hashable


class Footprint:
    """What a step touched: everything, or places, connections of processes, and moments of scripts' timers."""

    __slots__ = ("everything", "moments", "parts", "places")

    def __init__(self) -> None:
        self.everything = False
        self.places: set[str] = set()
        self.parts: set[tuple[str, str]] = set()
        self.moments: set[float] = set()

    def to_json(self) -> list[Any]:
        """The footprint as JSON types."""
        return [self.everything, sorted(self.places), sorted(self.parts), sorted(self.moments)]

    @classmethod
    def from_json(cls, record: Any) -> Footprint:
        """The footprint that `to_json` made a record of."""
        footprint = cls()
        footprint.everything, places, parts, moments = record
        footprint.places, footprint.parts, footprint.moments = set(places), set(map(tuple, parts)), set(moments)
        return footprint

    def add(self, other: Footprint) -> None:
        """Have it touch what `other` does, too."""
        self.everything = self.everything or other.everything
        self.places |= other.places
        self.parts |= other.parts
        self.moments |= other.moments

    def meets(self, other: Footprint, *, isolated: bool = False) -> bool:
        """Whether both touch something.

        Args:
            other: of another step.
            isolated: whether the connections of a process have nothing to do with one another.
        """
        if self.everything or other.everything or self.moments & other.moments or self.places & other.places:
            return True
        ours, theirs = {process for process, _ in self.parts}, {process for process, _ in other.parts}
        if self.places & theirs or ours & other.places:
            return True
        return bool(self.parts & other.parts if isolated else ours & theirs)


class Watch:
    """Takes the footprints of one run's steps, and decides how it goes on.

    Args:
        decide: called with the options at each decision of the agenda, also where there is only one; what it raises ends
            the run. `footprint` is then that of the step that has just ended.
        pick: called with the width of each choice that is not forced; returns the pick.
    """

    def __init__(self, decide: Callable[[Sequence[Option]], None], pick: Callable[[int], int]) -> None:
        self._pick = pick
        self._over = False
        self.footprint = self.last = Footprint()
        """What the step has touched that goes on; and, of a run that is over, its last one."""
        self._setting_the_scene = True
        self._decide = decide
        self._world: World
        self._clock = 0.0
        self._sent: dict[Channel, int] = {}

    # What the agenda asks.

    def decision(self, world: World, options: list[Option]) -> None:
        """A step has ended, and one of `options` is the next.

        What `decide` raises ends the run, as soon as every loop is idle: a loop that is in the middle of an iteration
        finishes it, so that nothing is left half done.
        """
        self._world = world
        self._end_step(world)
        if world.choices.spent or self._over:
            return
        try:
            self._decide(options)
        except Exception as exc:
            self._over = True
            world.fail(exc)
        self.footprint = Footprint()

    def pick(self, width: int) -> int:
        """A choice that is not forced."""
        return 0 if self._over else self._pick(width)

    def ended(self, world: World) -> None:
        """The run is over, and with it its last step. What its end makes the world do is no step."""
        self._world = world
        self._end_step(world)
        self.last, self.footprint = self.footprint, Footprint()

    # What `decide` may ask.

    @property
    def created(self) -> int:
        """How many things have been under way in this run; an option's `id` says which of them it is."""
        return self._world.agenda._orders

    def latest(self) -> float:
        """See `latest`."""
        return INFINITY if self._setting_the_scene else latest(self._world)

    def next_timer(self) -> float:
        """Virtual time at which a timer is due; infinity if none is."""
        return self._world.agenda.next_timer()

    def scene_is_set(self) -> None:
        """`play` has returned, and the step in which it did is its last (rule 7)."""
        self._setting_the_scene = False
        self.footprint.everything = True

    def _end_step(self, world: World) -> None:
        if self._setting_the_scene or world.clock.now != self._clock:
            self.footprint.everything = True
        self._clock = world.clock.now

    # What happens in a step.

    def touch_everything(self) -> None:
        """Rule 6."""
        self.footprint.everything = True

    def touch(self, place: str) -> None:
        """Something of a host, or of the whole of a process."""
        self.footprint.places.add(place)

    def timer(self, when: float) -> None:
        """A script's timer was set."""
        self.footprint.moments.add(when)

    def resumed(self, fiber: Fiber) -> None:
        """A script or a native thread ran (rules 1 and 3)."""
        processes = fiber.world.processes
        if fiber.scripted:
            self.footprint.places.add(fiber.name)
            striker = fiber.world.striker
            if striker is not None and "late" in striker.left:
                self.footprint.places.add(LATE)
        elif len(processes) == 1:
            self.footprint.places.add(processes[0].name)
        else:
            self.footprint.everything = True

    def sent(self, channel: Channel, segment: Segment, *, together: bool) -> None:
        """A segment entered flight, which others may arrive together with."""
        if together:
            self.footprint.places.add(_lane(channel))
        total = self._sent[channel] = self._sent.get(channel, 0) + len(segment.data)
        self._touch_end(channel.source)
        if segment.flag is SYN:
            self.footprint.places.add(KERNEL)
        if _limited(channel, total):
            self._touch_end(channel.target)

    def delivered(self, channel: Channel, segment: Segment, *, together: bool) -> None:
        """A segment has arrived, which others may have arrived together with."""
        if together:
            self.footprint.places.add(_lane(channel))
        self._touch_end(channel.target)
        if segment.flag is not DATA or _limited(channel, self._sent.get(channel, 0)):
            self._touch_end(channel.source)
        if segment.flag is SYN:
            self.footprint.places.update((KERNEL, channel.target.label))

    def _touch_end(self, endpoint: Endpoint) -> None:
        if not endpoint.label:
            self.footprint.everything = True
        elif endpoint.scripted:
            self.footprint.places.add(endpoint.label)
        else:
            self.footprint.parts.add((endpoint.label, endpoint.name))


def latest(world: World) -> float:
    """Virtual time by which all that is under way must have arrived.

    Infinity where more can come next than deliveries at this very moment: what is under way may arrive later only, there are
    faults, or things may happen between iterations of a loop.
    """
    found = 0.0
    if world.striker is not None or world.agenda.iterating:
        return INFINITY
    for lane in world.agenda.lanes:
        for item in lane.segments:
            if item.earliest > world.clock.now:
                return INFINITY
            found = max(found, item.latest)
    return found


def _lane(channel: Channel) -> str:
    """What to call what is under way in one direction of a connection (rule 8)."""
    return f"what {channel.source.place} sent on {channel.source.name}"


def _limited(channel: Channel, total: int) -> bool:
    """Whether so many bytes, sent in all, are enough for a window or a buffer to have mattered (rule 4)."""
    return 2 * total >= min(channel.source.send_size, channel.target.receive_size)


def options(
    early: Sequence[Lane],
    late: Sequence[Lane] = (),
    *,
    timer: bool = False,
    on: str | None = None,
    strikes: Sequence[Strike] = (),
) -> list[Option]:
    """The options of a decision, in the order in which the agenda offers them."""
    found = [Option(("on", on), ("on", on))] if on is not None else []
    found += [_head(lane, "early") for lane in early]
    found += [_head(lane, "late") for lane in late]
    if timer:
        found.append(Option("timer", "timer"))
    found += [Option(("fault", number), ("fault", strike.whom, str(strike))) for number, strike in enumerate(strikes)]
    return found


def in_an_iteration(options: Sequence[Option]) -> bool:
    """Whether these are the options of a loop that is between two iterations."""
    first = options[0].id
    return isinstance(first, tuple) and first[0] == "on"


def _head(lane: Lane, how: str) -> Option:
    key = (lane.owner,) if isinstance(lane, Mailbox) else (lane.source.name, lane.source.place)
    return Option((how, lane.segments[0].order), (how, *key))
