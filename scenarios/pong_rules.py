"""What the Pong's stories claim, as invariants over a trace, and the names for what a Pong came to.

They know no server. They look at what the application did and got, at what the client saw, at the log, and at which
of the client's segments had reached the server. Each reads the trace once, whatever its length.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING

import attrs

from models.asgi import (
    AppRaised,
    AppReturned,
    AsgiReceive,
    AsgiReceiveCancelled,
    AsgiReceived,
    AsgiReceiveFailed,
    AsgiSend,
)
from models.websocket import WsBinary, WsClose, WsFrame, WsHandshake, WsPong, WsText
from scenarios.applications import FLOW_ERROR
from sim import Violation, always, eventually
from sim.world.events import Logged, TcpDeliver, TcpSend

if TYPE_CHECKING:
    from sim import Event, Trace

ACTOR = "websocket 1"
CLIENT = "client"
NEVER = float("inf")


@attrs.frozen
class Call:
    """One `receive()`: when it was called, and how and when it ended ("pending" and infinity if it did not)."""

    begin: int
    end: float
    how: str


@attrs.define
class Reading:
    """What one pass over a trace finds. Moments are numbers of events.

    Attributes:
        calls: every `receive()` of the application, by the order in which they ended.
        arrivals: each message or frame that the client sent and that reached the server, with the delivery's number.
        over: the first event that ends the conversation: Close, FIN or RST at the server; the application's own
            close, or its return.
        gave_up: the first `receive()` behind that which the application cancelled; it may have read the end.
    """

    calls: list[Call] = attrs.field(factory=list)
    arrivals: list[tuple[WsFrame, int]] = attrs.field(factory=list)
    over: float = NEVER
    gave_up: float = NEVER

    @property
    def first_pong(self) -> float:
        """When a Pong first reached the server."""
        return next((at for event, at in self.arrivals if isinstance(event, WsPong)), NEVER)

    def excused(self, event: Event) -> bool:
        """Whether it is behind the end of the conversation, of which a cancelled `receive()` may have been told."""
        return event.seq > self.gave_up


_ENDS = {AsgiReceived: "received", AsgiReceiveFailed: "failed", AsgiReceiveCancelled: "cancelled"}


def read(trace: Trace) -> Reading:
    """Read a trace. One `receive()` is taken to end before another of the same application begins."""
    reading = Reading()
    begun: list[int] = []
    sent: dict[int, WsFrame] = {}
    segments: dict[int, WsFrame] = {}
    for event in trace:
        kind = type(event)
        if isinstance(event, WsFrame):
            if event.way == "sends" and event.actor == CLIENT:
                sent[event.seq] = event
        elif isinstance(event, TcpSend):
            frame = sent.pop(event.cause, None) if event.cause is not None else None
            if frame is not None:
                segments[event.seq] = frame
        elif isinstance(event, TcpDeliver):
            frame = segments.pop(event.cause, None) if event.cause is not None else None
            if frame is not None:
                reading.arrivals.append((frame, event.seq))
            if event.source == CLIENT and event.segment.startswith(("Close", "FIN", "RST")):
                reading.over = min(reading.over, event.seq)
        elif event.actor != ACTOR:
            continue
        elif kind is AsgiReceive:
            begun.append(event.seq)
        elif kind in _ENDS and begun:
            reading.calls.append(Call(begun.pop(0), event.seq, _ENDS[kind]))
            if kind is AsgiReceiveCancelled and event.seq > reading.over:
                reading.gave_up = min(reading.gave_up, event.seq)
        elif kind is AppReturned or (isinstance(event, AsgiSend) and event.message["type"] == "websocket.close"):
            reading.over = min(reading.over, event.seq)
    reading.calls += [Call(begin, NEVER, "pending") for begin in begun]
    return reading


@eventually(
    "handshake-completes",
    "The opening handshake completes: the application accepts, and the client gets 101.",
    source="RFC 6455 section 4.2.2; ASGI www, Accept",
)
def handshake_completes(trace: Trace) -> Violation | None:
    """Else nothing of the rest would be about anything."""
    asked = None
    for event in trace.of(WsHandshake):
        if event.actor == CLIENT and event.way == "sends":
            asked = event
        elif event.actor == CLIENT and event.payload == 101:
            return None
        elif event.actor == CLIENT:
            return Violation(f"the client asked for a WebSocket and got {event.payload}", event)
    return Violation("the client asked for a WebSocket and was not answered", asked) if asked is not None else None


@always(
    "pong-no-flow-error",
    "A Pong never causes a flow error.",
    source="RFC 6455 section 5.5.3: a response to an unsolicited Pong is not expected",
)
def pong_never_a_flow_error(trace: Trace) -> Violation | None:
    """A flow error behind a Pong's arrival, unless the end of the conversation explains it."""
    reading = read(trace)
    for event in trace.of(AsgiReceiveFailed):
        if event.text == FLOW_ERROR and event.seq > reading.first_pong and not reading.excused(event):
            return Violation(f'receive() raised {event.error}("{event.text}") after a Pong had arrived', event)
    return None


@always(
    "pong-unseen",
    "A Pong is never seen by the application.",
    source="ASGI www, WebSocket: pings and pongs are handled by the server",
)
def pong_never_seen(trace: Trace) -> Violation | None:
    """The application receives nothing that the client did not send as a message."""
    sent = {event.payload for event in trace.of(WsText, WsBinary) if event.way == "sends"}
    for event in trace.of(AsgiReceived):
        if event.message["type"] == "websocket.receive" and (payload := _payload(event.message)) not in sent:
            return Violation(f"the application received {payload!r}, which the client did not send as a message", event)
    return None


@always("pong-unlogged", "A Pong logs nothing at level WARNING or above.")
def pong_logs_nothing(trace: Trace) -> Violation | None:
    """Behind a Pong's arrival and before the end nothing is logged, and behind the end nothing about Pongs."""
    reading = read(trace)
    for event in trace.of(Logged):
        if event.seq < reading.first_pong or reading.excused(event):
            continue
        if event.seq < reading.over or FLOW_ERROR in (event.exception or "") or "Pong" in event.message:
            return Violation(f"the server logged [{event.level}] {event.message}", event)
    return None


@eventually(
    "texts-echoed",
    "Each text that the application can receive is received and echoed exactly once, in order.",
    source="ASGI www, WebSocket receive",
)
def texts_echoed(trace: Trace) -> Violation | None:
    """A text that arrives while the application cancels a `receive()` is nobody's: see the scenario's story."""
    return _texts(trace, read(trace), strict=False)


@eventually(
    "cancelled-receive-loses-nothing",
    "A text that arrives while the application cancels a receive() comes out of a later receive().",
    source="not in the ASGI specification; what asyncio.Queue.get, uvicorn and hypercorn do",
)
def cancelled_receive_loses_nothing(trace: Trace) -> Violation | None:
    """As `texts_echoed`, and a cancelled `receive()` is no excuse."""
    return _texts(trace, read(trace), strict=True)


def _texts(trace: Trace, reading: Reading, *, strict: bool) -> Violation | None:
    texts: list[tuple[WsText | WsBinary, int]] = [
        (event, at) for event, at in reading.arrivals if isinstance(event, (WsText, WsBinary))
    ]
    last = max((call.end for call in reading.calls if call.how != "cancelled"), default=-1)
    cancelled = sorted((call.begin, call.end) for call in reading.calls if call.how == "cancelled")
    begins = [begin for begin, _ in cancelled]
    latest = list(accumulate((end for _, end in cancelled), max))

    def contested(at: int) -> bool:
        """Whether a `receive()` that was cancelled later was pending then."""
        place = bisect_left(begins, at)
        return place > 0 and latest[place - 1] > at

    due = [event for event, at in texts if last > at and (strict or not contested(at))]
    messages = (event.message for event in trace.of(AsgiReceived))
    got = [_payload(m) for m in messages if m["type"] == "websocket.receive"]
    echoed = [event.payload for event in trace.of(WsText, WsBinary) if event.way == "gets"]
    received, returned = Counter(got), Counter(echoed)
    wanted = {event.payload for event in due}
    for event, _ in texts:
        payload = event.payload
        least = 1 if payload in wanted else 0
        if not least <= received[payload] <= 1:
            return Violation(f"the application received {payload!r} {_times(received[payload])}", event)
        if not least <= returned[payload] <= 1:
            return Violation(f"the client got the echo of {payload!r} {_times(returned[payload])}", event)
    order = [event.payload for event, _ in texts]
    sent = set(order)
    for what, found, counts in (("received", got, received), ("echoed", echoed, returned)):
        if [p for p in order if p in counts] != [p for p in found if p in sent]:
            return Violation(f"the texts {order} came in another order: {what} {found}")
    return None


@eventually(
    "close-handshake",
    "The close handshake that the client began completes with 1000 on the wire.",
    source="RFC 6455 sections 5.5.1 and 7.1.2",
)
def close_handshake_completes(trace: Trace) -> Violation | None:
    """The client's Close is the first, so the server owes it one with the same code."""
    closes = [e for e in trace.of(WsClose) if e.actor == CLIENT]
    if not closes or closes[0].way != "sends":
        return None
    answers = [e for e in closes if e.way == "gets"]
    if not answers:
        return Violation(f"the client sent Close {closes[0].payload} and never got one back", closes[0])
    if answers[0].payload != closes[0].payload:
        return Violation(f"the client sent Close {closes[0].payload} and got Close {answers[0].payload}", answers[0])
    return None


def observe(trace: Trace) -> str:
    """What the Pong came to in this run."""
    reading = read(trace)
    said = [_pong_came_to(trace, reading)]
    if _texts(trace, reading, strict=True) is not None and not any(True for _ in trace.of(AppRaised)):
        said.append("the message is lost with the receive() that the application cancelled")
    return "; ".join(said)


def _pong_came_to(trace: Trace, reading: Reading) -> str:
    arrived = reading.first_pong
    if arrived == NEVER:
        return "the Pong does not arrive"
    failures = (e for e in trace.of(AsgiReceiveFailed) if e.text == FLOW_ERROR and not reading.excused(e))
    failure = next(failures, None)
    if failure is not None:
        call = next(c for c in reading.calls if c.end == failure.seq)
        if call.begin < arrived:
            return "error at once: a receive() was pending"
        behind = any(arrived < at < failure.seq for event, at in reading.arrivals if not isinstance(event, WsPong))
        return "error at the next receive()" + (", ahead of the data behind the Pong" if behind else "")
    if any("Pong" in e.message for e in trace.of(Logged)):
        return "warning alone: the receive() that read the Pong was cancelled"
    if not any(c.end > arrived for c in reading.calls):
        return "nothing at all: the application never receives again"
    return "the Pong is ignored"


def _payload(message: dict[str, object]) -> object:
    text = message.get("text")
    return message.get("bytes") if text is None else text


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
