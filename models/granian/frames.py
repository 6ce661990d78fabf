"""A connection after the upgrade, as the WebSocket library below Granian (tungstenite) keeps it.

Frames are taken apart one at a time, by whoever reads, and in no other way: what was not asked for is not looked at,
even if its bytes are here. Fragments are joined; control frames between them come first. Answers to Ping and Close are
queued, and leave with the next read, write or close.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from wsproto import ConnectionType
from wsproto import events as ws
from wsproto.connection import Connection, ConnectionState

from models.granian.native import FlowError
from sim.world.trace import Event

if TYPE_CHECKING:
    from models.granian.native import Runtime
    from models.granian.stream import Stream

EMPTY_CLOSE = b"\x88\x00"
_BAD_CODES = ("CLOSE with invalid code", "remote CLOSE with local-only reason", "CLOSE with unknown reserved code")
"""What wsproto says of a Close whose code may not be on the wire. Granian's library takes it for a Close all the same."""


@attrs.define(slots=True)
class FrameRead(Event):
    """The server took a frame from the connection."""

    kind: ClassVar[str] = "ws.read"
    observable: ClassVar[bool] = False
    frame: str

    def describe(self) -> str:
        return f"reads {self.frame}"


class FrameStream:
    """Whole messages in, frames out.

    Args:
        runtime: the worker's native side.
        stream: the connection.
        trailing: bytes that came with the handshake.
        head: what is to be written first.
    """

    def __init__(self, runtime: Runtime, stream: Stream, trailing: bytes, head: bytes) -> None:
        self._runtime = runtime
        self._stream = stream
        self._queued = head
        self._wire = Connection(ConnectionType.SERVER, trailing_data=trailing)
        self._parts: list[Any] = []
        self._ended = False
        self._eof = False

    async def next(self) -> ws.Event | None:
        """The next whole message or control frame; None when the stream has ended.

        Raises:
            FlowError: the connection broke, or the peer broke the protocol. From then on the stream has ended.
        """
        while not self._ended:
            try:
                self._push()
                event = next(self._wire.events(), None)
                if event is None:
                    if not self._stream.readable:
                        await self._stream.changed()
                        continue
                    data = await self._stream.read()
                    if data:
                        self._wire.receive_data(data)
                        continue
                    self._eof = True
            except OSError:
                event = None
            if event is None or _is_breach(event, self._wire.state):
                self._ended = True
                raise FlowError
            whole = self._join(event)
            if whole is not None:
                self._runtime.world.trace.record(FrameRead, self._runtime.process.name, _name(whole))
                return self._answer(whole)
        return None

    def _join(self, event: ws.Event) -> ws.Event | None:
        """`event`, or the whole message whose last part it is; None for a part before."""
        if not isinstance(event, ws.Message):
            return event
        self._parts.append(event.data)
        if not event.message_finished:
            return None
        joined = self._parts[0][:0].join(self._parts)
        self._parts = []
        return type(event)(joined)

    def _answer(self, event: ws.Event) -> ws.Event:
        """Queue the answer that a control frame calls for. Returns what the frame is taken for."""
        if isinstance(event, ws.Ping):
            self._queued += self._wire.send(event.response())
        elif isinstance(event, ws.CloseConnection):
            self._ended = True
            if self._wire.state is ConnectionState.OPEN:
                event = ws.CloseConnection(1002, "Protocol violation")
            self._queued += self._wire.send(event.response())
        return event

    async def send(self, message: ws.Event) -> None:
        """Write a message and whatever is queued.

        Raises:
            OSError: the connection is gone.
            LocalProtocolError: a Close was read or sent.
        """
        if self._eof:
            raise BrokenPipeError
        self._queued += self._wire.send(message)
        await self.flush()

    async def flush(self) -> None:
        """Write what is queued.

        Raises:
            OSError: the connection is gone.
        """
        while self._push():
            await self._stream.changed()

    def _push(self) -> bool:
        """Write as much as there is room for. Returns whether something is left. One buffer: nothing interleaves."""
        if self._queued:
            self._queued = self._queued[self._stream.write_some(self._queued) :]
        return bool(self._queued)

    async def close(self) -> None:
        """Flush, with a Close frame without code unless there was one; then drop the connection.

        Raises:
            OSError: the connection is gone.
        """
        try:
            if self._wire.state is ConnectionState.OPEN and not self._eof:
                self._queued += EMPTY_CLOSE
            await self.flush()
        finally:
            self.drop()

    def drop(self) -> None:
        """Drop the connection without a word."""
        self._stream.close()


def _is_breach(event: ws.Event, state: ConnectionState) -> bool:
    """Whether this is wsproto's proposal of what to answer to a breach of the protocol, and not a Close that it read."""
    return (
        isinstance(event, ws.CloseConnection)
        and state is ConnectionState.OPEN
        and not (event.reason or "").startswith(_BAD_CODES)
    )


def _name(event: ws.Event) -> str:
    if isinstance(event, ws.TextMessage):
        return f"text {event.data!r}"
    if isinstance(event, ws.BytesMessage):
        return f"bytes ({len(event.data)} B)"
    if isinstance(event, ws.CloseConnection):
        return f"Close {int(event.code)}"
    return type(event).__name__
