"""How exceptions are written by the walk, and the tracebacks and frames that they lead to.

Rules for this file:

1. An exception is its type, arguments, cause, context, attributes (notes are one) and traceback, and what its type keeps
   in C: `OSError.errno`, `StopIteration.value` and so on. Each such field is shown by a descriptor, and a type of which the
   descriptors explain the size hides nothing. This is found out for each of Python's own, so a field that a later Python
   adds is written, or has the type hide something; it is never overlooked.
2. Some fields say None where there is nothing, and an `OSError` prints its file name only if there is one, be that None.
   So the number of things is written to which an exception refers.
3. A traceback is where each frame was left, and which frame. Programs print the first, and what a frame's variables refer
   to is alive because of them, even where nobody looks. So variables are written, those of a frame that waits, too.
4. Of the engine's frames, and those of models and recorders, code and position are enough: a real program has none.
5. A frame's caller (`f_back`) is not looked at: what called where an exception was caught is asyncio's loop and the engine.
6. Looking leaves nothing behind, as in `sim.world.fingerprint.frames`.
"""

from __future__ import annotations

import builtins
import gc
import types as python
from typing import TYPE_CHECKING, Any

from sim.world.fingerprint.frames import variables
from sim.world.fingerprint.instances import each_of
from sim.world.fingerprint.plain import head, label, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sim.world.fingerprint.types import Handler
    from sim.world.fingerprint.walk import Walk

_POINTER = 8
_FIELDS = (python.MemberDescriptorType, python.GetSetDescriptorType)
_EVERY: dict[str, Any] = dict(vars(BaseException))
_COMMON: tuple[Callable[[Any], Any], ...] = tuple(
    _EVERY[name].__get__
    for name in ("args", "__cause__", "__context__", "__suppress_context__", "__traceback__", "__dict__")
)
_TRACEBACK, _FRAME = head("traceback"), head("frame")


def fields(cls: type[BaseException]) -> list[Any] | None:
    """The descriptors of what one of Python's exceptions keeps and its base does not; None if they do not explain its size."""
    base = cls.__base__
    assert base is not None
    own = vars(cls)
    found = [d for name, d in own.items() if isinstance(d, _FIELDS) and name not in ("__dict__", "__weakref__")]
    grown = cls.__basicsize__ - base.__basicsize__
    return found if grown == len(found) * _POINTER and cls.__itemsize__ == 0 else None


def _exception(_walk: Walk, value: BaseException) -> list[Any]:
    *parts, _attributes = [get(value) for get in _COMMON]
    parts.append(len(gc.get_referents(value)))  # last, because to ask for attributes has some made
    return parts


def _with_fields(kept: list[Any]) -> Handler:
    """An exception of a type that keeps something in C (rule 1)."""
    each = each_of(kept)
    return lambda walk, value: _exception(walk, value) + each(value)


def _bases() -> dict[type, Handler]:
    """How what is derived from each of Python's own exceptions is written, where that keeps something in C."""
    found: dict[type, Handler] = {BaseException: _exception}
    for cls in vars(builtins).values():
        if isinstance(cls, type) and issubclass(cls, BaseException) and cls is not BaseException:
            kept = fields(cls)
            if kept:
                found[cls] = _with_fields(kept)
    return found


# Tracebacks and frames.


def _traceback(walk: Walk, value: python.TracebackType) -> Iterable[Any]:
    walk.write(_TRACEBACK)
    return (value.tb_frame, value.tb_lasti, value.tb_lineno, value.tb_next)


def _frame(walk: Walk, value: python.FrameType) -> Iterable[Any]:
    module = value.f_globals.get("__name__")
    module = module if isinstance(module, str) else None
    walk.write(_FRAME + walk.types.code(value.f_code, module)[1] + plain(value.f_lasti))
    if walk.types.is_engine(module):
        return ()
    if value.f_locals is value.f_globals:
        return ()
    held, _ = variables(value)
    walk.write(label(repr(tuple(held))))
    return held.values()


BASES: dict[type, Handler] = _bases()
"""By type, how what is derived from it is written."""
HANDLERS: dict[type, Handler] = {
    python.TracebackType: _traceback,
    python.FrameType: _frame,
}
"""By type."""
