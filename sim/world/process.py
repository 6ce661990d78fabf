"""A simulated server process: an event loop, its main coroutine, its sockets and its signal handlers.

Theory of operation
===================

A process lives until its main coroutine has ended, a signal kills it, or its world is broken off. Its end is that of
a Python program under `asyncio.run`:

1. If the main coroutine ended, by itself or with an exception, what other tasks there are are cancelled and get to
   finish, and asynchronous generators are closed. They are seen and heard; only time does not pass for them.
2. The operating system closes the sockets: FIN, or RST where bytes are unread. This is all that becomes of a killed process.
3. Whatever is left of its tasks, transports and timers is unwound, so that nothing outlives the world. This is no part
   of the run: nothing is recorded, and what the program does in its `finally` blocks then reaches nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any

from sim.errors import StartupError
from sim.world import blame
from sim.world.abandon import abandon
from sim.world.loop import SimLoop, TickingLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sim.world.world import World

LAST_ITERATIONS = 200
"""How many iterations a loop has for the end of its cancelled tasks."""
FAREWELLS = 10
"""How many it has to see that its connections are gone, before its tasks are cancelled: most then end by themselves."""
LAST_CANCELLATIONS = 10
"""How often a task that swallows its cancellation is cancelled again, before it is abandoned."""


class Over(BaseException):
    """Takes an event loop out of `run_forever` at once: its world has something else to see to."""


class Process:
    """One process of a world.

    Args:
        world: where it lives.
        name: for traces and error messages.
        main: makes the coroutine that is the process; when it ends the process has exited.
        ticks: ids of code objects whose timers are not choices (see `sim.world.loop`).
    """

    def __init__(
        self, world: World, name: str, main: Callable[[], Coroutine[Any, Any, Any]], ticks: frozenset[int]
    ) -> None:
        self.world = world
        self.name = name
        world.processes.append(self)
        world.process = self
        self.signal_handlers: dict[int, Any] = {}
        self.parked: str | None = None
        """Why the loop's thread stands still for ever (a lock that is never released), or None."""
        self.exited = False
        self.exit_reason: BaseException | None = None
        self.killed_by: int | None = None
        self.stopping = False
        self.turning = False
        """Whether its own code runs just now."""
        self.loop = TickingLoop(world, ticks) if ticks else SimLoop(world)
        self.main: asyncio.Task[Any] = self.loop.create_task(main())
        self.main.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        reason = None if task.cancelled() else task.exception()
        if not self.world.closed:
            self.exited = True
            self.exit_reason = reason

    def run_until_idle(self) -> None:
        """Let the loop iterate until it has nothing to do."""
        self.world.process = self
        self.turning = True
        try:
            self.loop.run_until_idle()
        except SystemExit as exc:
            self.exited = True
            self.exit_reason = exc
        except Over:
            pass
        finally:
            self.turning = False
            self.world.trace.open = not self.world.closed

    def require_started(self, started: bool) -> None:
        """Raise if the process ended before it was ready.

        Raises:
            StartupError: with the reason that the process itself gave.
        """
        if self.exited and not started and not self.stopping:
            reason = self.exit_reason
            said = [e.describe() for e in self.world.trace.events if e.kind.startswith("log.")]
            because = f"{type(reason).__name__}: {reason}" if reason is not None else "it returned"
            raise StartupError(
                f"{self.name} did not start: its main coroutine ended with {because}. "
                + ("It logged: " + " | ".join(said[-3:]) if said else "It logged nothing.")
                + " The likeliest cause is the application's lifespan startup, or an option that this version lacks."
            )

    # Signals.

    def set_signal_handler(self, number: int, handler: Any) -> Any:
        """`signal.signal` for this process. Returns the previous handler."""
        previous = self.signal_handlers.get(number, signal.SIG_DFL)
        self.signal_handlers[number] = handler
        return previous

    def kill(self, number: int) -> None:
        """Deliver a signal: call the handler, or end the process where there is none.

        A handler sees the process's event loop as the running one, as a real handler does, which runs between two
        steps of the main thread. What it raises ends the process.
        """
        if self.exited:
            return
        if self.world.watch is not None:
            self.world.watch.touch_everything()
        self.stopping = True
        handler = self.signal_handlers.get(number, signal.SIG_DFL)
        if callable(handler):
            before, running = self.world.process, asyncio._get_running_loop()
            self.world.process = self
            asyncio._set_running_loop(self.loop)
            try:
                handler(number, None)
            except (Exception, SystemExit) as exc:
                if self.turning:
                    raise
                self.exited = True
                self.exit_reason = exc
            finally:
                asyncio._set_running_loop(running)
                self.world.process = before
        elif handler == signal.SIG_DFL:
            self.exited = True
            self.killed_by = number
            self._close_sockets()
            if self.turning:
                self.world.trace.open = False
                self.loop.stop()

    # The end.

    def close(self) -> None:
        """Come to the end that the module's docstring tells, if it has not come yet."""
        if self.loop.is_closed():
            return
        world = self.world
        world.process = self
        if self.main.done() and self.killed_by is None:
            self._finish_tasks()
        self._close_sockets()
        world.trace.open = False
        try:
            self._unwind()
        finally:
            world.trace.open = not world.closed

    def _finish_tasks(self) -> None:
        """As `asyncio.run` does: cancel what is left, let it end, close asynchronous generators."""
        self._cancel(_in_order(asyncio.all_tasks(self.loop)), LAST_ITERATIONS)
        self._close_generators()

    def _cancel(self, tasks: list[asyncio.Task[Any]], iterations: int) -> None:
        for task in tasks:
            task.cancel()
        self._iterate(iterations, lambda: all(task.done() for task in tasks))

    def _close_generators(self) -> None:
        generators = self.loop.create_task(self.loop.shutdown_asyncgens())
        self._iterate(LAST_ITERATIONS, generators.done)

    def _iterate(self, times: int, enough: Callable[[], bool] | None = None) -> None:
        for _ in range(times):
            if enough is not None and enough():
                return
            with contextlib.suppress(Exception, SystemExit):
                self.loop.iterate()

    def _close_sockets(self) -> None:
        for sock in self.world.descriptors.of(self):
            sock.close()

    def _unwind(self) -> None:
        """Most processes leave nothing; where one does, its tasks get to run their `finally` blocks."""
        loop = self.loop
        transports = list(loop._transports.values())  # type: ignore[attr-defined]
        if transports or self._busy:
            for transport in transports:
                with contextlib.suppress(Exception):
                    transport.abort()
            self._iterate(FAREWELLS, lambda: not loop.ready)
            for _ in range(LAST_CANCELLATIONS):
                self._cancel(_in_order(asyncio.all_tasks(loop)), 10)
                if not self._busy:
                    break
            else:
                for task in _in_order(asyncio.all_tasks(loop)):
                    abandon(task)
            self._close_generators()
            self._iterate(2)
        for task in loop.tasks:  # else the next worlds' all_tasks() would look through them until they are collected
            asyncio._unregister_task(task)
        loop.close()

    @property
    def _busy(self) -> bool:
        """Whether a task that the loop made is not done."""
        return not all(task.done() for task in self.loop.tasks)


def _in_order(tasks: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    return sorted(tasks, key=hash) if len(tasks) > 1 else list(tasks)


blame.edge(Process.run_until_idle)
blame.edge(Process.close)
