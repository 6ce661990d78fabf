"""What is to happen on the real server, in which order: the plan of a replay.

Theory of operation
===================

A plan is the simulated trace, reduced to what a real replay can do or see, as one list of steps. The coordinator of a
replay is the clients *and the network between them and the server*, so there are two kinds of steps:

- *outer steps*: a client writes a segment (it is on its way now), a segment is delivered to the server, a client
  hears something from the server. Loopback is faster than any order that we want, so the coordinator keeps
  back what is on its way, in either direction.
- *application steps*: what the recorder saw between server and application: the application is called, calls
  `receive()`, `receive()` returns, and so on. The server process keeps these back (see `models.process.inside`).

Rules for this file:

1. A step may happen when every earlier step is done. That one rule, evaluated on both sides (the coordinator knows
   the outer steps, the server process the application's), gives the order.
2. The n-th event of a kind in reality is the n-th of that kind in the plan, for each call of the application; and
   the n-th thing that a client hears is the n-th that it heard. Whatever comes beyond the plan is free.
3. A cancelled `receive()` cannot be forced, since the application's own timer decides when; it can only be late.
   Where the plan has a delivery directly before the cancellation, the delivery is *held*: it is made when the
   application cancels, just before the cancellation reaches the server.

Only `attrs` and the event types are needed to import it, since the server process imports it too.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs

from models.asgi.events import (
    AppCalled,
    AppRaised,
    AppReturned,
    AsgiReceive,
    AsgiReceiveCancelled,
    AsgiReceived,
    AsgiReceiveFailed,
    AsgiSend,
    AsgiSendFailed,
    AsgiSent,
)
from sim.world.events import TcpClosed, TcpDeliver, TcpSend

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sim.world.trace import Event, Trace

CANCELLED = AsgiReceiveCancelled.kind
ENDS_OF_RECEIVE = frozenset(k.kind for k in (AsgiReceived, AsgiReceiveFailed, AsgiReceiveCancelled))
APPLICATION = ENDS_OF_RECEIVE | {
    k.kind for k in (AppCalled, AsgiReceive, AsgiSend, AsgiSent, AsgiSendFailed, AppReturned, AppRaised)
}


@attrs.frozen
class OuterStep:
    """Something outside of the server.

    Attributes:
        number: its place in the plan.
        time: virtual seconds at which it happened in the simulator.
        verb: "write", "deliver", "hear" or "lose"; the last is a client that gives an answer up, for whatever reason.
        client: the client's name.
        connection: the connection's name in the simulator; empty for "hear" and "lose".
        what: the segment's name in the simulator, such as `SYN`, `FIN` or `text 'hello'`; or what was heard; or why
            the answer was given up.
        data: the segment's bytes.
        written: for "deliver", the number of the step that wrote it.
    """

    number: int
    time: float
    verb: str
    client: str
    connection: str = ""
    what: str = ""
    data: bytes = b""
    written: int = -1

    def __str__(self) -> str:
        words = {"write": "writes ", "deliver": "reaches the server with ", "hear": "", "lose": "gives up: "}
        return f"{self.client} {words[self.verb]}{self.what}"


@attrs.frozen
class AppStep:
    """Something between server and application.

    Attributes:
        number: its place in the plan.
        time: virtual seconds at which it happened in the simulator.
        actor: the call of the application, such as `websocket 1`.
        kind: the event's kind.
        nth: which of this actor's events of this kind, from 0.
        text: the event in words.
    """

    number: int
    time: float
    actor: str
    kind: str
    nth: int
    text: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies it in reality (rule 2)."""
        return (self.actor, self.kind, self.nth)

    def __str__(self) -> str:
        return f"{self.actor} {self.text or self.kind}"


class Plan:
    """The steps, in order, and which of them are held (rule 3).

    Attributes:
        steps: all of them; `steps[n].number == n`.
        outer: the outer steps among them.
        server: the server's name in the simulator.
        ends: the calls of `receive()` that end, and the step in which each does.
        held: the deliveries that are held, and what else is between them and the cancellation that they are held for;
            with the number of that cancellation.
        holding: the cancellations that something is held for, and the first thing that is.
    """

    def __init__(self, steps: Sequence[OuterStep | AppStep], server: str = "server") -> None:
        self.steps = tuple(steps)
        self.outer = tuple(s for s in self.steps if isinstance(s, OuterStep))
        self.server = server
        self._by_key = {s.key: s for s in self.steps if isinstance(s, AppStep)}
        self.ends: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self.holding: dict[int, int] = {}
        self._find_ends()

    def find(self, actor: str, kind: str, nth: int) -> AppStep | None:
        """The step that is the n-th event of this kind."""
        return self._by_key.get((actor, kind, nth))

    def _find_ends(self) -> None:
        pending: dict[str, list[AppStep]] = {}
        for step in self.steps:
            if not isinstance(step, AppStep):
                continue
            if step.kind == AsgiReceive.kind:
                pending.setdefault(step.actor, []).append(step)
            elif step.kind in ENDS_OF_RECEIVE and pending.get(step.actor):
                self.ends[pending[step.actor].pop(0).number] = step.number
                first = self._first_delivery_before(step.number) if step.kind == CANCELLED else None
                if first is not None:
                    self.holding[step.number] = first
                    self.held.update(dict.fromkeys(range(first, step.number), step.number))

    def _first_delivery_before(self, number: int) -> int | None:
        """The first delivery between `number` and the application step before it."""
        first = None
        for step in reversed(self.steps[:number]):
            if isinstance(step, AppStep):
                break
            if step.verb == "deliver":
                first = step.number
        return first

    def to_json(self) -> list[dict[str, Any]]:
        """The steps as JSON types, for the server process: it does not need to know the outer ones."""
        return [{"verb": s.verb, "t": s.time} if isinstance(s, OuterStep) else attrs.asdict(s) for s in self.steps]

    @classmethod
    def from_json(cls, records: Iterable[dict[str, Any]]) -> Plan:
        """What `to_json` gave."""
        return cls(
            [OuterStep(n, r["t"], r["verb"], "") if "verb" in r else AppStep(**r) for n, r in enumerate(records)]
        )

    @classmethod
    def of(cls, trace: Trace) -> Plan:
        """The plan of a simulated run."""
        return _Maker().make(trace)


class Progress:
    """How far a plan is done, as one side of the replay knows it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._done = [False] * len(plan.steps)
        self._seen: Counter[tuple[str, str]] = Counter()
        self.next = 0
        """The number of the first step that is not done; the plan's length when all are."""

    def done(self, number: int) -> None:
        """Step `number` has happened."""
        self._done[number] = True
        while self.next < len(self._done) and self._done[self.next]:
            self.next += 1

    def happened(self, actor: str, kind: str) -> AppStep | None:
        """An application's event has happened. Returns its step, if the plan has it."""
        step = self._plan.find(actor, kind, self._seen[actor, kind])
        self._seen[actor, kind] += 1
        if step is not None:
            self.done(step.number)
        return step

    def may(self, number: int) -> bool:
        """Whether every step before `number` is done (rule 1)."""
        return self.next >= number


class _Maker:
    """Walks a trace once."""

    def __init__(self) -> None:
        self._steps: list[OuterStep | AppStep] = []
        self._written: dict[int, OuterStep] = {}
        self._client_of: dict[str, str] = {}
        self._nth: Counter[tuple[str, str]] = Counter()
        self._server = "server"

    def make(self, trace: Trace) -> Plan:
        for event in trace:
            number = len(self._steps)
            if isinstance(event, TcpSend):
                client = self._client_of.setdefault(event.connection, event.actor)
                if event.actor == client:
                    step = OuterStep(number, event.time, "write", client, event.connection, event.segment, event.data)
                    self._written[event.seq] = step
                    self._steps.append(step)
            elif isinstance(event, TcpDeliver):
                self._delivered(number, event)
            elif event.kind in APPLICATION and event.actor != "lifespan":
                nth = self._nth[event.actor, event.kind]
                self._nth[event.actor, event.kind] += 1
                self._steps.append(AppStep(number, event.time, event.actor, event.kind, nth, event.describe()))
            elif event.kind == "http.cut_off":
                self._steps.append(OuterStep(number, event.time, "lose", event.actor, what=event.fields()["read"]))
            elif _told_by_server(event):
                self._steps.append(OuterStep(number, event.time, "hear", event.actor, what=event.describe()))
        return Plan(self._steps, self._server)

    def _delivered(self, number: int, event: TcpDeliver) -> None:
        sent = self._written.get(event.cause) if event.cause is not None else None
        if sent is None:
            return
        if sent.what != "SYN":
            self._server = event.actor
        self._steps.append(attrs.evolve(sent, number=number, time=event.time, verb="deliver", written=sent.number))


def _told_by_server(event: Event) -> bool:
    """Whether a client learned something from the server by it; parts of a message do not count."""
    if isinstance(event, TcpClosed) or event.kind == "http.response":
        return True
    return event.kind.startswith("ws.") and event.kind != "ws.fragment" and getattr(event, "way", "") == "gets"
