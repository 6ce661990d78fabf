"""Granian's WebSocket side: one object for each upgrade request.

Theory of operation
===================

There is **no reader task and no inbound queue**. The socket is read only while a `receive()` holds the receiving
half's lock; everything else stays in the decoder's buffer or in the kernel. Hence what surprises people:

- A Ping is answered, and a Close is seen, only while a `receive()` is in progress.
- A frame belongs to the `receive()` that reads it. If the application cancels that call, the frame goes with it.
- Up to 1.4.1 a Pong fell through to the arm for unsupported messages: a warning, and "ASGI flow error" for the
  `receive()` that read it. The stream itself is untouched; another `receive()` works.
- `websocket.close` waits for the receiving lock, so it waits while another task sits in `receive()`; meanwhile it
  holds the sending lock, so a `send()` waits behind it.
- When the application ends, the event loop's thread takes both locks *with the GIL*: if a `receive()` still reads,
  the thread stands still. A frame that comes then does not help: what it is made into, and the warning for a Pong,
  need the GIL. Only the end of the connection does.

States: handshake (accept not yet sent), open, peer closed (a Close was read), broken (end of file, reset or bad
data), closed by the application. In the handshake every `receive()` is `websocket.connect`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from wsproto import events as ws
from wsproto.utilities import LocalProtocolError

from models.granian.native import FlowError, FutureAwaitable, Runtime, UnsupportedMessage
from sim.world.fiber import Lock, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.granian.behaviour import Behaviour
    from models.granian.frames import FrameStream

logger = logging.getLogger("_granian")


class WebSocketProtocol:
    """What the application's `receive` and `send` are bound to.

    Args:
        runtime: the worker's native side.
        behaviour: the version's.
        upgrade: switches the connection, given a subprotocol; None if the client is gone.

    Attributes:
        consumed: whether an accept was tried.
    """

    def __init__(
        self, runtime: Runtime, behaviour: Behaviour, upgrade: Callable[[str | None], FrameStream | None]
    ) -> None:
        self._runtime = runtime
        self._behaviour = behaviour
        self._upgrade = upgrade
        self._reading = Lock()
        self._writing = Lock()
        self._rx: FrameStream | None = None
        self._tx: FrameStream | None = None
        self._accepted = False
        self._closed = False
        self.consumed = False

    def receive(self) -> FutureAwaitable:
        """Eager: the native task starts with the call."""
        return self._runtime.spawn("receive()", self._receive())

    async def _receive(self) -> dict[str, Any]:
        if not self._accepted:
            return {"type": "websocket.connect"}
        await self._reading.acquire("receive()")
        try:
            if self._rx is None:
                raise FlowError
            while True:
                event = await self._rx.next()
                if event is None:
                    raise FlowError
                if isinstance(event, ws.Ping):
                    continue
                if isinstance(event, ws.Pong):
                    if not self._behaviour.pong_is_an_error:
                        continue
                    await self._gil()
                    payload = ", ".join(str(byte) for byte in event.payload)
                    logger.warning("Unsupported websocket message received Pong([%s])", payload)
                    raise FlowError
                if isinstance(event, ws.CloseConnection):
                    self._closed = True
                await self._gil()
                return _message(event)
        finally:
            self._reading.release()

    async def _gil(self) -> None:
        """Wait for the GIL. An event loop that is parked holds it for ever."""
        while self._runtime.process.parked is not None:
            await Signal()

    def send(self, message: dict[str, Any]) -> FutureAwaitable:
        """Eager too; what is wrong with the message comes out of the future."""
        kind = message.get("type")
        if kind == "websocket.accept":
            consumed, self.consumed = self.consumed, True
            return self._runtime.spawn("send(websocket.accept)", self._accept(message.get("subprotocol"), consumed))
        if kind == "websocket.close":
            return self._runtime.spawn("send(websocket.close)", self._close())
        event = _event(message) if kind == "websocket.send" else None
        return self._runtime.spawn("send(websocket.send)", self._send(event) if event is not None else _unsupported())

    async def _accept(self, subprotocol: object, consumed: bool) -> None:
        stream = None if consumed else self._upgrade(subprotocol if isinstance(subprotocol, str) else None)
        if stream is None:
            raise FlowError
        try:
            await stream.flush()
        except OSError:
            raise FlowError from None
        await self._writing.acquire("accept")
        await self._reading.acquire("accept")
        self._tx = self._rx = stream
        self._accepted = True
        self._reading.release()
        self._writing.release()

    async def _send(self, message: ws.Event) -> None:
        await self._writing.acquire("send()")
        try:
            if self._tx is None:
                raise FlowError
            try:
                await self._tx.send(message)
            except (OSError, LocalProtocolError):
                if not self._closed:
                    raise FlowError from None
                logger.info("Attempted to write to a closed websocket")
        finally:
            self._writing.release()

    async def _close(self) -> None:
        await self._writing.acquire("close()")
        try:
            stream, self._tx = self._tx, None
            if stream is None:
                raise FlowError
            self._closed = True
            await self._reading.acquire("close()")
            self._rx = None
            self._reading.release()
            await _close(stream)
        finally:
            self._writing.release()

    def application_ended(self, then: Callable[[], None]) -> None:
        """On the event loop's thread: take both locks, standing still until they are free; close; then `then()`."""
        if self._reading.holder is None and self._writing.holder is None:
            self._detach(then)
            return
        who = self._reading.holder or self._writing.holder
        process = self._runtime.process
        process.parked = f"the event loop's thread waits, with the GIL, for the lock that {who} holds"
        process.loop.stop()

        async def wait() -> None:
            await self._reading.acquire("the application's end")
            await self._writing.acquire("the application's end")
            process.parked = None
            self._detach(then)
            self._reading.release()
            self._writing.release()

        self._runtime.world.start_fiber("application end", wait())

    def _detach(self, then: Callable[[], None]) -> None:
        receiving, sending = self._rx, self._tx
        self._rx = self._tx = None

        async def finish() -> None:
            if sending is not None:
                await _close(sending)
            elif receiving is not None:
                receiving.drop()
            then()

        self._runtime.world.start_fiber("websocket close", finish())


async def _close(stream: FrameStream) -> None:
    try:
        await stream.close()
    except OSError as exc:
        logger.info("Failed to close websocket with error %s", type(exc).__name__)


async def _unsupported() -> None:
    raise UnsupportedMessage


def _message(event: ws.Event) -> dict[str, Any]:
    """A frame as the application gets it."""
    if isinstance(event, ws.CloseConnection):
        return {"type": "websocket.disconnect", "code": int(event.code)}
    if isinstance(event, ws.TextMessage):
        return {"type": "websocket.receive", "text": str(event.data)}
    assert isinstance(event, ws.BytesMessage)
    return {"type": "websocket.receive", "bytes": bytes(event.data)}


def _event(message: dict[str, Any]) -> ws.Event | None:
    """What the application sends, as a frame; None if it is not exactly one of bytes and text.

    One key alone counts even if its value is None: that is an empty message.
    """
    data, text = message.get("bytes"), message.get("text")
    if "bytes" in message and "text" in message and (data is None) == (text is None):
        return None
    if "text" in message and data is None:
        return ws.TextMessage(text if isinstance(text, str) else "")
    if "bytes" in message:
        return ws.BytesMessage(data if isinstance(data, bytes) else b"")
    return None
