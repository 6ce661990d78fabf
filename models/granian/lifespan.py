"""Granian's lifespan, which is Python in Granian too."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("_granian")


class Lifespan:
    """One lifespan call.

    Attributes:
        interrupt: whether the worker must stop because of how it went.
        state: what the application shares with its requests.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app
        self._call: asyncio.Task[None]
        self._events: asyncio.Queue[dict[str, Any]]
        self._started: asyncio.Event
        self._stopped: asyncio.Event
        self._errored = False
        self._failed = False
        self.interrupt = False
        self.state: dict[str, Any] = {}

    async def startup(self) -> None:
        """Call the application and tell it to start."""
        self._events, self._started, self._stopped = asyncio.Queue(), asyncio.Event(), asyncio.Event()
        self._call = asyncio.get_running_loop().create_task(self._handle())
        await self._events.put({"type": "lifespan.startup"})
        await self._started.wait()
        self.interrupt = self._failed
        if self.interrupt:
            logger.error("ASGI lifespan startup failed")

    async def shutdown(self) -> None:
        """Tell it to stop, unless it has no lifespan."""
        self.state.clear()
        if self._errored:
            return
        await self._events.put({"type": "lifespan.shutdown"})
        await self._stopped.wait()

    async def _handle(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.3"}, "state": self.state}
        try:
            await self._app(scope, self._events.get, self._send)
        except Exception:
            self._errored = True
            if not self._failed:
                logger.warning(
                    "ASGI Lifespan errored, continuing without Lifespan support "
                    '(to avoid Lifespan completely use "asginl" interface)'
                )
        finally:
            self._started.set()
            self._stopped.set()

    async def _send(self, message: dict[str, Any]) -> None:
        _, phase, result = message["type"].split(".")
        event, other = {"startup": (self._started, self._stopped), "shutdown": (self._stopped, self._started)}[phase]
        assert result in ("complete", "failed")
        assert not self._stopped.is_set(), "Invalid lifespan state transition"
        assert phase == "startup" or other.is_set(), "Invalid lifespan state transition"
        assert not event.is_set(), "Invalid lifespan state transition"
        event.set()
        if result == "failed":
            self._failed = True
            if message.get("message"):
                logger.error(message["message"])
