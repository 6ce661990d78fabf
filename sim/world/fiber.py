"""Coroutines that the world itself drives, for whatever needs no event loop: scripted clients, native threads.

A `Fiber` runs until it awaits a `Signal` and goes on when the signal fires, within the same instant and before
anything else happens. There is no queue and no scheduler, so fibers add no order of their own: who is woken first
is who began to wait first.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from sim.world import blame

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from sim.world.entropy import Entropy
    from sim.world.world import World


class Signal:
    """Something that fibers wait for; each `fire` resumes those that wait now."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Fiber] = []

    def __await__(self) -> Generator[Signal, None, None]:
        yield self

    def fire(self) -> None:
        """Resume every fiber that waits, in the order in which they began to."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for fiber in waiting:
            fiber.resume()

    def add(self, fiber: Fiber) -> None:
        """Register a fiber; only fibers call this."""
        self._waiting.append(fiber)

    def discard(self, fiber: Fiber) -> None:
        """Forget a fiber that waits no longer."""
        if fiber in self._waiting:
            self._waiting.remove(fiber)


class Lock:
    """A mutex for fibers, first come first served, with the holder's name for people to read."""

    __slots__ = ("_queue", "holder")

    def __init__(self) -> None:
        self.holder: str | None = None
        self._queue: list[Signal] = []

    async def acquire(self, holder: str) -> None:
        """Wait for the lock's turn and hold it."""
        if self.holder is not None or self._queue:
            turn = Signal()
            self._queue.append(turn)
            try:
                await turn
            except GeneratorExit:
                if turn in self._queue:
                    self._queue.remove(turn)
                elif self.holder is None:
                    self._pass_on()
                raise
        self.holder = holder

    def release(self) -> None:
        """Let the next one in."""
        self.holder = None
        self._pass_on()

    def _pass_on(self) -> None:
        if self._queue:
            self._queue.pop(0).fire()


class Fiber:
    """A coroutine on its way through a world.

    Args:
        world: the world it lives in.
        name: for traces and error messages.
        coroutine: what to run; it may await `Signal`s, `Lock`s and `sleep`, and nothing of asyncio.
        daemon: whether the world may end although this fiber has not.
        scripted: whether it is a host's script, and no native thread of a process.
    """

    __slots__ = (
        "_coroutine",
        "_ended",
        "_waits_for",
        "alike",
        "daemon",
        "done",
        "entropy",
        "name",
        "on_done",
        "result",
        "scripted",
        "world",
    )

    def __init__(
        self,
        world: World,
        name: str,
        coroutine: Coroutine[Any, Any, Any],
        *,
        daemon: bool = False,
        scripted: bool = False,
    ) -> None:
        self.world = world
        self.scripted = scripted
        self.name = name
        self.daemon = daemon
        self.done = False
        self.alike: str | None = None
        """What the scripts are called with which this one is interchangeable."""
        self.entropy: Entropy | None = None
        """A script's own; None: whatever its surroundings draw from."""
        self.result: Any = None
        self.on_done: Callable[[Fiber], None] | None = None
        """Called when the coroutine has returned; not if it raised or was cancelled."""
        self._coroutine = coroutine
        self._waits_for: Signal | None = None
        self._ended = Signal()

    def resume(self) -> None:
        """Run to the next wait or to the end.

        What the coroutine raises goes to whoever resumed it, and the run ends with it in any case: the one who did
        may be code under test, which caused it and would swallow it.
        """
        if self.done:
            return
        self._waits_for = None
        if self.world.watch is not None:
            self.world.watch.resumed(self)
        world, entropy = self.world, self.world.entropy
        if self.entropy is not None:
            world.entropy = self.entropy
        running = asyncio._get_running_loop()
        if running is not None:
            asyncio._set_running_loop(None)
            hooks = sys.get_asyncgen_hooks()
            sys.set_asyncgen_hooks(None, None)
        try:
            signal = self._coroutine.send(None)
        except StopIteration as stop:
            self.done = True
            self.result = stop.value
            if self.on_done is not None:
                self.on_done(self)
            self._ended.fire()
        except BaseException as exc:
            self.done = True
            error = self._explained(exc)
            self.world.fail(error)
            if error is exc:
                raise
            raise error from exc
        else:
            if not isinstance(signal, Signal):
                self.done = True
                with contextlib.suppress(Exception):
                    self._coroutine.close()
                error = self._no_asyncio(f"awaited {signal!r}")
                self.world.fail(error)
                raise error
            self._waits_for = signal
            signal.add(self)
        finally:
            world.entropy = entropy
            if running is not None:
                asyncio._set_running_loop(running)
                sys.set_asyncgen_hooks(*hooks)

    def _explained(self, exc: BaseException) -> BaseException:
        if type(exc) is RuntimeError and str(exc) in ("no running event loop", "no current event loop"):
            return self._no_asyncio("called something of asyncio")
        return exc

    def _no_asyncio(self, what: str) -> TypeError:
        return TypeError(
            f"{self.name} {what}. A script runs outside any event loop: it can await what its host offers (sleep, "
            "receive, ...), not asyncio's awaitables."
        )

    def cancel(self) -> None:
        """End it where it waits; its `finally` blocks run, and must not wait."""
        if not self.done:
            self.done = True
            if self._waits_for is not None:
                self._waits_for.discard(self)
            self._coroutine.close()
            self._ended.fire()

    async def join(self) -> None:
        """Wait, in another fiber, until this one has ended."""
        while not self.done:
            await self._ended


blame.edge(Fiber.resume)


async def sleep(world: World, seconds: float) -> None:
    """Let `seconds` of virtual time pass."""
    gate = Signal()
    world.call_later(seconds, gate.fire)
    await gate
