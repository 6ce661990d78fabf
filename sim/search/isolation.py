"""Whether connections are as isolated as a scenario declares: their deliveries change places, and nothing may show.

Theory of operation
===================

In a complete run, look for two neighbouring steps that could both have happened first, and that concern one another by
default and do not if connections are isolated. Play the run again with the two in the other order and everything else
as it was, by name: the same lane's head, the same script's pick. If the declaration is true the run offers all of that,
ends where the other did, and has the same outcome and the same violations. If it is not, that is found in the place where
it shows, and told as an error: the search would have left out what it must not.

And have all the connections take turns otherwise: each of them does what it did, in its own order, and whose turn it is, is
drawn. That is what one connection after the other relies on (`sim.search.apart`), also where results of several wait in
one mailbox. The order of what a process logs is left out of the outcome here, since turns decide it.

From each run that is examined a walk goes on: the next swap is made in the run with the last one, so that runs far from
the first are met, too. Which swaps are tried is drawn from a generator with a fixed seed: the same search checks the same.
A sample proves nothing; it only finds.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from sim.errors import SimError
from sim.search.divergence import differing
from sim.world.footprint import Footprint, Option, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sim.search.policy import Play
    from sim.search.runner import Run

SWAPS_IN_A_RUN = 8
SWAPS = 400
"""Behind so many swaps, only every so many runs are examined."""
SPARSELY = 20


Outcome: TypeAlias = "tuple[object, ...]"


class NotIsolated(SimError):  # noqa: N818 - what it is
    """A scenario declares that its connections are isolated, and an order of two deliveries shows that they are not."""


class _Step(NamedTuple):
    """A step of a run: what there was to pick from, what was picked, script's picks in it, what it touched, and how many
    things had been under way before it."""

    options: tuple[Option, ...]
    option: Option
    inner: tuple[int, ...]
    footprint: Footprint
    created: int


class _Elsewhere(SimError):  # noqa: N818 - never leaves this file
    """The run does not offer what it should."""


class IsolationCheck:
    """Examines the runs of one search.

    Args:
        scenario: its name, for messages.
        server: the subject's requirement, likewise.
        play: plays a schedule.
    """

    def __init__(self, scenario: str, server: str, play: Play) -> None:
        self.swaps = 0
        """How many pairs have changed places, and how often all took turns otherwise."""
        self._scenario = scenario
        self._server = server
        self._play = play
        self._draw = random.Random(0)
        self._runs = 0

    def state(self) -> Any:
        """Where it is, in JSON types."""
        return [self.swaps, self._runs, self._draw.getstate()]

    def resume(self, state: Any) -> None:
        """Be there."""
        self.swaps, self._runs, (version, numbers, gauss) = state
        self._draw.setstate((version, tuple(numbers), gauss))

    def examine(self, run: Run) -> None:
        """Swap some neighbours of a complete run.

        Raises:
            NotIsolated: it showed.
        """
        self._runs += 1
        if self.swaps >= SWAPS and self._runs % SPARSELY:
            return
        steps = self._steps(run)
        for _ in range(SWAPS_IN_A_RUN):
            pairs = [i for i in range(len(steps) - 1) if _only_isolated(steps[i], steps[i + 1])]
            if not pairs:
                break
            at = self._draw.choice(pairs)
            steps, run = self._swap(steps, run, at)
            self.swaps += 1
        self._take_turns(steps, run)

    def _steps(self, run: Run) -> list[_Step]:
        """Play a run once more, step by step."""
        picks = iter(run.picks)
        walk = _Walk(lambda options: next(picks) if len(options) > 1 else 0, lambda: next(picks))
        self._play((), watch=walk.watch)
        return walk.end()

    def _swap(self, steps: Sequence[_Step], run: Run, at: int) -> tuple[list[_Step], Run]:
        order = [*steps[:at], steps[at + 1], steps[at], *steps[at + 2 :]]
        first, second = steps[at].option, steps[at + 1].option
        number = 0
        inner = iter(order[0].inner)

        def same_option(options: Sequence[Option]) -> int:
            nonlocal number, inner
            number += 1
            if number == len(order):
                raise _Elsewhere("in one order that is the end, in the other " + _named(options) + " is still to come")
            inner = iter(order[number].inner)
            wanted = order[number].option.key
            for index, option in enumerate(options):
                if option.key == wanted:
                    return index
            raise _Elsewhere(
                f"in one order there is {_described(order[number].option)}, in the other {_named(options)}"
            )

        def same_pick() -> int:
            for pick in inner:
                return pick
            raise _Elsewhere("in one order a script has a choice that it has not in the other")

        walk = _Walk(same_option, same_pick)
        try:
            other = self._play((), watch=walk.watch)
        except _Elsewhere as exc:
            raise self._lie(first, second, str(exc)) from None
        others = walk.end()
        if len(others) != len(order):
            raise self._lie(first, second, f"one order has {len(order) - 1} steps, the other {len(others) - 1}")
        how = _told_apart(run, other, run.trace.outcome(), other.trace.outcome())
        if how is not None:
            raise self._lie(first, second, how)
        return others, other

    def _take_turns(self, steps: Sequence[_Step], run: Run) -> None:
        """Play the run with all its connections taking turns otherwise, behind the last step that concerns everybody."""
        if len(steps) < 3:
            return
        start = max(number for number, step in enumerate(steps[:-1]) if step.footprint.everything) + 1
        owners = _owners(steps, start)
        if owners is None or len(set(owners)) < 2:
            return
        waiting: dict[str, list[_Step]] = {}
        for owner, step in zip(owners, steps[start:], strict=True):
            waiting.setdefault(owner, []).append(step)
        inner = iter(steps[0].inner)
        played: list[str] = []
        number = 0

        def in_turn(options: Sequence[Option]) -> int:
            nonlocal number, inner
            number += 1
            if number < start:
                step, keys = steps[number], [option.key for option in options]
                inner = iter(step.inner)
                return keys.index(step.option.key)
            made = _made(walk.created, start, played)
            ready: dict[str, int] = {}
            for index, option in enumerate(options):
                owner = _owner(option, made)
                if waiting.get(owner) and waiting[owner][0].option.key == option.key:
                    ready[owner] = index
            if not ready:
                raise _Elsewhere(f"there is {_named(options)} where nothing of that was to come")
            owner = self._draw.choice(sorted(ready))
            inner = iter(waiting[owner].pop(0).inner)
            played.append(owner)
            return ready[owner]

        def same_pick() -> int:
            for pick in inner:
                return pick
            raise _Elsewhere("a script has a choice that it had not before")

        walk = _Walk(in_turn, same_pick)
        self.swaps += 1
        how: str | None
        try:
            other = self._play((), watch=walk.watch)
            left = [step for steps in waiting.values() for step in steps]
            how = f"there is no more {_described(left[0].option)}" if left else None
            how = how or _told_apart(run, other, _without_order(run), _without_order(other))
        except _Elsewhere as exc:
            how = str(exc)
        if how is not None:
            raise self._not_isolated(f"It matters in which order {' and '.join(waiting)} take turns: {how}.")

    def _lie(self, first: Option, second: Option, how: str) -> NotIsolated:
        return self._not_isolated(
            f"It matters whether {_described(first)} comes before or behind {_described(second)}: {how}."
        )

    def _not_isolated(self, how: str) -> NotIsolated:
        return NotIsolated(
            f"the scenario {self._scenario} declares that its connections are isolated, and on {self._server} they are "
            f"not. {how} The "
            "likeliest cause is something that the application shares between its connections. Take isolated=True out "
            "of the scenario; --reduce classes is sound without it, and runs more."
        )


class _Walk:
    """A run that is told at each decision and at each script's choice what to pick, and writes its steps down.

    Step 0 is the scene, up to the first decision.
    """

    def __init__(self, choose: Callable[[Sequence[Option]], int], pick: Callable[[], int]) -> None:
        self.watch = Watch(self._decide, self._pick)
        self._choose = choose
        self._pick_inner = pick
        self._steps: list[_Step] = []
        self._options: tuple[Option, ...] = ()
        self._option = Option("the scene", "the scene")
        self._decided: int | None = None
        self._inner: list[int] = []
        self.created: list[int] = []
        """At each decision: how many things had been under way."""

    def _decide(self, options: Sequence[Option]) -> None:
        self._close(self.watch.footprint)
        self.created.append(self.watch.created)
        chosen = self._choose(options)
        self._options, self._option = tuple(options), options[chosen]
        self._decided = chosen if len(options) > 1 else None

    def _pick(self, width: int) -> int:  # noqa: ARG002 - the picks are known
        if self._decided is not None:
            chosen, self._decided = self._decided, None
            return chosen
        self._inner.append(self._pick_inner())
        return self._inner[-1]

    def _close(self, footprint: Footprint) -> None:
        created = self.created[-1] if self.created else 0
        self._steps.append(_Step(self._options, self._option, tuple(self._inner), footprint, created))
        self._inner = []

    def end(self) -> list[_Step]:
        """The steps of the run, which is over."""
        last = Footprint()
        last.everything = True
        self._close(last)
        return self._steps


def _only_isolated(step: _Step, following: _Step) -> bool:
    """Whether two neighbours may change places because connections are isolated, and for no other reason."""
    if following.option.id not in {option.id for option in step.options}:
        return False
    one, two = step.footprint, following.footprint
    return one.meets(two) and not one.meets(two, isolated=True)


def _owners(steps: Sequence[_Step], start: int) -> list[str] | None:
    """Which connection each step from `start` on is of. None: not all are deliveries of one connection each."""
    owners: list[str] = []
    for number in range(start, len(steps)):
        created = [step.created for step in steps[1 : number + 1]]
        owner = _owner(steps[number].option, _made(created, start, owners))
        if not owner:
            return None
        owners.append(owner)
    return owners


def _made(created: Sequence[int], start: int, owners: Sequence[str]) -> list[tuple[int, str]]:
    """Up to which number things were put under way by the step of which connection.

    Args:
        created: at each decision, how many there had been.
        start: the first step that is of a connection, and so the number of the decision behind it, counted from 1.
        owners: of the steps from there on.
    """
    return [(created[start - 1], ""), *zip(created[start:], owners, strict=False)]


def _owner(option: Option, made: Sequence[tuple[int, str]]) -> str:
    """Which connection an option is of; "" if of none."""
    key, name = option.key, option.id
    if not (isinstance(key, tuple) and isinstance(name, tuple) and key[0] == "early"):
        return ""
    if len(key) == 3:
        return str(key[1])
    return next((owner for number, owner in made if name[1] <= number), "")


def _told_apart(run: Run, other: Run, outcome: Outcome, others: Outcome) -> str | None:
    """What shows in one run and not in the other; None if nothing does."""
    if outcome != others:
        one, two = _difference(outcome, others)
        return f"in one order there is {one}, in the other {two}"
    broken, also = ([i.name for i, _ in r.violations] for r in (run, other))
    return f"one order violates {broken}, the other {also}" if broken != also else None


def _without_order(run: Run) -> Outcome:
    """The outcome of a run, but for the order of what is logged."""
    outcome: list[object] = []
    said: Any = run.trace.outcome()
    for actor, events in said:
        logged = sorted((event for event in events if event[0].startswith("log.")), key=repr)
        outcome.append((actor, [event for event in events if not event[0].startswith("log.")], logged))
    return tuple(outcome)


def _described(option: Option) -> str:
    key = option.key
    return f"what {key[2]} sent on {key[1]}" if isinstance(key, tuple) and len(key) == 3 else str(key)


def _named(options: Sequence[Option]) -> str:
    return " or ".join(map(_described, options))


def _difference(one: tuple[object, ...], two: tuple[object, ...]) -> tuple[str, str]:
    for a, b in zip(one, two, strict=False):
        if a != b:
            return differing(repr(a), repr(b))
    return differing(repr(one), repr(two))
