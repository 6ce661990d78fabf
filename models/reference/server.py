"""The server: lifespan around a listening socket, and a task for each connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING, Any

import attrs

from models.knowledge import KNOWLEDGE
from models.reference.http import Connection
from models.serving import ADDRESS, Server, extras, recorded, start
from sim.errors import UsageError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from models.application import Application
    from models.reference.http import App, Message
    from sim.world.fingerprint import Knowledge
    from sim.world.world import World

logger = logging.getLogger("reference")


@attrs.frozen
class Reference:
    """The reference server as a subject."""

    requirement: str = "reference"
    versions: dict[str, str] = attrs.field(factory=dict)
    kind: str = "model"
    knowledge: Knowledge = KNOWLEDGE

    def serve(self, world: World, application: Application) -> Server:
        """Start it."""
        app = recorded(world, application)
        return start(world, self.requirement, lambda: serve(app, *ADDRESS))


def subject(requirement: Requirement) -> Reference:
    """`reference`; it has no extras and no versions."""
    extras(requirement, ())
    if requirement.specifier:
        raise UsageError(f"{requirement}: the reference server has no versions. Its name is: reference.")
    return Reference()


async def serve(app: App, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, between lifespan's startup and its shutdown."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    lifespan = Lifespan(app)
    await lifespan.startup()
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(Connection(app, lifespan.state, stop, reader, writer).run())
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(connected, host, port)
    await stop.wait()
    server.close()
    while connections:
        await asyncio.wait(connections)
    await lifespan.shutdown()


class Lifespan:
    """The lifespan call (ASGI lifespan 2.0): startup and shutdown, each answered once; unsupported is fine."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._phase: str | None = None
        self._supported = False
        self.state: dict[str, Any] = {}

    async def startup(self) -> None:
        """Tell the application to start. `SystemExit` if it says that it failed."""
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message | None] = asyncio.Queue()
        self._call = asyncio.ensure_future(self._run())
        answer = await self._ask("startup")
        self._supported = answer is not None
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            raise SystemExit(f"startup failed: {answer.get('message', '')}")

    async def shutdown(self) -> None:
        """Tell it to stop, if it is there to be told."""
        if self._supported and not self._call.done():
            await self._ask("shutdown")

    async def _ask(self, phase: str) -> Message | None:
        self._phase = phase
        self._events.put_nowait({"type": f"lifespan.{phase}"})
        return await self._answers.get()

    async def _send(self, message: Message) -> None:
        phase, self._phase = self._phase, None
        if phase is None or message["type"] not in (f"lifespan.{phase}.complete", f"lifespan.{phase}.failed"):
            raise RuntimeError(f"{message['type']} is not expected now")
        if message["type"].endswith(".failed"):
            logger.error("%s failed: %s", phase, message.get("message", ""))
        self._answers.put_nowait(message)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        with contextlib.suppress(Exception):
            await self._app(scope, self._events.get, self._send)
        self._answers.put_nowait(None)
