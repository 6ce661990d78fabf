"""Waiting: for a change, and not for ever."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Bell:
    """Something changed: whoever waits looks again."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self, *_: object) -> None:
        """Wake those who wait."""
        self._event.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition()` is true; it is looked at now and at each ring."""
        while not condition():
            self._event.clear()
            await self._event.wait()


@contextlib.asynccontextmanager
async def timeout(seconds: float) -> AsyncIterator[None]:
    """`asyncio.timeout`, which Python 3.10 does not have."""
    task = asyncio.current_task()
    assert task is not None
    rang = False

    def ring() -> None:
        nonlocal rang
        rang = True
        task.cancel()

    alarm = asyncio.get_running_loop().call_later(seconds, ring)
    try:
        yield
    except asyncio.CancelledError:
        if rang:
            raise asyncio.TimeoutError from None
        raise
    finally:
        alarm.cancel()
