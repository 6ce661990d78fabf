"""A run as a sequence diagram: lifelines from left to right, time from top to bottom. As text, and as Mermaid.

Theory of operation
===================

`diagram` turns a trace into a `Diagram`: lifelines (hosts, processes, applications, each group in the order of its
appearance) and rows. A row is an arrow between two lifelines or a note at one. Both renderings come from these rows.

Rules for this file:

1. A segment that arrives before anything else happens is one arrow. Otherwise its leaving and its arriving are two
   rows, so that what happened in between stands in between.
2. An arrow's label is what a person calls the message: the sender's word for a segment, or what its reader takes it
   for; an ASGI message's type and payload.
3. `receive()` has an arrow of its own only if the application has to wait.
4. All text comes from programs under test and is made harmless for the medium: no control characters in text, and in
   Mermaid no character that it could take for syntax.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import attrs

from sim.show.reading import DOING, Reading, plain, read, without_verb
from sim.show.story import find_violation, last_event
from sim.world.events import HandedOver, TcpDeliver, TcpSend, Timer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sim.search.runner import Run
    from sim.world.trace import Event

WIDTH = 96
MAX_ROWS = 40
LIFELINES = 5
AFTERMATH = 12
"""Rows that are drawn behind the violation."""


@attrs.frozen
class Row:
    """One row of a diagram.

    Attributes:
        time: virtual seconds since the diagram's first event.
        kind: "arrow"; "leaves" or "arrives" for the halves of an arrow that takes a while; "note" at `source`; "gap"
            for rows that were left out.
        source: the lifeline where the arrow begins.
        target: the lifeline where it ends.
        label: what it carries.
        dashed: whether it asks or answers rather than carries something.
        broken: whether the claim breaks here.
        segment: the number of the event that sent it, for a half of an arrow.
    """

    time: float
    kind: str
    source: str
    target: str
    label: str
    dashed: bool = False
    broken: bool = False
    segment: int | None = None


@attrs.frozen
class Diagram:
    """Lifelines and rows; `str()` and `to_mermaid()` draw them."""

    lifelines: tuple[str, ...]
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, *, width: int = WIDTH) -> str:
        """The diagram in box characters, at most `width` columns wide."""
        from sim.show.sequence_text import draw

        return draw(self, width)

    def to_mermaid(self) -> str:
        """The diagram in Mermaid's language, for whatever renders it (JupyterLab, GitHub, an editor)."""
        from sim.show.mermaid import write

        return write(self)


def diagram(run: Run, invariant: str | None = None, *, max_rows: int = MAX_ROWS) -> Diagram:
    """The sequence diagram of a run.

    Args:
        run: the run.
        invariant: the name of the claim that it breaks, and at whose violation the diagram ends. None: the first; if
            it breaks none, all of the run is drawn.
        max_rows: how long the diagram may be; rows in the middle go first.

    Raises:
        UsageError: the run does not break that invariant.
    """
    reading = read(run.trace)
    broken = find_violation(run, invariant)
    rows = _Drawing(reading, last_event(broken) if broken is not None else None).rows()
    rows = [attrs.evolve(row, time=row.time - reading.begin) for row in rows]
    used = {name for row in rows for name in (row.source, row.target)}
    ordered = [*reading.hosts, *reading.processes, *reading.applications]
    lifelines = [name for name in ordered if name in used][:LIFELINES]
    rows = [r for r in rows if r.source in lifelines and r.target in lifelines]
    return Diagram(tuple(lifelines), tuple(_cut(_collapsed(rows), max_rows)))


def _collapsed(rows: Sequence[Row]) -> list[Row]:
    """Rows that say the same, one after the other, as the first and the number of the others."""
    collapsed: list[Row] = []
    for _, group in groupby(rows, key=lambda r: (r.kind, r.source, r.target, r.label, r.broken)):
        first, *others = group
        collapsed.append(first)
        if len(others) > 1:
            collapsed.append(Row(others[-1].time, "gap", "", "", f"{len(others):,} more like it"))
        else:
            collapsed += others
    return collapsed


def _cut(rows: Sequence[Row], max_rows: int) -> list[Row]:
    if len(rows) <= max_rows:
        return list(rows)
    head = max_rows // 3
    tail = max_rows - head - 1
    gap = Row(rows[-tail].time, "gap", "", "", f"{len(rows) - head - tail:,} more")
    return [*rows[:head], gap, *rows[-tail:]]


class _Drawing:
    """Makes rows of events."""

    def __init__(self, reading: Reading, event: Event | None) -> None:
        self._reading = reading
        self._event = event
        self._rows: list[Row] = []
        self._segments = {e.seq: e for e in reading.events if isinstance(e, TcpSend)}
        self._speaking = {e.cause for e in self._segments.values()}

    def rows(self) -> list[Row]:
        stop: int | None = None
        events = self._reading.events
        for index, event in enumerate(events):
            if stop is not None and (len(self._rows) >= stop or self._is_new(event)):
                break
            self._draw(event, events[index + 1 :])
            if event is self._event:
                stop = len(self._rows) + AFTERMATH
        return self._rows

    def _is_new(self, event: Event) -> bool:
        """Whether this is a message's arrival at a server: another story."""
        return isinstance(event, TcpDeliver) and event.actor in self._reading.processes

    def _draw(self, event: Event, later: Sequence[Event]) -> None:
        if isinstance(event, TcpSend):
            self._leave(event)
        elif isinstance(event, TcpDeliver):
            self._arrive(event)
        elif event.kind in DOING:
            self._application(event, later)
        elif not isinstance(event, (HandedOver, Timer)) and not self._is_in_a_label(event):
            self._note(event)

    # Segments.

    def _leave(self, event: TcpSend) -> None:
        arrival = self._reading.arrival(event)
        target = self._side(arrival.actor if arrival is not None else event.to)
        if event.segment != "SYN" and target in self._reading.endpoints:
            self._add(event, "leaves", event.actor, target, self._reading.label(event), segment=event.seq)

    def _arrive(self, event: TcpDeliver) -> None:
        send = self._segments.get(event.cause) if event.cause is not None else None
        if send is None or send.segment == "SYN":
            return
        last = self._rows[-1] if self._rows else None
        if last is not None and last.kind == "leaves" and last.segment == send.seq:
            self._rows.pop()
        whole = last is None or self._rows[-1:] != [last]
        self._add(event, "arrow" if whole else "arrives", send.actor, event.actor, self._reading.label(send))

    def _is_in_a_label(self, event: Event) -> bool:
        """Whether a segment's label tells of this event: of what it sends, or of what arrives."""
        if event.seq in self._speaking:
            return True
        phrase = event.describe()
        cause = next((e for e in self._reading.events if e.seq == event.cause), None)
        return phrase.startswith("gets ") and isinstance(cause, TcpDeliver) and cause.actor == event.actor

    def _side(self, actor: str) -> str:
        return actor if actor in self._reading.endpoints or not self._reading.processes else self._reading.processes[0]

    # Applications.

    def _application(self, event: Event, later: Iterable[Event]) -> None:
        app, kind = event.actor, event.kind
        server = self._reading.processes[0] if self._reading.processes else app
        phrase = event.describe()
        if kind == "asgi.receive":
            end = self._reading.end_of(event)
            if any(e is end for e in self._until_told(later)):
                return
            self._add(event, "arrow", app, server, "receive()", dashed=True)
        elif kind in ("asgi.received", "asgi.send"):
            ways = (server, app) if kind == "asgi.received" else (app, server)
            self._add(event, "arrow", *ways, without_verb(phrase))
        elif kind == "app.called":
            self._add(event, "arrow", server, app, phrase.replace("is called for", "call:"))
        elif kind in ("asgi.receive_failed", "asgi.send_failed"):
            self._add(event, "arrow", server, app, without_verb(phrase).partition(" out of ")[0])
        elif kind in ("app.returned", "app.raised", "app.cancelled"):
            self._add(event, "arrow", app, server, phrase.partition("(")[0], dashed=True)
        elif kind == "asgi.receive_cancelled":
            self._add(event, "arrow", app, server, "cancels receive()", dashed=True)

    def _until_told(self, later: Iterable[Event]) -> Iterable[Event]:
        """The events up to, and with, the next that an application or a server's reader has a row for."""
        for event in later:
            yield event
            if isinstance(event, TcpDeliver) or (event.kind in DOING and event.kind != "asgi.sent"):
                return

    def _note(self, event: Event) -> None:
        if event.actor in (*self._reading.endpoints, *self._reading.applications):
            self._add(event, "note", event.actor, event.actor, event.describe())

    def _add(
        self,
        event: Event,
        kind: str,
        source: str,
        target: str,
        label: str,
        *,
        dashed: bool = False,
        segment: int | None = None,
    ) -> None:
        kind = "note" if source == target else kind
        self._rows.append(Row(event.time, kind, source, target, plain(label), dashed, event is self._event, segment))
