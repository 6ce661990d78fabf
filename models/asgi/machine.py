"""The ASGI state machine, as tables.

Theory of operation
===================

One call of an application is in one state. Messages move it: those that the server delivers through `receive()` and
those that the application passes to `send()`. Each table maps `(state, message type)` to the next state; what is not
in the table is illegal, and the side that produced it is responsible. A message type may carry a suffix that a
message's fields decide: `+more` where more of the same is to come, `+trailers` where trailers are announced.

Sources: the ASGI specification 3.0 (`asgi.rst`), lifespan 2.0 (`lifespan.rst`), HTTP and WebSocket 2.5 (`www.rst`).

Rules for this file:

1. The table is the specification; there is no legality in code elsewhere.
2. What the specification leaves open is legal. `receive()` after a disconnect is unspecified: servers block, repeat
   the disconnect or raise, so a repeated disconnect is legal and anything else is not. An application may accept or
   close a WebSocket before it has received `websocket.connect`, which is still delivered.
3. `gone` is what the client's end makes of a state. An application may not know yet, so what it sends then stays
   legal: the specification makes it a no-op, or an OSError since 2.4.
"""

from __future__ import annotations

from typing import Any

import attrs

Table = dict[tuple[str, str], str]

DELIVERED = frozenset(
    {
        "lifespan.startup",
        "lifespan.shutdown",
        "http.request",
        "http.disconnect",
        "websocket.connect",
        "websocket.receive",
        "websocket.disconnect",
    }
)
"""The message types that come from the server. All others come from the application."""

LIFESPAN: Table = {
    ("waiting", "lifespan.startup"): "starting",
    ("starting", "lifespan.startup.complete"): "started",
    ("starting", "lifespan.startup.failed"): "failed",
    ("started", "lifespan.shutdown"): "stopping",
    ("stopping", "lifespan.shutdown.complete"): "stopped",
    ("stopping", "lifespan.shutdown.failed"): "stopped",
}

HTTP_REQUEST: Table = {
    ("reading", "http.request+more"): "reading",
    ("reading", "http.request"): "read",
    ("reading", "http.disconnect"): "gone",
    ("read", "http.disconnect"): "gone",
    ("gone", "http.disconnect"): "gone",
}

HTTP_RESPONSE: Table = {
    ("idle", "http.response.debug"): "idle",
    ("idle", "http.response.early_hint"): "idle",
    ("idle", "http.response.start"): "started",
    ("idle", "http.response.start+trailers"): "started, trailers to come",
    ("started", "http.response.early_hint"): "started",
    ("started", "http.response.push"): "started",
    ("started", "http.response.body+more"): "sending",
    ("started", "http.response.body"): "complete",
    ("started", "http.response.zerocopysend+more"): "sending",
    ("started", "http.response.zerocopysend"): "complete",
    ("started", "http.response.pathsend"): "complete",
    ("sending", "http.response.push"): "sending",
    ("sending", "http.response.body+more"): "sending",
    ("sending", "http.response.body"): "complete",
    ("sending", "http.response.zerocopysend+more"): "sending",
    ("sending", "http.response.zerocopysend"): "complete",
    ("started, trailers to come", "http.response.early_hint"): "started, trailers to come",
    ("started, trailers to come", "http.response.push"): "started, trailers to come",
    ("started, trailers to come", "http.response.body+more"): "sending, trailers to come",
    ("started, trailers to come", "http.response.body"): "trailers due",
    ("started, trailers to come", "http.response.zerocopysend+more"): "sending, trailers to come",
    ("started, trailers to come", "http.response.zerocopysend"): "trailers due",
    ("started, trailers to come", "http.response.pathsend"): "trailers due",
    ("sending, trailers to come", "http.response.push"): "sending, trailers to come",
    ("sending, trailers to come", "http.response.body+more"): "sending, trailers to come",
    ("sending, trailers to come", "http.response.body"): "trailers due",
    ("sending, trailers to come", "http.response.zerocopysend+more"): "sending, trailers to come",
    ("sending, trailers to come", "http.response.zerocopysend"): "trailers due",
    ("trailers due", "http.response.trailers+more"): "trailers due",
    ("trailers due", "http.response.trailers"): "complete",
}

WEBSOCKET: Table = {
    ("waiting", "websocket.connect"): "connecting",
    ("waiting", "websocket.accept"): "accepted early",
    ("waiting", "websocket.close"): "closed early",
    ("accepted early", "websocket.connect"): "open",
    ("accepted early", "websocket.send"): "accepted early",
    ("accepted early", "websocket.close"): "closed early",
    ("closed early", "websocket.connect"): "closed",
    ("closed early", "websocket.disconnect"): "gone",
    ("connecting", "websocket.accept"): "open",
    ("connecting", "websocket.close"): "closed",
    ("connecting", "websocket.disconnect"): "gone",
    ("connecting", "websocket.http.response.start"): "denying",
    ("denying", "websocket.http.response.body+more"): "denying",
    ("denying", "websocket.http.response.body"): "closed",
    ("denying", "websocket.disconnect"): "gone",
    ("open", "websocket.receive"): "open",
    ("open", "websocket.send"): "open",
    ("open", "websocket.close"): "closed",
    ("open", "websocket.disconnect"): "gone",
    ("closed", "websocket.disconnect"): "gone",
    ("gone", "websocket.disconnect"): "gone",
    ("gone", "websocket.accept"): "gone",
    ("gone", "websocket.send"): "gone",
    ("gone", "websocket.close"): "gone",
    ("gone", "websocket.http.response.start"): "gone",
    ("gone", "websocket.http.response.body+more"): "gone",
    ("gone", "websocket.http.response.body"): "gone",
}


@attrs.frozen
class Machine:
    """The tables of one scope type, one for each direction that has a state of its own.

    Attributes:
        receiving: the table that events from the server move, and its first state.
        sending: the table that events from the application move, and its first state; the same table where both
            directions share one state.
    """

    receiving: Table
    receiving_start: str
    sending: Table
    sending_start: str

    @property
    def shared(self) -> bool:
        """Whether both directions move one state."""
        return self.receiving is self.sending


MACHINES: dict[str, Machine] = {
    "lifespan": Machine(LIFESPAN, "waiting", LIFESPAN, "waiting"),
    "http": Machine(HTTP_REQUEST, "reading", HTTP_RESPONSE, "idle"),
    "websocket": Machine(WEBSOCKET, "waiting", WEBSOCKET, "waiting"),
}


class Conversation:
    """Where one call of an application is in the tables of its scope type."""

    __slots__ = ("_machine", "_receiving", "_sending")

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._receiving = machine.receiving_start
        self._sending = machine.sending_start

    @property
    def state(self) -> str:
        """The state, both halves where there are two."""
        if self._machine.shared:
            return self._receiving
        return f"{self._receiving}/{self._sending}"

    def delivered(self, message: dict[str, Any]) -> bool:
        """Move by a message from the server. Returns whether it was legal."""
        state = self._machine.receiving.get((self._receiving, symbol(message)))
        if state is None or message.get("type") not in DELIVERED:
            return False
        self._receiving = state
        if self._machine.shared:
            self._sending = state
        return True

    def sent(self, message: dict[str, Any]) -> bool:
        """Move by a message from the application. Returns whether it was legal."""
        if message.get("type") in DELIVERED:
            return False
        if self._receiving == "gone" and not self._machine.shared:
            return any(symbol(message) == known for _, known in self._machine.sending)
        state = self._machine.sending.get((self._sending, symbol(message)))
        if state is None:
            return False
        self._sending = state
        if self._machine.shared:
            self._receiving = state
        return True


def symbol(message: dict[str, Any]) -> str:
    """A message as the tables name it."""
    kind = str(message.get("type"))
    if message.get("more_body") or message.get("more_trailers"):
        return f"{kind}+more"
    if kind == "http.response.start" and message.get("trailers"):
        return f"{kind}+trailers"
    return kind
