"""A trace as people read it: who takes part, which segment is which message, and what an application is doing.

The pictures are drawn from this. It knows the events of `sim` by type and those of applications by their names
(`app.called`, `asgi.receive`, ...), so a trace reads the same whichever protocol world recorded it. Everything that
is text is made safe to print: an exception's message or a log line may hold anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from sim.world.events import TcpDeliver, TcpSend

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sim.world.trace import Event, Trace

RECEIVE_ENDS = ("asgi.received", "asgi.receive_failed", "asgi.receive_cancelled")
DOING = {
    "app.called": "is at work",
    "asgi.receive": "waits in receive()",
    "asgi.received": "is at work",
    "asgi.receive_failed": "is at work",
    "asgi.receive_cancelled": "is at work",
    "asgi.send": "is in send()",
    "asgi.sent": "is at work",
    "asgi.send_failed": "is at work",
    "app.returned": "has returned",
    "app.raised": "is dead",
    "app.cancelled": "is cancelled",
}
"""What an application is doing from this event on."""
OVER = ("has returned", "is dead", "is cancelled")
SILENT = ("SYN", "FIN", "RST")


@attrs.frozen
class Reading:
    """A trace from the first segment on, with what is known of its parts.

    Attributes:
        events: the events from there on; what a server does to start is not among them.
        hosts: scripted hosts, in the order of their appearance.
        processes: simulated processes.
        applications: calls of an application.
        begin: the virtual time of the first event.
    """

    events: tuple[Event, ...]
    hosts: tuple[str, ...]
    processes: tuple[str, ...]
    applications: tuple[str, ...]
    begin: float
    _deliveries: dict[int, TcpDeliver]
    _told_by: dict[int, list[Event]]
    _ends: dict[int, Event]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Who sends and gets segments."""
        return (*self.hosts, *self.processes)

    def arrival(self, send: TcpSend) -> TcpDeliver | None:
        """Where a segment arrives, if it does."""
        return self._deliveries.get(send.seq)

    def told_by(self, event: Event) -> list[Event]:
        """What the actor of `event` did directly because of it, without segments: what a delivery is to its reader."""
        return self._told_by.get(event.seq, [])

    def end_of(self, receive: Event) -> Event | None:
        """How a call of `receive()` ended, if it did."""
        return self._ends.get(receive.seq)

    def label(self, send: TcpSend) -> str:
        """What a segment is to people: the sender's word for it, or what the reader takes it for."""
        arrival = self.arrival(send)
        if send.segment.endswith(" bytes") and arrival is not None:
            taken = [without_verb(e.describe()) for e in self.told_by(arrival) if e.describe().startswith("gets ")]
            if taken:
                return plain(", ".join(taken))
        return plain(send.segment)


def read(trace: Trace) -> Reading:
    """Find out who takes part in a trace, and what belongs together."""
    start = next((i for i, e in enumerate(trace.events) if isinstance(e, TcpSend)), 0)
    events = tuple(trace.events[start:])
    applications = _names(e.actor for e in events if e.kind in DOING)
    hosts = _names(e.actor for e in events if isinstance(e, TcpSend) and e.segment == "SYN")
    speakers = (e.actor for e in events if not isinstance(e, TcpDeliver) or e.segment != "SYN")
    processes = _names(a for a in speakers if a not in {*hosts, *applications})
    deliveries: dict[int, TcpDeliver] = {}
    told_by: dict[int, list[Event]] = {}
    ends: dict[int, Event] = {}
    waiting: dict[str, list[int]] = {}
    actors = {e.seq: e.actor for e in events}
    for event in events:
        if isinstance(event, TcpDeliver):
            if event.cause is not None:
                deliveries[event.cause] = event
        elif not isinstance(event, TcpSend) and event.cause is not None and actors.get(event.cause) == event.actor:
            told_by.setdefault(event.cause, []).append(event)
        if event.kind == "asgi.receive":
            waiting.setdefault(event.actor, []).append(event.seq)
        elif event.kind in RECEIVE_ENDS and waiting.get(event.actor):
            ends[waiting[event.actor].pop(0)] = event
    begin = events[0].time if events else 0.0
    return Reading(events, hosts, processes, applications, begin, deliveries, told_by, ends)


def _names(actors: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(actors))


def without_verb(phrase: str) -> str:
    """A phrase such as "sends Pong" without its first word."""
    return phrase.partition(" ")[2] or phrase


def plain(text: str, width: int | None = None) -> str:
    """`text` on one line, in printable characters, cut to `width` with an ellipsis."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if width is None or len(text) <= width else text[: max(width - 1, 0)] + "…"


def span(seconds: float) -> str:
    """Virtual seconds in the unit that a person would use."""
    if seconds < 1:
        return f"{round(seconds * 1_000, 3):g} ms"
    if seconds < 120:
        return f"{round(seconds, 3):g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
