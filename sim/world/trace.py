"""What happened in a run: typed events with virtual time and cause.

An event is named `<layer>.<verb>`. The layers are tcp, http, ws, asgi, app and log; `sim` itself defines only
those of tcp and log, the protocol world brings the others. Each event knows its *cause*, the number of the event
that led to it: what the world was doing when it was recorded, unless the recorder knows better.

Recording is on the path of every step, so an event is a small object with its fields as they are; text is made
when somebody reads it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sim.world.clock import Clock

E = TypeVar("E", bound="Event")


@attrs.define(slots=True)
class Event:
    """One record of a trace.

    Attributes:
        seq: its number in the trace, from 0.
        time: virtual seconds since the world began.
        cause: the `seq` of the event that led to it, or None.
        actor: who did it or saw it: a host's or a connection's name, an application's instance.
    """

    kind: ClassVar[str] = "event"
    observable: ClassVar[bool] = True
    """Whether it belongs to the run's outcome: what an application, a client or an operator could see."""
    numbered: ClassVar[bool] = False
    """Whether the number at the end of its actor's name says only which of several alike began first."""

    seq: int
    time: float
    cause: int | None
    actor: str

    def fields(self) -> dict[str, Any]:
        """The event's own fields, without number, time, cause and actor."""
        names = attrs.fields(type(self))
        return {a.name: getattr(self, a.name) for a in names[4:]}

    def outcome(self) -> tuple[object, ...]:
        """The event without number, time and cause, for comparing runs that differ only in how they got there."""
        return (self.kind, *self.fields().values())

    def to_json(self) -> dict[str, Any]:
        """The event as JSON types."""
        record: dict[str, Any] = {"seq": self.seq, "t": round(self.time, 9), "event": self.kind, "actor": self.actor}
        if self.cause is not None:
            record["cause"] = self.cause
        record.update((k, jsonable(v)) for k, v in self.fields().items())
        return record

    def describe(self) -> str:
        """One phrase for a person: what the actor did. Kinds override it."""
        return f"{self.kind} " + " ".join(f"{k}={v!r}" for k, v in self.fields().items())

    def __str__(self) -> str:
        return f"{self.time:12.6f}  {self.actor:<14} {self.describe()}"


def jsonable(value: object) -> object:
    """`value` as JSON types: bytes as latin-1 text, tuples and sets as lists, anything else as its `repr`.

    What differs between two runs of one schedule is left out: the order of a set, and the addresses of objects.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("latin-1")
    if isinstance(value, Mapping):
        return {k if isinstance(k, str) else str(jsonable(k)): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((jsonable(v) for v in value), key=repr)
    return without_addresses(repr(value))


def without_addresses(text: str) -> str:
    """`text` without the addresses of objects, as `repr` gives them."""
    return _ADDRESS.sub("", text)


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Trace:
    """The events of one run, in the order in which they happened."""

    __slots__ = ("_clock", "cause", "counted", "events", "open")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.events: list[Event] = []
        self.cause: int | None = None
        self.counted: set[str] = set()
        """Actors whose names end in a number that says only who came first, such as "websocket 2"."""
        self.open = True

    def record(self, kind: type[E], actor: str, *fields: Any) -> E:
        """Add an event of type `kind`; its cause is what the world is doing now. Returns it."""
        event = kind(len(self.events), self._clock.now, self.cause, actor, *fields)
        if self.open:
            self.events.append(event)
        return event

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def of(self, *kinds: type[E]) -> Iterator[E]:
        """The events of these types, in order."""
        return (event for event in self.events if isinstance(event, kinds))

    def to_jsonl(self) -> str:
        """The whole trace as JSON lines, one event a line: the same run gives the same bytes."""
        return "".join(_line(event) for event in self.events)

    def outcome(self) -> tuple[object, ...]:
        """What the run came to, without times and without the interleaving of different actors.

        Which of several alike began first is interleaving, too: the numbers of numbered actors are left out.
        """
        by_actor: dict[str, list[object]] = {}
        numbered: dict[str, list[object]] = {}
        for event in self.events:
            if event.observable:
                (numbered if event.numbered else by_actor).setdefault(event.actor, []).append(event.outcome())
        alike = [(actor.rstrip("0123456789 "), tuple(numbered[actor])) for actor in numbered]
        if len(alike) > 1:
            alike.sort(key=repr)
        return (*((actor, tuple(by_actor[actor])) for actor in sorted(by_actor)), *alike)


def _line(event: Event) -> str:
    text = json.dumps(event.to_json(), ensure_ascii=False, separators=(",", ":")) + "\n"
    return text.encode(errors="backslashreplace").decode().translate(_LINE_ENDS)


_LINE_ENDS = {ord(c): f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"}
"""What `str.splitlines` takes for the end of a line, and JSON does not."""
