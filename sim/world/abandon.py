"""Tasks that will not end: how they are left behind without a sound.

A task that swallows each cancellation is closed by force: `GeneratorExit` is thrown into its coroutine. A coroutine
that swallows that too (`while True: try: ... except: ...`) cannot be ended by any means that Python has. It stays as
it is until it is collected, and Python then reports that it "ignored GeneratorExit". Such reports say nothing but
what was known, and there would be one for each run of a search, so they are held back, and only they.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

_undead: set[int] = set()
"""Ids of coroutines that swallowed `GeneratorExit` and were not collected yet."""
_hooks: list[Any] = []


def abandon(task: asyncio.Task[Any]) -> None:
    """Close the coroutine of a task that does not end."""
    coroutine: Any = task.get_coro()
    chain = []
    inner = coroutine
    while hasattr(inner, "cr_await"):
        chain.append(inner)
        inner = inner.cr_await
    with contextlib.suppress(Exception, SystemExit):
        coroutine.close()
    _undead.update(id(c) for c in chain if c.cr_frame is not None)


def listen() -> None:
    """Hold reports back from now on."""
    _hooks.append(sys.unraisablehook)
    sys.unraisablehook = _hook


def stop_listening() -> None:
    """Undo `listen`, after what is undead was collected."""
    if _undead:
        gc.collect()
    previous = _hooks.pop()
    if sys.unraisablehook is _hook:
        sys.unraisablehook = previous


def _hook(report: Any) -> None:
    if id(report.object) in _undead:
        _undead.discard(id(report.object))
    else:
        (_hooks[-1] if _hooks else sys.__unraisablehook__)(report)
