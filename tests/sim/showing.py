"""For the tests of what people see: runs made by hand, and golden files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.asgi import (
    AppCalled,
    AppRaised,
    AsgiReceive,
    AsgiReceived,
    AsgiReceiveFailed,
    AsgiSend,
    AsgiSent,
)
from models.websocket import WsClose, WsHandshake, WsPong, WsText
from sim import Invariant, Trace, Violation
from sim.search.runner import Run
from sim.world.clock import Clock
from sim.world.events import LoggedWarning, TcpClosed, TcpDeliver, TcpSend

if TYPE_CHECKING:
    from sim import Event

GOLDEN = Path(__file__).parent / "golden"
CLIENT, SERVER, APP = "client", "server", "websocket 1"
FLOW_ERROR = ("RuntimeError", "ASGI flow error")


class Tape:
    """Records a trace by hand; time passes when it is told to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.trace = Trace(self.clock)

    def record(self, kind: type[Event], actor: str, *fields: Any, cause: Event | None = None) -> Event:
        self.trace.cause = cause.seq if cause is not None else None
        return self.trace.record(kind, actor, *fields)

    def send(self, source: str, target: str, segment: str, cause: Event | None = None) -> Event:
        """Put a segment in flight."""
        return self.record(TcpSend, source, "connection 1", target, segment, b"", cause=cause)

    def deliver(self, sent: Event) -> Event:
        """Let it arrive."""
        assert isinstance(sent, TcpSend)
        return self.record(TcpDeliver, sent.to, sent.connection, sent.actor, sent.segment, 0, cause=sent)

    def client(self, kind: type[Event], payload: object, segment: str, cause: Event | None = None) -> Event:
        """The client sends a message; returns the segment."""
        return self.send(CLIENT, SERVER, segment, self.record(kind, CLIENT, "sends", payload, cause=cause))

    def opened(self) -> Event:
        """Everything up to the moment when the client knows that its WebSocket is open; returns that event."""
        syn = self.send(CLIENT, "127.0.0.1:8000", "SYN")
        self.record(TcpDeliver, "127.0.0.1:8000", "connection 1", CLIENT, "SYN", 0, cause=syn)
        asked = self.deliver(self.client(WsHandshake, "/", "GET upgrade"))
        self.record(AppCalled, APP, "websocket", "/", cause=asked)
        self.record(AsgiReceive, APP, cause=asked)
        self.record(AsgiReceived, APP, {"type": "websocket.connect"}, cause=asked)
        accept = self.record(AsgiSend, APP, {"type": "websocket.accept"}, cause=asked)
        answer = self.send(SERVER, CLIENT, "147 bytes", accept)
        self.record(AsgiSent, APP, "websocket.accept", cause=accept)
        return self.record(WsHandshake, CLIENT, "gets", 101, cause=self.deliver(answer))

    def run(self, *broken: tuple[Invariant, Violation], notes: dict[str, Any] | None = None) -> Run:
        return Run([], self.trace, list(broken), None, None, notes or {})


def never(name: str, claim: str, quantifier: str = "always") -> Invariant:
    return Invariant(name, claim, lambda _trace: None, quantifier)


NO_FLOW_ERROR = never("pong-no-flow-error", "A Pong never causes a flow error.")
ECHOED = never("texts-echoed", "Each text is echoed.", "eventually")


def pong_run(*, first: str = "Pong", text: str = "hello", error: tuple[str, str] = FLOW_ERROR) -> Run:
    """A Pong and a text, in either order, and what the Pong does to an application that waits in `receive()`."""
    tape = Tape()
    accepted = tape.opened()
    if first == "Pong":
        pong = tape.client(WsPong, b"", "Pong", accepted)
        message = tape.client(WsText, text, f"text {text!r}", accepted)
    else:
        message = tape.client(WsText, text, f"text {text!r}", accepted)
        pong = tape.client(WsPong, b"", "Pong", accepted)
    waiting = tape.record(AsgiReceive, APP, cause=accepted)
    if first != "Pong":
        tape.clock.now = 0.02
        arrived = tape.deliver(message)
        tape.record(AsgiReceived, APP, {"type": "websocket.receive", "text": text}, cause=arrived)
        tape.record(AsgiReceive, APP, cause=waiting)
    tape.clock.now = 0.05
    arrived = tape.deliver(pong)
    tape.record(LoggedWarning, SERVER, "WARNING", "_granian", "Unsupported message Pong([])", None, cause=arrived)
    failed = tape.record(AsgiReceiveFailed, APP, *error, cause=arrived)
    tape.record(AppRaised, APP, *error, cause=arrived)
    close = tape.send(SERVER, CLIENT, "2 bytes", arrived)
    tape.record(WsClose, CLIENT, "gets", 1005, cause=tape.deliver(close))
    tape.record(TcpClosed, CLIENT, "eof", cause=close)
    violation = Violation(f"receive() raised {error[0]} after a Pong had arrived", failed)
    return tape.run((NO_FLOW_ERROR, violation), (ECHOED, Violation("the text was never echoed")))


def check_golden(name: str, text: str) -> None:
    """Compare with a file; `ASGI_SIM_GOLDEN=write` writes it instead."""
    path = GOLDEN / name
    if os.environ.get("ASGI_SIM_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
