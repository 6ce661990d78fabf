"""A run as a story that a person reads in ten seconds: who sent what, when it arrived, what the application got.

Theory of operation
===================

A trace has some fifty events for a story of eight lines. What is told, by these rules:

1. The story begins with the first segment, and ends a little behind the event at which the claim breaks; or with
   the run, if the claim is about something that did not happen.
2. TCP is not told, but for arrivals at a server: when a message arrives is what the story is about, and what the
   application is doing at that moment stands beside it. A message that arrives before anything else happens is told in
   one breath with its sending.
3. What one actor does in one go is one line, and so is what it does again and again. `receive()` is told when it
   matters: as what an application waits in, or as the call that fails at once.
4. If that is too long, the lines that did not lead to the violation go first, those furthest from it first of all.
   Where lines are left out, it says how many.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import attrs

from sim.errors import UsageError
from sim.show.reading import DOING, OVER, SILENT, Reading, plain, read, span, without_verb
from sim.world.events import HandedOver, Logged, TcpDeliver, TcpSend, Timer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sim.check.invariants import Invariant, Violation
    from sim.search.runner import Run
    from sim.world.trace import Event

MAX_LINES = 12
WIDTH = 98
MARGIN = 9
"""Columns of a line that the time and the mark of the violation take."""
CONSEQUENCES = 3
"""Lines that are told of what follows from the violation."""
INFINITY = float("inf")
QUIET = (TcpSend, HandedOver, Timer)


@attrs.frozen
class Line:
    """One line of a story.

    Attributes:
        time: virtual seconds since the story began.
        text: what happened.
        broken: whether the claim breaks here.
    """

    time: float
    text: str
    broken: bool = False


@attrs.frozen
class Story:
    """A run, told.

    Attributes:
        lines: what happened, in order.
        invariant: the name of the claim that the run breaks, or None.
        claim: the claim.
        message: how it is broken.
    """

    lines: tuple[Line, ...]
    invariant: str | None = None
    claim: str = ""
    message: str = ""

    def rows(self) -> Iterator[tuple[str, str, bool]]:
        """Each line as time (empty where it has not changed), text, and whether the claim breaks there."""
        before: str | None = None
        for line in self.lines:
            time = span(line.time)
            yield "" if time == before else time, line.text, line.broken
            before = time

    def __str__(self) -> str:
        rows = list(self.rows())
        gutter = max((len(time) for time, _, _ in rows), default=0)
        text = [f"{time:>{gutter}} {'✗' if broken else ' '} {told}" for time, told, broken in rows]
        if self.invariant is not None:
            text += self.verdict()
        return "\n".join(text)

    def verdict(self) -> list[str]:
        """The claim that is broken, and how, in lines no longer than the story's."""
        claim = f"broken: {self.claim} ({self.invariant})"
        room, indent = WIDTH - 2, " " * len("broken: ")
        return [
            *textwrap.wrap(claim, room, subsequent_indent=indent),
            *textwrap.wrap(
                self.message, room, initial_indent=indent, subsequent_indent=indent, max_lines=4, placeholder=" …"
            ),
        ]


def tell(run: Run, invariant: str | None = None, *, max_lines: int = MAX_LINES, width: int = WIDTH) -> Story:
    """The story of a run.

    Args:
        run: the run.
        invariant: the name of the claim that it breaks and that the story is about. None: the first; if it breaks
            none, all of the run is told.
        max_lines: how long the story may be.
        width: how long a line may be.

    Raises:
        UsageError: the run does not break that invariant.
    """
    reading = read(run.trace)
    broken = find_violation(run, invariant)
    if broken is None:
        teller = _Teller(reading, None, width - MARGIN)
        return Story(_shorten(teller.lines(len(run.trace)), set(), max_lines))
    claim, violation = broken
    event = last_event(broken)
    lines = _Teller(reading, event, width - MARGIN).lines(len(run.trace) if event is None else None)
    kept = _shorten(lines, _led_to(reading, violation.event), max_lines)
    return Story(kept, claim.name, plain(claim.claim), plain(violation.message))


def find_violation(run: Run, invariant: str | None) -> tuple[Invariant, Violation] | None:
    """The violation of that invariant, or the run's first, or None if there is none.

    Raises:
        UsageError: the run does not break the invariant that was named.
    """
    for claim, violation in run.violations:
        if invariant is None or claim.name == invariant:
            return claim, violation
    if invariant is not None:
        names = ", ".join(claim.name for claim, _ in run.violations) or "none"
        raise UsageError(f"the run does not break {invariant!r}. It breaks: {names}.")
    return None


def last_event(broken: tuple[Invariant, Violation]) -> Event | None:
    """The event at which the claim breaks; None if that shows only at the end of the run."""
    claim, violation = broken
    return None if claim.quantifier == "eventually" else violation.event


@attrs.define
class _Told:
    """A line in the making: what one actor did in one go."""

    time: float
    actor: str
    text: str
    seqs: list[int]
    broken: bool = False
    sent: int | None = None
    """The segment that the line told of last, if it was a sending."""
    arrival: bool = False
    until: float = 0.0
    """When the last of several lines happened that say the same."""


class _Teller:
    def __init__(self, reading: Reading, event: Event | None, width: int) -> None:
        self._reading = reading
        self._event = event
        self._width = width
        self._told: list[_Told] = []
        self._doing: dict[str, str] = {}
        self._receives: dict[str, Event] = {}
        self._segments = {e.seq: e for e in reading.events if isinstance(e, TcpSend)}

    def lines(self, until: int | None) -> list[_Told]:
        """All lines, up to the event numbered `until`; None: up to the violation and what follows from it at once."""
        end: int | None = None
        for event in self._reading.events:
            if end is not None and (len(self._told) > end or self._is_new(event)):
                break
            self._tell(event)
            if event.kind in DOING:
                self._doing[event.actor] = DOING[event.kind]
            if until is None and event is self._event:
                end = len(self._told) + CONSEQUENCES
        return self._told if end is None else self._told[:end]

    def _is_new(self, event: Event) -> bool:
        """Whether this is a message's arrival at a server: another story."""
        return isinstance(event, TcpDeliver) and event.actor in self._reading.processes

    def _tell(self, event: Event) -> None:
        if isinstance(event, TcpDeliver):
            self._arrives(event)
        elif isinstance(event, TcpSend):
            if event.actor in self._reading.hosts and event.segment not in SILENT and not self._has_sender(event):
                self._add(event, f"sends {event.segment}")
            if self._told and event.cause in self._told[-1].seqs:
                self._told[-1].sent = event.seq
        elif event.kind == "asgi.receive":
            self._receives[event.actor] = event
        elif event.kind == "asgi.receive_failed":
            called = self._receives.get(event.actor)
            at_once = called is not None and not any(t.seqs[-1] > called.seq for t in self._told)
            self._add(event, ("calls receive(), " if at_once else "") + event.describe())
        elif event.kind != "asgi.sent" and not isinstance(event, QUIET) and not self._is_told_by_arrival(event):
            self._add(event, ("logs " if isinstance(event, Logged) else "") + event.describe())

    def _is_told_by_arrival(self, event: Event) -> bool:
        """Whether this is a server's reading of the message whose arrival was told just now."""
        cause = self._by_seq(event.cause)
        if not isinstance(cause, TcpDeliver) or event.actor != cause.actor or not self._told:
            return False
        last = self._told[-1]
        return (
            last.seqs[-1] == cause.seq and event.describe().endswith(f" {cause.segment}") and event is not self._event
        )

    def _has_sender(self, segment: TcpSend) -> bool:
        """Whether an event of the protocol world tells of this segment's sending."""
        return any(
            e.seq == segment.cause and e.actor == segment.actor for e in self._reading.events
        ) and not isinstance(self._by_seq(segment.cause), (TcpDeliver, TcpSend))

    def _by_seq(self, seq: int | None) -> Event | None:
        first = self._reading.events[0].seq
        return None if seq is None or seq < first else self._reading.events[seq - first]

    def _arrives(self, event: TcpDeliver) -> None:
        """A segment reaches a server; what it does to a host, the host's own events tell."""
        send = self._segments.get(event.cause) if event.cause is not None else None
        if event.actor not in self._reading.processes or send is None or event.segment in SILENT:
            return
        doing = self._what_is_done(event)
        if doing is None:
            return
        label = self._reading.label(send)
        while_doing = f"while {doing}" if doing else ""
        last = self._told[-1] if self._told else None
        if last is not None and last.sent == send.seq and last.time == event.time:
            last.text = f"{last.text}; it arrives {while_doing}".rstrip()
            last.seqs.append(event.seq)
            last.actor, last.arrival = "", True
        else:
            self._told.append(
                _Told(event.time, "", f"{label} arrives {while_doing}".rstrip(), [event.seq], arrival=True)
            )

    def _what_is_done(self, event: TcpDeliver) -> str | None:
        """What the applications that matter are doing; None if the arrival is what calls one, which tells it."""
        caused = {event.seq}
        touched: list[str] = []
        for later in self._reading.events:
            if later.seq > event.seq and later.cause in caused:
                caused.add(later.seq)
                if later.kind in DOING and later.actor not in touched:
                    touched.append(later.actor)
                    if later.kind == "app.called":
                        return None
        doing = {a: d for a, d in self._doing.items() if d not in OVER or a in touched}
        if not doing and len(self._doing) == 1:
            doing = self._doing
        named = [a for a in touched if a in doing] or (list(doing) if len(doing) == 1 else [])
        return " and ".join(f"{a} {doing[a]}" for a in named)

    def _add(self, event: Event, phrase: str) -> None:
        broken = event is self._event
        phrase = plain(phrase)
        last = self._told[-1] if self._told else None
        if last is not None and last.actor == event.actor and last.time == event.time and not last.broken:
            joined = f"{last.text}, {_continued(last.text, phrase)}"
            if len(joined) <= self._width:
                last.text = joined
                last.seqs.append(event.seq)
                last.broken = broken
                return
        if last is not None and last.broken and last.actor == event.actor and event.kind == "app.raised":
            last.text += " and dies of it"
            last.seqs.append(event.seq)
            return
        text = plain(f"{event.actor} {phrase}", self._width)
        self._told.append(_Told(event.time, event.actor, text, [event.seq], broken))


def _continued(text: str, phrase: str) -> str:
    """`phrase` without the verb that `text` ended with: "sends Pong", "sends text" → "then text"."""
    verb = phrase.partition(" ")[0]
    clause = text.rpartition(", ")[2]
    return f"then {without_verb(phrase)}" if verb == "sends" and verb in clause.split(" ")[:3] else phrase


def _led_to(reading: Reading, event: Event | None) -> set[int]:
    """The events that have to do with a violation: from which it came, by causes and calls, and which came of it."""
    if event is None:
        return set()
    by_seq = {e.seq: e for e in reading.events}
    starts = {end.seq: seq for seq, end in ((e.seq, reading.end_of(e)) for e in reading.events) if end is not None}
    found: set[int] = set()
    todo: list[int | None] = [event.seq]
    while todo:
        seq = todo.pop()
        if seq is not None and seq not in found and seq in by_seq:
            found.add(seq)
            todo += [by_seq[seq].cause, starts.get(seq)]
    came_of = {event.seq}
    for later in reading.events:
        if later.cause in came_of:
            came_of.add(later.seq)
    return found | came_of


def _collapsed(told: list[_Told]) -> list[_Told]:
    """Lines that say the same, one after the other, as one."""
    collapsed: list[_Told] = []
    counts: list[int] = []
    for line in told:
        last = collapsed[-1] if collapsed else None
        if last is not None and last.text == line.text and not last.broken and not line.broken:
            last.seqs += line.seqs
            counts[-1] += 1
            last.until = line.time
        else:
            collapsed.append(line)
            counts.append(1)
    for line, count in zip(collapsed, counts, strict=True):
        if count > 1:
            since = told[0].time
            line.text += f" ({count:,} times" + (
                f", until {span(line.until - since)})" if line.until > line.time else ")"
            )
    return collapsed


def _shorten(told: list[_Told], led_to: set[int], max_lines: int) -> tuple[Line, ...]:
    """Keep `max_lines`, and say where some were left out (rule 4)."""
    told = _collapsed(told)
    begin = told[0].time if told else 0.0
    keep = set(range(len(told)))
    if len(told) > max_lines:
        middle = next((i for i, t in enumerate(told) if t.broken), len(told) - 1)

        def worth(index: int) -> float:
            line = told[index]
            if index == 0 or line.broken:
                return INFINITY
            near = -abs(index - middle)
            return near + (30 if not led_to.isdisjoint(line.seqs) else 5 if line.arrival and index < middle else 0)

        keep = set(sorted(keep, key=worth, reverse=True)[: max_lines - 1])
        keep |= {i for i in range(1, len(told) - 1) if {i - 1, i + 1} <= keep}
    lines: list[Line] = []
    left_out = 0
    for index, line in enumerate(told):
        if index in keep:
            if left_out:
                lines.append(Line(told[index - 1].time - begin, _left_out(left_out)))
            left_out = 0
            lines.append(Line(line.time - begin, line.text, line.broken))
        else:
            left_out += 1
    if left_out:
        lines.append(Line(told[-1].time - begin, _left_out(left_out)))
    return tuple(lines)


def _left_out(count: int) -> str:
    return f"… {count:,} more line{'s' if count > 1 else ''} …"
