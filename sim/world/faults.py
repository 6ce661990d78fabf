"""Faults as choices: what may go wrong between a server and its clients, and how often in one run.

Theory of operation
===================

A scenario (or the command line) allows faults by number: `Faults(rst=1, cut=2)`. Wherever the agenda decides what happens
next, the faults that are left are further options behind the regular ones, so pick 0 never is one, and the deviations of
a schedule count them. A fault strikes at once and takes no virtual time; then the loops run, and the agenda decides again.

| name | what strikes |
| --- | --- |
| `cut` | a segment arrives in two: at any byte, or at those that `cuts` finds interesting |
| `merge` | two segments of one direction arrive as one |
| `delay` | a segment is lost on its way and sent again: it comes 0.2 s later, what opens a connection 1 s later, and \
what follows it comes behind it |
| `stall` | a client stops reading; that it goes on is an option from then on, and is taken when nothing else can happen |
| `fin` | a client says that it will send nothing more |
| `rst` | a client resets its connection; or the network does, for both sides |
| `lose` | a connection falls silent: what is under way and all that follows is lost, and nobody is told |
| `refuse` | a connection is refused although somebody listens |
| `sigterm`, `sigint` | a server gets the signal |
| `cancel` | an application's task is cancelled, 0 to 10 iterations of its loop behind whatever happens next |
| `late` | work in an executor is done later than at once, in an order of its own |
| `clock` | the wall clock jumps an hour ahead or back; the monotonic clock does not |

Rules for this file:

1. Without faults nothing here is on the path of a step.
2. Each fault leaves an event in the trace (`tcp.fault`), which is the cause of what comes of it. It is not part of the
   outcome: what matters is what the others made of it.
3. The last part of a segment that was cut is what arrives for whoever asks when a message did.
4. Faults strike only between the moment when the scene is set and the end of the last script.

What is left out: a fault is offered where the agenda decides, so with granularity `turn` only while every loop is idle,
and with `iteration` also between iterations while something is under way; the iterations of `cancel` count in any case.
"""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING, Any

import attrs

from sim.errors import UsageError
from sim.world.clock import moment
from sim.world.endpoint import Flag, Segment
from sim.world.events import Fault
from sim.world.footprint import LATE
from sim.world.lanes import Mailbox

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence

    from sim.world.endpoint import Channel
    from sim.world.host import Connection
    from sim.world.lanes import Lane
    from sim.world.process import Process
    from sim.world.world import World

CANCEL_ITERATIONS = 11
"""A cancellation comes behind 0, 1, ... of so many iterations."""
RESENT_AFTER = 0.2
"""Virtual seconds behind which TCP sends a lost segment again, at the least (Linux: TCP_RTO_MIN)."""
SYN_RESENT_AFTER = 1.0
"""The same for what opens a connection (RFC 6298, 2.1)."""
JUMPS = (3_600.0, -3_600.0)
"""Seconds by which the wall clock jumps."""


@attrs.frozen
class Faults:
    """How often each fault may strike in one run; see the module's table.

    Attributes:
        cuts: given a segment's bytes, where it may be cut, each between 1 and their number less 1; None: anywhere.
    """

    cut: int = 0
    merge: int = 0
    delay: int = 0
    stall: int = 0
    fin: int = 0
    rst: int = 0
    lose: int = 0
    refuse: int = 0
    sigterm: int = 0
    sigint: int = 0
    cancel: int = 0
    late: int = 0
    clock: int = 0
    cuts: Callable[[bytes], Sequence[int]] | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        for name in NAMES:
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise UsageError(f"the fault {name}={value!r} is no number of times. Write, for example: {name}=1")

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in NAMES)

    def budget(self) -> dict[str, int]:
        """Those that are allowed, by name."""
        return {name: count for name in NAMES if (count := getattr(self, name))}

    def __str__(self) -> str:
        return ", ".join(f"{name}={count}" for name, count in self.budget().items()) or "none"

    @classmethod
    def parse(cls, text: str) -> dict[str, int]:
        """Numbers by name from text such as "rst=1,cut=2".

        Raises:
            UsageError: it is of another form, or names no fault.
        """
        found: dict[str, int] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, equals, count = part.partition("=")
            if name not in NAMES:
                raise UsageError(f"the fault {name!r} does not exist. There are: {', '.join(NAMES)}.")
            if not equals or not count.isdigit():
                raise UsageError(f"the fault {part!r} is not of the form NAME=TIMES, such as {name}=1.")
            found[name] = int(count)
        return found


NAMES = tuple(field.name for field in attrs.fields(Faults) if field.name != "cuts")


class Strike:
    """One fault that may strike now.

    Attributes:
        name: as in the module's table.
        whom: on whom it falls, by a name that tells it from others in its run.
    """

    __slots__ = ("_do", "_text", "name", "whom")

    def __init__(self, name: str, whom: str, text: str, do: Callable[[], None]) -> None:
        self.name = name
        self.whom = whom
        self._text = text
        self._do = do

    def __call__(self) -> None:
        self._do()

    def __str__(self) -> str:
        return f"fault: {self._text}"


@attrs.define(eq=False)
class _Armed:
    """A cancellation to come: `after` so many iterations, once they count."""

    task: asyncio.Task[Any]
    after: int
    counting: bool = False


class Striker:
    """What is left of a world's faults, and on whom they may fall."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world = world
        self._cuts = faults.cuts
        self.left = faults.budget()
        self.on = False
        """Whether faults may strike now (rule 4)."""
        self.armed: list[_Armed] = []
        """Cancellations to come."""
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        """The applications' tasks, by name: whom `cancel` may fall on."""
        self.lost: set[str] = set()
        """The connections that have fallen silent."""

    def options(self, lanes: Sequence[Lane]) -> list[Strike]:
        """What may strike now, given the lanes whose heads may arrive now."""
        if not self.on:
            return []
        left = self.left
        found: list[Strike] = []
        if left.get("cut") or left.get("merge") or left.get("delay") or left.get("refuse"):
            for lane in lanes:
                if not isinstance(lane, Mailbox):
                    found += self._on_channel(lane)
        for connection in self._world.connections:
            found += self._on_connection(connection)
        for process in self._world.processes:
            if not process.exited and process.parked is None:
                found += self._on_process(process)
        if left.get("cancel"):
            found += [
                self._strike("cancel", name, f"{name} is going to be cancelled", lambda t=task: self._arm(t))  # type: ignore[misc]
                for name, task in self.tasks.items()
                if not task.done()
            ]
        if left.get("clock"):
            found += [
                self._strike("clock", "", f"the wall clock jumps by {jump:+g} s", lambda j=jump: self._jump(j))  # type: ignore[misc]
                for jump in JUMPS
            ]
        return found

    def resume_somebody(self) -> bool:
        """Let a client that was stalled read on, because nothing else can happen. Whether there was one."""
        for connection in self._world.connections:
            if connection.stalled:
                if self._world.watch is not None:
                    self._world.watch.touch_everything()
                self._resume(connection)
                return True
        return False

    def _strike(self, name: str, actor: str, text: str, do: Callable[[], None], *, whom: str | None = None) -> Strike:
        world = self._world

        def strike() -> None:
            self.left[name] -= 1
            trace = world.trace
            trace.cause = None
            trace.cause = trace.record(Fault, actor or self._somebody(), name, text).seq
            do()

        return Strike(name, actor if whom is None else whom, text, strike)

    def _somebody(self) -> str:
        return self._world.processes[0].name if self._world.processes else "world"

    # On segments.

    def _on_channel(self, channel: Channel) -> Iterator[Strike]:
        segments = channel.segments
        head = segments[0]
        source, target, whom = channel.source.place, channel.target.place, channel.source.name
        if head.flag is Flag.DATA:
            if self.left.get("cut") and len(head.data) > 1:
                yield self._strike("cut", target, f"{head} is cut in two", lambda: self._cut(channel), whom=whom)
            if self.left.get("merge") and len(segments) > 1 and segments[1].flag is Flag.DATA:
                both = f"{head} and {segments[1]} become one"
                yield self._strike("merge", target, both, lambda: _merge(channel), whom=whom)
        elif head.flag is Flag.SYN and self.left.get("refuse"):
            yield self._strike("refuse", source, "the connection is refused", lambda: _refuse(channel), whom=whom)
        if head.flag is not Flag.RST and self.left.get("delay"):
            seconds = SYN_RESENT_AFTER if head.flag is Flag.SYN else RESENT_AFTER
            yield self._strike(
                "delay", target, f"{head} is delayed by {seconds:g} s", lambda: _delay(channel, seconds), whom=whom
            )

    def _cut(self, channel: Channel) -> None:
        world = self._world
        head = channel.segments[0]
        places = range(1, len(head.data)) if self._cuts is None else self._cuts(head.data)
        if not places:
            return
        place = places[world.choices.choose(len(places), f"where {head} is cut: {len(places)} places")]
        first = Segment(Flag.DATA, head.data[:place], f"the first {place} bytes of {head}")
        first.order, first.earliest, first.latest = head.order, head.earliest, head.latest
        first.sent_by, first.way = world.trace.cause, head.way
        head.label = f"the rest of {head}"
        head.data = head.data[place:]
        channel.segments.appendleft(first)

    # On connections.

    def _on_connection(self, connection: Connection) -> Iterator[Strike]:
        left = self.left
        name, whom = connection.host.name, connection.name
        if connection.stalled:
            yield Strike("stall", whom, f"{name} reads on", lambda: self._resume(connection))
        if not connection.connected or connection.closed or connection.name in self.lost:
            return
        if left.get("stall") and not connection.stalled:
            yield self._strike("stall", name, "stops reading", connection.stall, whom=whom)
        if left.get("fin") and not connection.write_shut:
            yield self._strike("fin", name, "sends FIN and reads on", connection.shut_write, whom=whom)
        if left.get("rst"):
            yield self._strike("rst", name, "resets the connection", connection.abort, whom=whom)
            yield self._strike("rst", name, "has the connection reset by the network", connection.cut_off, whom=whom)
        if left.get("lose"):
            silence = "is lost: the connection falls silent"
            yield self._strike("lose", name, silence, lambda: self._lose(connection), whom=whom)

    def _resume(self, connection: Connection) -> None:
        trace = self._world.trace
        trace.cause = None
        trace.cause = trace.record(Fault, connection.host.name, "stall", "reads on").seq
        connection.resume()

    def _lose(self, connection: Connection) -> None:
        self.lost.add(connection.name)
        connection.fall_silent()

    # On processes.

    def _on_process(self, process: Process) -> Iterator[Strike]:
        for name, number in (("sigterm", signal.SIGTERM), ("sigint", signal.SIGINT)):
            if self.left.get(name):
                yield self._strike(
                    name,
                    process.name,
                    f"gets {signal.Signals(number).name}",
                    lambda n=number: process.kill(n),  # type: ignore[misc]
                )

    def _arm(self, task: asyncio.Task[Any]) -> None:
        after = self._world.choices.choose(CANCEL_ITERATIONS, "behind how many iterations the cancellation comes")
        self.armed.append(_Armed(task, after))
        self._world.agenda.armed = True

    def happens(self) -> None:
        """Something happens: what is armed counts from now on."""
        if self.armed and self._world.watch is not None:
            self._world.watch.touch_everything()
        for armed in self.armed:
            armed.counting = True

    def iterated(self, *, idle: bool) -> None:
        """A loop is at an iteration boundary, where cancellations may be due; they are, at the latest, when it is idle."""
        if self._world.watch is not None:
            self._world.watch.touch_everything()
        for armed in [a for a in self.armed if a.counting]:
            if armed.after <= 0 or idle:
                self.armed.remove(armed)
                armed.task.cancel()
            armed.after -= 1
        self._world.agenda.armed = bool(self.armed)

    def _jump(self, seconds: float) -> None:
        self._world.clock.jumped += seconds

    def finishes_late(self, what: str) -> bool:
        """Whether work that an executor is given is done later than at once: a choice, while there are any left."""
        if "late" in self.left and self._world.watch is not None:
            self._world.watch.touch(LATE)
        if not self.on or not self.left.get("late"):
            return False
        late = self._world.choices.choose(2, f"{what} is done at once | fault: later") == 1
        if late:
            self.left["late"] -= 1
            self._world.trace.record(Fault, self._world.current_name, "late", f"{what} is done later")
        return late


def _merge(channel: Channel) -> None:
    """Join the second segment in flight to the first; it arrives when the second would have."""
    first = channel.segments.popleft()
    second = channel.segments[0]
    second.label = f"{first} with {second}"
    second.data = first.data + second.data
    second.order = first.order


def _delay(channel: Channel, seconds: float) -> None:
    """Have the first segment in flight, and with it all behind it, come later than it would have."""
    head = channel.segments[0]
    head.earliest, head.latest = moment(head.earliest + seconds), moment(head.latest + seconds)
    for segment in channel.segments:
        segment.earliest = max(segment.earliest, head.earliest)
        segment.latest = max(segment.latest, head.earliest)


def _refuse(channel: Channel) -> None:
    channel.segments.popleft()
    near = channel.source
    near.reset = True
    near.error = errno.ECONNREFUSED
    near.wake()
