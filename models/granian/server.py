"""A worker of Granian: lifespan on the event loop, connections on native threads, one application call for each."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING, Any

import attrs

from models.granian.behaviour import Behaviour, behaviour_of, modelled_version
from models.granian.connection import HttpConnection
from models.granian.lifespan import Lifespan
from models.granian.native import Runtime
from models.knowledge import KNOWLEDGE
from models.serving import ADDRESS, Server, extras, recorded, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from packaging.requirements import Requirement

    from models.application import Application
    from sim.world.fiber import Fiber
    from sim.world.fingerprint import Knowledge
    from sim.world.kernel import Listener
    from sim.world.world import World

logger = logging.getLogger("_granian")
BACKLOG = 1024


@attrs.frozen
class Granian:
    """The model, at one version."""

    requirement: str
    version: str
    versions: dict[str, str] = attrs.field(factory=dict)
    kind: str = "model"
    knowledge: Knowledge = KNOWLEDGE

    def serve(self, world: World, application: Application) -> Server:
        """Start one worker."""
        worker = Worker(world, recorded(world, application), behaviour_of(self.version))
        return start(world, self.requirement, worker.main)


def subject(requirement: Requirement) -> Granian:
    """`granian==VERSION`; without a version, the newest that is modelled."""
    extras(requirement, ())
    version = modelled_version(requirement)
    return Granian(f"granian=={version}", version)


class Worker:
    """One worker process, one interpreter, one event loop."""

    def __init__(self, world: World, app: Callable[..., Any], behaviour: Behaviour) -> None:
        self.world = world
        self.behaviour = behaviour
        self.runtime: Runtime
        self.lifespan = Lifespan(app)
        self._app = app
        self._listener: Listener
        self._connections: list[tuple[HttpConnection, Fiber]] = []
        self._calls: set[asyncio.Task[None]] = set()

    async def main(self) -> None:
        """Lifespan, serve until a signal comes, cut whatever is open, lifespan again."""
        loop = asyncio.get_running_loop()
        self.runtime = Runtime(self.world, self.world.process)
        self.runtime.on_abort = self._cut
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await self.lifespan.startup()
        if self.lifespan.interrupt:
            raise SystemExit(1)
        kernel = self.world.kernel
        self._listener = kernel.listen(kernel.bind(ADDRESS), BACKLOG)
        self._listener.label = self.world.process.name
        self._listener.watcher = self._accept
        await stop.wait()
        self.runtime.stop()
        for _, fiber in self._connections:
            fiber.cancel()
        self._cut()
        await self.lifespan.shutdown()

    def _accept(self) -> None:
        self._connections = [(c, fiber) for c, fiber in self._connections if not c.stream.closed]
        while self._listener.readable:
            connection = HttpConnection(self, self._listener.accept())
            self._connections.append((connection, self.world.start_fiber("connection", connection.serve())))

    def _cut(self) -> None:
        """Close everything, finished or not."""
        self._listener.close()
        for connection, _ in self._connections:
            connection.stream.close()

    def call(self, scope: dict[str, Any] | None, protocol: Any, ended: Callable[[], None]) -> None:
        """Have the event loop call the application; `ended` runs there when it returns or raises."""
        if scope is None:
            return

        async def watch() -> None:
            try:
                await self._app({**scope, "state": self.lifespan.state.copy()}, protocol.receive, protocol.send)
            except BaseException as exc:
                ended()
                if self.runtime.process.parked is not None:
                    await asyncio.sleep(0)
                logger.error("Application callable raised an exception", exc_info=exc)
                return
            ended()

        def spawn() -> None:
            task = self.runtime.process.loop.create_task(watch())
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

        loop = self.runtime.process.loop
        self.runtime.post(lambda: _soon(loop, spawn), f"a call for {scope['path']}")


def _soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(callback)
