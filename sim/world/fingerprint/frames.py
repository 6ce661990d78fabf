"""How suspended code is written by the walk: coroutines, generators, futures and tasks.

Rules for this file:

1. A suspended coroutine is its code, its position, which of its names are bound, and everything that its frame refers
   to in order: variables, cells, and the value stack, where the iterators of `for` loops and the exits of `with` blocks
   are. Python shows the stack to its garbage collector alone (`gc.get_referents`), in every version from 3.10 to 3.13.
   Behind the stack is the exception being handled, where "none" is sometimes None and sometimes nothing. So a None at
   the end is left out; the depth of the stack at a position is always the same, so nothing is lost with it.
2. Looking leaves nothing behind. Up to Python 3.12 `f_locals` makes a dictionary that the frame keeps, which would keep
   alive what the frame's variables referred to: it is emptied again.
3. Tasks and futures are what asyncio does with them: state, result, waiters in order, cancellation requests. The
   default names of tasks are left out.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import operator
import re
import sys
import types as python
from typing import TYPE_CHECKING, Any

from sim.world.fingerprint.builtin import write_code

if TYPE_CHECKING:
    from sim.world.fingerprint.types import Handler
    from sim.world.fingerprint.walk import Walk

SNAPSHOTS = sys.version_info < (3, 13)
"""Whether `f_locals` makes a dictionary that the frame keeps (rule 2)."""
_DEFAULT_NAME = re.compile(r"Task-\d+\Z")
TRANSPARENT = frozenset(
    {
        "_asyncio.FutureIter",
        "builtins.coroutine_wrapper",
        "builtins.async_generator_asend",
        "builtins.async_generator_athrow",
        "builtins.async_generator_wrapped_value",
        "builtins.anext_awaitable",
        *(f"{m}.{n}" for m in ("_asyncio", "builtins") for n in ("TaskStepMethWrapper", "TaskWakeupMethWrapper")),
    }
)
"""Types without a name in any module, that do nothing but pass something on."""


# Coroutines and generators.


def _suspended(prefix: str) -> Handler:
    of_frame, of_code, of_inner = (operator.attrgetter(prefix + name) for name in ("frame", "code", "await"))
    if prefix == "gi_":
        of_inner = operator.attrgetter("gi_yieldfrom")

    def write(walk: Walk, value: Any) -> None:
        frame = of_frame(value)
        if frame is None:
            walk.put(value.__qualname__, "ended")
            return
        variables = frame.f_globals
        write_code(walk, of_code(value), variables, variables.get("__name__"))
        local = frame.f_locals
        walk.put(frame.f_lasti, walk.types.shape(tuple(local)))
        holder = value if sys.version_info >= (3, 11) else frame
        referents = gc.get_referents(holder)
        if SNAPSHOTS and local is not variables:
            snapshot = local
            local.clear()
        else:
            snapshot = None
        start = _first_variable(referents, of_code(value), variables, frame.f_builtins)
        end = len(referents)
        while end > start and referents[end - 1] is None:
            end -= 1
        walk.put_all(r for r in referents[start:end] if snapshot is None or r is not snapshot)
        walk.put(of_inner(value))

    return write


def _first_variable(referents: list[Any], code: Any, variables: Any, builtins: Any) -> int:
    """Where in what a frame refers to its variables begin: behind its code, globals and builtins."""
    start = next(i for i in range(len(referents) - 1, -1, -1) if referents[i] is code or i == 0) + 1
    while start < len(referents) and (referents[start] is variables or referents[start] is builtins):
        start += 1
    return start


def write_referents(walk: Walk, value: Any) -> None:
    """What does nothing but refer to one other thing."""
    walk.put(type(value).__name__)
    walk.put_all(r for r in gc.get_referents(value) if not isinstance(r, type))


# Futures and tasks.


def _future(walk: Walk, value: Any) -> None:
    walk.put(value._state, value._asyncio_future_blocking, value._exception)
    if value._state == "FINISHED":
        walk.put(value._result)
    if value._callbacks:
        for callback, context in walk.temporary(value._callbacks):
            walk.put(callback, _context_of(walk, context))


def _task(walk: Walk, value: Any) -> None:
    _future(walk, value)
    name = value.get_name()
    walk.put(name if not _DEFAULT_NAME.match(name) else None, value._must_cancel, value._coro, value._fut_waiter)
    if sys.version_info >= (3, 11):
        walk.put(value.cancelling())
    if value._state == "PENDING":
        context = next((r for r in gc.get_referents(value) if type(r) is contextvars.Context), None)
        walk.put(_context_of(walk, context))


def _context_of(walk: Walk, context: Any) -> Any:
    """A context; nearly all are empty."""
    return context if context else 0


def _context(walk: Walk, value: Any) -> None:
    for variable, held in sorted(value.items(), key=lambda item: item[0].name):
        walk.put(variable.name, held)


HANDLERS: dict[type, Handler] = {
    python.CoroutineType: _suspended("cr_"),
    python.GeneratorType: _suspended("gi_"),
    python.AsyncGeneratorType: _suspended("ag_"),
    asyncio.Future: _future,
    asyncio.Task: _task,
    contextvars.Context: _context,
}
"""By type."""
