"""How suspended code is written by the walk: coroutines, generators, futures and tasks.

Rules for this file:

1. A suspended coroutine is its code, its position, which of its names are bound, and everything that its frame refers
   to in order: variables, cells, and the value stack, where the iterators of `for` loops and the exits of `with` blocks
   are. Python shows the stack to its garbage collector alone (`gc.get_referents`), in every version from 3.10 to 3.13.
   Behind the stack is the exception being handled, where "none" is sometimes None and sometimes nothing. So a None at
   the end is left out; the depth of the stack at a position is always the same, so nothing is lost with it. (In 3.10 the
   coroutine has that exception, and its frame has not.)
2. Looking leaves nothing behind. Up to Python 3.12 `f_locals` makes a dictionary that the frame keeps, which would keep
   alive what the frame's variables referred to: it is emptied again, unless the program has it, too, from `locals()`.
3. Tasks and futures are what asyncio does with them: state, result, waiters in order, cancellation requests and what they
   say, the exception that a cancelled one keeps, whether somebody has asked for an exception, and the traceback that it will
   be raised with. The default names of tasks are left out.
4. `f_locals` is only read for which names are bound, and it is slow. A frame that awaits holds, at one position, as many
   values on its stack each time; so if every name was bound once, all are bound whenever there are as many referents.
   (The arguments of one call may await behind a bound method at one time and behind a plain function at another, and
   that is one value more. A name that is bound or not there is then told from another by its value alone.)
5. A variable that is never read again is no part of a state. Which are is not looked for; where asyncio or a server leaves
   one behind that tells the order of a set, it is left out by name.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import operator
import sys
import types as python
from typing import TYPE_CHECKING, Any

import attrs

from sim.world.fingerprint.codes import used
from sim.world.fingerprint.instances import write_unknown
from sim.world.fingerprint.plain import Heads, head, label, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sim.world.fingerprint.types import Handler
    from sim.world.fingerprint.walk import Walk

OWN_FRAME = sys.version_info >= (3, 11)
"""Whether a coroutine itself refers to what its frame holds, and its frame to nothing."""
BEFORE_CODE = {(3, 11): 3, (3, 12): 2, (3, 13): 2}.get(sys.version_info[:2], 0)
"""How many referents of a coroutine nearly always come before its frame's code; 3.11 has it twice, first here."""
SNAPSHOTS = sys.version_info < (3, 13)
"""Whether `f_locals` makes a dictionary that the frame keeps (rule 2)."""
NOBODY_ELSE = 3
"""References to that dictionary if the program has not asked for it: the frame's, a variable's here and an argument's."""
DEAD = {asyncio.tasks._wait.__code__: "f"}  # type: ignore[attr-defined]
"""Variables that are left out, by code (rule 5). An adapter that knows of another puts it here when it is imported."""
PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""Types of which the text is Python's own."""
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

_STACK = Heads(b":")
_ENDED, _HANDLING = head("ended"), head("handling")


@attrs.frozen
class Layout:
    """What is known of the frames of one code at one position that hold as many things.

    Attributes:
        text: what is written of each of them.
        dead: which of the things is left out (rule 5).
        names: the global names that have to be looked at.
    """

    text: bytes
    dead: int | None
    names: tuple[str, ...]


def _suspended(prefix: str) -> Handler:
    of_frame = operator.attrgetter(prefix + "frame")
    of_inner = operator.attrgetter("gi_yieldfrom" if prefix == "gi_" else prefix + "await")

    def write(walk: Walk, value: Any) -> Iterable[Any]:
        frame = of_frame(value)
        if frame is None:
            walk.write(_ENDED)
            return (value.__qualname__,)
        code, inner, handled, layout, awaits = frame.f_code, of_inner(value), None, None, False
        if OWN_FRAME:
            held = _behind(gc.get_referents(value), code)
            if inner is None:
                _strip(held)
            else:
                if held[-1] is not inner:
                    handled = held.pop()
                awaits = held[-1] is inner
                if awaits:
                    layout = walk.types.layouts.get((id(code), frame.f_lasti, len(held), None))
            if layout is None:
                layout = _layout(walk, frame, len(held), _names(frame)[0], awaits=awaits)
        else:
            names, snapshot = _names(frame)
            held = _behind(gc.get_referents(frame), code)
            while held and held[0] is not None and _is_one_of(held[0], frame.f_globals, frame.f_builtins, snapshot):
                del held[0]
            _strip(held)
            layout = _layout(walk, frame, len(held), names)
            handled = next((r for r in gc.get_referents(value) if isinstance(r, BaseException)), None)
        walk.write(layout.text)
        if layout.dead is not None:
            held[layout.dead] = 0
        if handled is not None:
            walk.write(_HANDLING)
            held.append(handled)
        return held if not layout.names else [*used(walk, layout.names, frame.f_globals), *held]

    return write


def _behind(referents: list[Any], code: Any) -> list[Any]:
    """What a frame refers to behind its code: what it holds."""
    at = BEFORE_CODE
    while referents[at] is not code:
        at += 1
    del referents[: at + 1]
    return referents


def _strip(held: list[Any]) -> None:
    """Leave out what may be None or not be there (rule 1)."""
    while held and held[-1] is None:
        held.pop()


def _is_one_of(value: Any, *others: Any) -> bool:
    return any(value is other for other in others)


def variables(frame: Any) -> tuple[dict[str, Any], Any]:
    """A frame's variables by name, and the dictionary that the frame keeps of having been asked (rule 2)."""
    local = frame.f_locals
    found = dict(local)
    if not SNAPSHOTS or not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return found, None
    if sys.getrefcount(local) <= NOBODY_ELSE:
        local.clear()
    return found, local


def _names(frame: Any) -> tuple[tuple[str, ...], Any]:
    """Which names of a frame are bound, and the dictionary that it keeps."""
    found, snapshot = variables(frame)
    return tuple(found), snapshot


def _layout(walk: Walk, frame: Any, holds: int, names: tuple[str, ...], *, awaits: bool = False) -> Layout:
    """The layout of a frame that holds so many things and has these names bound."""
    layouts, code, position = walk.types.layouts, frame.f_code, frame.f_lasti
    layout = layouts.get((id(code), position, holds, names))
    if layout is None:
        _, token, used_names = walk.types.code(code, frame.f_globals.get("__name__"))
        text = token + _STACK[holds] + plain(position) + label(repr(names))
        layout = Layout(text, names.index(DEAD[code]) if DEAD.get(code) in names else None, used_names)
        layouts[id(code), position, holds, names] = layout
        if awaits and len(names) == _names_in(code):
            layouts[id(code), position, holds, None] = layout
    return layout


def _names_in(code: Any) -> int:
    return len({*code.co_varnames, *code.co_cellvars, *code.co_freevars})


def write_referents(_walk: Walk, value: Any) -> Iterable[Any]:
    """What does nothing but refer to one other thing."""
    referents = [r for r in gc.get_referents(value) if not isinstance(r, type)]
    return (type(value), len(referents), *referents)


# Futures and tasks.

_FUTURE, _TASK, _CONTEXT = head("future"), head("task"), Heads(b"x")


def _future(walk: Walk, value: Any) -> list[Any]:
    walk.write(_FUTURE)
    state = value._state
    parts = [state, value._asyncio_future_blocking, value._exception]
    if state == "FINISHED":
        parts.append(value._result)
        if parts[2] is not None:
            tracebacks = [r for r in gc.get_referents(value) if type(r) is python.TracebackType]
            parts += (value._log_traceback, len(tracebacks), *tracebacks)
    elif state == "CANCELLED":
        kept = [r for r in gc.get_referents(value) if isinstance(r, BaseException)]
        parts += (value._cancel_message, len(kept), *kept)
    callbacks = value._callbacks
    if callbacks:
        parts.append(len(callbacks))
        for callback, context in callbacks:
            parts += (callback, context or 0)
    else:
        parts.append(0)
    return parts


def _task(walk: Walk, value: Any) -> list[Any]:
    walk.write(_TASK)
    parts = _future(walk, value)
    name = value.get_name()
    default = name[:5] == "Task-" and name[5:].isdecimal()
    parts += (None if default else name, value._must_cancel, value._coro, value._fut_waiter)
    if value._must_cancel:
        parts.append(value._cancel_message)
    if sys.version_info >= (3, 11):
        parts.append(value.cancelling())
    if parts[0] == "PENDING":
        parts.append(_context_of(value) or 0)
    return parts


def _context_of(task: Any) -> contextvars.Context | None:
    if sys.version_info >= (3, 12):
        return task.get_context()  # type: ignore[no-any-return]
    for referent in gc.get_referents(task):
        if type(referent) is contextvars.Context:
            return referent
    return None


def _context(walk: Walk, value: Any) -> Iterable[Any]:
    """A context; nearly all are empty, and those are left out wherever they are met."""
    walk.write(_CONTEXT[len(value)])
    parts: list[Any] = []
    for variable, held in sorted(value.items(), key=lambda item: item[0].name):
        parts += (variable.name, held)
    return parts


def _token(walk: Walk, value: contextvars.Token[Any]) -> Iterable[Any]:
    """What takes a variable back. Whether it has been used is only in its text, and in that its variable's default, too."""
    if not all(type(default) in PLAIN for default in gc.get_referents(value.var)):
        return write_unknown(walk, value)
    context = next((r for r in gc.get_referents(value) if type(r) is contextvars.Context), None)
    return (type(value), value.var, value.old_value, context, repr(value).startswith("<Token used"))


HANDLERS: dict[type, Handler] = {
    python.CoroutineType: _suspended("cr_"),
    python.GeneratorType: _suspended("gi_"),
    python.AsyncGeneratorType: _suspended("ag_"),
    asyncio.Future: _future,
    asyncio.Task: _task,
    contextvars.Context: _context,
    contextvars.Token: _token,
}
"""By type."""
