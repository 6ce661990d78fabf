"""One run for each class of schedules that differ only in the order of steps which do not concern one another.

Theory of operation
===================

Two neighbouring steps of a run whose footprints (`sim.world.footprint`) do not meet can change places, and the run is
the same run. What can be reached by such changes is a *class* (a Mazurkiewicz trace), and any one run stands for it.
The search is depth first with *sleep sets* (P. Godefroid, Partial-Order Methods for the Verification of Concurrent
Systems, 1996, chapter 5). Where an option was explored to its end, it sleeps while its neighbours are, and goes on to
sleep behind them as long as no step meets its footprint: what would come of it there, is what came of it before. A
run that has nothing left but sleeping options repeats an earlier one. It is abandoned at once and is no run. *Source
sets* (`sim.search.races`) see that few such runs are begun.

The footprints are those of what was executed, not of what might have been. Both steps were possible in one state, were
executed in it, and what they touched there says whether they commute there; so nothing is guessed from the code.

Rules for this file:

1. Preserved: the set of outcomes (`Trace.outcome`: what each application, client and operator saw, without times and
   without the interleaving of different actors), and so the set of violated invariants, as far as an invariant depends
   on the outcome and on what came because of what. One that compares the positions of events that have nothing to do
   with one another in one trace may see fewer of its violations, and a violated invariant fewer runs that violate it.
2. There is exactly one complete run for each class: of two runs of one class, the later in the order of the search has
   a step that slept.
3. A script's own choices are never reduced. They belong to the step in which they are made: it sleeps when all their
   picks were explored, with all that was touched in any of them.
4. A step in which the clock moves never sleeps, and wakes everybody. So classes are of deliveries at one moment of
   virtual time; timers, ticks and deliveries that take their time are explored in every order that they allow.
5. A fault touches everything (`sim.world.footprint`): it never sleeps, and wakes everybody. So a fault strikes once at each
   point that differs in what has happened before, and not once for each order in which that did.
6. With `isolated`, which a scenario declares, deliveries on different connections of one process do not concern one
   another unless one of them also writes to the other connection or a log. `sim.search.isolation` looks for lies.
7. Of the options that are awake the first is explored, and another one only if a race asks for it (`sim.search.races`).
   With `visit` all that it returns are: a run that ends at a known state does not show the races behind it.

What it costs: a run may be abandoned late, behind a prefix that was played in vain. To avoid all of these (`sim.search.races`)
would save no complete run (rule 2). Measured on uvicorn, none are abandoned of racing_clients (24 and 120 runs for 4 and
5 clients), nor of independent_echoes with one message (isolated: one run for 2, 3 and 4 clients; not isolated: 6 and 90
for 2 and 3). Sleep sets alone abandon 7, 48 and 271 beside the one, and 16 and 669 beside the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sim.errors import Divergence, SimError
from sim.search.divergence import SUSPECTS
from sim.search.races import expand, reverse
from sim.world.footprint import Footprint, Option, Watch, in_an_iteration

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from sim.search.policy import Play
    from sim.search.runner import Run

Asleep: TypeAlias = "dict[Hashable, Footprint]"
"""What sleeps at a decision, by the option's id, and what it touched when it was explored."""
Visit: TypeAlias = "Callable[[Sequence[Option], Asleep], tuple[set[int], Asleep]]"
"""Called with the options of a decision and what sleeps there; returns the numbers of those to explore, and what goes on
to sleep behind them."""


class Redundant(SimError):  # noqa: N818 - no error: a run that repeats an earlier one
    """All that could happen next was explored before, in an order that makes no difference."""


class Node:
    """A decision of the run that is explored, and the step behind it."""

    __slots__ = ("asleep", "created", "explored", "inner", "latest", "options", "past", "pick", "ran", "step", "wanted")

    def __init__(self, options: tuple[Option, ...], wanted: set[int], asleep: Asleep) -> None:
        self.options = options
        self.asleep = asleep
        self.pick = min(wanted, default=0)
        self.wanted = wanted
        """The numbers of the options to explore."""
        self.explored: set[int] = set()
        self.inner: list[tuple[int, int]] = []
        """Width and pick of each script's choice in the step."""
        self.step = Footprint()
        """What the step has touched, with any inner picks."""
        self.ran = self.step
        """What it has touched with these."""
        self.created = 0
        """How many things had been under way in this run before the step."""
        self.latest = 0.0
        """Virtual time by which all has to arrive that is under way here, or was earlier in its epoch."""
        self.past = 0
        """The earlier steps that the step depends on, as bits; see `sim.search.races`."""

    def to_json(self) -> list[Any]:
        """The decision as JSON types."""
        return [
            self.options,
            [[name, footprint.to_json()] for name, footprint in self.asleep.items()],
            self.pick,
            sorted(self.wanted),
            sorted(self.explored),
            self.inner,
            self.step.to_json(),
            self.ran.to_json(),
            self.created,
            self.latest,
            self.past,
        ]

    @classmethod
    def from_json(cls, record: Any) -> Node:
        """The decision that `to_json` made a record of."""
        options, asleep, pick, wanted, explored, inner, step, ran, created, latest, past = record
        node = cls(
            tuple(Option(*hashable(option)) for option in options),
            set(wanted),
            {hashable(name): Footprint.from_json(footprint) for name, footprint in asleep},
        )
        node.pick, node.explored, node.inner = pick, set(explored), [tuple(choice) for choice in inner]
        node.step, node.ran = Footprint.from_json(step), Footprint.from_json(ran)
        node.created, node.latest, node.past = created, latest, past
        return node

    @property
    def picked(self) -> Option:
        """The option that is explored."""
        return self.options[self.pick]

    def want_all(self) -> None:
        """Explore whatever is awake."""
        if len(self.wanted) < len(self.options):
            self.wanted = set(range(len(self.options)))


class Classes:
    """A policy (see `sim.search.policy`).

    Args:
        isolated: whether connections are (rule 6).
        visit: decides, where every loop is idle, what is to be explored (see `sim.search.both`). None: see rule 7.
        ended: called with the footprint of its last step when a run came to its end.
    """

    def __init__(
        self,
        *,
        isolated: bool = False,
        visit: Visit | None = None,
        ended: Callable[[Footprint], None] | None = None,
    ) -> None:
        self.complete = False
        self.abandoned = 0
        """How many runs were found to repeat an earlier one."""
        self._isolated = isolated
        self._visit = visit
        self._ended = ended
        self.path = [Node((), set(), {})]
        """The decisions of the run that is explored."""

    def runs(self, play: Play) -> Iterator[Run]:
        """One run of each class."""
        while not self.complete:
            run = self._run(play)
            self.complete = not self._next()
            if run is not None:
                yield run

    def state(self) -> Any:
        """See `Policy`."""
        return [self.abandoned, [node.to_json() for node in self.path]]

    def resume(self, state: Any) -> None:
        """See `Policy`."""
        self.abandoned, nodes = state
        self.path[:] = [Node.from_json(record) for record in nodes]
        self.complete = not self.path

    def outlook(self) -> None:
        """See `Policy`: nobody knows."""

    def _run(self, play: Play) -> Run | None:
        fresh = len(self.path) - 1
        walk = _Walk(self.path, self._visit, isolated=self._isolated)
        run = None
        try:
            run = play(walk.forced(), watch=walk.watch)
        except Redundant:
            self.abandoned += 1
        else:
            if not run.known:
                walk.end()
                if self._ended is not None:
                    self._ended(walk.watch.last)
        if self._visit is None:
            reverse(self.path, fresh, isolated=self._isolated)
        return run

    def _next(self) -> bool:
        """Make the path that of the next schedule, as `sim.search.exhaustive` counts. False if there is none."""
        path = self.path
        while path:
            node = path[-1]
            while node.inner:
                width, pick = node.inner.pop()
                if pick + 1 < width:
                    node.inner.append((width, pick + 1))
                    return True
            if node.options:
                node.explored.add(node.pick)
                if not node.step.everything:
                    node.asleep[node.picked.id] = node.step
                for number in sorted(node.wanted - node.explored):
                    if node.options[number].id not in node.asleep:
                        node.pick, node.step = number, Footprint()
                        return True
            path.pop()
        return False


class _Walk:
    """One run along a path, which grows at its end.

    Args:
        path: what is known of it.
        visit: see `Classes`.
        isolated: likewise.
    """

    def __init__(self, path: list[Node], visit: Visit | None, *, isolated: bool) -> None:
        self._path = path
        self._visit = visit
        self._isolated = isolated
        self._depth = 0
        self._picked = True
        self.watch = Watch(self._decide, self._pick)

    def forced(self) -> tuple[int, ...]:
        """The picks that lead along the path."""
        picks: list[int] = []
        for node in self._path:
            if len(node.options) > 1:
                picks.append(node.pick)
            picks += [pick for _, pick in node.inner]
        return tuple(picks)

    def _decide(self, options: Sequence[Option]) -> None:
        path = self._path
        step = self.watch.footprint
        before = path[self._depth]
        before.step.add(step)
        before.ran = step
        self._depth += 1
        if self._depth < len(path):
            if path[self._depth].options != tuple(options):
                raise Divergence(
                    f"the same schedule gave two different runs. At decision {self._depth} there were "
                    f"{_named(path[self._depth].options)}; now there are {_named(options)}. {SUSPECTS}"
                )
            return
        asleep = dict(before.asleep) if not step.everything else {}
        if before.options:
            asleep.pop(before.picked.id, None)
        asleep = {name: f for name, f in asleep.items() if not f.meets(step, isolated=self._isolated)}
        if self._visit is not None:
            visit = awake if in_an_iteration(options) else self._visit
            node = Node(tuple(options), *visit(options, asleep))
        else:
            node = self._with_one(tuple(options), asleep)
        path.append(node)
        self._picked = len(options) == 1

    def _with_one(self, options: tuple[Option, ...], asleep: Asleep) -> Node:
        """A decision of which, for now, one option is wanted."""
        before = self._path[-1]
        if any(option != before.picked for option in set(before.options).difference(options)):
            before.want_all()
        latest, timed = self._timed(before)
        if timed:
            expand(self._path, len(self._path) - 1)
        wanted, asleep = awake(options, asleep)
        node = Node(options, wanted if timed else {min(wanted)}, asleep)
        node.created, node.latest = self.watch.created, latest
        return node

    def _timed(self, before: Node) -> tuple[float, bool]:
        """Behind a step: `Node.latest`, and whether timers may come into play in the epoch."""
        latest = self.watch.latest()
        if not before.ran.everything:
            latest = max(latest, before.latest)
        return latest, self.watch.next_timer() <= latest

    def _pick(self, width: int) -> int:
        node = self._path[-1]
        if not self._picked:
            self._picked = True
            return node.pick
        node.inner.append((width, 0))
        return 0

    def end(self) -> None:
        """The run was complete: what happened last never sleeps, for what was left of it did not happen."""
        last = self._path[self._depth]
        last.ran = self.watch.last
        last.step.everything = True
        if self._visit is None:
            if len(last.options) > 1:
                last.want_all()
            if self._timed(last)[1]:
                expand(self._path, self._depth)


def awake(options: Sequence[Option], asleep: Asleep) -> tuple[set[int], Asleep]:
    """Explore whatever does not sleep.

    Raises:
        Redundant: everything does.
    """
    found = {number for number, option in enumerate(options) if option.id not in asleep}
    if not found:
        raise Redundant("a run that repeats an earlier one was not told apart from an error; this is a bug")
    return found, asleep


def hashable(record: Any) -> Any:
    """Names of options, of which JSON makes lists."""
    return tuple(map(hashable, record)) if isinstance(record, list) else record


def _named(options: Sequence[Option]) -> str:
    return " | ".join(str(option.key) for option in options)
