"""What of a run's past is part of its state, because somebody will judge by it.

Theory of operation
===================

A world's future depends on its live objects alone. What is *said* of a run depends on its whole trace. So two worlds
may be taken for one only if they also agree in what the claims will look at. How much that is, a scenario says:

- `trace`: anything, the order of unrelated events and moments included. This is the default. It is always right, and
  leaves little to merge: different orders have different traces.
- `conversations`: what happened within each conversation, in its order: what its script, its connections and its calls
  of the application did and met, and what the log said because of it; and what `outcome` has. No moments, and no order
  between events of two conversations.
- `outcome`: what `Trace.outcome()` has: for each actor, what it did and saw, in its order.
- types of events, such as `(WsText, WsClose)`: for each actor, its events of these types, in their order. Then the
  violated invariants are preserved and the set of outcomes is not: which lines two connections log first, and which of
  them, is forgotten.

Rules for this file:

1. Each past is kept as running hashes (BLAKE2) by *strand*: the whole, a conversation, or an actor. So pasts that
   differ only in how independent strands were interleaved are equal.
2. A strand hangs on what it is about: a script's on the script, an application call's on its name where the walk meets
   it. What hangs on nothing any more is written without order.
3. A name that the run counted is in no hash. A strand has no name of its own.
4. An event joins the strand of its script or connection; a call's first event, and what a process says, that of its
   cause.
5. Interchangeable scripts are put in order by how far each conversation has come: how many events of each kind it had,
   and what of it waits in a mailbox behind what. That is a matter of the state, hardly of the way there, and takes no
   walk. Where two have come equally far, either order is as good, or some equal states are told apart.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from sim.world.events import TcpDeliver, TcpSend
from sim.world.trace import Trace

if TYPE_CHECKING:
    from sim.world.endpoint import Endpoint
    from sim.world.trace import Event
    from sim.world.world import World

PASTS = ("trace", "conversations", "outcome")
Kind: TypeAlias = "str | tuple[type[Event], ...]"
"""How much of the past counts: one of `PASTS`, or types of events."""


class Past:
    """The past of one run, as far as it was read.

    Args:
        world: whose.
        kind: how much of it counts.
        progress: whether `of_progress` will be asked for.
    """

    def __init__(self, world: World, kind: Kind, *, progress: bool = False) -> None:
        self._world = world
        self._kind = kind
        self._strands: dict[str, Any] = {}
        self._bound: dict[str, str] = {}
        """What conversation a connection or a call belongs to."""
        self._threaded = progress or kind == "conversations"
        self._progress: dict[str, dict[str, int]] = {}
        self._of_event: list[str | None] = []
        self._wires: dict[str, Any] = {}
        self._read = self._read_of_wires = 0
        self._asked: set[str] = set()

    def catch_up(self) -> None:
        """Read what happened since, and forget what was asked for."""
        events = self._world.trace.events
        add = {"trace": self._add_whole, "conversations": self._add_conversation, "outcome": self._add_outcome}
        adding = self._add_chosen if isinstance(self._kind, tuple) else add[self._kind]
        for event in events[self._read :]:
            if self._threaded:
                strand = self._strand(event)
                self._of_event.append(strand)
                if strand is not None:
                    counts = self._progress.setdefault(strand, {})
                    counts[event.kind] = counts.get(event.kind, 0) + 1
            adding(event)
        self._read = len(events)
        self._asked.clear()

    # What the walk asks.

    def of_script(self, name: str) -> bytes | None:
        """What a script did and met."""
        return self._digest(self._hanging_on(name))

    def of_progress(self, name: str) -> tuple[tuple[str, int], ...]:
        """How far a script's conversation has come (rule 5)."""
        return tuple(sorted(self._progress.get(name, {}).items()))

    def of_event(self, number: int | None) -> str | None:
        """What conversation an event belongs to."""
        return self._of_event[number] if number is not None else None

    def of_name(self, name: str) -> tuple[str, bytes | None]:
        """What a call of the application, of which the run counted the name, did and met."""
        return self._role(name), self._digest(self._hanging_on(name))

    def of_wire(self, endpoint: Endpoint | None) -> bytes | None:
        """All that a connection carried, or None where that is not known: none, or TLS."""
        if endpoint is None or endpoint.name in self._world._encrypted:
            return None
        for event in self._world.trace.events[self._read_of_wires : self._read]:
            if isinstance(event, (TcpSend, TcpDeliver)):
                data = event.data if isinstance(event, TcpSend) else event.size
                self._feed(self._wires, event.connection, (event.kind, self._role(event.actor), data))
        self._read_of_wires = self._read
        wire = self._wires.get(endpoint.name)
        return wire.digest() if wire is not None else None

    def rest(self) -> tuple[Any, ...]:
        """What was not asked for since the events were last read: roles and digests, those of names that tell nothing last."""
        named: list[tuple[str, bytes]] = []
        nameless: list[tuple[str, bytes]] = []
        for strand, running in self._strands.items():
            if strand not in self._asked:
                loose = strand in self._world.trace.counted or strand.startswith("connection ")
                (nameless if loose else named).append((self._role(strand), running.digest()))
        if len(named) + len(nameless) > 1:
            named.sort()
            nameless.sort()
        return (*chain(*named), None, *chain(*nameless))

    def rearranged(self) -> Trace:
        """The run's events in another order, with the same past: strand by strand, the last begun first, without times."""
        events = self._world.trace.events
        groups: dict[str, list[Event]] = {}
        if self._kind == "conversations":
            self.catch_up()
            for event, strand in zip(events, self._of_event, strict=True):
                groups.setdefault(strand or "", []).append(event)
        elif self._kind != "trace":
            for event in events:
                if event.observable if self._kind == "outcome" else isinstance(event, self._kind):  # type: ignore[arg-type]
                    groups.setdefault(event.actor, []).append(event)
        else:
            groups[""] = list(events)
        order = [event for strand in reversed(groups) for event in groups[strand]]
        numbers = {event.seq: number for number, event in enumerate(order)}
        other = Trace(self._world.clock)
        timed = self._kind == "trace"
        other.events = [
            attrs.evolve(
                event,
                seq=numbers[event.seq],
                time=event.time if timed else 0.0,
                cause=numbers.get(event.cause) if event.cause is not None else None,
            )
            for event in order
        ]
        return other

    def _hanging_on(self, name: str) -> str:
        return self._bound.get(name, name) if self._kind == "conversations" else name

    def _digest(self, strand: str) -> bytes | None:
        self._asked.add(strand)
        running = self._strands.get(strand)
        return running.digest() if running is not None else None

    # Reading.

    def _role(self, name: str) -> str:
        """A name without what differs between interchangeable actors."""
        if name in self._world.trace.counted:
            return name.rpartition(" ")[0]
        return self._world.alike.get(name, name)

    def _feed(self, strands: dict[str, Any], strand: str, what: object) -> None:
        running = strands.get(strand)
        if running is None:
            running = strands[strand] = blake2b(digest_size=16)
        running.update(repr(what).encode("utf-8", "surrogatepass"))

    def _add_whole(self, event: Event) -> None:
        self._feed(self._strands, "", (event.time, event.cause, event.actor, event.outcome()))

    def _add_outcome(self, event: Event) -> None:
        if event.observable:
            self._feed(self._strands, event.actor, event.outcome())

    def _add_chosen(self, event: Event) -> None:
        if isinstance(event, self._kind):  # type: ignore[arg-type]
            self._feed(self._strands, event.actor, event.outcome())

    def _add_conversation(self, event: Event) -> None:
        strand = self._of_event[event.seq]
        if isinstance(event, TcpSend):
            what: object = (event.kind, self._role(event.to), event.segment, event.data)
        elif isinstance(event, TcpDeliver):
            what = (event.kind, self._role(event.source), event.segment, event.size)
        else:
            what = event.outcome()
        if strand is not None:
            self._feed(self._strands, strand, (self._role(event.actor), what))
        if event.observable and strand != event.actor and event.actor not in self._bound:
            self._feed(self._strands, event.actor, what)

    def _strand(self, event: Event) -> str | None:
        """Rule 4; None if it belongs to no conversation."""
        actor, caused = event.actor, self._of_event[event.cause] if event.cause is not None else None
        if isinstance(event, (TcpSend, TcpDeliver)):
            name = event.connection
            if name not in self._bound:
                self._bound[name] = actor if actor in self._world.scripts else caused or name
            return self._bound[name]
        if actor in self._world.scripts:
            return actor
        if actor in self._world.trace.counted:
            if actor not in self._bound:
                self._bound[actor] = caused or actor
            return self._bound[actor]
        return caused
