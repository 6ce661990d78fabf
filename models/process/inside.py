"""What runs inside the real server process: the application behind gates, and the recorder between it and the server.

Theory of operation
===================

The server is unmodified and is given `app` of the module in `door/`, which `build` makes. From the server to the
application there are: the gate of `app.called`; the gates of what the server answers; the recorder; the gates of what
the application does; the application. A gate lets through when the plan says that it is its turn (rule 1 of
`models.process.plan`).

Rules for this file:

1. The application's calls are kept back before they reach the recorder and the server, since with some servers
   calling is doing. The server's answers are kept back behind the server and before the recorder: the server
   is done with them, and for the application they are late, as they are when a thread's result is late.
2. A gate waits in the event loop's own time: other tasks, and the answers of the server, go on.
3. A gate whose turn has come, or which the plan does not have, lets through at once and in the caller's step.
4. Nothing here ends a run: a gate that waits for longer than `PATIENCE` says so and lets everything through.
5. Nothing here loses anything: an application that cancels while its answer is kept back gets the answer. Else a
   replay could make the very fault that it looks for.
6. An application's timers run in real time, which is slower than virtual time. So a cancellation that comes before its
   turn is late: it waits for its turn, or, where the plan has an answer instead, for the answer.

The cancelled `receive()`
=========================

The hardest order to force is this one: `receive()` waits, something arrives for it, and the application cancels it
before the result has come back (`asyncio.wait_for(receive(), timeout)`). On a server with threads of its own that is
a race of microseconds. It is decided by Python's global lock: a server's thread can read the socket without it, but
cannot hand over a result.

So each `receive()` of the plan is a task of its own, shielded from the application. When the application's
cancellation arrives (by whatever timer the application has) and the plan holds a delivery for it, the event
loop's thread first tells the coordinator, and then spins with the lock in its hands until the coordinator has made the
delivery and seen the server take it from the kernel. Then it passes the cancellation on, still with the lock. For
the server this is an ordinary cancellation at an unlucky moment.

Two things give the lock away against our will: any system call, hence the shared memory; and another thread's
request after the switch interval, hence `sys.setswitchinterval`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from models.application import Application
from models.asgi.events import (
    AppCalled,
    AppRaised,
    AppReturned,
    AsgiReceive,
    AsgiReceived,
    AsgiReceiveFailed,
    AsgiSend,
    AsgiSendFailed,
    AsgiSent,
)
from models.asgi.recorder import Recorder
from models.process.link import SharedProgress, event_line, note_line
from models.process.plan import CANCELLED, AppStep, Plan, Progress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from sim.world.trace import Event

T = TypeVar("T")
PATIENCE = 12.0
"""Seconds that a gate waits at most; the coordinator gives up before."""
HOLD_SECONDS = 1.0
"""Seconds for which the event loop's thread spins at most."""
LIFETIME = 60.0
"""Seconds after which the server's process group kills itself, should the coordinator be gone."""
_GLANCE = 0.001


def build(directory: Path) -> Callable[..., Awaitable[None]]:
    """The application for the server, from the settings that the coordinator left in `directory`."""
    settings = json.loads((directory / "settings.json").read_text())
    sys.path.extend(p for p in settings["path"] if p not in sys.path)
    _die_with(settings["group"])
    inside = _Inside(Plan.from_json(settings["plan"]), directory)
    application = Application(settings["target"], settings["arguments"])
    app = inside.wrap(application.load())
    inside.note("ready", pid=os.getpid())
    return app


class _Inside:
    """The state of the replay in the server process."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self._plan = plan
        self._progress = Progress(plan)
        self._shared = SharedProgress(directory / "progress")
        self._events = os.open(directory / "events", os.O_WRONLY)
        self._claimed: Counter[tuple[str, str]] = Counter()
        self._outer = 0
        self._gave_up = False
        self._entered: Counter[str] = Counter()
        self.latest_call = ""
        """The actor that was called last."""

    def wrap(self, app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """The layers around the application."""

        async def gated(scope: dict[str, Any], receive: Any, send: Any) -> None:
            call = _Call(self, self.latest_call, receive, send)
            try:
                await app(scope, call.receive, call.send)
            except asyncio.CancelledError:
                raise
            except BaseException:
                await self.turn(call.actor, AppRaised.kind)
                raise
            await self.turn(call.actor, AppReturned.kind)

        recorder = Recorder(gated, self.record)

        async def entrance(scope: dict[str, Any], receive: Any, send: Any) -> None:
            kind = scope["type"]
            if kind == "lifespan":
                await recorder(scope, receive, send)
                return
            self._entered[kind] += 1
            actor = f"{kind} {self._entered[kind]}"
            await self.turn(actor, AppCalled.kind)
            answers = _Answers(self, actor, receive, send)
            await recorder(scope, answers.receive, answers.send)

        return entrance

    def record(self, kind: type[Event], actor: str, *fields: Any) -> None:
        """The recorder's `record`."""
        if kind is AppCalled:
            self.latest_call = actor
        self._progress.happened(actor, kind.kind)
        self._write(event_line(kind, actor, fields))

    def note(self, note: str, **fields: Any) -> None:
        """Tell the coordinator something that is no event."""
        self._write(note_line(note, **fields))

    def _write(self, line: bytes) -> None:
        try:
            os.write(self._events, line)
        except OSError:
            self._gave_up = True

    def claim(self, actor: str, kind: str) -> AppStep | None:
        """The plan's step for the call that the application makes now."""
        nth = self._claimed[actor, kind]
        self._claimed[actor, kind] += 1
        return self._plan.find(actor, kind, nth)

    @property
    def free(self) -> bool:
        """Whether nothing is kept back any more."""
        return self._gave_up or self._shared.free

    def may(self, step: AppStep | None) -> bool:
        """Whether the turn of `step` has come. Makes no system call."""
        if step is None or self.free:
            return True
        count = self._shared.outer
        while self._outer < count:
            self._progress.done(self._plan.outer[self._outer].number)
            self._outer += 1
        return self._progress.may(step.number)

    async def wait(self, step: AppStep | None) -> None:
        """Return when the turn of `step` has come."""
        deadline = time.monotonic() + PATIENCE
        while not self.may(step):
            if time.monotonic() > deadline:
                self._gave_up = True
                self.note("gave up", step=step.number if step else None)
            await asyncio.sleep(_GLANCE)

    async def turn(self, actor: str, kind: str) -> None:
        """Claim the step of this call, and wait for its turn."""
        await self.wait(self.claim(actor, kind))

    def end_of(self, call: AppStep | None) -> AppStep | None:
        """How this `receive()` ends by the plan; None if the plan does not say."""
        number = self._plan.ends.get(call.number) if call is not None else None
        found = self._plan.steps[number] if number is not None else None
        return found if isinstance(found, AppStep) and not self.free else None

    def may_cancel(self, end: AppStep) -> bool:
        """Whether the turn of a cancellation has come, or of what is held for it; `end` is the call's end by plan."""
        if self.free:
            return True
        first = self._plan.holding.get(end.number, end.number)
        return end.kind == CANCELLED and self.may(attrs.evolve(end, number=first))

    @contextmanager
    def hold(self, cancellation: AppStep) -> Iterator[None]:
        """Hold the global lock, if the plan holds a delivery, from before the delivery to the end of the block."""
        if self.may(cancellation) or cancellation.number not in self._plan.holding:
            yield
            return
        interval = sys.getswitchinterval()
        sys.setswitchinterval(10 * HOLD_SECONDS)
        try:
            self.note("holding", step=cancellation.number)
            deadline = time.monotonic() + HOLD_SECONDS
            while not self.may(cancellation) and time.monotonic() < deadline:
                pass
            yield
        finally:
            sys.setswitchinterval(interval)


class _Call:
    """The gates of what one call of the application does; `receive` and `send` are the recorder's."""

    def __init__(self, inside: _Inside, actor: str, receive: Any, send: Any) -> None:
        self.actor = actor
        self._inside = inside
        self._receive = receive
        self._send = send

    def receive(self) -> Awaitable[dict[str, Any]]:
        step = self._inside.claim(self.actor, AsgiReceive.kind)
        end = self._inside.end_of(step)
        if not self._inside.may(step):
            return self._receive_later(step, end)
        return self._receive() if end is None else _shielded(self._inside, asyncio.ensure_future(self._receive()), end)

    async def _receive_later(self, step: AppStep | None, end: AppStep | None) -> dict[str, Any]:
        await self._inside.wait(step)
        if end is None:
            return await self._receive()  # type: ignore[no-any-return]
        return await _shielded(self._inside, asyncio.ensure_future(self._receive()), end)

    def send(self, message: dict[str, Any]) -> Awaitable[None]:
        step = self._inside.claim(self.actor, AsgiSend.kind)
        if self._inside.may(step):
            return self._send(message)  # type: ignore[no-any-return]
        return self._send_later(step, message)

    async def _send_later(self, step: AppStep | None, message: dict[str, Any]) -> None:
        await self._inside.wait(step)
        await self._send(message)


async def _shielded(inside: _Inside, task: asyncio.Future[T], end: AppStep) -> T:
    """Wait for a `receive()`, and pass a cancellation on when its turn has come."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        deadline = time.monotonic() + PATIENCE
        while not task.done() and not inside.may_cancel(end) and time.monotonic() < deadline:
            await _patiently(task, _GLANCE)
        if not task.done():
            with inside.hold(end):
                task.cancel()
        while not task.done():
            await _patiently(task, HOLD_SECONDS)
        return task.result()


async def _patiently(task: asyncio.Future[Any], seconds: float) -> None:
    """Wait for `task`, and take no notice of a further cancellation."""
    with suppress(asyncio.CancelledError):
        await asyncio.wait([task], timeout=seconds)


class _Answers:
    """The gates of what the server answers to one call of the application; `receive` and `send` are the server's."""

    def __init__(self, inside: _Inside, actor: str, receive: Any, send: Any) -> None:
        self._inside = inside
        self._actor = actor
        self._receive = receive
        self._send = send

    def receive(self) -> Awaitable[dict[str, Any]]:
        return self._gated(self._receive(), AsgiReceived.kind, AsgiReceiveFailed.kind)

    def send(self, message: dict[str, Any]) -> Awaitable[None]:
        return self._gated(self._send(message), AsgiSent.kind, AsgiSendFailed.kind)

    async def _gated(self, awaitable: Awaitable[T], returned: str, raised: str) -> T:
        try:
            answer = await awaitable
        except asyncio.CancelledError:
            raise
        except BaseException:
            await self._turn(raised)
            raise
        await self._turn(returned)
        return answer

    async def _turn(self, kind: str) -> None:
        try:
            await self._inside.turn(self._actor, kind)
        except asyncio.CancelledError:
            self._inside.note("late", answer=f"{self._actor} {kind}")


def _die_with(coordinator: int) -> None:
    """Let nothing outlive the replay for long: kill the process group after `LIFETIME`."""
    group = os.getpgrp()
    if group == coordinator:
        return

    def watch() -> None:
        time.sleep(LIFETIME)
        os.killpg(group, signal.SIGKILL)

    threading.Thread(target=watch, name="lifetime", daemon=True).start()
