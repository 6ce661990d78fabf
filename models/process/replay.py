"""The coordinator: it runs a plan on a real server process and tells what really happened.

Theory of operation
===================

The coordinator is the clients and the network. It owns the clients' sockets, reads what the server process reports and
prints, and walks the plan. When the next step is an outer one, it takes it; when it is the application's, it
waits until the server process reports it. The server process lets things through by the same rule (see
`models.process.inside`).

Rules for this file:

1. "Delivered" means that the server's kernel has it. After a delivery the coordinator waits until that is so and then
   a moment, in which an idle server can read, before it counts the step as done.
2. A held delivery (rule 3 of the plan) is made when the server process says that it holds, and is done when the
   server's process has taken it from the kernel.
3. A client's socket is read when the client is to hear something, and not before; so a client that does not read lets
   the connection fill up.
4. A step that does not come within `STEP_SECONDS`, plus the virtual time that it took in the simulator, is the end of
   the plan: the real server went another way. Everything kept back is let go, the clients send the messages that
   are left, and what happens then is recorded all the same. They do not close: how a client ends is an answer to
   what it heard in the simulator, and it did not hear that here.
5. Everything ends: the whole replay after `REPLAY_SECONDS`, and the server's process group is killed in any case.
6. What a client sends is recorded as the simulator does, with causes: the frame, its segment, the delivery.
"""

from __future__ import annotations

import json
import os
import selectors
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from models.asgi.events import AppRaised, AppReturned, AsgiReceive, AsgiReceiveCancelled, AsgiSent
from models.http1 import HttpCutOff
from models.process.client import RawClient
from models.process.link import KINDS, Lines, SharedProgress, fields_of
from models.process.plan import OuterStep, Plan, Progress
from models.process.reality import Reality, Seen, first_disorder, logged_by, trace_of
from models.process.servers import (
    STARTUP_SECONDS,
    Driver,
    ServerProcess,
    environment_of,
    free_port,
    search_path,
)
from models.websocket import WsBinary, WsFragment, WsPing, WsPong, WsText
from sim.world.events import TcpDeliver, TcpSend

if TYPE_CHECKING:
    from collections.abc import Callable

    from packaging.requirements import Requirement

    from models.application import Application
    from models.environments.make import Environment
    from sim.world.trace import Event

REPLAY_SECONDS = 19.0
STEP_SECONDS = 2.0
LIFESPAN_SECONDS = 0.5
"""Seconds after which a server that has not called the application for its lifespan is held not to do so."""
SETTLE_SECONDS = 0.003
TAKEN_SECONDS = 0.2
LINGER_SECONDS = 1.0
SHUTDOWN_SECONDS = 3.0
QUIET_SECONDS = 0.1
UNEVENTFUL = frozenset({AsgiReceive, AsgiReceiveCancelled})
"""What a polling application does for ever: the end of a replay does not wait for it."""
MESSAGES = frozenset({WsText, WsBinary, WsFragment, WsPing, WsPong})
_GLANCE = 0.001


def replay(
    plan: Plan,
    application: Application,
    driver: Driver,
    environment: Environment,
    requirement: Requirement,
    *,
    shutdown: bool = False,
) -> Reality:
    """Run `plan` on a real server, and with `shutdown` let it come to its end by SIGTERM.

    Raises:
        StartupError: the server did not come up.
    """
    with TemporaryDirectory(prefix="asgi-sim-") as name, ExitStack() as stack:
        directory = Path(name)
        settings = {
            "target": application.target,
            "arguments": application.arguments,
            "path": search_path(application.target),
            "plan": plan.to_json(),
            "group": os.getpgrp(),
        }
        (directory / "settings.json").write_text(json.dumps(settings))
        os.mkfifo(directory / "events", 0o600)
        shared = SharedProgress(directory / "progress", create=True)
        stack.callback(shared.close)
        events = os.open(directory / "events", os.O_RDWR | os.O_NONBLOCK)
        stack.callback(os.close, events)
        port = free_port()
        started = time.monotonic()
        server = ServerProcess(
            driver.command(environment.python, port, requirement), port, environment_of(driver, directory)
        )
        coordinator = _Coordinator(plan, server, shared, events, driver, started)
        stack.callback(coordinator.stop)
        coordinator.start(str(requirement))
        coordinator.walk()
        coordinator.linger()
        if shutdown:
            coordinator.shut_down()
        coordinator.stop()
        return coordinator.reality()


class _Coordinator:
    """See the module's docstring."""

    def __init__(
        self, plan: Plan, server: ServerProcess, shared: SharedProgress, events: int, driver: Driver, started: float
    ) -> None:
        self._plan = plan
        self._server = server
        self._shared = shared
        self._driver = driver
        self._started = started
        self._progress = Progress(plan)
        self._seen: list[Seen] = []
        self._times: list[tuple[float, int]] = []
        self._clients: dict[str, RawClient] = {}
        self._to_hear: dict[str, deque[Seen]] = {}
        self._sayings: list[Seen] = []
        self._written: dict[int, Seen] = {}
        self._holding: set[int] = set()
        self._lines = Lines()
        self._events = events
        self._ready_at: float | None = None
        self._last_news = started
        self._deviation: str | None = None
        self._free = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(events, selectors.EVENT_READ, self._read_events)
        self._selector.register(server.output, selectors.EVENT_READ, self._read_output)

    def stop(self) -> None:
        """End everything, the server first, so that it sees nothing of the end; may be called again."""
        if not self._server.output.closed:
            self._server.kill()
            self._read_events()
            self._selector.close()
            for client in self._clients.values():
                client.close()

    # Reading.

    def _pump(self, timeout: float = _GLANCE) -> None:
        """Take what has come, waiting at most `timeout` for it."""
        for key, _ in self._selector.select(timeout):
            take: Callable[[], bool] = key.data
            if not take():
                self._selector.unregister(key.fileobj)
        if self._free:
            for client in self._clients.values():
                client.read()
            for heard in self._to_hear.values():
                while heard:
                    self._hear(heard.popleft())

    def _read_output(self) -> bool:
        self._last_news = time.monotonic()
        return self._server.read()

    def _read_events(self) -> bool:
        while True:
            try:
                data = os.read(self._events, 65_536)
            except BlockingIOError:
                return True
            for line in self._lines.feed(data):
                self._take(json.loads(line))

    def _take(self, record: dict[str, Any]) -> None:
        if "event" in record:
            kind, actor = KINDS[record["event"]], record["actor"]
            self._seen.append(Seen(record["t"], kind, actor, tuple(fields_of(record))))
            step = self._progress.happened(actor, kind.kind)
            if step is not None:
                self._times.append((record["t"], step.number))
            if kind not in UNEVENTFUL:
                self._last_news = time.monotonic()
        elif record["note"] == "ready":
            self._ready_at = time.monotonic()
        elif record["note"] == "holding":
            self._holding.add(record["step"])
        elif record["note"] == "late":
            self._deviate(f"the application cancelled while an answer was kept back: {record['answer']}")
        elif record["note"] == "gave up":
            self._deviate(f"a gate in the server process waited in vain for step {record['step']}")

    def _record(self, kind: type[Event], actor: str, *fields: Any, cause: Seen | None = None) -> Seen:
        """Add what the coordinator itself does."""
        self._seen.append(Seen(time.monotonic(), kind, actor, fields, cause))
        return self._seen[-1]

    def _said(self, kind: type[Event], actor: str, *fields: Any) -> None:
        """What a client is about to say."""
        self._sayings.append(Seen(time.monotonic(), kind, actor, fields))

    def _heard(self, kind: type[Event], actor: str, *fields: Any) -> None:
        """Something for a client has come; it hears it later."""
        self._to_hear.setdefault(actor, deque()).append(Seen(0.0, kind, actor, fields))

    def _hear(self, seen: Seen) -> None:
        seen.time = self._last_news = time.monotonic()
        self._seen.append(seen)

    # Walking the plan.

    @property
    def _left(self) -> float:
        return self._started + REPLAY_SECONDS - time.monotonic()

    def start(self, name: str) -> None:
        """Wait until the server is up."""
        listening = False
        while not (listening and self._lifespan_over()):
            self._pump()
            listening = listening or (self._ready_at is not None and self._server.listens())
            waited = time.monotonic() - self._started
            if self._server.ended is not None or waited > STARTUP_SECONDS:
                self._server.read()
                raise self._server.failed_to_start(name, waited)

    def _lifespan_over(self) -> bool:
        """Whether the application has answered lifespan.startup, or is not asked."""
        said = [s for s in self._seen if s.actor == "lifespan"]
        answers = {s.fields[0] for s in said if s.kind is AsgiSent}
        if "lifespan.startup.failed" in answers:
            return False
        if said:
            return bool(answers) or any(s.kind in (AppRaised, AppReturned) for s in said)
        return self._ready_at is not None and time.monotonic() > self._ready_at + LIFESPAN_SECONDS

    def walk(self) -> None:
        """Do the plan's steps, or find that the real server goes another way."""
        steps = self._plan.steps
        at, since = -1, 0.0
        while (number := self._progress.next) < len(steps) and self._deviation is None:
            if number != at:
                at, since = number, time.monotonic()
            step = steps[number]
            if isinstance(step, OuterStep) and self._act(step):
                continue
            self._pump()
            waited = time.monotonic() - since
            if self._server.ended is not None:
                self._deviate(f"the server ended with status {self._server.ended} before: {step}")
            elif waited > self._allowed(number):
                self._deviate(f"step {number + 1} of {len(steps)} did not come within {waited:.0f} s: {step}")
        self._free = True
        self._shared.set_free()
        self._last_news = time.monotonic()
        if self._deviation is not None:
            self._send_the_rest()

    def _deviate(self, what: str) -> None:
        if self._deviation is None:
            self._deviation = what

    def _allowed(self, number: int) -> float:
        """Seconds that a step may take: as long as in the simulator, and some more."""
        steps = self._plan.steps
        virtual = steps[number].time - steps[number - 1].time if number else 0.0
        return max(0.0, min(STEP_SECONDS + virtual, self._left - LINGER_SECONDS))

    def _act(self, step: OuterStep) -> bool:
        """Do an outer step. False if it cannot be done yet."""
        held = self._plan.held.get(step.number)
        if held is not None and held not in self._holding:
            return False
        if step.verb in ("hear", "lose"):
            return self._let_hear(step)
        self._pump(0)
        when = time.monotonic()
        if step.verb == "write":
            self._write(step)
        else:
            self._deliver(step)
            self._settle(self._clients[step.connection], taken=held is not None)
        self._finish(step, when)
        return True

    def _finish(self, step: OuterStep, when: float) -> None:
        self._times.append((when, step.number))
        self._progress.done(step.number)
        self._shared.outer += 1

    def _let_hear(self, step: OuterStep) -> bool:
        """Let a client hear the next thing. A client that gives up does so even if there is nothing."""
        for client in self._clients.values():
            if client.name == step.client:
                client.read()
        heard = self._to_hear.setdefault(step.client, deque())
        while heard and heard[0].kind is WsFragment:
            self._hear(heard.popleft())
        if step.verb == "hear" and not heard:
            return False
        if step.verb == "hear" or (heard and heard[0].kind is HttpCutOff):
            self._hear(heard.popleft())
        else:
            self._record(HttpCutOff, step.client, step.what)
        self._finish(step, time.monotonic())
        return True

    def _write(self, step: OuterStep, *, only_messages: bool = False) -> bool:
        """A segment leaves the client, and is on its way. False if it is no message and should be one."""
        client = self._clients.get(step.connection)
        if client is None:
            client = RawClient(step.client, self._server.port, self._said, self._heard)
            self._clients[step.connection] = client
        self._sayings.clear()
        if step.data:
            client.announce(step.data)
        if only_messages and not {s.kind for s in self._sayings} <= MESSAGES:
            return False
        self._seen += self._sayings
        meaning = self._sayings[-1] if self._sayings else None
        fields = (step.connection, self._plan.server, step.what, step.data)
        self._written[step.number] = self._record(TcpSend, step.client, *fields, cause=meaning)
        return True

    def _deliver(self, step: OuterStep) -> None:
        """A segment reaches the server."""
        fields = (step.connection, step.client, step.what, len(step.data))
        self._record(TcpDeliver, self._plan.server, *fields, cause=self._written[step.written])
        client = self._clients[step.connection]
        if step.data:
            client.send(step.data)
        elif step.what == "SYN":
            client.connect()
        elif step.what == "FIN":
            client.finish()
        else:
            client.reset()

    def _settle(self, client: RawClient, *, taken: bool) -> None:
        """Wait until what was sent has arrived (rules 1 and 2)."""
        deadline = time.monotonic() + TAKEN_SECONDS
        while time.monotonic() < deadline and not (client.arrived() and (not taken or not client.unread())):
            time.sleep(_GLANCE / 5)
        time.sleep(SETTLE_SECONDS * (3 if taken else 1))

    def _send_the_rest(self) -> None:
        """The plan is given up: the clients send the messages that are left, each when nothing happens any more."""
        ended: set[str] = set()
        for step in self._plan.outer[self._shared.outer :]:
            if step.connection in ended:
                continue
            if step.verb == "write":
                if not step.data or not self._write(step, only_messages=True):
                    ended.add(step.connection)
            elif step.verb == "deliver" and step.data:
                self._wait_for_quiet(QUIET_SECONDS)
                self._deliver(step)
                self._last_news = time.monotonic()

    def linger(self) -> None:
        """Wait until nothing happens any more."""
        self._wait_for_quiet(QUIET_SECONDS if self._deviation is None else 3 * QUIET_SECONDS)

    def shut_down(self) -> None:
        """Ask the server to end, and wait until it has."""
        self._server.terminate()
        until = time.monotonic() + max(0.0, min(SHUTDOWN_SECONDS, self._left))
        while self._server.ended is None and time.monotonic() < until:
            self._pump()

    def _wait_for_quiet(self, seconds: float) -> None:
        until = time.monotonic() + max(0.0, min(LINGER_SECONDS, self._left))
        while (now := time.monotonic()) < until and now < self._last_news + seconds:
            self._pump()

    def reality(self) -> Reality:
        """What happened."""
        logged = logged_by(self._plan.server, self._driver, self._server.printed)
        return Reality(
            trace=trace_of([*self._seen, *logged]),
            complete=self._deviation is None,
            deviation=self._deviation or first_disorder(self._plan, self._times),
            steps=(len(self._times), len(self._plan.steps)),
            seconds=time.monotonic() - self._started,
        )
