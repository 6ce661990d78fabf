"""How a world goes through its run: its event loops and its agenda take turns.

Theory of operation
===================

First each event loop runs until it is idle; then the agenda lets *one* thing happen, and the loops run again. A run is
three stretches of this: the scene is set, the scripts play, and what they left behind settles.

Where several processes live, each loop's `run_forever` returns when it is idle. A process that is alone, as a server
among scripted clients is, has its loop go on: the selector, with nothing that is ready and nothing to wait for, calls
`go_on`, and the next thing happens inside `select()`, as on a real machine. Entering and leaving asyncio's loop would
cost as much as a delivery does.

Rules for this file:

1. It makes no difference which of the two ways is gone: the same happens in the same order. So a loop is always stopped
   where somebody looks at its iteration boundaries: granularity `iteration`, faults, a lookout.
2. What ends a stretch leaves the loop at once, by the exception `Over`: no callback runs behind it.
3. A condition is asked once when a stretch begins, and then once when the loops are idle and once when something
   happened. It may count. One that waits for fibers says for which, and is not asked again before that one has ended.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from sim.errors import Stuck
from sim.world import blame
from sim.world.agenda import INFINITY, Known
from sim.world.process import Over
from sim.world.watchdog import Interruption

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.world.fiber import Fiber
    from sim.world.process import Process
    from sim.world.world import World


class Running:
    """The run of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._agenda = world.agenda
        settings = world.settings
        self.in_select = settings.granularity == "turn" and world.striker is None
        """Whether the loop of a process that is alone goes on, and things happen inside its `select()`."""
        self._waiting: Fiber | None = None
        """Before this one has ended the stretch's condition is not met, and need not be asked (rule 3)."""
        self._process: Process
        self._condition: Callable[[], bool] = _never
        self._limit = 0.0
        self._leap = False
        self._over = False
        """Whether a loop was left by `Over`."""
        self._end: bool | None = None
        """What the stretch ended with then; None: it goes on."""
        self._error: BaseException | None = None
        """What was raised then."""

    def run(self, play: Callable[[World], object]) -> None:
        """Set the scene with `play(world)` and run to the end.

        Raises:
            Stuck, BoundaryError, StartupError: see `World.run`.
        """
        world = self._world
        try:
            play(world)
            self._agenda.set_scene()
            if world.striker is not None:
                world.striker.on = True
            if world.watch is not None:
                world.watch.scene_is_set()
            world.phase = "playing"
            horizon = world.settings.horizon
            if not self.until(self._scripts_done, horizon):
                if world.clock.now >= horizon or self._goes_on():
                    world.horizon_reached = True
                    return
                raise Stuck(self._deadlock())
            if world.striker is not None:
                world.striker.on = False
            world.phase = "settling"
            world.settling_until = min(world.clock.now + world.settings.settle, horizon)
            self.until(_never, world.settling_until)
            if world.settings.shutdown:
                world.phase, world.settling_until = "shutting down", None
                self._shut_down()
        except Known as exc:
            world.known = True
            if world.failed is exc:
                world.failed = None
        except (Exception, Interruption) as exc:
            if world.failed is not None and exc is not world.failed:
                raise world.failed from exc
            raise
        if world.failed is not None:
            raise world.failed

    def _met(self, condition: Callable[[], bool]) -> bool:
        """Rule 3."""
        waiting = self._waiting
        return (waiting is None or waiting.done) and condition()

    def _scripts_done(self) -> bool:
        self._waiting = next((f for f in self._world.fibers if not (f.done or f.daemon)), None)
        return self._waiting is None

    def _goes_on(self) -> bool:
        """Whether something could still happen, behind the horizon."""
        return bool(self._agenda.heads()) or self._agenda.next_timer() < INFINITY

    def _deadlock(self) -> str:
        world = self._world
        waiting = ", ".join(f.name for f in world.fibers if not f.daemon and not f.done)
        parked = "".join(f" {p.name} stands still: {p.parked}." for p in world.processes if p.parked is not None)
        return (
            f"deadlock: {waiting} still waits at {world.clock.now:.3f} s of virtual time, and nothing is in flight and no "
            f"timer is set that could end it.{parked} " + " ".join(f"{n}: {d()}." for n, d in world.probes.items())
        ).rstrip()

    def _shut_down(self) -> None:
        world = self._world
        for process in world.processes:
            if not process.exited:
                process.kill(signal.SIGTERM)
        self.until(lambda: all(p.exited for p in world.processes), world.settings.horizon)

    # Taking turns.

    def until(self, condition: Callable[[], bool], limit: float, *, leap: bool = True) -> bool:
        """Take turns until `condition()`; False if nothing can happen any more before virtual time `limit`.

        Args:
            condition: see rule 3.
            limit: in seconds.
            leap: whether a loop that is alone may leap from timer to timer (`sim.world.agenda`).
        """
        world, agenda = self._world, self._agenda
        self._waiting = None
        if condition():
            return True
        while True:
            if len(world.processes) == 1:
                self._let_one_run(world.processes[0], condition, limit, leap)
                if self._over:
                    self._over = False
                    if self._error is not None:
                        error, self._error = self._error, None
                        raise error
                    if self._end is not None:
                        return self._end
                    continue
            else:
                self._let_all_run()
            agenda.show()
            if world.failed is not None:
                raise world.failed
            if self._met(condition):
                return True
            if not agenda.advance(limit):
                return False
            if self._met(condition):
                return True

    def _let_one_run(self, process: Process, condition: Callable[[], bool], limit: float, leap: bool) -> None:
        if process.exited:
            process.close()
        elif process.parked is None:
            self._agenda.leap_limit = 0.0
            if leap:
                self._agenda.allow_leaps(limit)
            self._process, self._condition, self._limit, self._leap = process, condition, limit, leap
            if self.in_select and self._world.lookout is None:
                process.loop.selector.go_on = self.go_on
            try:
                process.run_until_idle()
            finally:
                process.loop.selector.go_on = None

    def _let_all_run(self) -> None:
        """Each loop, again and again: what reached a process while another one ran is seen to before anything else."""
        world = self._world
        touched = -1
        while touched != world.touched:
            touched = world.touched
            for process in world.processes:
                if process.exited:
                    process.close()
                elif process.parked is None:
                    self._agenda.leap_limit = 0.0
                    process.run_until_idle()
            if len(world.processes) < 2:
                break

    def go_on(self) -> bool:
        """The only loop is idle: let the next thing happen, and the loop go on. False: the loop is to stop."""
        process, world, agenda = self._process, self._world, self._agenda
        if process.exited:
            return False
        process.turning = False
        try:
            if agenda.happened is not None:
                agenda.show()
            if world.failed is not None:
                raise world.failed
            if self._met(self._condition):
                self._end = True
            elif not agenda.advance(self._limit, timers=process.loop.idle_until < INFINITY):
                self._end = False
            elif self._met(self._condition):
                self._end = True
            elif process.exited or process.parked is not None or len(world.processes) != 1:
                self._end = None
            else:
                if self._leap and not agenda.lanes:  # while something is under way, no loop leaps
                    agenda.allow_leaps(self._limit)
                process.turning = True
                return True
        except BaseException as exc:
            self._error = exc
        self._over = True
        raise Over


def _never() -> bool:
    return False


for _function in (Running.run, Running.go_on):
    blame.edge(_function)
