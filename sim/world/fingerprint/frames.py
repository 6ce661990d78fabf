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
4. `f_locals` is only read for which names are bound, and it is slow. A frame that awaits holds, at one position, as many
   values on its stack each time; so if every name was bound once, all are bound whenever there are as many referents.
   (The arguments of one call may await behind a bound method at one time and behind a plain function at another, and
   that is one value more. A name that is bound or not there is then told from another by its value alone.)
5. A variable that is never read again is no part of a state. Which are is not looked for; where asyncio itself leaves one
   behind that tells the order of a set, it is left out by name.
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

OWN_FRAME = sys.version_info >= (3, 11)
"""Whether a coroutine itself refers to what its frame holds, and its frame to nothing."""
BEFORE_CODE = 3 if sys.version_info[:2] == (3, 11) else 0
"""How many referents of a coroutine to pass over before its frame's code is looked for: 3.11 has it twice, first here."""
SNAPSHOTS = sys.version_info < (3, 13)
"""Whether `f_locals` makes a dictionary that the frame keeps (rule 2)."""
_DEFAULT_NAME = re.compile(r"Task-\d+\Z")
DEAD = {asyncio.tasks._wait.__code__: "f"}  # type: ignore[attr-defined]
"""Variables that are left out, by code (rule 5)."""
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

    full: dict[tuple[int, int, int], tuple[int, int | None]] = {}
    """Of frames of which every name is bound, by code, position and number of referents (rule 4): what stands for the
    names, and which of them is dead."""
    kept: list[Any] = []
    """Code objects whose addresses are in there."""

    def write(walk: Walk, value: Any) -> None:
        frame = of_frame(value)
        if frame is None:
            walk.put(value.__qualname__, "ended")
            return
        code, inner, position = of_code(value), of_inner(value), frame.f_lasti
        variables = frame.f_globals
        seen = walk.types.codes.get(id(code))
        if seen is None or seen[2]:
            write_code(walk, code, variables, variables.get("__name__"))
        else:
            walk.out.append(seen[1])
        referents = gc.get_referents(value if OWN_FRAME else frame)
        known = snapshot = key = None
        if OWN_FRAME and inner is not None:
            start = _first_variable(referents, code)
            end = len(referents)
            if referents[end - 1] is not inner:
                end -= 1
            if referents[end - 1] is inner:
                key = (id(code), position, end - start)
                known = full.get(key)
        if known is None:
            local = frame.f_locals
            names = tuple(local)
            known = walk.types.shape(names), names.index(DEAD[code]) if DEAD.get(code) in names else None
            if key is not None and len(names) == _names_in(code):
                full[key] = known
                kept.append(code)
            if SNAPSHOTS and local is not variables:
                referents = gc.get_referents(value if OWN_FRAME else frame)
                snapshot = local
                local.clear()
        start = _first_variable(referents, code)
        while (
            not OWN_FRAME
            and start < len(referents)
            and _is_one_of(referents[start], variables, frame.f_builtins, snapshot)
        ):
            start += 1
        end = len(referents)
        while end > start and referents[end - 1] is None:
            end -= 1
        shape, dead = known
        if dead is not None:
            referents[start + dead] = 0
        walk.put(position, shape, *referents[start:end], inner)

    return write


def _first_variable(referents: list[Any], code: Any) -> int:
    """Where in what a frame refers to what is behind its code begins."""
    at = BEFORE_CODE
    while referents[at] is not code:
        at += 1
    return at + 1


def _names_in(code: Any) -> int:
    return len({*code.co_varnames, *code.co_cellvars, *code.co_freevars})


def _is_one_of(value: Any, *others: Any) -> bool:
    return value is not None and any(value is other for other in others)


def write_referents(walk: Walk, value: Any) -> None:
    """What does nothing but refer to one other thing."""
    walk.put(type(value).__name__)
    walk.put(*(r for r in gc.get_referents(value) if not isinstance(r, type)))


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
