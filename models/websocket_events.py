"""What WebSocket clients and servers send and read, as events of a trace: the `ws` layer."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from sim.world.trace import Event

SHOWN = 80
"""Bytes or characters of a payload that are shown whole."""


@attrs.define(slots=True)
class WsFrame(Event):
    """A frame or message; `way` is "sends" or "gets"."""

    kind: ClassVar[str] = "ws.frame"
    way: str
    payload: Any

    noun: ClassVar[str] = "frame"

    def describe(self) -> str:
        return f"{self.way} {self.noun} {_shown(self.payload)}"


def _shown(payload: Any) -> str:
    """A payload as people can read it: the beginning and the size of one that is long."""
    if isinstance(payload, (str, bytes)) and len(payload) > SHOWN:
        unit = "bytes" if isinstance(payload, bytes) else "characters"
        return f"{payload[: SHOWN // 4]!r}... ({len(payload):,} {unit})"
    return repr(payload)


@attrs.define(slots=True)
class WsHandshake(WsFrame):
    """The opening handshake: "sends" the request, "gets" 101 or another status."""

    kind: ClassVar[str] = "ws.handshake"

    def describe(self) -> str:
        return "asks for a WebSocket" if self.way == "sends" else f"gets HTTP {self.payload}"


@attrs.define(slots=True)
class WsText(WsFrame):
    """A text message."""

    kind: ClassVar[str] = "ws.text"
    noun: ClassVar[str] = "text"


@attrs.define(slots=True)
class WsBinary(WsFrame):
    """A binary message."""

    kind: ClassVar[str] = "ws.binary"
    noun: ClassVar[str] = "bytes"


@attrs.define(slots=True)
class WsPing(WsFrame):
    """A Ping."""

    kind: ClassVar[str] = "ws.ping"
    noun: ClassVar[str] = "Ping"


@attrs.define(slots=True)
class WsPong(WsFrame):
    """A Pong."""

    kind: ClassVar[str] = "ws.pong"
    noun: ClassVar[str] = "Pong"

    def describe(self) -> str:
        return f"{self.way} Pong" + (f" {self.payload!r}" if self.payload else "")


@attrs.define(slots=True)
class WsFragment(WsFrame):
    """A part of a message that more parts will follow. The whole message is an event of its own, at its last part."""

    kind: ClassVar[str] = "ws.fragment"
    noun: ClassVar[str] = "fragment"


@attrs.define(slots=True)
class WsGarbage(WsFrame):
    """Bytes that are no WebSocket frames; the payload says why."""

    kind: ClassVar[str] = "ws.garbage"

    def describe(self) -> str:
        return f"{self.way} garbage: {self.payload}"


@attrs.define(slots=True)
class WsClose(WsFrame):
    """A Close frame; the payload is its code, 1005 if it has none."""

    kind: ClassVar[str] = "ws.close"

    def describe(self) -> str:
        return f"{self.way} Close {self.payload}"
