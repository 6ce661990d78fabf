"""Granian's native side: tasks on tokio's threads, and how their results reach Python.

Theory of operation
===================

Calling `receive()` or `send()` starts a native task *at once*; awaiting it is not needed. The task runs on another
thread. Its result travels to a dedicated thread, waits for the GIL, is stored in a future-like object, and wakes the
event loop with `call_soon_threadsafe`. Here a native task is a fiber, which runs at once and to its first wait, and
the way of a result is a post in the process's mailbox: the world chooses when it arrives.

Rules for this file:

1. A native task never runs Python code of the application.
2. A result that finds its future cancelled is dropped, without a word. So is a result that was stored, if the
   awaiting task is cancelled before it wakes.
3. Cancelling a future drops the native task where it waits; locks that it held or queued for are let go.
4. Results arrive in the order in which they were made: one thread carries them.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from sim.world.fiber import Fiber
from sim.world.trace import Event
from sim.world.world import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from sim.world.process import Process
    from sim.world.world import World

GIL_SECONDS = 0.001
"""How long, in virtual seconds, a result may wait for the GIL at the most."""


class FlowError(Exception):
    """Inside native tasks: what becomes `RuntimeError("ASGI flow error")` in Python."""


class UnsupportedMessage(Exception):  # noqa: N818 - Granian's own word
    """Inside native tasks: what becomes `RuntimeError("Unsupported ASGI message")` in Python."""


@attrs.define(slots=True)
class Dropped(Event):
    """A native task's result found nobody who waits for it."""

    kind: ClassVar[str] = "asgi.dropped"
    observable: ClassVar[bool] = False
    what: str

    def describe(self) -> str:
        return f"drops {self.what}: nobody waits for it any more"


@attrs.define(slots=True)
class Aborted(Event):
    """The server process killed itself."""

    kind: ClassVar[str] = "app.aborted"
    why: str

    def describe(self) -> str:
        return f"aborts: {self.why}"


class FutureAwaitable:
    """The future-like object that `receive()` and `send()` return."""

    _asyncio_future_blocking = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._state = "pending"
        self._value: Any = None
        self._error: BaseException | None = None
        self._callback: tuple[Callable[..., Any], Any] | None = None
        self.on_cancel: Callable[[], None] = _nothing

    def settle(self, value: Any, error: BaseException | None) -> bool:
        """Store a result and wake whoever waits. Returns whether anybody could."""
        if self._state != "pending":
            return False
        self._state, self._value, self._error = "completed", value, error
        if self._callback is not None:
            callback, context = self._callback
            self._loop.call_soon_threadsafe(callback, self, context=context)
        return True

    def __await__(self) -> Generator[Any, None, Any]:
        return self  # type: ignore[return-value]

    __iter__ = __await__

    def __next__(self) -> Any:
        if self._state == "completed":
            if self._error is not None:
                raise self._error
            raise StopIteration(self._value)
        return self

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, callback: Callable[..., Any], *, context: Any = None) -> None:
        if self._state == "pending":
            self._callback = (callback, context)
        else:
            self._loop.call_soon(callback, self, context=context)

    def remove_done_callback(self, callback: Callable[..., Any]) -> int:
        self._callback = None
        return 1

    def cancel(self, msg: object = None) -> bool:
        if self._state != "pending":
            return False
        self._state = "cancelled"
        self.on_cancel()
        if self._callback is not None:
            callback, context = self._callback
            self._loop.call_soon(callback, self, context=context)
        return True

    def done(self) -> bool:
        return self._state != "pending"

    def result(self) -> Any:
        if self._state == "completed":
            if self._error is not None:
                raise self._error
            return self._value
        if self._state == "cancelled":
            raise asyncio.CancelledError("Future cancelled.")
        raise asyncio.InvalidStateError("Result is not ready.")

    def exception(self) -> BaseException | None:
        if self._state == "completed":
            return self._error
        if self._state == "cancelled":
            raise asyncio.CancelledError("Future cancelled.")
        raise asyncio.InvalidStateError("Exception is not set.")


class EmptyAwaitable:
    """What `send()` returns where there is nothing to wait for."""

    def __await__(self) -> Generator[Any, None, None]:
        return self  # type: ignore[return-value]

    def __iter__(self) -> EmptyAwaitable:
        return self

    def __next__(self) -> Any:
        raise StopIteration


class Runtime:
    """The native threads of one worker process."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self.mailbox = Mailbox(process.name)
        self.on_abort: Callable[[], None] = _nothing
        self._tasks: list[Fiber] = []

    def spawn(self, name: str, task: Coroutine[Any, Any, Any]) -> FutureAwaitable:
        """Start a native task on behalf of Python; the returned future gets what it returns or raises."""
        future = FutureAwaitable(self.process.loop)

        async def run() -> None:
            value: Any = None
            error: BaseException | None = None
            try:
                value = await task
            except FlowError:
                error = RuntimeError("ASGI flow error")
            except UnsupportedMessage:
                error = RuntimeError("Unsupported ASGI message")
            what = _result_name(name, value, error)

            def settle() -> None:
                if not future.settle(value, error):
                    self.world.trace.record(Dropped, self.process.name, what)

            self.post(settle, what)

        self._start(name, run(), future)
        return future

    def _start(self, name: str, coroutine: Coroutine[Any, Any, Any], future: FutureAwaitable) -> None:
        """Run a native task to its first wait; the world knows of it only while it waits."""
        fiber = Fiber(self.world, name, coroutine, daemon=True)
        fiber.on_done = self._forget
        self.world.fibers.append(fiber)
        self._tasks.append(fiber)

        def cancel() -> None:
            if not fiber.done:
                fiber.cancel()
                self._forget(fiber)

        fiber.resume()
        if not fiber.done:
            future.on_cancel = cancel

    def _forget(self, fiber: Fiber) -> None:
        self._tasks.remove(fiber)
        self.world.fibers.remove(fiber)

    def stop(self) -> None:
        """Drop every native task where it waits."""
        for fiber in list(self._tasks):
            fiber.cancel()
            self._forget(fiber)

    def abort(self, why: str) -> FutureAwaitable:
        """A panic, and panics abort the process: it is dead at once, and what it had open the kernel closes.

        Returns what a Python caller may go on to await; it never gets to.
        """
        process = self.process
        self.world.trace.record(Aborted, process.name, why)
        process.exited = True
        process.killed_by = signal.SIGABRT
        self.on_abort()
        process.loop.stop()
        return FutureAwaitable(process.loop)

    def post(self, callback: Callable[[], None], what: str) -> None:
        """Have `callback` run where Python runs, as soon as the GIL and the world let it."""
        process = self.process
        self.world.post(self.mailbox, lambda: None if process.exited else callback(), what, GIL_SECONDS)


def _result_name(name: str, value: Any, error: BaseException | None) -> str:
    if error is not None:
        return f"{type(error).__name__} for {name}"
    if isinstance(value, dict):
        return f"{value['type']} for {name}"
    return f"{name} is done"


def _nothing() -> None:
    """Nothing to cancel."""
