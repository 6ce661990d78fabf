"""Small worlds of letters, drawn at random: what a search for one run of each class has to find.

A few places send one another letters, first in first out between any two. What a place does of a letter depends on what
it holds: it holds something else then, sends letters, sets or stops its alarm, makes a choice, or takes back what it had
sent to the letter's sender. Letters take their time or may arrive at once, and all have to have arrived by some time, as
in `sim.world.agenda`. Some places are connections of one process, and sometimes a letter concerns the whole of it.
"""

from __future__ import annotations

import random
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from sim.world.choices import Choices
from sim.world.footprint import Footprint, Option

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from sim.world.footprint import Watch

INFINITY = float("inf")
Class: TypeAlias = "frozenset[tuple[Hashable, frozenset[Hashable]]]"
"""The steps of a run by name, each with all that it depends on."""


class Answer(NamedTuple):
    """What a place does of something: to whom it sends, and the rest in the order of what is above."""

    holds: int
    sends: tuple[int, ...]
    alarm: float | None
    stops: bool
    choice: int
    takes_back: bool
    process: bool


class Letter:
    """Something under way."""

    def __init__(self, name: Hashable, level: int) -> None:
        self.name = name
        self.level = level
        self.order = 0
        self.earliest = self.latest = 0.0


class Lane:
    """What is under way from one place to another."""

    def __init__(self, rnd: random.Random, *, slow: bool) -> None:
        self.segments: deque[Letter] = deque()
        self.takes = rnd.choice((0.0, 0.0, 1.0)) if slow else 0.0
        self.within = self.takes + rnd.choice((0.5, 1.0, 2.0))


class Letters:
    """Drawn from a seed.

    Args:
        seed: of the drawing.
        alarms: whether places set alarms.
        slow: whether letters may take their time.
        isolated: whether the connections of the process are.
    """

    def __init__(self, seed: int, *, alarms: bool = False, slow: bool = False, isolated: bool = False) -> None:
        self.seed = seed
        self.isolated = isolated
        self._alarms = alarms
        self._slow = slow
        rnd = random.Random(seed)
        self.places = rnd.randint(2, 4)
        self.connections = rnd.randint(0, self.places)
        self.first = [(rnd.randrange(self.places), rnd.randrange(self.places)) for _ in range(rnd.randint(2, 3))]
        self.depth = rnd.randint(1, 2)

    def answer(self, place: int, what: Hashable, holds: int) -> Answer:
        """What a place that holds this does of a letter of some level, or of its alarm."""
        rnd = random.Random(f"{self.seed} {place} {what} {holds}")
        last = what == 0
        return Answer(
            rnd.randrange(3),
            () if last else tuple(rnd.randrange(self.places) for _ in range(rnd.choice((0, 1, 1, 2)))),
            rnd.choice((0.3, 1.5)) if self._alarms and what != "alarm" and not last and rnd.random() < 0.5 else None,
            rnd.random() < 0.2,
            2 if rnd.random() < 0.1 else 1,
            rnd.random() < 0.1,
            rnd.random() < 0.1,
        )

    def play(self, forced: Sequence[int], decide: Any = None, /, *, watch: Watch | None = None) -> Any:
        """What `sim.search.policy.Play` does."""
        return _Playing(self, forced, watch).run()


class _Playing:
    """One run."""

    def __init__(self, letters: Letters, forced: Sequence[int], watch: Watch | None) -> None:
        self.letters = letters
        self.watch = watch
        self.holds = [0] * letters.places
        self.alarms: dict[int, float] = {}
        self.lanes: dict[tuple[int, int], Lane] = {}
        self.steps: list[tuple[Hashable, Footprint, list[int]]] = []
        """Of each step: what it is called, what it touches, and what was picked in it."""
        self.footprint = Footprint()
        self.choices = Choices(forced, watch.pick if watch is not None else None)
        self.clock = SimpleNamespace(now=0.0)
        self.agenda: Any = SimpleNamespace(lanes=[], iterating=False, next_timer=self.next_timer, _orders=0)
        self.striker = None
        self.failed: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        self.failed = self.failed or error

    def next_timer(self) -> float:
        return min(self.alarms.values(), default=INFINITY)

    def run(self) -> Any:
        for number, (source, target) in enumerate(self.letters.first):
            self.send(source, target, ("first", number), self.letters.depth)
        if self.watch is not None:
            self.watch.scene_is_set()
        while self.step():
            pass
        if self.watch is not None:
            self.watch.ended(self)  # type: ignore[arg-type]
        self.close()
        state = (tuple(self.holds), self.clock.now)
        return SimpleNamespace(choices=self.choices.made, known=False, state=state, trace=self.trace())

    def trace(self) -> Class:
        """The class to which the run belongs (a Mazurkiewicz trace)."""
        steps = self.steps
        past: list[set[int]] = []
        for at, (name, footprint, _) in enumerate(steps):
            own: set[int] = set()
            for before, (other, touched, _) in enumerate(steps[:at]):
                if touched.meets(footprint, isolated=self.letters.isolated) or name[0] == other:  # type: ignore[index]
                    own |= past[before] | {before}
            past.append(own)
        names = [
            (name, tuple(picks), at if footprint.everything else 0) for at, (name, footprint, picks) in enumerate(steps)
        ]
        return frozenset((names[at], frozenset(names[before] for before in own)) for at, own in enumerate(past))

    def step(self) -> bool:
        heads = sorted((lane for lane in self.lanes.values() if lane.segments), key=lambda lane: lane.segments[0].order)
        timer, now = self.next_timer(), self.clock.now
        if not heads:
            if timer < INFINITY:
                self.close()
                self.steps.append(("timer", self.footprint, []))
                self.ring(timer)
            return timer < INFINITY
        deadline = min(lane.segments[0].latest for lane in heads)
        early = [lane for lane in heads if lane.segments[0].earliest <= min(deadline, timer)]
        options = [Option(("early", lane.segments[0].order), ("early", self.route(lane))) for lane in early]
        if timer <= deadline:
            options.append(Option("timer", "timer"))
        self.close()
        if self.watch is not None:
            self.watch.decision(self, options)  # type: ignore[arg-type]
            if self.failed is not None:
                raise self.failed
        pick = self.choices.choose(len(options))
        if pick == len(early):
            self.steps.append(("timer", self.footprint, []))
            self.ring(timer)
            return True
        lane = early[pick]
        letter = lane.segments.popleft()
        self.steps.append((letter.name, self.footprint, []))
        if letter.earliest > now:
            self.clock.now = letter.earliest
            self.everything()
        source, place = self.route(lane)
        self.act(place, letter.level, letter.name, source)
        return True

    def ring(self, when: float) -> None:
        place = min(place for place, due in self.alarms.items() if due == when)
        del self.alarms[place]
        self.clock.now = when
        self.everything()
        self.act(place, "alarm", ("alarm", place, when), place)

    def act(self, place: int, what: Any, name: Hashable, source: int) -> None:
        answer = self.letters.answer(place, what, self.holds[place])
        self.touch(place)
        picked = self.choices.choose(answer.choice)
        if self.steps:
            self.steps[-1][2].append(picked)
        if answer.process and place < self.letters.connections:
            self.touch_place("process")
            self.holds[place] += sum(self.holds[: self.letters.connections])
        self.holds[place] = (self.holds[place] + answer.holds + picked) % 3
        if answer.stops:
            self.alarms.pop(place, None)
        if answer.alarm is not None:
            self.alarms[place] = self.clock.now + answer.alarm
        for number, target in enumerate(answer.sends):
            self.send(place, target, (name, picked, number), what - 1 if what != "alarm" else 0)
        if answer.takes_back:
            self.touch(source)
            back = self.lanes.get((place, source))
            if back is not None:
                back.segments.clear()

    def send(self, source: int, target: int, name: Hashable, level: int) -> None:
        key = source, target
        if key not in self.lanes:
            self.lanes[key] = Lane(random.Random(f"{self.letters.seed} {key}"), slow=self.letters._slow)
            self.agenda.lanes.append(self.lanes[key])
        lane = self.lanes[key]
        letter = Letter(name, level)
        self.agenda._orders += 1
        letter.order = self.agenda._orders
        letter.earliest, letter.latest = self.clock.now + lane.takes, self.clock.now + lane.within
        lane.segments.append(letter)

    def route(self, lane: Lane) -> tuple[int, int]:
        return next(key for key, each in self.lanes.items() if each is lane)

    # What is touched, for the watch and for this file.

    def close(self) -> None:
        self.footprint = Footprint()

    def everything(self) -> None:
        self.footprint.everything = True
        if self.watch is not None:
            self.watch.touch_everything()

    def touch_place(self, place: str) -> None:
        self.footprint.places.add(place)
        if self.watch is not None:
            self.watch.touch(place)

    def touch(self, place: int) -> None:
        if place >= self.letters.connections:
            self.touch_place(f"place {place}")
            return
        self.footprint.parts.add(("process", str(place)))
        if self.watch is not None:
            self.watch.footprint.parts.add(("process", str(place)))
