"""The stock asyncio selector event loop, on a simulated selector and the world's clock.

Theory of operation
===================

asyncio's own loop runs unmodified: its transports, its ready queue, its heap of timers. It is given a simulated
selector (`sim.world.selector`, where the world moves) and a virtual `time()`. Beyond that, only public methods are
overridden, and each for a reason that is written there.

Rules for this file:

1. No private attribute of asyncio is written; `_transports` is read at the end of a process, to abort what is open,
   `_ready` then, to see that it has come to rest, and `_scheduled` for the next timer and for timers that are due at one
   moment.
2. A timer is a choice against deliveries unless it is a *tick*: an `asyncio.sleep` in a coroutine that the subject's
   adapter names (uvicorn's poll of its own flags every 0.1 s). Ticks really run; they are not choices.
3. `run_in_executor` runs the function at once, in this thread: one of the orders that a thread pool allows. The fault
   `late` has it run later, at a moment of its own.
4. Tasks hash by the order in which they were made, not by their address: the order of a set of tasks
   (`asyncio.all_tasks`, the two results of `asyncio.wait`) is then the same in each run.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import weakref
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, ClassVar

from sim.world.clock import MONOTONIC, moment
from sim.world.selector import SimSelector

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sim.world.world import World

_INFINITY = float("inf")
_RESOLUTION = 1e-9
"""How far ahead of the clock asyncio's loop fires a timer: the resolution of the monotonic clock."""
_asyncio_logger = logging.getLogger("asyncio")
_stock_call_at = asyncio.BaseEventLoop.call_at
_getframe = sys._getframe


class SimTask(asyncio.Task[Any]):
    """A task that hashes by its number (rule 4)."""

    def __init__(self, number: int, coroutine: Coroutine[Any, Any, Any], **kwargs: Any) -> None:
        self._number = number
        super().__init__(coroutine, **kwargs)

    def __hash__(self) -> int:
        return self._number


class SimLoop(asyncio.SelectorEventLoop):
    """A world's event loop, all of whose timers are choices.

    Args:
        world: whose clock and sockets it uses.
    """

    ticking: ClassVar[bool] = False
    """Whether some of its timers may be ticks."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._clock = world.clock
        self._next_timer = (0.0, 0.0)
        """The first timer when it was last asked for, by the loop's time and by virtual time."""
        self._tasks_made = 0
        self._made: list[weakref.ref[asyncio.Task[Any]]] = []
        """The tasks that it made, oldest first; some may be gone."""
        self._sweep_at = 1_000
        """How many there may be before those that are gone are left out."""
        self.selector = SimSelector(world)
        self.selector.loop = self
        self.idle_until = _INFINITY
        """Virtual time of the next timer of any kind, as of when the loop went idle."""
        self.fired = 0.0
        """Virtual time of the last timer that was a choice and has fired, as far as is known."""
        super().__init__(self.selector)

    def time(self) -> float:
        return MONOTONIC + self._clock.now

    @property
    def timers(self) -> list[asyncio.TimerHandle]:
        """Those of its timers that are choices and have not fired, in no order; some may be cancelled."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return timers

    @property
    def ready(self) -> bool:
        """Whether it has callbacks to run."""
        return bool(self._ready)  # type: ignore[attr-defined]

    def next_timer(self) -> float:
        """Virtual time of the next timer that is a choice; infinity if there is none."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if not timers:
            return _INFINITY
        due = MONOTONIC + self._clock.now + _RESOLUTION
        when = timers[0].when()
        if timers[0].cancelled() or when < due:
            times = [t for timer in timers if (t := timer.when()) >= due and not timer.cancelled()]
            if not times:
                return _INFINITY
            when = min(times)
        return self._in_virtual_time(when)

    def _in_virtual_time(self, when: float) -> float:
        """A moment of the loop's time; it is mostly that of the last call, and rounding costs."""
        if self._next_timer[0] != when:
            self._next_timer = when, moment(when - MONOTONIC)
        return self._next_timer[1]

    def note_ties(self) -> None:
        """Tell the world if timers are about to fire that are due at one moment."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        due = self.time() + _RESOLUTION
        if timers and timers[0].when() < due:
            moments = [timer.when() for timer in timers if timer.when() < due and not timer.cancelled()]
            if len(set(moments)) < len(moments):
                self._world.tied = True

    def run_until_idle(self) -> None:
        """Iterate until nothing is ready: one or more iterations of the stock loop."""
        self.run_forever()

    def iterate(self) -> None:
        """One iteration, whether or not anything is ready."""
        self.stop()
        self.run_forever()

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        """As stock, with a `SimTask` (rule 4). A task factory that the program sets has its way."""
        if self.get_task_factory() is not None:
            task = super().create_task(coro, **kwargs)
        elif self.is_closed():
            raise RuntimeError("Event loop is closed")
        else:
            self._tasks_made += 1
            task = SimTask(self._tasks_made, coro, loop=self, **kwargs)
        self._made.append(weakref.ref(task))
        if len(self._made) > self._sweep_at:
            self._made = [ref for ref in self._made if ref() is not None]
            self._sweep_at = 2 * len(self._made) + 1_000
        return task

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """Those of the tasks that it made that are still there, oldest first.

        `asyncio.all_tasks` goes through the tasks of every loop that was not collected yet.
        """
        return [task for ref in self._made if (task := ref()) is not None]

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run it now (rule 3), seeing no running loop, as in a thread of a pool."""
        future = self.create_future()
        striker = self._world.striker
        if striker is not None and striker.finishes_late(getattr(func, "__name__", "work")):
            self._world.hand_over(self, lambda: None if future.done() else self._work(future, func, args))
        else:
            self._work(future, func, args)
        return future

    def _work(self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            future.set_result(func(*args))
        except (KeyboardInterrupt, SystemExit):
            raise
        except StopIteration as exc:
            error = RuntimeError(f"{func!r} raised StopIteration")
            error.__cause__ = exc
            future.set_exception(error)
        except BaseException as exc:
            future.set_exception(exc)
        finally:
            asyncio._set_running_loop(running)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is no executor."""

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        """Refused before the stock loop sets up a watcher for children."""
        raise self._world.refuse("asyncio.create_subprocess_exec() was called inside a world. " + _NO_CHILDREN)

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        """As `subprocess_exec`."""
        raise self._world.refuse("asyncio.create_subprocess_shell() was called inside a world. " + _NO_CHILDREN)

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        """On the process's own handlers; the real signals of this interpreter are left alone."""
        if asyncio.iscoroutine(callback) or asyncio.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        process = self._world.own_process()
        process.set_signal_handler(sig, lambda *_: self.call_soon_threadsafe(callback, *args))

    def remove_signal_handler(self, sig: int) -> bool:
        """As `add_signal_handler`."""
        return self._world.own_process().signal_handlers.pop(sig, None) is not None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nothing is reported by what is collected after its world, or at another world's expense."""
        if self._world.listens():
            super().call_exception_handler(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """asyncio's own report, without object addresses, which differ from run to run."""
        message = context.get("message") or "Unhandled exception in event loop"
        _asyncio_logger.error(message, exc_info=context.get("exception"))


class TickingLoop(SimLoop):
    """The event loop of a process some of whose timers are ticks.

    Args:
        world: see `SimLoop`.
        ticks: ids of the code objects whose timers are not choices (rule 2).
    """

    ticking = True

    def __init__(self, world: World, ticks: frozenset[int]) -> None:
        self._ticks = ticks
        self._chosen: list[tuple[float, int, asyncio.TimerHandle]] = []
        """A heap of those that are choices, by the loop's time; what has fired lies there until it is met."""
        self._timers_set = 0
        super().__init__(world)

    @property
    def timers(self) -> list[asyncio.TimerHandle]:
        return [handle for _, _, handle in self._chosen]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Also remember the timer, if it is a choice.

        Where `asyncio.sleep` sets a timer, the stack is: this method, `call_later`, `sleep`, the coroutine. Only that
        one frame is looked at, because making a frame object costs as much as setting a timer.
        """
        handle = _stock_call_at(self, when, callback, *args, context=context)
        try:
            if id(_getframe(3).f_code) in self._ticks:
                return handle
        except ValueError:
            pass
        self._timers_set += 1
        heappush(self._chosen, (when, self._timers_set, handle))
        return handle

    def next_timer(self) -> float:
        timers = self._chosen
        if not timers:
            return _INFINITY
        due = MONOTONIC + self._clock.now + _RESOLUTION
        while timers:
            when, _, handle = timers[0]
            if not handle.cancelled():
                if when >= due:
                    return self._in_virtual_time(when)
                self.fired = moment(when - MONOTONIC)
            heappop(timers)
        return _INFINITY

    def close(self) -> None:
        super().close()
        self._chosen.clear()


_NO_CHILDREN = "A real process cannot live on a virtual clock: replace it by something the scenario provides."
