"""What an application does and is told, as events. The actor is one call of the application, such as `websocket 1`."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from sim.world.trace import Event


def brief(message: dict[str, Any]) -> str:
    """An ASGI message in a few words: its type and what it carries."""
    kind = message.get("type", "?")
    parts = []
    for key in ("text", "bytes", "body", "status", "code", "reason", "message", "more_body"):
        value = message.get(key)
        if value is None or (key in ("reason", "message", "body") and not value) or value is False:
            continue
        shown = repr(value)
        parts.append(f"{key}={shown if len(shown) <= 40 else shown[:37] + '...'}")
    return f"{kind}({', '.join(parts)})" if parts else str(kind)


@attrs.define(slots=True)
class AppEvent(Event):
    """What one call of the application does or is told."""

    numbered: ClassVar[bool] = True


@attrs.define(slots=True)
class AppCalled(AppEvent):
    """The server called the application."""

    kind: ClassVar[str] = "app.called"
    scope: str
    path: str

    def describe(self) -> str:
        return f"is called for {self.scope} {self.path}".rstrip()


@attrs.define(slots=True)
class AppReturned(AppEvent):
    """The application returned."""

    kind: ClassVar[str] = "app.returned"

    def describe(self) -> str:
        return "returns"


@attrs.define(slots=True)
class AppCancelled(AppEvent):
    """The application ended by its task's cancellation: the server's doing, or a fault's."""

    kind: ClassVar[str] = "app.cancelled"

    def describe(self) -> str:
        return "is cancelled"


@attrs.define(slots=True)
class AppRaised(AppEvent):
    """An exception left the application."""

    kind: ClassVar[str] = "app.raised"
    error: str
    text: str

    def describe(self) -> str:
        return f'dies of {self.error}("{self.text}")'


@attrs.define(slots=True)
class AsgiReceive(AppEvent):
    """The application called `receive()`."""

    kind: ClassVar[str] = "asgi.receive"
    observable: ClassVar[bool] = False

    def describe(self) -> str:
        return "calls receive()"


@attrs.define(slots=True)
class AsgiReceived(AppEvent):
    """`receive()` returned a message."""

    kind: ClassVar[str] = "asgi.received"
    message: dict[str, Any]

    def outcome(self) -> tuple[object, ...]:
        return (self.kind, brief(self.message))

    def describe(self) -> str:
        return f"receives {brief(self.message)}"


@attrs.define(slots=True)
class AsgiReceiveFailed(AppEvent):
    """`receive()` raised."""

    kind: ClassVar[str] = "asgi.receive_failed"
    error: str
    text: str

    def describe(self) -> str:
        return f'gets {self.error}("{self.text}") out of receive()'


@attrs.define(slots=True)
class AsgiReceiveCancelled(AppEvent):
    """The application cancelled a `receive()` that had not returned."""

    kind: ClassVar[str] = "asgi.receive_cancelled"
    observable: ClassVar[bool] = False

    def describe(self) -> str:
        return "cancels its receive()"


@attrs.define(slots=True)
class AsgiSend(AppEvent):
    """The application called `send(message)`."""

    kind: ClassVar[str] = "asgi.send"
    message: dict[str, Any]

    def outcome(self) -> tuple[object, ...]:
        return (self.kind, brief(self.message))

    def describe(self) -> str:
        return f"sends {brief(self.message)}"


@attrs.define(slots=True)
class AsgiSent(AppEvent):
    """`send()` returned."""

    kind: ClassVar[str] = "asgi.sent"
    observable: ClassVar[bool] = False
    type: str

    def describe(self) -> str:
        return f"has sent {self.type}"


@attrs.define(slots=True)
class AsgiSendFailed(AppEvent):
    """`send()` raised."""

    kind: ClassVar[str] = "asgi.send_failed"
    error: str
    text: str

    def describe(self) -> str:
        return f'gets {self.error}("{self.text}") out of send()'


@attrs.define(slots=True)
class AsgiIllegal(AppEvent):
    """A message that the ASGI state machine does not allow; `side` is who is responsible, "server" or "application"."""

    kind: ClassVar[str] = "asgi.illegal"
    side: str
    state: str
    message: str

    def describe(self) -> str:
        return f"the {self.side} breaks ASGI: {self.message} in state {self.state}"
