"""Every schedule once, fewest deviations first, so that the first counterexample is already the shortest.

Theory of operation
===================

A *deviation* is a pick that is not 0. Level 0 is the one schedule without any; level d + 1 is made from level d: take
a run and let it deviate once more, *behind its last deviation*. A schedule has one last deviation, so it is made from
exactly one other, its *parent*, which is the one without it; so each is made once, in the level of its deviations, and
no run is repeated.

Rules for this file:

1. A run that has no choice behind its last deviation has no children, and is forgotten at once.
2. What is kept of another is one line: the picks up to its last deviation, and the width of each of its choices. Lines
   are kept in `Family`s, compressed, a few hundred children to each: some ten bytes for a child.
3. The forced part of a run must ask the questions that its parent asked; a different width is a `Divergence`.
4. Runs come in the order of their levels; in a level, in the order of their parents; of one parent, in the order of the
   choice that deviates, and of its pick. So a family is children in a row, of parents in a row, and so is what is left
   of it when some were run. A search can be stopped between any two runs and go on elsewhere, in one piece or in many.

`depth-first` (`sim.search.exhaustive`) runs the same schedules in another order, with no memory at all.

This is iterative deepening as in Musuvathi and Qadeer's iterative context bounding (PLDI 2007), with deviations from
FIFO in place of preemptions. They re-run the inner nodes of their tree for each level; this does not.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections import deque
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs

from sim.search.divergence import same_widths
from sim.search.frontier import Outlook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sim.world.choices import Choice


class Walked(Protocol):
    """A run, as far as this policy looks at one."""

    @property
    def choices(self) -> list[Choice]:
        """Its decisions."""
        ...


R = TypeVar("R", bound=Walked)
FULL = 256
"""Children of a family, at the most, unless a parent alone has more."""
MOST = 64
"""Families for the children of one parent."""


@attrs.frozen
class Family:
    """A piece: children in a row, of parents in a row.

    Attributes:
        first: the picks of the first of them, up to its last deviation. None: the schedule without deviations.
        schedules: how many they are.
        share: the part of all orders that they and all that is made from them come to, if each pick of a choice led
            to as many.
        parents: lines of JSON, compressed: of each parent the picks up to its last deviation, and all widths.
    """

    first: tuple[int, ...] | None
    schedules: int
    share: float
    parents: bytes = attrs.field(repr=False)

    @property
    def level(self) -> int:
        """See `Piece`: the deviations of each of them."""
        return sum(pick != 0 for pick in self.first or ())

    @property
    def key(self) -> tuple[int, ...]:
        """See `Piece`: the number of deviations; then where they are, and what is picked there."""
        flat = [number for place, pick in enumerate(self.first or ()) if pick for number in (place, pick)]
        return (len(flat) // 2, *flat)

    def to_json(self) -> list[Any]:
        """See `Piece`."""
        return [self.first, self.schedules, self.share, base64.b85encode(self.parents).decode()]

    @classmethod
    def from_json(cls, record: Any) -> Family:
        """The family that `to_json` made a record of."""
        first, schedules, share, parents = record
        if first is not None:
            first = tuple(first)
        return cls(first, int(schedules), float(share), base64.b85decode(parents))


EVERYTHING = Family(None, 1, 1.0, b"")


class Deepening:
    """The policy "exhaustive" (see `sim.search.policy`).

    Args:
        below: the families to run, of one level. None: everything; that is, the first one and all that it leads to.
    """

    def __init__(self, below: Sequence[Family] | None = None) -> None:
        self.complete = False
        self._whole = below is None
        self._waiting = deque((EVERYTHING,) if below is None else below)
        self._open: _Open | None = None
        self._made = Nursery()
        self._known = sum(family.schedules for family in self._waiting)
        self._share = sum(family.share for family in self._waiting)

    def runs(self, play: Callable[[Sequence[int]], R]) -> Iterator[R]:
        """Every run there is, level by level."""
        while self._waiting:
            self._open = _Open(self._waiting.popleft())
            for forced, widths in self._open:
                run = play(forced)
                same_widths(widths[: len(forced)], run.choices)
                self._known += self._made.put(run.choices, len(forced)) - 1
                self._share -= math.prod(1 / choice.width for choice in run.choices)
                self.complete = not self._open.left and not self._waiting and not self._made
                yield run
            self._open = None
            if self._whole:
                self._waiting += self._made.take(unless=bool(self._waiting))

    def outlook(self) -> Outlook:
        """See `Policy`."""
        return Outlook(self._known, max(self._share, 0.0))

    def left(self) -> list[Family]:
        """See `sim.search.policy.Divisible`."""
        rest = self._open.rest() if self._open is not None else ()
        return [*rest, *self._waiting, *self._made.close()]

    def state(self) -> Any:
        """See `Policy`."""
        return [family.to_json() for family in self.left()]

    def resume(self, state: Any) -> None:
        """See `Policy`."""
        families = [Family.from_json(record) for record in state]
        self._waiting = deque(families)
        self._known = sum(family.schedules for family in families)
        self._share = sum(family.share for family in families)
        self.complete = not families


class _Open:
    """A family that is being run: an iterator over its children, and the widths that their parents had."""

    def __init__(self, family: Family) -> None:
        self.left = family.schedules
        self._share = family.share
        self._first = family.first
        self._parents = _lines(family.parents)
        self._number = 0

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], Sequence[int]]]:
        if self._first is None:
            self.left = 0
            yield (), ()
            return
        while self.left:
            picks, widths = self._parents[self._number]
            for forced in children(picks, widths, self._first):
                if not self.left:
                    return
                self.left -= 1
                self._share -= math.prod(1 / width for width in widths[: len(forced)])
                self._first = forced
                yield forced, widths
            self._first = None
            self._number += 1

    def rest(self) -> tuple[Family, ...]:
        """What was not run yet."""
        if not self.left:
            return ()
        last = self._first
        for number in range(self._number, len(self._parents)):
            for first in children(*self._parents[number], last):
                if first != last:
                    text = _text(self._parents[number:])
                    return (Family(first, self.left, max(self._share, 0.0), text),)
            last = None
        raise AssertionError("a family has fewer children than it says")


class Nursery:
    """Makes families of runs, which come in their order."""

    def __init__(self) -> None:
        self._parents: list[tuple[Sequence[int], Sequence[int]]] = []
        self._children = 0
        self._families: list[Family] = []

    def __bool__(self) -> bool:
        return bool(self._parents or self._families)

    def put(self, made: Sequence[Choice], behind: int) -> int:
        """Add a run whose last deviation is the choice in front of number `behind`. Returns how many children it has."""
        added = sum(choice.width - 1 for choice in made[behind:])
        if added:
            if self._children + added > FULL:
                self._close()
            self._parents.append(([choice.pick for choice in made[:behind]], [choice.width for choice in made]))
            self._children += added
        return added

    def take(self, *, unless: bool = False) -> list[Family]:
        """The families, in order; those that have room for more only with `unless` false."""
        if self._parents and not unless:
            self._close()
        families, self._families = self._families, []
        return families

    def close(self) -> list[Family]:
        """The families, in order, without taking them; no more comes to those that have room."""
        self._close()
        return self._families

    def _close(self) -> None:
        """Make families of what is there. Only a parent that has too many for one has several, each with its line."""
        if not self._parents:
            return
        text = _text(self._parents)
        if self._children <= FULL:
            share = sum(volume for parent in self._parents for _, volume in _brood(*parent))
            self._families.append(Family(next(children(*self._parents[0])), self._children, share, text))
        else:
            brood = (child for parent in self._parents for child in _brood(*parent))
            while some := list(islice(brood, max(FULL, self._children // MOST))):
                self._families.append(Family(some[0][0], len(some), sum(volume for _, volume in some), text))
        self._parents, self._children = [], 0


def children(
    picks: Sequence[int], widths: Sequence[int], first: tuple[int, ...] | None = None
) -> Iterator[tuple[int, ...]]:
    """The forced picks of each schedule that deviates once more than `picks`, behind them.

    Args:
        picks: a parent's, up to its last deviation.
        widths: of all its choices.
        first: the child to begin with. None: with the first.
    """
    begin = len(picks) if first is None else len(first) - 1
    for position in range(begin, len(widths)):
        behind = (*picks, *(0 for _ in range(len(picks), position)))
        for pick in range(1 if first is None or position > begin else first[-1], widths[position]):
            yield (*behind, pick)


def _brood(picks: Sequence[int], widths: Sequence[int]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Each child of a parent, and its share."""
    volumes = list(accumulate(widths, lambda volume, width: volume / width, initial=1.0))
    for forced in children(picks, widths):
        yield forced, volumes[len(forced)]


def _text(parents: Sequence[tuple[Sequence[int], Sequence[int]]]) -> bytes:
    lines = "".join(json.dumps(parent, separators=(",", ":")) + "\n" for parent in parents)
    return zlib.compress(lines.encode(), 1)


def _lines(text: bytes) -> list[tuple[Sequence[int], Sequence[int]]]:
    return [tuple(json.loads(line)) for line in zlib.decompress(text).splitlines()] if text else []
