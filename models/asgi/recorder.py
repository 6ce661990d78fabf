"""The recorder: an ASGI middleware that writes down, and checks, everything between a server and an application.

It is the same for every server, simulated, modelled or real. It calls the server's `receive` and `send` at the moment
when the application does and not later, because there are servers for which calling is doing. What it returns can be
awaited, wrapped in a task, or dropped: an answer that nobody awaits is dropped with the server's own, and complains
only if that one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from models.asgi.events import (
    AppCalled,
    AppCancelled,
    AppRaised,
    AppReturned,
    AsgiIllegal,
    AsgiReceive,
    AsgiReceiveCancelled,
    AsgiReceived,
    AsgiReceiveFailed,
    AsgiSend,
    AsgiSendFailed,
    AsgiSent,
    brief,
)
from models.asgi.machine import MACHINES, Conversation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import TracebackType

    from sim.world.trace import Event
    from sim.world.world import World


class Record(Protocol):
    """How the recorder writes: `Trace.record`, or a stand-in in another process."""

    def __call__(self, kind: type[Event], actor: str, *fields: Any) -> object: ...


class Recorder:
    """Wraps an ASGI 3 application.

    Args:
        app: the application.
        record: where events go.
        world: if given, what the application is doing is part of this world's state.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], record: Record, world: World | None = None) -> None:
        self._app = app
        self._record = record
        self._world = world
        self._calls: dict[str, int] = {}

    def _name(self, kind: str) -> str:
        """A name for the next call; all but lifespan's are counted."""
        number = self._calls[kind] = self._calls.get(kind, 0) + 1
        if kind == "lifespan":
            return kind
        name = f"{kind} {number}"
        if self._world is not None:
            self._world.trace.counted.add(name)
        return name

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Call the application as the server does, and watch."""
        kind = scope["type"]
        actor = self._name(kind)
        call = _Call(actor, self._record, receive, send, Conversation(MACHINES[kind]))
        if self._world is not None and kind != "lifespan":
            self._world.probe(actor, call.describe)
            self._world.may_cancel(actor, asyncio.current_task())
        self._record(AppCalled, actor, kind, scope.get("path", ""))
        try:
            await self._app(scope, call.receive, call.send)
        except asyncio.CancelledError:
            call.ended = "cancelled"
            self._record(AppCancelled, actor)
            raise
        except BaseException as exc:
            call.ended = f"dead: {type(exc).__name__}"
            self._record(AppRaised, actor, type(exc).__name__, str(exc))
            raise
        else:
            call.ended = "returned"
            self._record(AppReturned, actor)


class _Call:
    """One call of the application."""

    def __init__(self, actor: str, record: Record, receive: Any, send: Any, conversation: Conversation) -> None:
        self._actor = actor
        self._record = record
        self._receive = receive
        self._send = send
        self._conversation = conversation
        self._doing: list[str] = []
        self.ended = ""

    def describe(self) -> str:
        doing = self.ended or " and ".join(self._doing) or "working"
        return f"{self._conversation.state}, {doing}"

    def receive(self) -> Awaitable[dict[str, Any]]:
        self._record(AsgiReceive, self._actor)
        try:
            awaitable = self._receive()
        except BaseException as exc:
            self._record(AsgiReceiveFailed, self._actor, type(exc).__name__, str(exc))
            raise
        return _Watched(self._watch_receive, awaitable)

    async def _watch_receive(self, awaitable: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        self._doing.append("in receive()")
        try:
            message = await awaitable
        except (asyncio.CancelledError, GeneratorExit):
            self._record(AsgiReceiveCancelled, self._actor)
            raise
        except BaseException as exc:
            self._record(AsgiReceiveFailed, self._actor, type(exc).__name__, str(exc))
            raise
        finally:
            self._doing.remove("in receive()")
        self._record(AsgiReceived, self._actor, dict(message))
        state = self._conversation.state
        if not self._conversation.delivered(message):
            self._record(AsgiIllegal, self._actor, "server", state, brief(message))
        return message

    def send(self, message: dict[str, Any]) -> Awaitable[None]:
        self._record(AsgiSend, self._actor, dict(message))
        state = self._conversation.state
        if not self._conversation.sent(message):
            self._record(AsgiIllegal, self._actor, "application", state, brief(message))
        try:
            awaitable = self._send(message)
        except BaseException as exc:
            self._record(AsgiSendFailed, self._actor, type(exc).__name__, str(exc))
            raise
        return _Watched(self._watch_send, awaitable, str(message.get("type")))

    async def _watch_send(self, awaitable: Awaitable[None], kind: str) -> None:
        self._doing.append("in send()")
        try:
            await awaitable
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as exc:
            self._record(AsgiSendFailed, self._actor, type(exc).__name__, str(exc))
            raise
        finally:
            self._doing.remove("in send()")
        self._record(AsgiSent, self._actor, kind)


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that comes into being when somebody awaits it, and so does not mind if nobody does."""

    __slots__ = ("_arguments", "_awaitable", "_running", "_watch")

    def __init__(self, watch: Callable[..., Coroutine[Any, Any, Any]], awaitable: Any, *arguments: Any) -> None:
        self._watch = watch
        self._awaitable: Any = awaitable
        self._arguments = arguments
        self._running: Coroutine[Any, Any, Any] | None = None

    def _start(self) -> Coroutine[Any, Any, Any]:
        if self._running is None:
            self._running = self._watch(self._awaitable, *self._arguments)
            self._awaitable = None
        return self._running

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._start().__await__()

    def send(self, value: Any) -> Any:
        return self._start().send(value)

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Any:
        if self._running is None:
            error = val if isinstance(val, BaseException) else typ if isinstance(typ, BaseException) else typ()
            self._awaitable = _thrown(self._awaitable, error)
            return self._start().send(None)
        if val is None and tb is None:
            return self._running.throw(typ)
        return self._running.throw(typ, val, tb)  # type: ignore[arg-type]

    def close(self) -> None:
        if self._running is not None:
            self._running.close()
        elif hasattr(self._awaitable, "close"):
            self._awaitable.close()


async def _thrown(awaitable: Any, error: BaseException) -> None:
    """Pass `error` on to what was never awaited, as it would have got it from a task that is cancelled at its start."""
    if hasattr(awaitable, "throw"):
        awaitable.throw(error)
    elif isinstance(error, asyncio.CancelledError) and hasattr(awaitable, "cancel"):
        awaitable.cancel()
    raise error
