"""One run's universe: clock, kernel, processes, scripts, entropy, trace.

How it goes through a run is in `sim.world.running`, what happens next is decided in `sim.world.agenda`; here is what the
parts of a world have in common.

Rules for this file:

1. Everything that a program could learn from outside its own code comes from here, and is the same in each run with
   the same choices.
2. A world ends in one of these ways: every script came to its end (and what it left behind settled); nothing can
   happen any more although a script waits (`Stuck`); the virtual horizon was reached; something real was asked for
   (`BoundaryError`); a script raised. The last two end it even if the code under test swallows the exception.
3. While a run lasts no garbage is collected, because finalizers would run at moments that nobody chose.
4. Nothing of a world outlives `close()`: no task, no warning, no log record.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from sim.errors import BoundaryError, Stuck
from sim.world import blame, boundary
from sim.world.agenda import INFINITY, QUIET_SECONDS, Agenda
from sim.world.choices import Choices
from sim.world.clock import Clock, moment
from sim.world.descriptors import Descriptors
from sim.world.entropy import Entropy
from sim.world.events import LoggedError, LoggedWarning, TcpDeliver, TcpSend
from sim.world.faults import Striker
from sim.world.fiber import Fiber
from sim.world.host import Host
from sim.world.kernel import Channel, Endpoint, Kernel, Segment
from sim.world.lanes import Alarm, Mailbox, Post, route
from sim.world.process import Process
from sim.world.running import Running
from sim.world.settings import Settings
from sim.world.trace import Trace, without_addresses
from sim.world.watchdog import Interruption, disarm

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from sim.world.footprint import Watch
    from sim.world.host import Connection
    from sim.world.loop import SimLoop

__all__ = ["INFINITY", "QUIET_SECONDS", "Mailbox", "Post", "Settings", "World"]

T = TypeVar("T")
FIRST_PID = 1_000
TLS_HANDSHAKE = b"\x16\x03"
"""How each side of TLS begins (RFC 8446, 5.1), wherever in a connection that is; no other protocol here begins so."""


class World:
    """See the module's docstring. Use it as a context manager, or call `close()` when it is no longer needed.

    Args:
        choices: where its decisions come from.
        settings: everything else.
    """

    def __init__(self, choices: Choices | None = None, settings: Settings | None = None) -> None:
        self.choices = choices if choices is not None else Choices()
        self.settings = settings if settings is not None else Settings()
        self.clock = Clock()
        self.trace = Trace(self.clock)
        self.entropy = self.shared_entropy = Entropy(self.settings.seed)
        """What is drawn from now: a script's own while it runs, else what the processes share."""
        self.kernel = Kernel(self._in_flight)
        self.striker = Striker(self, self.settings.faults) if self.settings.faults else None
        self.agenda = Agenda(self, iterating=self.settings.granularity == "iteration")
        self.running = Running(self)
        self.processes: list[Process] = []
        self.process: Process
        """The process whose turn it is, or was last."""
        self.fibers: list[Fiber] = []
        self.connections: list[Connection] = []
        """The scripted hosts' side of each connection, oldest first."""
        self.scripts: dict[str, Fiber] = {}
        """The scripts by name, in the order of their start."""
        self.alike: dict[str, str] = {}
        """What interchangeable scripts are called together, by the script's name."""
        self.refused: BoundaryError | None = None
        self.failed: BaseException | None = None
        """What the run will end with, even if the code under test swallows it."""
        self.interrupted: Stuck | None = None
        """What a watchdog broke in with."""
        self.closed = False
        self.horizon_reached = False
        self.observer: Callable[[World, str], None] | None = None
        """Called as `observer(world, what)` after each thing that happened, when the loops have done all they do of it."""
        self.watch: Watch | None = None
        """Who takes the footprints of this run's steps."""
        self.lookout: Callable[[World], bool] | None = None
        """Asked as `lookout(world)` where the next thing is decided, once the scene is set: whether the run may end
        there, because it has a continuation that is known. To be set before the run."""
        self.tied = False
        """Whether timers fired that were due at one moment; noted only where there is a lookout."""
        self.known = False
        """Whether the run ended so."""
        self.settling_until: float | None = None
        """Virtual time until which the world goes on, once the scripts are done."""
        self.phase = "setting the scene"
        self.probes: dict[str, Callable[[], str]] = {}
        self.notes: dict[str, Any] = {}
        """What a scenario or a subject wants to be known of this run afterwards."""
        self.touched = 0
        """How often some socket's readiness may have changed."""
        self.descriptors = Descriptors(self)
        self._encrypted: set[str] = set()
        """The connections that have begun to speak TLS."""
        self._context = contextvars.Context()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # What scenarios and models use.

    def choose(self, options: Sequence[T], about: str) -> T:
        """One of `options`; the search tries each, beginning with the first."""
        try:
            return options[self.choices.choose(len(options), about)]
        except BaseException as exc:
            self.fail(exc)
            raise

    def start_process(
        self, name: str, main: Callable[[], Coroutine[Any, Any, Any]], ticks: frozenset[int] = frozenset()
    ) -> Process:
        """A simulated process whose event loop runs the coroutine that `main` makes."""
        if self.watch is not None:
            self.watch.touch_everything()
        return Process(self, name, main, ticks)

    def start_script(
        self,
        name: str,
        script: Callable[[Host], Coroutine[Any, Any, Any]],
        *,
        daemon: bool = False,
        alike: str | None = None,
    ) -> Fiber:
        """A scripted host. The world does not end before each that is no daemon has come to its end.

        Args:
            name: for traces and messages.
            script: makes the coroutine.
            daemon: whether the world may end before it.
            alike: a name for scripts that do the same and may be exchanged for one another: no claim tells them apart.
                They draw the same entropy.
        """
        fiber = Fiber(self, name, script(Host(self, name)), daemon=daemon, scripted=True)
        fiber.alike = alike
        fiber.entropy = Entropy(self.settings.seed, alike or name)
        self.scripts[name] = fiber
        if alike is not None:
            self.alike[name] = alike
        return self._begin(fiber)

    def start_fiber(self, name: str, coroutine: Coroutine[Any, Any, Any], *, daemon: bool = True) -> Fiber:
        """A coroutine that the world itself drives (see `sim.world.fiber`); it begins at once."""
        return self._begin(Fiber(self, name, coroutine, daemon=daemon))

    def _begin(self, fiber: Fiber) -> Fiber:
        self.fibers.append(fiber)
        fiber.resume()
        return fiber

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Alarm:
        """Call `callback` after `seconds` of virtual time. The timer competes with deliveries."""
        return self.agenda.call_later(seconds, callback)

    def post(self, mailbox: Mailbox, callback: Callable[[], None], label: str, patience: float) -> None:
        """Put a native thread's result in flight; it reaches its loop within `patience` virtual seconds."""
        post = Post(callback, label, mailbox.owner)
        post.earliest = self.clock.now
        post.latest = moment(self.clock.now + patience)
        post.sent_by = self.trace.cause
        mailbox.segments.append(post)
        if self.watch is not None:
            self.watch.touch(mailbox.owner)
        self.agenda.put(mailbox, post)

    def hand_over(self, loop: SimLoop, callback: Callable[[], None]) -> None:
        """Have an executor's thread of a loop's process do its work when the agenda lets it."""
        process = next(p for p in self.processes if p.loop is loop)
        thread = Mailbox(process.name)
        self.post(thread, lambda: None if process.exited else callback(), "an executor's work", INFINITY)

    def may_cancel(self, name: str, task: asyncio.Task[Any] | None) -> None:
        """Let the fault `cancel` fall on a task."""
        if self.striker is not None and task is not None:
            self.striker.tasks[name] = task

    def run_until(self, condition: Callable[[], bool], *, within: float) -> bool:
        """While the scene is set: let the world run until `condition()`. Returns whether it came `within` seconds."""
        return self.running.until(condition, self.clock.now + within, leap=False)

    def probe(self, name: str, describe: Callable[[], str]) -> None:
        """Let `describe()` be part of what tells one state of the world from another."""
        self.probes[name] = describe

    def state(self) -> tuple[tuple[str, str], ...]:
        """What each probe says now, with what is in flight."""
        lanes = [lane for lane in self.agenda.lanes if lane.segments]
        flying = ", ".join(f"{route(lane)} {' '.join(map(str, lane.segments))}" for lane in lanes)
        return (*((name, describe()) for name, describe in self.probes.items()), ("in flight", flying or "nothing"))

    # What the parts of a world use.

    def refuse(self, what: str) -> BoundaryError:
        """The error for something real that was asked for; the run will end with it even if it is swallowed."""
        error = BoundaryError(f"{what} At {blame.blame(sys._getframe(1))}")
        if self.refused is None:
            self.refused = error
        self.fail(error)
        return error

    def fail(self, error: BaseException) -> None:
        """Have the run end with `error`, whoever catches it before; the first one counts."""
        if self.failed is None:
            self.failed = error

    @property
    def current_name(self) -> str:
        """Whose turn it is, for people."""
        return self.process.name if self.processes else "world"

    @property
    def pid(self) -> int:
        """What `os.getpid()` says: the current process's number."""
        return FIRST_PID + (self.processes.index(self.process) if self.processes else 0)

    def own_process(self) -> Process:
        """The process whose turn it is.

        Raises:
            BoundaryError: there is none yet.
        """
        if not self.processes:
            raise self.refuse("a signal was set, asked or raised inside a world that has no process yet.")
        return self.process

    def kill(self, pid: int, number: int) -> None:
        """`os.kill` among this world's processes.

        Raises:
            BoundaryError: the process is a real one.
        """
        index = pid - FIRST_PID if pid else self.pid - FIRST_PID
        if not 0 <= index < len(self.processes):
            raise self.refuse(
                f"os.kill({pid}, {number}) was called inside a world. Only its own processes can be killed."
            )
        if number:
            self.processes[index].kill(number)

    def listens(self) -> bool:
        """Whether what code of this world reports now is part of its run."""
        return self.trace.open and boundary.current_world() is self

    def log(self, record: logging.LogRecord) -> None:
        """Take a log record, in place of the handlers that the process has."""
        if record.levelno < logging.WARNING:
            return
        if self.watch is not None:
            self.watch.touch(self.current_name)
        kind = LoggedWarning if record.levelno < logging.ERROR else LoggedError
        exc = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        text = without_addresses(f"{type(exc).__name__}: {exc}") if exc is not None else None
        message = without_addresses(record.getMessage())
        self.trace.record(kind, self.current_name, record.levelname, record.name, message, text)

    def _in_flight(self, channel: Channel, segment: Segment) -> None:
        source, target = channel.source, channel.target
        if type(source) is not Endpoint and source.instant:
            self._deliver_at_once(channel, segment)
            return
        low, high = self.settings.latency
        now = self.clock.now
        segment.earliest = moment(now + low) if low else now
        segment.latest = moment(now + high) if high < INFINITY else INFINITY
        data = segment.data
        if data.startswith(TLS_HANDSHAKE):
            self._encrypted.add(source.name)
        if self._encrypted and source.name in self._encrypted:
            data = b""
        sender, addressee = source.label or source.address, target.label or target.address
        segment.way = sender, addressee, source.name
        trace = self.trace
        segment.sent_by = len(trace.events)
        if trace.open:  # as `Trace.record` does, which costs more
            trace.events.append(
                TcpSend(segment.sent_by, now, trace.cause, sender, source.name, addressee, segment.label, data)
            )
        if self.watch is not None:
            self.watch.sent(channel, segment, together=self.settings.arrivals != "single")
        if self.striker is not None and source.name in self.striker.lost:
            channel.segments.pop()
            return
        self.agenda.put(channel, segment)

    def _deliver_at_once(self, channel: Channel, segment: Segment) -> None:
        source, target = channel.source, channel.target
        if source.name == "pair":
            channel.deliver()
            return
        trace, size = self.trace, len(segment.data)
        cause = trace.cause
        sent = trace.record(TcpSend, source.place, source.name, target.place, segment.label, segment.data)
        trace.cause = sent.seq
        trace.record(TcpDeliver, target.place, target.name, source.place, segment.label, size)
        channel.deliver()
        trace.cause = cause

    # Running.

    def run(self, play: Callable[[World], object]) -> None:
        """Set the scene with `play(world)` and run to the end, in a context of its own.

        It works from plain code and from inside a running event loop alike, and leaves that as it was.

        Raises:
            Stuck: nothing can happen any more although a script waits, or something goes on for ever.
            BoundaryError: something real was asked for.
            StartupError: a process ended before it was ready.
        """
        self._inside(self.running.run, play)

    def _inside(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function` where this world is the one that answers, with nothing of the caller's to be seen."""
        outer = asyncio._get_running_loop()
        collecting = gc.isenabled()
        asyncio._set_running_loop(None)
        gc.disable()
        try:
            with boundary.Boundary(), boundary.activated(self):
                self._context.run(function, *args)
        finally:
            if self.interrupted is not None:
                disarm()
            if collecting:
                gc.enable()
            asyncio._set_running_loop(outer)

    def close(self) -> None:
        """End everything that still runs. The trace is closed first: nothing of this is part of the run."""
        if self.closed:
            return
        self.trace.open = False
        self.closed = True
        self.agenda.clear()
        try:
            self._inside(self._close)
        except Interruption as exc:
            raise self.interrupted or exc from None
        finally:
            self.agenda.clear()
            self.probes.clear()
            self.observer = None

    def _close(self) -> None:
        for fiber in list(self.fibers):
            with contextlib.suppress(Exception):
                fiber.cancel()
        for process in self.processes:
            process.close()
        for sock in self.descriptors:
            sock.close()


for _function in (World.run, World._close):
    blame.edge(_function)
