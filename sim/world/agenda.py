"""What may happen next in a world, and when: the one place where its order is decided.

Theory of operation
===================

On the agenda are the *lanes* (`sim.world.lanes`) with something under way, the scripts' alarms, and the timers of the
event loops. When every loop is idle, `advance` lets one thing happen: the head of a lane arrives, or the next timer
fires. Where several are possible it is a choice.

Rules for this file:

1. **Time is a constraint, not a race.** Each thing under way has an interval in which it may arrive, from its link's
   latency. It may happen next if some real world has it happen next: a timer does not fire behind a delivery that
   must come first, and the reverse. The clock takes the earliest time that the pick allows, and never goes back.
2. Pick 0 is first in, first out: the oldest thing under way, and timers only when nothing is. Faults come last.
3. What a server may get before a timer of an event loop is tried twice: as early as it can, and at the timer's own
   moment, just before it, so that the loop finds data and timer in one iteration. A script has no iterations: what it
   gets, it gets early, and what it answers is then tried before and behind the timer.
4. Ticks (see `sim.world.loop`) happen when their time comes and are never a choice. What was decided before a tick
   stays decided behind it, unless the tick made it impossible; so polling does not multiply the choices.
5. With granularity `turn`, things arrive only while every loop is idle; with `iteration`, also at any iteration
   boundary of a loop, where pick 0 is "nothing yet".
6. An event loop that is alone may *leap* from timer to timer by itself up to `leap_limit`, while nothing is under way.
7. With arrivals `single`, each segment arrives alone, and whoever it reaches runs before the next. With `merged`, all
   that may have arrived by then arrives with it, as where a peer writes faster than the loop turns: small writes are
   then read in one. With `any`, how many do is a choice, where pick 0 is "none".

What rules 1 and 3 leave out: a delivery takes one of two times within its interval. Timers that are set by it at
other moments of the interval are not tried.
"""

from __future__ import annotations

import heapq
from itertools import takewhile
from typing import TYPE_CHECKING, TypeAlias

from sim.errors import Stuck
from sim.world.clock import moment
from sim.world.events import HandedOver, TcpDeliver, Timer
from sim.world.footprint import options
from sim.world.lanes import Alarm, Mailbox, Menu, order, route
from sim.world.selector import LIVELOCK_ITERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.world.endpoint import Channel, Segment
    from sim.world.faults import Strike
    from sim.world.lanes import Item, Lane, Post
    from sim.world.world import World

INFINITY = float("inf")
QUIET_SECONDS = 60.0
"""Virtual seconds of nothing but ticks behind which a world is held to be at its end."""
_NO_TIMERS = (INFINITY, INFINITY)
LIVELOCK_EVENTS = 100_000
"""Things that happen at one moment of virtual time behind which a world is held to go round in circles."""


class Known(Exception):  # noqa: N818 - no error
    """Ends a run whose continuation is known (`World.lookout`)."""


_Plan: TypeAlias = "tuple[Lane | None, Item | None, float]"
"""What was decided to happen next: the head of a lane, or (None) the next timer; and when."""


class Agenda:
    """Everything that may still happen in `world`."""

    def __init__(self, world: World, *, iterating: bool) -> None:
        self._world = world
        self._clock = world.clock
        self.lanes: list[Lane] = []
        self.leap_limit = 0.0
        """Virtual time up to which a loop may leap (rule 6)."""
        self.iterating = iterating
        """Whether things may happen at a loop's iteration boundaries (rule 5)."""
        self._orders = 0
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._alarms_set = 0
        self._plan: _Plan | None = None
        self._last_event = 0.0
        self._events_now = 0
        self._events_at = 0.0
        self._timer_of = ""
        self.happened: str | None = None
        """What is to be shown to the observer."""
        self._striker = world.striker
        self._single = world.settings.arrivals == "single"
        self.armed = False
        """Whether cancellations are to come (see `sim.world.faults`). Loops ask at each iteration."""

    # What comes on it.

    def put(self, lane: Lane, item: Item) -> None:
        """Note that `item` is under way in `lane`, whose last it is."""
        self._orders += 1
        item.order = self._orders
        if lane not in self.lanes:
            self.lanes.append(lane)
        elif len(lane.segments) > 1 and item.latest < lane.segments[-2].earliest:  # what is before it was delayed
            item.latest = lane.segments[-2].earliest
        elif item.latest < INFINITY and len(lane.segments) > 1 and lane.segments[-2].latest > item.latest:
            for earlier in lane.segments:
                earlier.latest = min(earlier.latest, item.latest)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Alarm:
        """Call `callback` after `seconds` of virtual time."""
        alarm = Alarm(callback, self._world.trace.cause)
        self._alarms_set += 1
        when = moment(self._clock.now + max(seconds, 0.0))
        if self._world.watch is not None:
            self._world.watch.timer(when)
        heapq.heappush(self._alarms, (when, self._alarms_set, alarm))
        self.leap_limit = min(self.leap_limit, when)
        return alarm

    def clear(self) -> None:
        """Forget everything, and leave nothing to choice any more: the world is at its end."""
        self.lanes.clear()
        self._alarms.clear()
        self._plan = None
        self.iterating = False
        self.leap_limit = 0.0

    # What comes next.

    def heads(self) -> list[Lane]:
        """The lanes with something under way, oldest first."""
        lanes = self.lanes
        if len(lanes) == 1 and lanes[0].segments:
            return lanes
        self.lanes = lanes = [lane for lane in lanes if lane.segments]
        if len(lanes) > 1:
            lanes.sort(key=order)
        return lanes

    def next_alarm(self) -> float:
        """Virtual time of the next script's alarm; infinity if there is none."""
        alarms = self._alarms
        while alarms and alarms[0][2].callback is None:
            heapq.heappop(alarms)
        return alarms[0][0] if alarms else INFINITY

    def next_timer(self) -> float:
        """Virtual time of the next alarm or loop timer that is no tick; infinity if there is none."""
        return self._upcoming()[0]

    def _upcoming(self) -> tuple[float, float]:
        """The same, and the next timer of any kind that a loop waits for."""
        nearest = self.next_alarm() if self._alarms else INFINITY
        tick = INFINITY
        for process in self._world.processes:
            if process.exited or process.parked is not None:
                continue
            loop = process.loop
            if loop.idle_until < tick:
                tick = loop.idle_until
            timer = loop.next_timer()
            if timer < nearest:
                nearest, self._timer_of = timer, process.name
            if loop.fired > self._last_event:
                self._last_event = loop.fired
        return nearest, tick

    def allow_leaps(self, limit: float) -> None:
        """Let a loop leap to `limit` at the most, to the next alarm, or to the end of a quiet time.

        Where something is under way it will not leap, unless that arrives at an iteration boundary before.
        """
        if self.lanes and not self.iterating:
            self.leap_limit = 0.0
            return
        timer = self.next_timer()
        quiet = (timer if timer < INFINITY else self._last_event) + QUIET_SECONDS
        self.leap_limit = min(limit, quiet, self.next_alarm() if self._alarms else INFINITY)

    def advance(self, limit: float, *, timers: bool = True) -> bool:
        """Let one thing happen. False if nothing can before `limit`, or at all.

        Args:
            limit: in virtual seconds.
            timers: whether an event loop may wait for a timer.
        """
        timer, tick = self._upcoming() if timers or self._alarms else _NO_TIMERS
        plan = self._plan
        if plan is None or not self._possible(plan, timer):
            plan = self._decide(timer, limit)
            if plan is None:
                return True
        lane, _, when = plan
        if when > tick:
            when = tick
        if when == INFINITY or when > limit:
            self._plan = plan
            return self._somebody_resumes()
        if lane is None and timer == INFINITY and tick > self._last_event + QUIET_SECONDS:
            self._plan = plan
            return self._somebody_resumes()
        now = self._clock.now
        if when > now:
            self._clock.now = now = when
        if now == self._events_at:
            self._events_now += 1
            if self._events_now > LIVELOCK_EVENTS:
                raise self._livelock()
        else:
            self._events_at, self._events_now = now, 1
        if tick < plan[2]:
            self._plan = plan
            return True
        self._plan = None
        if lane is not None:
            self._happen(lane)
        else:
            self._ring()
        return True

    def _livelock(self) -> Stuck:
        last = self._world.trace.events[-3:]
        return Stuck(
            f"livelock: {LIVELOCK_EVENTS:,} things happened at one moment of virtual time "
            f"({self._clock.now:.3f} s) and there was no end to it. The last were: "
            + "; ".join(f"{event.actor} {event.describe()}" for event in last)
            + ". The likeliest cause is two sides that answer one another for ever, or a loop around a sleep of 0."
        )

    def _possible(self, plan: _Plan, timer: float) -> bool:
        """Whether what was decided can still happen, after the ticks that came first."""
        lane, item, when = plan
        deadline = min((head.segments[0].latest for head in self.heads()), default=INFINITY)
        if lane is None:
            return timer == when < INFINITY and timer <= deadline
        segments = lane.segments
        return bool(segments) and segments[0] is item and when <= min(timer, deadline)

    def _decide(self, timer: float, limit: float) -> _Plan | None:
        """What happens next, where nothing is decided yet: rules 1 to 3. None: a fault has struck."""
        world, now = self._world, self._clock.now
        if world.lookout is not None and world.phase != "setting the scene" and world.lookout(world):
            raise Known
        heads = self.heads()
        if len(heads) == 1 and timer == INFINITY and self._striker is None and world.watch is None:  # as below, sooner
            item = heads[0].segments[0]
            if item.earliest <= now <= item.latest:
                return heads[0], item, now
        if not heads and (self._striker is None or timer > limit):
            return None, None, timer
        deadline = INFINITY
        for lane in heads:
            latest = lane.segments[0].latest
            if latest < deadline:
                deadline = latest
        contested = timer < INFINITY and timer <= deadline and timer <= limit
        reach = timer if contested else min(deadline, limit)
        early = [lane for lane in heads if lane.segments[0].earliest <= reach]
        if not early and not contested:
            return None, None, INFINITY
        late: list[Lane] = []
        if contested and timer > now and not (self._alarms and timer >= self.next_alarm()):
            late = [
                x for x in early if timer > x.segments[0].earliest and (isinstance(x, Mailbox) or not x.target.scripted)
            ]
        strikes = self._striker.options(early) if self._striker is not None else ()
        width = len(early) + len(late) + contested + len(strikes)
        if world.watch is not None:
            world.watch.decision(world, options(early, late, timer=contested, strikes=strikes))
            if world.failed is not None:
                raise world.failed
        pick = world.choices.choose(width, Menu(None, early, late, contested, strikes)) if width > 1 else 0
        if pick < len(early):
            item = early[pick].segments[0]
            return early[pick], item, item.earliest if item.earliest > now else now
        pick -= len(early)
        if pick < len(late):
            return late[pick], late[pick].segments[0], timer
        pick -= len(late)
        if pick < contested:
            return None, None, timer
        self._strike(strikes[pick - contested])
        return None

    def iteration(self, spins: int) -> None:
        """An iteration boundary of a loop that has callbacks to run, the `spins`-th since it was idle."""
        world = self._world
        if world.closed:
            return
        if spins > LIVELOCK_ITERATIONS:
            raise Stuck(
                f"livelock: {world.current_name} ran {LIVELOCK_ITERATIONS:,} iterations of its event loop at one "
                f"moment of virtual time ({self._clock.now:.3f} s) and was not done. The likeliest cause is a loop "
                "around asyncio.sleep(0), or a callback that schedules itself."
            )
        watch = world.watch
        while self.iterating and self.lanes:
            heads = [lane for lane in self.heads() if lane.segments[0].earliest <= self._clock.now]
            if not heads:
                break
            strikes = self._striker.options(heads) if self._striker is not None else []
            if watch is not None:
                watch.decision(world, options(heads, on=world.current_name, strikes=strikes))
            menu = Menu("the loop runs on", heads, strikes=strikes)
            pick = world.choices.choose(len(heads) + 1 + len(strikes), menu)
            if pick == 0:
                break
            if pick <= len(heads):
                self._happen(heads[pick - 1])
            else:
                self._strike(strikes[pick - 1 - len(heads)])
        if watch is not None and self.iterating:
            watch.touch(world.current_name)

    # What happens.

    def _strike(self, strike: Strike) -> None:
        self._plan = None
        if self._world.watch is not None:
            self._world.watch.touch_everything()
        strike()
        self._note(str(strike))

    def _somebody_resumes(self) -> bool:
        return self._striker is not None and self._striker.resume_somebody()

    def iterated(self, *, idle: bool) -> None:
        """A loop is at an iteration boundary, while cancellations are to come (see `sim.world.faults`)."""
        assert self._striker is not None
        self._striker.iterated(idle=idle)

    def _ring(self) -> None:
        """Fire the timer whose time has come: a script's here; a loop's when it next iterates."""
        self._last_event = self._clock.now
        world = self._world
        world.trace.cause = None
        if self._striker is not None:
            self._striker.happens()
        if world.watch is not None:
            world.watch.touch_everything()
        if self.next_alarm() <= self._clock.now:
            when, _, alarm = heapq.heappop(self._alarms)
            world.tied = world.tied or self.next_alarm() == when
            callback, alarm.callback = alarm.callback, None
            world.trace.cause = alarm.cause
            if callback is not None:
                callback()
            self._note("a script's timer")
        else:
            world.trace.record(Timer, self._timer_of)
            self._note("a timer fires")

    def _happen(self, lane: Lane) -> None:
        if self.happened is not None:
            self.show()
        if self._striker is not None:
            self._striker.happens()
        self._last_event = self._clock.now
        world = self._world
        if isinstance(lane, Mailbox):
            item: Item = self._hand_over(lane)
        else:
            item = self._deliver(lane)
            if lane.segments and not self._single:
                for _ in range(self._with_it(lane)):
                    self._deliver(lane)
        if world.observer is not None:
            self._note(f"{route(lane)} {item}")

    def _hand_over(self, mailbox: Mailbox) -> Post:
        trace, post = self._world.trace, mailbox.segments.popleft()
        trace.cause = post.sent_by
        trace.cause = trace.record(HandedOver, mailbox.owner, post.label).seq
        post.callback()
        if self._world.watch is not None:
            self._world.watch.touch(mailbox.owner)
        return post

    def _deliver(self, channel: Channel) -> Segment:
        trace, watch, segment = self._world.trace, self._world.watch, channel.segments[0]
        sender, addressee, connection = segment.way
        cause, trace.cause = segment.sent_by, len(trace.events)
        if trace.open:  # as `Trace.record` does, which costs more
            trace.events.append(
                TcpDeliver(
                    trace.cause, self._clock.now, cause, addressee, connection, sender, segment.label, len(segment.data)
                )
            )
        channel.deliver()
        if watch is not None:
            watch.delivered(channel, segment, together=not self._single)
        return segment

    def _with_it(self, channel: Channel) -> int:
        """How many more segments arrive together with the one that did (rule 7)."""
        arrivals = self._world.settings.arrivals
        now = self._clock.now
        due = sum(1 for _ in takewhile(lambda segment: segment.earliest <= now, channel.segments))
        if arrivals == "merged" or not due:
            return due
        return self._world.choices.choose(due + 1, f"{route(channel)} how many more of {due} arrive with it")

    def _note(self, what: str) -> None:
        if self._world.observer is not None:
            self.happened = what

    def set_scene(self) -> None:
        """Have the observer told of the scene as it was set."""
        self._note("the scene is set")

    def show(self) -> None:
        """Tell the observer what happened, now that its effects are there."""
        if self.happened is not None:
            what, self.happened = self.happened, None
            if self._world.observer is not None:
                self._world.observer(self._world, what)
