"""Garbage collection while a search runs: never inside a run, where it costs and can be noticed, but between runs.

Theory of operation
===================

A collection inside a run would call finalisers at a moment that no schedule decides: a transport's finaliser closes
its socket, a future's logs. So automatic collection is off while a search is on, what existed before the search is
frozen (collections then look only at what runs have left behind). Every few runs the youngest objects are collected,
which is all that a run has left behind; every so many runs everything is, and a last time behind them. Left alone, the
tasks of ended worlds would lie in asyncio's set of all tasks, and each world's end looks through that.

Rules for this file:

1. Collections are the whole interpreter's, and searches may run in several threads at once. So their state is shared:
   the first search in freezes, the last one out restores what was.
2. A collection waits until no thread is inside a run, and no run begins meanwhile.
3. A program that has frozen objects of its own keeps exactly those frozen: nothing is frozen then. What the
   interpreter itself freezes when it starts (Python 3.12 does) is no such case.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECT_EVERY = 64
"""Runs between two collections of everything."""
YOUNG_EVERY = 8
"""Runs between two collections of the youngest objects."""
INTERPRETERS_OWN = 2_000
"""More objects than an interpreter freezes when it starts, and fewer than a program has that freezes."""


class Collector:
    """A search's hold on garbage collection, as a context manager."""

    _gate = threading.Condition()
    _open = 0
    _runs = 0
    _inside = 0
    _collecting = False
    _enabled = False
    _frozen = False

    def __enter__(self) -> Collector:
        with Collector._gate:
            if Collector._open == 0:
                Collector._enabled = gc.isenabled()
                Collector._frozen = gc.get_freeze_count() < INTERPRETERS_OWN
                gc.disable()
                if Collector._frozen:
                    gc.freeze()
            Collector._open += 1
        return self

    def __exit__(self, *exc: object) -> None:
        with Collector._gate:
            Collector._open -= 1
            if Collector._open == 0:
                gc.collect()
                if Collector._frozen:
                    gc.unfreeze()
                if Collector._enabled:
                    gc.enable()
                Collector._inside = 0

    @staticmethod
    @contextlib.contextmanager
    def run() -> Iterator[None]:
        """Around each run: keeps collections out of it, and makes one when it is time."""
        gate = Collector._gate
        with gate:
            while Collector._collecting:
                gate.wait()
            Collector._inside += 1
        try:
            yield
        finally:
            with gate:
                Collector._inside -= 1
                Collector._runs += 1
                gate.notify_all()
                runs = Collector._runs
                if runs % YOUNG_EVERY == 0 and not Collector._collecting:
                    Collector._collecting = True
                    try:
                        while Collector._inside:
                            gate.wait()
                        gc.collect(0 if runs % COLLECT_EVERY else 2)
                    finally:
                        Collector._collecting = False
                        gate.notify_all()
