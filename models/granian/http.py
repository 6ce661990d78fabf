"""Granian's HTTP side: one object for each request.

What an application can notice: each piece of the request's body comes with `more_body` true, and the end as one more,
empty event; behind it `receive()` waits until the *response* has ended, and does not see the client leave. The
response's head is kept back until its first body event. A body event behind the last one is the server's death: the
native code panics, and panics abort the process.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from models.granian.native import EmptyAwaitable, Runtime
from sim.world.fiber import Signal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from models.granian.connection import Body
    from models.granian.native import FutureAwaitable

logger = logging.getLogger("_granian")
Headers = list[tuple[bytes, bytes]]
SERVER = (b"server", b"granian")


class Reply:
    """A response on its way to the connection: the head, and a channel that holds one piece of the body at a time.

    Attributes:
        whole: the whole body, if it was there from the beginning; else None, and the pieces come through the channel.
        dead: whether nobody takes pieces from the channel any more.
    """

    def __init__(self, status: int, headers: Headers, whole: bytes | None, wake: Callable[[], None]) -> None:
        self.status = status
        self.headers = headers
        self.whole = whole
        self.dead = False
        self._wake = wake
        self._piece: bytes | None = None
        self._room = Signal()
        self._ended = False

    async def put(self, piece: bytes) -> bool:
        """Send a piece when the channel has room. Returns whether somebody will take it."""
        while self._piece is not None and not self.dead:
            await self._room
        if self.dead:
            return False
        self._piece = piece
        self._wake()
        return True

    def end(self) -> None:
        """Close the channel behind what is in it."""
        self._ended = True
        self._wake()

    @property
    def ready(self) -> bool:
        """Whether `take` has something."""
        return self._piece is not None or self._ended

    def take(self) -> bytes | None:
        """The piece in the channel; None at the end."""
        piece, self._piece = self._piece, None
        self._room.fire()
        return piece

    def drop(self) -> None:
        """Nobody takes pieces any more."""
        self.dead = True
        self._piece = None
        self._room.fire()


class HttpProtocol:
    """What the application's `receive` and `send` are bound to.

    Args:
        runtime: the worker's native side.
        body: the request's body.
        wake: called when there is a reply, or more of one.
    """

    def __init__(self, runtime: Runtime, body: Body, wake: Callable[[], None]) -> None:
        self._runtime = runtime
        self._body = body
        self._wake = wake
        self._exhausted = False
        self._permit = False
        self._permitted = Signal()
        self._intent: tuple[int, Headers] | None = None
        self._started = False
        self._streaming: Reply | None = None
        self._stream_over = False
        self.reply: Reply | None = None

    def receive(self) -> FutureAwaitable:
        """Eager, as everything that starts a native task."""
        return self._runtime.spawn("receive()", self._disconnect() if self._exhausted else self._request())

    async def _request(self) -> dict[str, Any]:
        try:
            piece = await self._body.next()
        except ConnectionError:
            self._exhausted = True
            self._give_permit()
            return {"type": "http.disconnect"}
        if piece is None:
            self._exhausted = True
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def _disconnect(self) -> dict[str, Any]:
        while not self._permit:
            await self._permitted
        self._permit = False
        return {"type": "http.disconnect"}

    def _give_permit(self) -> None:
        self._permit = True
        self._permitted.fire()

    def send(self, message: dict[str, Any]) -> Awaitable[None]:
        """Eager too; misuse raises at once."""
        kind = message.get("type")
        if kind == "http.response.start":
            if self._started:
                raise RuntimeError("ASGI flow error")
            self._started = True
            headers = [(bytes(k).lower(), bytes(v)) for k, v in message.get("headers", ())]
            self._intent = (message["status"], [SERVER, *headers])
            return EmptyAwaitable()
        if kind == "http.response.body":
            return self._send_body(bytes(message.get("body") or b""), bool(message.get("more_body", False)))
        raise RuntimeError("Unsupported ASGI message")

    def _send_body(self, body: bytes, more: bool) -> Awaitable[None]:
        if not self._started:
            raise RuntimeError("ASGI flow error")
        if self._streaming is None:
            if self._intent is None:
                return self._runtime.abort("panicked at called `Option::unwrap()` on a `None` value")
            status, headers = self._intent
            self._intent = None
            reply = Reply(status, headers, None if more else body, self._wake)
            self._answer(reply)
            if more:
                self._streaming = reply
                return self._put(body)
            self._give_permit()
            return EmptyAwaitable()
        if self._stream_over:
            raise RuntimeError("ASGI flow error")
        if more:
            return self._put(body)
        self._stream_over = True
        if body:
            return self._put(body, last=True)
        self._streaming.end()
        self._give_permit()
        return EmptyAwaitable()

    def _put(self, body: bytes, *, last: bool = False) -> FutureAwaitable:
        reply = self._streaming
        assert reply is not None

        async def put() -> None:
            taken = await reply.put(body)
            if not taken:
                logger.warning("ASGI transport error: SendError { .. }")
            if last:
                reply.end()
            if last or not taken:
                self._give_permit()

        return self._runtime.spawn("send(http.response.body)", put())

    def _answer(self, reply: Reply) -> None:
        if self.reply is None:
            self.reply = reply
            self._wake()

    def application_ended(self) -> None:
        """On the event loop's thread: 500 if nothing was sent; a stream that is open ends as if it were complete."""
        if self._streaming is not None:
            self._streaming.end()
        self._answer(Reply(500, [SERVER], b"Internal server error", self._wake))
