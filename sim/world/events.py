"""The events that `sim` itself records: TCP and log records."""

from __future__ import annotations

from typing import ClassVar

import attrs

from sim.world.trace import Event


@attrs.define(slots=True)
class TcpSend(Event):
    """A segment entered flight; the actor is the side that sent it. What TLS has made random is left out of `data`."""

    kind: ClassVar[str] = "tcp.send"
    observable: ClassVar[bool] = False
    connection: str
    to: str
    segment: str
    data: bytes

    def describe(self) -> str:
        return f"sends {self.segment} to {self.to}"


@attrs.define(slots=True)
class TcpDeliver(Event):
    """A segment arrived; the actor is the side that got it."""

    kind: ClassVar[str] = "tcp.deliver"
    observable: ClassVar[bool] = False
    connection: str
    source: str
    segment: str
    size: int

    def describe(self) -> str:
        return f"gets {self.segment} from {self.source}"


@attrs.define(slots=True)
class TcpClosed(Event):
    """A scripted host saw the connection end: `how` is "eof", "reset" or "refused"."""

    kind: ClassVar[str] = "tcp.closed"
    how: str

    def describe(self) -> str:
        return {"eof": "sees the end of the connection (FIN)", "reset": "sees a connection reset (RST)"}.get(
            self.how, f"connection {self.how}"
        )


@attrs.define(slots=True)
class Fault(Event):
    """A fault struck (see `sim.world.faults`); the actor is who is hit, `fault` its name."""

    kind: ClassVar[str] = "tcp.fault"
    observable: ClassVar[bool] = False
    fault: str
    what: str

    def describe(self) -> str:
        return f"{self.what} (fault)"


@attrs.define(slots=True)
class HandedOver(Event):
    """A native thread's result reached the event loop; the actor is the process."""

    kind: ClassVar[str] = "app.handed_over"
    observable: ClassVar[bool] = False
    what: str

    def describe(self) -> str:
        return f"hands over to the event loop: {self.what}"


@attrs.define(slots=True)
class Timer(Event):
    """A timer that competed with deliveries fired; the actor is its process or host."""

    kind: ClassVar[str] = "app.timer"
    observable: ClassVar[bool] = False

    def describe(self) -> str:
        return "a timer fires"


@attrs.define(slots=True)
class Logged(Event):
    """A log record from WARNING up; the actor is the process."""

    kind: ClassVar[str] = "log.record"
    level: str
    logger: str
    message: str
    exception: str | None

    def describe(self) -> str:
        return f"[{self.level}] {self.message}" + (f" ({self.exception})" if self.exception else "")


@attrs.define(slots=True)
class LoggedWarning(Logged):
    """A record of level WARNING."""

    kind: ClassVar[str] = "log.warning"


@attrs.define(slots=True)
class LoggedError(Logged):
    """A record of level ERROR or above."""

    kind: ClassVar[str] = "log.error"
