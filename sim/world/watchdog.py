"""A watchdog for code that never gives control back: `while True: pass` in an application, or a regular expression.

Theory of operation
===================

Such code is on no agenda: while it runs no virtual time passes, no choice is asked for, no event is recorded, no
socket changes and no loop iterates. A `Watchdog` is a real thread that looks at these now and then, for every world
that runs in this interpreter. If for a number of *real* seconds none of them changed, it raises an exception inside
the world's thread, and the run ends with `Stuck`, which names the line.

Rules for this file:

1. Nothing here is on the path of a step: the world counts what it counts anyway, and the watchdog reads it.
2. Its verdict depends on real time, so it is not part of a run: a slow machine must not change what is found. The
   seconds are therefore many, and whoever judges real code by them asks for it with `with Watchdog():`.
3. The thread is started where no world runs, because a world refuses threads.

The exception is a `BaseException`, so that `except Exception` does not swallow it; it is raised again until the run
has ended. It cannot break into C code (a lock that is never released, a catastrophic regular expression): Python
raises it when that returns.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from typing import TYPE_CHECKING

from sim.errors import Stuck
from sim.world import blame
from sim.world.active import active, get_ident, outside

if TYPE_CHECKING:
    from sim.world.world import World


class Interruption(BaseException):
    """What breaks into a run that stands still. The world turns it into `Stuck`."""


_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)
_lock = threading.Lock()


def disarm() -> None:
    """Take back an interruption that this thread may not have met yet: its world has ended.

    To take the exception back leaves CPython's signal for it set, and 3.11 then never gets past the first function that
    is traced (`sys.settrace`). So the exception is raised once more, and met here.
    """
    try:
        with _lock:
            _raise_in(get_ident(), Interruption)
        while True:
            pass
    except Interruption:
        pass


class Watchdog:
    """Watches the worlds of all threads from `__enter__` to `__exit__`.

    Args:
        seconds: real seconds for which a world may stand still.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        self.seconds = seconds
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watchdog:
        outside()
        self._over.clear()
        self._thread = threading.Thread(target=self._watch, name="asgi-sim watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        """Look `LOOKS` times in `seconds`; who shows the same so many times in a row stands still."""
        seen: dict[int, tuple[object, int]] = {}
        while not self._over.wait(self.seconds / LOOKS):
            now: dict[int, tuple[object, int]] = {}
            for ident, world in list(active.items()):
                mark = _mark(world)
                before, times = seen.get(ident, (None, 0))
                times = times + 1 if mark == before else 0
                now[ident] = (mark, times)
                if times >= LOOKS:
                    _interrupt(ident, world, self.seconds)
            seen = now


LOOKS = 10


def _mark(world: World) -> tuple[object, ...]:
    """What changes when a world makes progress."""
    loops = [process.loop for process in list(world.processes) if hasattr(process, "loop")]
    spins = [loop.selector.spins for loop in loops]
    return (id(world), world.clock.now, len(world.choices.made), len(world.trace.events), world.touched, *spins)


def _interrupt(ident: int, world: World, seconds: float) -> None:
    frame = sys._current_frames().get(ident)
    where = blame.blame(frame)
    del frame
    world.interrupted = Stuck(
        f"no control: {world.current_name} did not give control back for {seconds:g} real seconds, at "
        f"{world.clock.now:.3f} s of virtual time, in {where}. The likeliest cause is a loop without an await, or a "
        "long computation: give Watchdog more seconds, or leave it out, if it would end."
    )
    world.fail(world.interrupted)
    with _lock:
        if active.get(ident) is world:
            _raise_in(ident, Interruption)
