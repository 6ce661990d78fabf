"""Simulated runs, written by hand, for the tests of the replay on real processes."""

from __future__ import annotations

from typing import Any

import wsproto
from wsproto import events as ws

from models.asgi import (
    AppCalled,
    AppRaised,
    AppReturned,
    AsgiReceive,
    AsgiReceiveCancelled,
    AsgiReceived,
    AsgiReceiveFailed,
    AsgiSend,
    AsgiSent,
)
from models.http1 import HttpRequest, HttpResponse
from models.websocket import WsClose, WsHandshake, WsPing, WsPong, WsText, pong, text
from sim.check.invariants import Violation, always, eventually
from sim.world.clock import Clock
from sim.world.events import Logged, TcpClosed, TcpDeliver, TcpSend
from sim.world.trace import Event, Trace

FLOW_ERROR = "ASGI flow error"
SAID: dict[type[ws.Event], type[Event]] = {
    ws.TextMessage: WsText,
    ws.Ping: WsPing,
    ws.Pong: WsPong,
    ws.CloseConnection: WsClose,
}


class Story:
    """Writes a trace as the simulator does, with one client and one call of the application."""

    def __init__(self, actor: str = "websocket 1") -> None:
        self.actor = actor
        self.clock = Clock()
        self.trace = Trace(self.clock)
        self.wire = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self.flying: list[TcpSend] = []

    def record(self, kind: type[Event], actor: str, *fields: Any, cause: int | None = None) -> Event:
        self.trace.cause = cause
        return self.trace.record(kind, actor, *fields)

    def writes(self, segment: str, data: bytes = b"", *, cause: int | None = None) -> None:
        sent = self.record(TcpSend, "client", "connection 1", "server", segment, data, cause=cause)
        assert isinstance(sent, TcpSend)
        self.flying.append(sent)

    def arrives(self) -> None:
        """The oldest segment in flight is delivered to the server."""
        sent = self.flying.pop(0)
        actor = "127.0.0.1:8000" if sent.segment == "SYN" else "server"
        self.record(TcpDeliver, actor, "connection 1", "client", sent.segment, len(sent.data), cause=sent.seq)

    def says(self, message: Any) -> None:
        payload = next(getattr(message, name) for name in ("data", "payload", "code") if hasattr(message, name))
        said = self.record(SAID[type(message)], "client", "sends", payload)
        self.writes(f"{type(message).__name__} {payload!r}", self.wire.send(message), cause=said.seq)

    def delivers(self, *messages: Any) -> None:
        """The client says these, and they are delivered, one by one."""
        for message in messages:
            self.says(message)
        for _ in messages:
            self.arrives()

    def hears(self, kind: type[Event], payload: Any) -> None:
        self.record(kind, "client", "gets", payload)

    def app(self, kind: type[Event], *fields: Any) -> None:
        self.record(kind, self.actor, *fields)

    def receives(self, message: dict[str, Any]) -> None:
        self.app(AsgiReceive)
        self.app(AsgiReceived, message)

    def sends(self, message: dict[str, Any]) -> None:
        self.app(AsgiSend, message)
        self.app(AsgiSent, message["type"])

    def opens(self) -> Story:
        """A WebSocket, accepted."""
        self.writes("SYN")
        self.arrives()
        asked = self.record(WsHandshake, "client", "sends", "/")
        request = self.wire.send(ws.Request(host="127.0.0.1:8000", target="/"))
        self.writes("GET upgrade", request, cause=asked.seq)
        self.arrives()
        self.app(AppCalled, "websocket", "/")
        self.receives({"type": "websocket.connect"})
        self.sends({"type": "websocket.accept"})
        server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        server.receive_data(request)
        assert list(server.events())
        self.wire.receive_data(server.send(ws.AcceptConnection()))
        assert list(self.wire.events())
        self.hears(WsHandshake, 101)
        return self

    def dies(self) -> Trace:
        """The pending receive() fails, and the application with it."""
        self.app(AsgiReceiveFailed, "RuntimeError", FLOW_ERROR)
        self.app(AppRaised, "RuntimeError", FLOW_ERROR)
        self.hears(WsClose, 1005)
        self.record(TcpClosed, "client", "eof")
        return self.trace


def error_at_once() -> Trace:
    """A Pong arrives while receive() waits."""
    story = Story().opens()
    story.app(AsgiReceive)
    story.delivers(pong(b"hb"))
    return story.dies()


def error_later() -> Trace:
    """A Pong and a text arrive while the application is busy; then it calls receive()."""
    story = Story().opens()
    story.delivers(pong(b"hb"), text("hi"))
    story.clock.now += 0.2
    story.app(AsgiReceive)
    return story.dies()


def cancelled(*messages: Any) -> Story:
    """These messages arrive for a receive() that is cancelled at that moment."""
    story = Story().opens()
    story.app(AsgiReceive)
    story.delivers(*messages)
    story.clock.now += 0.15
    story.app(AsgiReceiveCancelled)
    return story


def only_a_warning(message: Any = None) -> Trace:
    """A Pong, or another message, arrives for a receive() that is cancelled; a text arrives for the next one."""
    story = cancelled(message or pong(b"hb"))
    story.app(AsgiReceive)
    story.delivers(text("hi"))
    story.app(AsgiReceived, {"type": "websocket.receive", "text": "hi"})
    story.sends({"type": "websocket.send", "text": "hi"})
    story.hears(WsText, "hi")
    return story.trace


def deaf() -> Trace:
    """A Pong arrives for an application that never receives again."""
    story = Story().opens()
    story.delivers(pong(b"hb"))
    story.clock.now += 0.1
    story.sends({"type": "websocket.send", "text": "tick"})
    story.hears(WsText, "tick")
    story.app(AppReturned)
    story.hears(WsClose, 1005)
    story.record(TcpClosed, "client", "reset")
    return story.trace


def echoed() -> Trace:
    """A text and its echo, and a close handshake: what every server should do."""
    story = Story().opens()
    story.app(AsgiReceive)
    story.delivers(text("hi"))
    story.app(AsgiReceived, {"type": "websocket.receive", "text": "hi"})
    story.sends({"type": "websocket.send", "text": "hi"})
    story.hears(WsText, "hi")
    story.app(AsgiReceive)
    story.delivers(ws.CloseConnection(1000))
    story.app(AsgiReceived, {"type": "websocket.disconnect", "code": 1000})
    return story.trace


def answered() -> Trace:
    """Two HTTP requests on one connection."""
    story = Story("http 1")
    story.writes("SYN")
    story.arrives()
    for number in (1, 2):
        story.actor = f"http {number}"
        asked = story.record(HttpRequest, "client", "GET", f"/{number}")
        story.writes(f"GET /{number}", b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number, cause=asked.seq)
        story.arrives()
        story.app(AppCalled, "http", f"/{number}")
        story.receives({"type": "http.request"})
        story.sends({"type": "http.response.start"})
        story.sends({"type": "http.response.body"})
        story.app(AppReturned)
        story.record(HttpResponse, "client", 200, b"hello")
    story.writes("FIN")
    story.arrives()
    return story.trace


@always("no-flow-error", "A Pong never causes a flow error.")
def no_flow_error(trace: Trace) -> Violation | None:
    for event in trace:
        if isinstance(event, WsClose) and event.way == "sends":
            return None
        if isinstance(event, AsgiReceiveFailed) and FLOW_ERROR in event.text:
            return Violation(f"receive() raised {event.error}({event.text!r})", event)
    return None


@always("no-log", "The server logs no warning and no error.")
def no_log(trace: Trace) -> Violation | None:
    return next((Violation(event.describe(), event) for event in trace.of(Logged)), None)


@eventually("no-text-lost", "Every text that the client sends is received.")
def no_text_lost(trace: Trace) -> Violation | None:
    got = [e.message.get("text") for e in trace.of(AsgiReceived)]
    lost = [e for e in trace.of(WsText) if e.way == "sends" and e.payload not in got]
    return Violation(f"the application never received {lost[0].payload!r}", lost[0]) if lost else None


@eventually("two-answers", "Both requests are answered.")
def two_answers(trace: Trace) -> Violation | None:
    answers = [(e.status, e.body) for e in trace.of(HttpResponse)]
    return None if answers == [(200, b"hello")] * 2 else Violation(f"the answers were {answers}")
