"""Ctrl-C during a search: the run that it meets ends, and then the search, whatever the code under test catches.

A `KeyboardInterrupt` that Python raises wherever it happens to be would often be lost: in a finaliser or a weak
reference's callback it is printed and forgotten, and servers catch `BaseException` around applications, so that it
would show as an application's error, and be judged. So, as long as a search is on in the main thread, the signal is
only noted; the world that runs, or else the next run, ends with it. A second Ctrl-C does what it does elsewhere.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

from sim.world.active import current_world

if TYPE_CHECKING:
    from types import FrameType


class Interrupts:
    """Takes SIGINT over, from `__enter__` to `__exit__`, if this is the main thread and somebody listens to it."""

    def __init__(self) -> None:
        self._before: Any = None
        self._noted = 0

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                self._before = before
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if exc_type is None:
            self.check()

    def check(self) -> None:
        """Where it does no harm: do what the signal asks for.

        Raises:
            KeyboardInterrupt: it came.
        """
        if self._noted:
            self._before(signal.SIGINT, None)
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted += 1
        if self._noted > 1:
            self._before(number, frame)
        world = current_world()
        if world is not None:
            world.fail(KeyboardInterrupt())
