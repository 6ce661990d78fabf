"""Prefixes: parts of the tree of choices that can be explored apart from each other.

A prefix stands for every schedule that begins with its picks. Exploring a part of the tree leaves prefixes: those of
the schedules that were not run. They do not overlap, and none begins with another, so they have an order: that of
their picks, which is the order in which an exhaustive search runs what is below them.

A prefix also carries how many possibilities there were at each of its choices. Whoever explores below it, perhaps on
another machine, compares them with what its own world offers.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Any

import attrs

from sim.world.choices import Choice

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@attrs.frozen
class Prefix:
    """The beginning of schedules.

    Attributes:
        picks: the picks.
        widths: of each, how many possibilities there were.
    """

    picks: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def share(self) -> float:
        """The part of all orders that lies below, if each pick of a choice led to as many."""
        return math.prod(1 / width for width in self.widths)

    def choices(self) -> list[Choice]:
        """The choices that a run below begins with."""
        return [Choice(width, pick, "elsewhere") for width, pick in zip(self.widths, self.picks, strict=True)]

    def to_json(self) -> list[list[int]]:
        """The prefix as JSON types."""
        return [list(self.picks), list(self.widths)]

    @classmethod
    def from_json(cls, record: Any) -> Prefix:
        """The prefix that `to_json` made a record of."""
        picks, widths = record
        return cls(tuple(picks), tuple(widths))


ROOT = Prefix((), ())
"""Everything."""


def beside(made: Sequence[Choice], floor: int) -> list[Prefix]:
    """What an exhaustive search has still to explore behind a run, in its order.

    Args:
        made: the run's choices.
        floor: how many of the first are not to be changed.
    """
    picks = tuple(choice.pick for choice in made)
    widths = tuple(choice.width for choice in made)
    return [
        Prefix((*picks[:depth], pick), widths[: depth + 1])
        for depth in range(len(made) - 1, floor - 1, -1)
        for pick in range(picks[depth] + 1, widths[depth])
    ]


class Frontier:
    """Prefixes that wait to be explored, in order."""

    def __init__(self, prefixes: Iterable[Prefix] = ()) -> None:
        self._waiting = sorted(prefixes, key=_picks, reverse=True)
        self._share = sum(p.share for p in self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first(self) -> tuple[int, ...] | None:
        """The picks of the first prefix; None if there is none."""
        return self._waiting[-1].picks if self._waiting else None

    @property
    def share(self) -> float:
        """The part of all orders that lies below them, as far as one can know; see `Prefix.share`."""
        return min(max(self._share, 0.0), 1.0) if self._waiting else 0.0

    def add(self, prefixes: Iterable[Prefix]) -> None:
        """Put prefixes in their places."""
        for prefix in prefixes:
            insort(self._waiting, prefix, key=_backwards)
            self._share += prefix.share

    def take(self, number: int, before: tuple[int, ...] | None = None) -> tuple[Prefix, ...]:
        """Take the first ones out.

        Args:
            number: at most so many (≥ 1).
            before: none that comes behind this schedule; None: any.
        """
        taken: list[Prefix] = []
        while self._waiting and len(taken) < number and (before is None or self._waiting[-1].picks < before):
            taken.append(self._waiting.pop())
            self._share -= taken[-1].share
        return tuple(taken)

    def remove(self, prefix: Prefix) -> None:
        """Take one out.

        Raises:
            ValueError: it is not there.
        """
        place = bisect_left(self._waiting, _backwards(prefix), key=_backwards)
        if place == len(self._waiting) or self._waiting[place] != prefix:
            raise ValueError(prefix)
        del self._waiting[place]
        self._share -= prefix.share

    def drop(self, behind: tuple[int, ...]) -> None:
        """Forget what comes behind this schedule."""
        self._waiting = [p for p in self._waiting if p.picks < behind]
        self._share = sum(p.share for p in self._waiting)


def _picks(prefix: Prefix) -> tuple[int, ...]:
    return prefix.picks


def _backwards(prefix: Prefix) -> tuple[int, ...]:
    """A key for a list in which the first prefix stands last: no prefix begins with another, so signs can be turned."""
    return tuple(-pick for pick in prefix.picks)
